"""Verbs about clips: generated, attributed, put to the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from linernotes.cli.checks import (
    check_attribution,
    check_clips,
    check_file,
    check_model,
    check_out,
    check_places,
    check_written_clip,
)
from linernotes.cli.options import (
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    CatalogueOption,
    JsonOption,
    MethodOption,
    ModelOption,
    PromptOption,
    SettingsOption,
    method_flags,
)
from linernotes.cli.output import Bars, command, plainly, print_json, print_table, stderr, stdout
from linernotes.settings.reading import read_settings

if TYPE_CHECKING:
    from linernotes.attribution.result import Attribution

FIRST = 10  # tracks a terminal shows

app = typer.Typer()


@app.command()
@plainly
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clip, attribution and report.")],
    prompt: Annotated[str | None, typer.Option(help="What to generate; a good example if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the generated clip.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Generate a clip, attribute it and open-ready the report, all on the built-in model and catalogue."""
    check_out(out)
    check_places("builtin", "builtin")
    from linernotes import api

    with Bars() as bars:
        done = api.run_demo(out, prompt or api.DEMO_PROMPT, seed, on_progress=bars)
    _show([done.attribution], as_json)
    stderr.print(f"\nOpen [bold]{escape(str(done.report))}[/] in a browser to see and hear it.")


@app.command()
@plainly
def generate(
    prompt: Annotated[str, typer.Option(help="What to generate.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The clip: a name that ends in .flac, .wav or .ogg.")
    ],
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another seed, another clip.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="Duration; the model's own if left out.")] = None,
    model: ModelOption = "builtin",
    as_json: JsonOption = False,
) -> None:
    """Generate a clip from a prompt, with the sidecar that lets 'attribute' use exactly what was
    generated.
    """
    check_written_clip(out)
    check_out(out.parent)
    check_model(model)
    from linernotes import api

    with Bars() as bars:
        path = api.generate(prompt, out, seed, seconds, model, on_progress=bars)
    if as_json:
        print_json({"clip": str(path), "sidecar": f"{path}.safetensors", "prompt": prompt, "seed": seed})
    else:
        catalogue = "benchmark" if model == "benchmark" else "CATALOGUE"
        which = [] if model == "builtin" else ["--model", model, "--catalog", catalogue]
        hint = f"attribute it with: {command('linernotes', 'attribute', path, *which, '-o', 'OUT')}"
        stdout.print(f"{escape(str(path))}  [dim]({escape(hint)})[/]")


@app.command()
@plainly
@method_flags
def attribute(
    clips: Annotated[list[Path], typer.Argument(help="Generated clips, or any sound files, of any length.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the record, its tables and report.html.")
    ],
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    prompt: PromptOption = None,
    method: MethodOption = None,
    settings: SettingsOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="What scores are worth, from 'linernotes calibrate'; the benchmark's if left out."),
    ] = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say which training tracks shaped CLIPS, by default by unlearning: make a copy of the model forget each
    clip and measure what it gets worse at.
    """
    chosen, values = read_settings(method, settings, flags)
    check_clips(clips)
    if calibration:
        check_file(calibration, "a calibration")
    check_out(out)
    check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        done = api.attribute(
            clips,
            out,
            model,
            catalog,
            prompt,
            chosen,
            on_progress=bars,
            calibration=calibration,
            **values.model_dump(),
        )
    _show(done, as_json)
    reports = [out / "report.html"] if len(done) == 1 else [out / a.query.name / "report.html" for a in done]
    stderr.print("\nReport: " + ", ".join(escape(str(path)) for path in reports))


@app.command()
@plainly
def report(
    attribution: Annotated[Path, typer.Argument(help="An attribution.json, or its folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; report.html beside it if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the page of an attribution again, from its files alone.

    No model is loaded. A clip or a catalogue that has gone or has changed is not heard, and the page says
    why.
    """
    check_attribution(attribution)
    from linernotes import api

    page = api.draw_page(attribution, out)
    if as_json:
        print_json({"page": str(page)})
    else:
        stdout.print(escape(str(page)))


@app.command()
@plainly
def verify(
    attribution: Annotated[
        Path, typer.Argument(help="An attribution.json (or its folder) of a clip the model generated.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for verify.html and the retrained models' measures.")
    ],
    k: Annotated[int, typer.Option("--k", min=1, help="How many of the first tracks are left out.")] = 10,
    repeats: Annotated[
        int, typer.Option(min=1, help="Models trained without them, and as many without random ones.")
    ] = 2,
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    as_json: JsonOption = False,
) -> None:
    """Put an attribution to the test, and hear it: train again without its first tracks, and make the clip
    again.

    Three to five minutes on two cores for a clip of the benchmark's model. A stopped run goes on.
    """
    check_attribution(attribution)
    check_out(out)
    check_places(model, catalog)
    from linernotes import api
    from linernotes.report.verification import verification_table

    with Bars() as bars:
        found = api.verify(attribution, out, k, repeats, model, catalog, on_progress=bars)
    remade = [
        {n: getattr(r, n) for n in ("arm", "seed", "left_out", "loss", "distances")} for r in found.remade
    ]
    if as_json:
        print_json({"loss": found.loss, "left_out": found.left_out, "remade": remade})
        return
    print_table(verification_table(found, k))
    stderr.print(f"\nOpen [bold]{escape(str(out / 'verify.html'))}[/] in a browser to see and hear it.")


def _show(attributions: list[Attribution], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {**a.model_dump(exclude={"tracks"}), "tracks": [t.model_dump() for t in a.tracks[:FIRST]]}
                for a in attributions
            ]
        )
        return
    from linernotes.report.page import ranking_table

    for a in attributions:
        stdout.print(f"\n[bold]{escape(a.query.name)}[/]  [dim]{escape(a.query.prompt)}[/]")
        if a.verdict:
            stdout.print(f"[bold]{escape(a.verdict.sentence)}[/]")
        for caution in a.cautions:
            stdout.print(f"[bold red]{escape(caution)}[/]")
        print_table(ranking_table(a, FIRST))
