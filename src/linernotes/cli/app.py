"""``linernotes VERB``: parses, calls the Python API, prints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from linernotes.cli.bank import bank_app
from linernotes.cli.catalog import catalog_app
from linernotes.cli.checks import (
    check_attribution,
    check_catalogue,
    check_clips,
    check_model,
    check_new,
    check_out,
    check_places,
    check_written_clip,
)
from linernotes.cli.evaluate import evaluate_app
from linernotes.cli.options import (
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    CatalogueOption,
    JsonOption,
    MethodOption,
    ModelOption,
    SettingsOption,
    given,
    method_flags,
    settings_flags,
)
from linernotes.cli.output import Bars, command, debug, plainly, print_json, settle_streams, stderr, stdout
from linernotes.cli.research import research_app
from linernotes.settings.reading import checked, read_settings
from linernotes.settings.training import TrainingSettings
from linernotes.version import __version__

FIRST = 10  # tracks a terminal shows

if TYPE_CHECKING:
    from linernotes.attribution.result import Attribution

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
app.add_typer(catalog_app, name="catalog")
app.add_typer(bank_app, name="bank")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(research_app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    debug_on: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of a failure.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Which training tracks shaped a piece of generated music, measured from inside the model."""
    debug.on = debug_on
    settle_streams()
    os.umask(os.umask(0o077) & ~0o700)  # whatever the mask, the owner can read and enter what is made


@app.command()
@plainly
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clip, attribution and report.")],
    prompt: Annotated[Optional[str], typer.Option(help="What to generate; a good example if left out.")] = None,  # noqa: UP045
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
    out: Annotated[Path, typer.Option("--out", "-o", help="The clip: a name that ends in .flac, .wav or .ogg.")],
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another seed, another clip.")] = 0,
    seconds: Annotated[Optional[float], typer.Option(help="Duration; the model's own if left out.")] = None,  # noqa: UP045
    model: ModelOption = "builtin",
    as_json: JsonOption = False,
) -> None:
    """Generate a clip from a prompt, with the sidecar that lets 'attribute' use exactly what was generated."""
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
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for attribution.json, scores.parquet, report.html.")],
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    prompt: Annotated[Optional[str], typer.Option(help="The prompt, if anyone knows it, of clips without a sidecar.")] = None,  # noqa: UP045
    method: MethodOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say which training tracks shaped CLIPS, by default by unlearning: make a copy of the model forget each clip and measure
    what it gets worse at.
    """
    chosen, values = read_settings(method, settings, flags)
    check_clips(clips)
    check_out(out)
    check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        done = api.attribute(clips, out, model, catalog, prompt, chosen, on_progress=bars, **values.model_dump())
    _show(done, as_json)
    reports = [out / "report.html"] if len(done) == 1 else [out / a.query.name / "report.html" for a in done]
    stderr.print("\nReport: " + ", ".join(escape(str(path)) for path in reports))


@app.command()
@plainly
def verify(
    attribution: Annotated[Path, typer.Argument(help="An attribution.json (or its folder) of a clip the model generated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for verify.html and the retrained models' measures.")],
    k: Annotated[int, typer.Option("--k", min=1, help="How many of the first tracks are left out.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Models trained without them, and as many without random ones.")] = 2,
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    as_json: JsonOption = False,
) -> None:
    """Put an attribution to the test, and hear it: train again without its first tracks, and make the clip again.

    Three to five minutes on two cores for a clip of the benchmark's model. A stopped run goes on.
    """
    check_attribution(attribution)
    check_out(out)
    check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        found = api.verify(attribution, out, k, repeats, model, catalog, on_progress=bars)
    remade = [{n: getattr(r, n) for n in ("arm", "seed", "left_out", "loss", "distances")} for r in found.remade]
    if as_json:
        print_json({"loss": found.loss, "left_out": found.left_out, "remade": remade})
        return
    table = Table("the clip's loss under", "", "risen by", *found.remade[0].distances, box=None, header_style="dim")
    table.add_row("the model that made it", f"{found.loss:.4f}")
    for r in found.remade:
        what = f"one without the {k} tracks named first" if r.arm == "first" else f"one without {k} random tracks"
        moved = (f"{value:.2f}" for value in r.distances.values())
        table.add_row(what, f"{r.loss:.4f}", f"{100 * (r.loss / found.loss - 1):+.1f} %", *moved)
    stdout.print(table)
    stderr.print(f"\nOpen [bold]{escape(str(out / 'verify.html'))}[/] in a browser to see and hear it.")


@app.command()
@plainly
@settings_flags(TrainingSettings, "How it is trained")
def train(
    catalog: Annotated[str, typer.Argument(help="A catalogue, or 'builtin'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained model.")],
    init: Annotated[str, typer.Option(help="The model whose codec, text encoder and sizes are taken over.")] = "builtin",
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Train a new small model on a catalogue's training tracks; a stopped training goes on where it was."""
    checked(TrainingSettings, given(flags))
    check_catalogue(catalog)
    check_model(init)
    check_new(out)
    check_out(out.parent)
    from linernotes import api

    with Bars() as bars:
        trained = api.train_model(catalog, out, init, on_progress=bars, **given(flags))
    if as_json:
        print_json({"model": str(out), "hash": trained.weights_hash})
        return
    stdout.print(f"{escape(str(out))}  [dim](loss curve: {escape(str(out / 'training_loss.csv'))})[/]")


@app.command()
@plainly
@settings_flags(TrainingSettings, "How it is trained")
def rebuild(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sounds, catalogue and model.")],
    benchmark: Annotated[bool, typer.Option("--benchmark", help="The benchmark's planted tracks and model instead.")] = False,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Make the built-in catalogue and model anew from nothing: render, fit the codec, encode, train."""
    checked(TrainingSettings, given(flags))
    check_out(out)
    from linernotes import api

    with Bars() as bars:
        api.rebuild(out, benchmark, on_progress=bars, **given(flags))
    model = out / ("trained" if benchmark else "model")
    if as_json:
        print_json({"model": str(model), "catalogue": str(out / "catalogue")})
        return
    stdout.print(f"{escape(str(model))} and {escape(str(out / 'catalogue'))}")


def _show(attributions: list[Attribution], as_json: bool) -> None:
    if as_json:
        print_json(
            [{**a.model_dump(exclude={"tracks"}), "tracks": [t.model_dump() for t in a.tracks[:FIRST]]} for a in attributions]
        )
        return
    for a in attributions:
        stdout.print(f"\n[bold]{escape(a.query.name)}[/]  [dim]{escape(a.query.prompt)}[/]")
        for caution in a.cautions:
            stdout.print(f"[bold red]{escape(caution)}[/]")
        table = Table("#", "title", "artist", "score", box=None, header_style="dim")
        table.columns[0].justify = table.columns[3].justify = "right"
        if a.decoys:
            table.add_column("decoys above", justify="right")
        shown = a.first_trained(FIRST)
        for t in shown:
            cells = [str(t.rank), escape(t.title), escape(t.artist), f"{t.score:.3g}"]
            table.add_row(*cells, *([f"{t.decoys_above} of {a.decoys}"] if a.decoys else []))
        stdout.print(table)
        if shown and shown[-1].rank > len(shown):
            stdout.print("[dim]Ranks that are missing are decoys: they were never trained on, so they are false alarms.[/]")
