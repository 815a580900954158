"""``linernotes VERB``: parses, calls the Python API, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from linernotes.cli.options import settings_flags
from linernotes.cli.output import Bars, debug, plainly, print_json, stderr, stdout
from linernotes.settings.methods import METHOD_SETTINGS, describe_methods
from linernotes.settings.reading import read_settings
from linernotes.settings.training import TrainingSettings
from linernotes.version import __version__

FIRST = 10  # tracks a terminal shows

if TYPE_CHECKING:
    from linernotes.attribution.result import Attribution

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
catalog_app = typer.Typer(no_args_is_help=True, help="Build and look at catalogues of training tracks.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure whether attributions, and the model, are any good.")
app.add_typer(catalog_app, name="catalog")
app.add_typer(evaluate_app, name="evaluate")

ModelOption = Annotated[str, typer.Option("--model", help="Folder of a Stable Audio pipeline, or 'builtin'.")]
CatalogueOption = Annotated[str, typer.Option("--catalog", help="A catalogue, or 'builtin'.")]
MethodOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--method", help="One of 'linernotes methods'; abu, or the settings file's, if left out."),
]
MethodsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--methods", help="Some of 'linernotes methods', with commas between; all if left out."),
]
SettingsOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="TOML file with settings, or an attribution.json to repeat; flags go on top."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def main(
    debug_on: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of a failure.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Which training tracks shaped a piece of generated music, measured from inside the model."""
    debug.on = debug_on
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@plainly
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clip, attribution and report.")],
    prompt: Annotated[Optional[str], typer.Option(help="What to generate; a good example if left out.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(help="Seed of the generated clip.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Generate a clip, attribute it and open-ready the report, all on the built-in model and catalogue."""
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
    seed: Annotated[int, typer.Option(help="Another seed, another clip.")] = 0,
    seconds: Annotated[Optional[float], typer.Option(help="Duration; the model's own if left out.")] = None,  # noqa: UP045
    model: ModelOption = "builtin",
    as_json: JsonOption = False,
) -> None:
    """Generate a clip from a prompt, with the sidecar that lets 'attribute' use exactly what was generated."""
    from linernotes import api

    with Bars() as bars:
        path = api.generate(prompt, out, seed, seconds, model, on_progress=bars)
    if as_json:
        print_json({"clip": str(path), "sidecar": f"{path}.safetensors", "prompt": prompt, "seed": seed})
    else:
        with_model = "" if model == "builtin" else f" --model {model} --catalog CATALOGUE"
        hint = f"attribute it with: linernotes attribute {path}{with_model} -o OUT"
        stdout.print(f"{escape(str(path))}  [dim]({escape(hint)})[/]")


@app.command()
@plainly
@settings_flags(list(METHOD_SETTINGS.values()), "Settings; which a method has: linernotes methods")
def attribute(
    clips: Annotated[list[Path], typer.Argument(help="Generated clips, or any sound files with --prompt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for attribution.json, scores.parquet, report.html.")],
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    prompt: Annotated[Optional[str], typer.Option(help="The prompt, for clips without a sidecar.")] = None,  # noqa: UP045
    method: MethodOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say which training tracks shaped CLIPS, by default by unlearning: make a copy of the model forget each clip and measure
    what it gets worse at.
    """
    from linernotes import api

    chosen, values = read_settings(method, settings, flags)
    with Bars() as bars:
        done = api.attribute(clips, out, model, catalog, prompt, chosen, on_progress=bars, **values.model_dump())
    _show(done, as_json)
    reports = [out / "report.html"] if len(done) == 1 else [out / a.query.name / "report.html" for a in done]
    stderr.print("\nReport: " + ", ".join(escape(str(path)) for path in reports))


@app.command()
@plainly
@settings_flags(list(METHOD_SETTINGS.values()), "Settings, for every method that has them")
def compare(
    clips: Annotated[list[Path], typer.Argument(help="Generated clips, or any sound files with --prompt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for compare.html and each method's attributions.")],
    methods: MethodsOption = None,
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    prompt: Annotated[Optional[str], typer.Option(help="The prompt, for clips without a sidecar.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Attribute CLIPS by several methods and show how far they agree, side by side."""
    from linernotes import api

    with Bars() as bars:
        done = api.compare(clips, out, _listed(methods), model, catalog, prompt, on_progress=bars, **_given(flags))
    a = done.agreement
    if as_json:
        print_json(a.record())
        return
    table = Table(
        "method", f"held by the first {a.first}", "first shared between clips", "decoys first", box=None, header_style="dim"
    )
    for i, name in enumerate(a.methods):
        cells = (f"{100 * a.concentration[i]:.0f} %", f"{100 * a.hub_share[i]:.0f} %", f"{a.decoys_first[i]:.1f}")
        table.add_row(f"[bold]{name}[/]", *cells)
    stdout.print(table)
    most = Table("Spearman", *a.methods, box=None, header_style="dim", pad_edge=False)
    if len(a.methods) <= 8:
        for name, row in zip(a.methods, a.spearman, strict=True):
            most.add_row(f"[bold]{name}[/]", *(f"{value:.2f}" for value in row))
        stdout.print(most)
    stderr.print(f"\nOpen [bold]{escape(str(done.page))}[/] in a browser to see and hear it.")


@app.command()
@plainly
@settings_flags(list(METHOD_SETTINGS.values()), "Settings, for every method that has them")
def plan(
    methods: MethodsOption = None,
    queries: Annotated[int, typer.Option(min=1, help="Clips to attribute in one run.")] = 1,
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say what methods will cost before anything runs: time, memory, disk, from a few seconds of measurement."""
    from linernotes import api

    with Bars() as bars:
        plans = api.plan(_listed(methods), queries, model, catalog, on_progress=bars, **_given(flags))
    if as_json:
        print_json([p.__dict__ for p in plans])
        return
    told = "1 query" if queries == 1 else f"{queries} queries"
    table = Table(
        "method", "once per model", told, "forwards: once", f"forwards: {told}", "memory", "disk", box=None, header_style="dim"
    )
    for p in plans:
        most = "at most " if p.at_most else ""
        table.add_row(
            f"[bold]{p.method}[/]", f"{p.once_s:.0f} s", f"{most}{p.queries_s:.0f} s", f"{p.once_forwards:,.0f}",
            f"{p.query_forwards:,.0f}", f"{p.memory_mib / 1024:.1f} GiB", f"{p.disk_mib:.0f} MiB",
        )  # fmt: skip
    stdout.print(table)
    stdout.print("\n[dim]Start-up is not counted. Forwards: what the time would pay for in forward passes of one segment.[/]")


@app.command()
@plainly
@settings_flags(list(METHOD_SETTINGS.values()), "Settings that stay the same")
def sweep(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for trials.db, trials.parquet, sweep.svg, best.toml.")],
    grid: Annotated[list[str], typer.Option(help="SETTING=VALUE,VALUE,...; once for each setting to search.")],
    method: Annotated[str, typer.Option(help="One of 'linernotes methods'.")] = "abu",
    metric: Annotated[str, typer.Option(help="What to make small or large: self-influence.")] = "self-influence",
    sampler: Annotated[str, typer.Option(help="grid: all choices; tpe: look where it is promising.")] = "grid",
    trials: Annotated[Optional[int], typer.Option(min=1, help="How many; all of the grid if left out.")] = None,  # noqa: UP045
    segments: Annotated[int, typer.Option(min=1, help="Training segments that are taken as queries.")] = 40,
    candidates: Annotated[int, typer.Option(min=2, help="Segments among which they are ranked.")] = 200,
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Search a method's settings; a stopped search goes on where it was."""
    from linernotes import api

    with Bars() as bars:
        found = api.sweep(
            out, grid, method, metric, sampler, trials, segments, candidates, model, catalog, on_progress=bars, **_given(flags)
        )
    if as_json:
        print_json({**found.__dict__, "trials": [trial.__dict__ for trial in found.trials]})
        return
    measured = list(found.trials[0].values)
    table = Table(*found.grid, *(name.replace("_", " ") for name in measured), box=None, header_style="dim")
    for trial in found.trials[:FIRST]:
        values = (f"{value:.3g}" for value in trial.values.values())
        table.add_row(*(f"{value:g}" if isinstance(value, float) else str(value) for value in trial.chosen.values()), *values)
    stdout.print(table)
    failed = sum(bool(trial.failed) for trial in found.trials)
    stdout.print(
        f"[dim]The first {min(FIRST, len(found.trials))} of {len(found.trials)} trials; {failed} failed. {found.unit}[/]"
    )
    stderr.print(f"\nBest settings: [bold]{escape(str(out / 'best.toml'))}[/] (attribute --settings)")


@app.command()
@plainly
@settings_flags([TrainingSettings], "How it is trained")
def train(
    catalog: Annotated[str, typer.Argument(help="A catalogue, or 'builtin'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained model.")],
    init: Annotated[str, typer.Option(help="The model whose codec, text encoder and sizes are taken over.")] = "builtin",
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Train a new small model on a catalogue's training tracks; a stopped training goes on where it was."""
    from linernotes import api

    with Bars() as bars:
        trained = api.train_model(catalog, out, init, on_progress=bars, **_given(flags))
    if as_json:
        print_json({"model": str(out), "hash": trained.weights_hash})
        return
    stdout.print(f"{escape(str(out))}  [dim](loss curve: {escape(str(out / 'training_loss.csv'))})[/]")


@app.command()
@plainly
@settings_flags([TrainingSettings], "How it is trained")
def rebuild(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sounds, catalogue and model.")],
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Make the built-in catalogue and model anew from nothing: render, fit the codec, encode, train."""
    from linernotes import api

    with Bars() as bars:
        api.rebuild(out, on_progress=bars, **_given(flags))
    if as_json:
        print_json({"model": str(out / "model"), "catalogue": str(out / "catalogue")})
        return
    stdout.print(f"{escape(str(out / 'model'))} and {escape(str(out / 'catalogue'))}")


@catalog_app.command("build")
@plainly
def catalog_build(
    source: Annotated[Path, typer.Argument(help="Folder of recordings with metadata.csv or metadata.jsonl.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The catalogue to make.")],
    model: ModelOption = "builtin",
    strict: Annotated[bool, typer.Option("--strict", help="Fail if anything in the source cannot be used.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a catalogue from a folder of recordings; what cannot be used is listed with its reason."""
    from linernotes import api

    with Bars() as bars:
        catalogue = api.build_catalogue(source, out, model, strict, on_progress=bars)
    rejects = catalogue.rejects()
    if as_json:
        print_json({**catalogue.record, "rejected": [reject.__dict__ for reject in rejects]})
        return
    r = catalogue.record
    stdout.print(f"{escape(str(out))}: {r['tracks']} tracks ({r['decoys']} decoys), {r['segments']} segments, hash {r['hash']}")
    _show_rejects(rejects)


@catalog_app.command("show")
@plainly
def catalog_show(
    catalogue: Annotated[str, typer.Argument(help="A catalogue, or 'builtin'.")],
    as_json: JsonOption = False,
) -> None:
    """Print what is in a catalogue: sizes, what it was encoded with, its tracks and its rejects."""
    from linernotes import api

    opened = api.open_catalogue(catalogue)
    rejects = opened.rejects()
    if as_json:
        tracks = [track.__dict__ for track in opened.tracks]
        print_json({**opened.record, "track_list": tracks, "rejected": [reject.__dict__ for reject in rejects]})
        return
    r = opened.record
    seconds = float(opened.seconds_n.sum())
    stdout.print(
        f"[bold]{escape(str(opened.path))}[/]: {r['tracks']} tracks ({r['decoys']} decoys), {r['segments']} segments, "
        f"{int(seconds) // 60} min {int(seconds) % 60} s, encoded by {escape(opened.encoder.model)}, hash {r['hash']}"
    )
    table = Table("track", "title", "artist", "split", box=None, header_style="dim")
    for track in opened.tracks[:20]:
        table.add_row(*(escape(text) for text in (track.track_id, track.title, track.artist, track.split)))
    stdout.print(table)
    if len(opened.tracks) > 20:
        stdout.print(f"[dim]... and {len(opened.tracks) - 20} more (--json lists all)[/]")
    _show_rejects(rejects)


@catalog_app.command("render")
@plainly
def catalog_render(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for FLAC files and metadata.csv.")],
    as_json: JsonOption = False,
) -> None:
    """Write the tracks of the built-in catalogue as sound, in a folder that 'catalog build' reads."""
    from linernotes import api

    with Bars() as bars:
        api.render_builtin(out, on_progress=bars)
    if as_json:
        print_json({"folder": str(out)})
        return
    stdout.print(escape(str(out)))


@evaluate_app.command("self-influence")
@plainly
@settings_flags(list(METHOD_SETTINGS.values()), "Settings; which a method has: linernotes methods")
def evaluate_self_influence(
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    segments: Annotated[
        int, typer.Option(help="Training segments to unlearn, each of another track as far as there are.")
    ] = 20,
    method: MethodOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Take training segments themselves as queries: each one's own track must come first."""
    from linernotes import api

    chosen, values = read_settings(method, settings, flags)
    with Bars() as bars:
        ranks = api.self_influence(model, catalog, segments, chosen, on_progress=bars, **values.model_dump())
    first = sum(rank.track_rank == 1 for rank in ranks)
    mean = sum(rank.track_rank for rank in ranks) / len(ranks)
    if as_json:
        print_json({"first": first, "segments": len(ranks), "mean_rank": mean, "ranks": [rank.__dict__ for rank in ranks]})
        return
    table = Table("track", "from", "rank of its track", "rank of the segment", box=None, header_style="dim")
    for rank in ranks:
        table.add_row(escape(rank.title), f"{rank.start_s:.0f} s", str(rank.track_rank), str(rank.segment_rank))
    stdout.print(table)
    stdout.print(f"\n{first} of {len(ranks)} segments have their own track first; mean rank {mean:.2f}")


@evaluate_app.command("model")
@plainly
def evaluate_model(
    clips: Annotated[int, typer.Option(min=1, help="Clips to generate.")] = 96,
    as_json: JsonOption = False,
) -> None:
    """Measure the built-in model: what its codec keeps, and whether clips have the instrument their prompt names."""
    from linernotes import api

    with Bars() as bars:
        f = api.model_fidelity(clips, on_progress=bars)
    if as_json:
        print_json(f.__dict__)
        return
    table = Table("what", "measured", "bar", box=None, header_style="dim")
    lost = 100 * (f.instrument_before - f.instrument_after)
    table.add_row(
        f"chroma correlation, original and decoded ({f.tracks} tracks never trained on)",
        f"{f.chroma_correlation:.3f}",
        ">= 0.9",
    )
    table.add_row("instrument named, original sound", f"{100 * f.instrument_before:.1f} %", "")
    table.add_row(
        "instrument named, decoded sound", f"{100 * f.instrument_after:.1f} % ({lost:.1f} points lost)", "<= 5 points lost"
    )
    table.add_row(
        f"instrument of the prompt found ({f.clips} generated clips)", f"{100 * f.instrument_generated:.1f} %", ">= 95 %"
    )
    stdout.print(table)


@app.command()
@plainly
def methods(as_json: JsonOption = False) -> None:
    """List all attribution methods: family, what each costs, where it comes from."""
    found = describe_methods()
    if as_json:
        print_json([method.__dict__ for method in found])
        return
    table = Table(
        "method", "family", "what it does", "cost: once; per query", "source", box=None, header_style="dim", pad_edge=False
    )
    for m in found:
        table.add_row(f"[bold]{m.name}[/]", m.family, escape(m.summary), escape(m.cost), escape(m.paper))
    stdout.print(table)
    stdout.print("\n[dim]N segments, K draws (--draws). The settings of each: linernotes methods --json[/]")


@app.command()
@plainly
def bench(
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Only this part: sweep, query, ingest, demo, queries or methods. May be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what attribution costs on this machine, on the built-in model; ratios are of one and the same run."""
    from linernotes import api

    with Bars() as bars:
        figures = api.bench(only, on_progress=bars) if only else api.bench(on_progress=bars)
    costs = figures.pop("methods", [])
    if as_json:
        print_json({**figures, **({"methods": [cost.__dict__ for cost in costs]} if costs else {})})
        return
    if costs:
        columns = ("method", "once s", "(planned)", "query s", "(planned)", "peak MiB", "(planned)", "disk MiB", "(planned)")
        by_method = Table(*columns, box=None, header_style="dim")
        for c in costs:
            pairs = (c.once_s, c.planned_once_s, c.query_s, c.planned_query_s, c.peak_mib, c.planned_mib, c.disk_mib)
            by_method.add_row(f"[bold]{c.method}[/]", *(f"{value:.0f}" for value in (*pairs, c.planned_disk_mib)))
        stdout.print(by_method)
    table = Table("what", "measured", box=None, header_style="dim")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.3g}")
    stdout.print(table)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _listed(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",") if name.strip()] if names else None


def _show(attributions: list[Attribution], as_json: bool) -> None:
    if as_json:
        print_json(
            [{**a.model_dump(exclude={"tracks"}), "tracks": [t.model_dump() for t in a.tracks[:FIRST]]} for a in attributions]
        )
        return
    for a in attributions:
        stdout.print(f"\n[bold]{escape(a.query.name)}[/]  [dim]{escape(a.query.prompt)}[/]")
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


def _show_rejects(rejects: list[Any]) -> None:
    if not rejects:
        return
    stdout.print(f"\n{len(rejects)} not in the catalogue:")
    table = Table("file", "reason", "what to do", box=None, header_style="dim")
    for reject in rejects:
        table.add_row(escape(reject.file_name), escape(reject.reason), escape(reject.detail))
    stdout.print(table)
