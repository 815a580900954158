"""Verbs that train models, and make the built-in ones anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.options import JsonOption, given, settings_flags
from linernotes.cli.output import Bars, plainly, print_json, stdout
from linernotes.demo.places import (
    BENCHMARKS,
    BUILTIN,
    require_benchmark,
    require_catalogue,
    require_model,
)
from linernotes.settings.paths import require_folder, require_new
from linernotes.settings.reading import checked, parted
from linernotes.settings.training import NewModelSettings, TrainingSettings

app = typer.Typer()


@app.command()
@plainly
@settings_flags(TrainingSettings, "How it is trained")
@settings_flags(NewModelSettings, "What is trained")
def train(
    catalog: Annotated[str, typer.Argument(help="A catalogue, or 'builtin'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained model.")],
    init: Annotated[
        str,
        typer.Option(help="The model whose codec, text encoder and sizes are taken over, or to adapt."),
    ] = BUILTIN,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Train a new small model, or an adapter to a model, on a catalogue's training tracks; a stopped training
    goes on where it was.
    """
    _, of_training = parted(NewModelSettings, given(flags))
    checked(TrainingSettings, of_training)
    require_catalogue(catalog)
    require_model(init)
    require_new(out)
    require_folder(out.parent)
    with Bars() as bars:
        trained = linernotes.train_model(catalog, out, init, on_progress=bars, **given(flags))
    if as_json:
        print_json({"model": str(out), "hash": trained.weights_hash})
        return
    stdout.print(f"{escape(str(out))}  [dim](loss curve: {escape(str(out / 'training_loss.csv'))})[/]")


@app.command()
@plainly
@settings_flags(TrainingSettings, "How it is trained")
def rebuild(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sounds, catalogue and model.")],
    benchmark: Annotated[
        str | None,
        typer.Option(help=f"A benchmark's catalogue and model instead: {', '.join(BENCHMARKS)}."),
    ] = None,
    large: Annotated[
        bool,
        typer.Option("--large", help="Many segments of whole tunes, which are not shipped, and a model."),
    ] = False,
    segments: Annotated[
        int | None, typer.Option(help="How many, of --large, to train on; 100,000 if left out.")
    ] = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Make the built-in catalogue and model anew from nothing: render, fit the codec, encode, train."""
    checked(TrainingSettings, given(flags))
    if benchmark is not None:
        require_benchmark(benchmark)
    require_folder(out)
    with Bars() as bars:
        linernotes.rebuild(out, benchmark, bars, large, segments, **given(flags))
    model = out / ("trained" if benchmark else "model")
    if as_json:
        print_json({"model": str(model), "catalogue": str(out / "catalogue")})
        return
    stdout.print(f"{escape(str(model))} and {escape(str(out / 'catalogue'))}")
