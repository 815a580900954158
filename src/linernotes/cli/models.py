"""Verbs about models: which can be opened, and how a checkpoint becomes one of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.options import JsonOption
from linernotes.cli.output import command, plainly, print_json, print_table, stdout
from linernotes.errors import UsageError
from linernotes.settings.paths import require_file, require_folder, require_new

app = typer.Typer()


@app.command()
@plainly
def models(as_json: JsonOption = False) -> None:
    """List the families of models that can be opened: what their folders hold, and a command to try each."""
    from linernotes.report.models import models_table

    found = [asdict(layout) for layout in linernotes.list_models()]
    if as_json:
        print_json(found)
        return
    print_table(models_table(found))


@app.command()
@plainly
def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="A .ckpt of stable-audio-tools, or a folder of ACE-Step's preprocessed clips."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model, or for latents and words.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Its model_config.json; the one beside the checkpoint if left out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn pickles into safetensors without running code in them: a checkpoint into a model's folder,
    preprocessed clips into latents.
    """
    require_new(out)
    require_folder(out.parent)
    if checkpoint.is_dir():
        if config is not None:
            raise UsageError(f"--config is of a checkpoint, and {checkpoint} is a folder: leave it out")
        clips = linernotes.convert_tensors(checkpoint, out)
        if as_json:
            print_json({"clips": clips, "folder": str(out)})
        else:
            build = command("linernotes", "catalog", "build", out, "-o", "CATALOGUE", "--model", "MODEL")
            stdout.print(f"{escape(str(out))}: {clips} clips  [dim](build a catalogue: {escape(build)})[/]")
        return
    require_file(checkpoint, "a checkpoint")
    made = linernotes.convert(checkpoint, out, config)
    if as_json:
        print_json({**asdict(made), "folder": str(made.folder)})
        return
    which = "the moving average of training" if made.averaged else "the weights as they are"
    stdout.print(f"{escape(str(made.folder))}: {made.weights} tensors, {which}")
    if made.left_out:
        stdout.print(f"[dim]left out: {escape(', '.join(made.left_out))}[/]")
    if not (made.folder / "text_encoder").is_dir():
        stdout.print("[dim]its text encoder is still to be put there; opening it says which and how[/]")
