"""Verbs about clips: generated, attributed, put to the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.checks import check_attribution, check_clips
from linernotes.cli.options import (
    AuditOption,
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    CatalogueOption,
    ExhaustiveOption,
    IndexOption,
    JsonOption,
    MethodOption,
    ModelOption,
    PromptOption,
    SettingsOption,
    ShortlistOption,
    adaptable,
    given,
    method_flags,
    settings_flags,
)
from linernotes.cli.output import Bars, command, plainly, print_json, print_table, stderr, stdout
from linernotes.demo.places import (
    BENCHMARK,
    BENCHMARKS,
    BUILTIN,
    require_catalogue,
    require_model,
    require_places,
)
from linernotes.errors import LinernotesError
from linernotes.settings.engine import EngineSettings, RetrainEngineSettings
from linernotes.settings.paths import require_file, require_folder, require_new, require_sound_name
from linernotes.settings.reading import checked, parted, read_settings
from linernotes.settings.verbs import DemoSettings, GenerateSettings, VerifySettings

if TYPE_CHECKING:
    from linernotes.attribution.result import Attribution

FIRST = 10  # tracks a terminal shows

app = typer.Typer()


@app.command()
@plainly
@settings_flags(DemoSettings)
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clip, attribution and report.")],
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Generate a clip, attribute it and draw its page, all on the built-in model and catalogue."""
    checked(DemoSettings, given(flags))
    require_folder(out)
    require_places(BUILTIN, BUILTIN)
    with Bars() as bars:
        done = linernotes.run_demo(out, on_progress=bars, **given(flags))
    _show([done.attribution], as_json)
    stderr.print(f"\nOpen [bold]{escape(str(done.report))}[/] in a browser to see and hear it.")


@app.command()
@plainly
@settings_flags(GenerateSettings)
@adaptable
def generate(
    prompt: Annotated[str, typer.Option(help="What to generate.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The clip: a name that ends in .flac, .wav or .ogg.")
    ],
    model: ModelOption = BUILTIN,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Generate a clip from a prompt, with the sidecar that lets
    'attribute' use exactly what was generated.
    """
    asked = checked(GenerateSettings, given(flags))
    require_sound_name(out)
    require_folder(out.parent)
    if not Path(f"{out}.safetensors").exists():  # with a sidecar it may be this very clip
        require_new(out)
    require_model(model)
    with Bars() as bars:
        path = linernotes.generate(prompt, out, model, on_progress=bars, **given(flags))
    if as_json:
        print_json(
            {"clip": str(path), "sidecar": f"{path}.safetensors", "prompt": prompt, "seed": asked.seed}
        )
    else:
        catalogue = model if model in BENCHMARKS else "CATALOGUE"
        which = [] if model == BUILTIN else ["--model", model, "--catalog", catalogue]
        hint = f"attribute it with: {command('linernotes', 'attribute', path, *which, '-o', 'OUT')}"
        stdout.print(f"{escape(str(path))}  [dim]({escape(hint)})[/]")


@app.command()
@plainly
@settings_flags(EngineSettings, "Where it runs")
@method_flags
@adaptable
def attribute(
    clips: Annotated[list[Path], typer.Argument(help="Generated clips, or any sound files, of any length.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the record, its tables and report.html.")
    ],
    model: ModelOption = BUILTIN,
    catalog: CatalogueOption = BUILTIN,
    prompt: PromptOption = None,
    method: MethodOption = None,
    settings: SettingsOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="What scores are worth, from 'linernotes calibrate'; the benchmark's if left out."),
    ] = None,
    drawn: Annotated[
        Literal["segments", "tracks"] | None,
        typer.Option(
            help="What training drew evenly: segments, or tracks and a random place in them. What linernotes "
            "trained says so itself; others draw tracks."
        ),
    ] = None,
    index: IndexOption = None,
    exhaustive: ExhaustiveOption = False,
    shortlist: ShortlistOption = None,
    audit: AuditOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say which training tracks shaped CLIPS, by default by unlearning: make a copy of the model forget each
    clip and measure what it gets worse at.
    """
    engine, of_method = parted(EngineSettings, given(flags))
    chosen, values = read_settings(method, settings, of_method)
    check_clips(clips)
    if calibration:
        require_file(calibration, "a calibration")
    require_folder(out)
    require_places(model, catalog)
    with Bars() as bars:
        done = linernotes.attribute(
            clips=clips,
            out=out,
            model=model,
            catalogue=catalog,
            prompt=prompt,
            method=chosen,
            calibration=calibration,
            on_progress=bars,
            engine=engine,
            drawn=drawn,
            index=index,
            exhaustive=exhaustive,
            shortlist=shortlist,
            audit=audit,
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

    No model is loaded. A clip or a catalogue that has gone or has changed
    is not heard, and the page says why.
    """
    check_attribution(attribution)
    page = linernotes.draw_page(attribution, out)
    if as_json:
        print_json({"page": str(page)})
    else:
        stdout.print(escape(str(page)))


@app.command()
@plainly
def replay(
    attribution: Annotated[Path, typer.Argument(help="An attribution.json, or its folder.")],
    model: Annotated[
        str | None, typer.Option(help="Where the model lies now; where the record says if left out.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="Where the catalogue lies now; where the record says if left out.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the segments to score again, drawn at random.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Score a clip again as its record says, and say whether every score is the same.

    Exit code 0 means that they are, but for rounding where device or version differ.
    """
    check_attribution(attribution)
    if model is not None:
        require_model(model)
    if catalog is not None:
        require_catalogue(catalog)
    with Bars() as bars:
        found = linernotes.replay(attribution, model, catalog, share, bars)
    if as_json:
        print_json(vars(found))
    else:
        stdout.print(escape(found.sentence))
    if not found.same:
        raise LinernotesError(f"{attribution} is not repeated: {found.sentence}")


@app.command()
@plainly
@settings_flags(RetrainEngineSettings, "Where it trains")
@settings_flags(VerifySettings)
@adaptable
def verify(
    attribution: Annotated[
        Path, typer.Argument(help="An attribution.json (or its folder) of a clip the model generated.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for verify.html and the retrained models' measures.")
    ],
    model: BenchmarkModelOption = BENCHMARK,
    catalog: BenchmarkCatalogueOption = BENCHMARK,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Put an attribution to the test, and hear it: train again without its
    first tracks, and make the clip again.

    Three to five minutes on two cores for a clip of the benchmark's model. A stopped run goes on.
    """
    engine, values = parted(RetrainEngineSettings, given(flags))
    asked = checked(VerifySettings, values)
    check_attribution(attribution)
    require_folder(out)
    require_places(model, catalog)
    from linernotes.report.verification import verification_table

    with Bars() as bars:
        found = linernotes.verify(attribution, out, model, catalog, bars, engine, **values)
    if as_json:
        remade = [{n: v for n, v in r.__dict__.items() if n != "sound"} for r in found.remade]
        print_json({"loss": found.loss, "left_out": found.left_out, "remade": remade})
        return
    print_table(verification_table(found, asked.k))
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
    from linernotes.report.page import ranking_table, uncalibrated

    for a in attributions:
        stdout.print(f"\n[bold]{escape(a.query.name)}[/]  [dim]{escape(a.query.prompt)}[/]")
        stdout.print(f"[bold]{escape(a.verdict.sentence if a.verdict else uncalibrated(a))}[/]")
        for caution in a.cautions:
            stdout.print(f"[bold red]{escape(caution)}[/]")
        if a.shortlist:
            stdout.print(f"[dim]{escape(a.shortlist.sentence)}[/]")
        print_table(ranking_table(a, FIRST))
