"""Verbs about methods rather than clips: which there are, what they cost, how
far they agree, which settings are best.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.checks import check_clips
from linernotes.cli.options import (
    AuditOption,
    BankOption,
    CatalogueOption,
    ExhaustiveOption,
    IndexOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    OutOption,
    PromptOption,
    ShortlistOption,
    adaptable,
    given,
    listed,
    method_flags,
    settings_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, stderr, stdout
from linernotes.demo.places import BENCHMARK, BUILTIN, require_bank, require_places
from linernotes.report.costs import costs_table, figures_table, methods_table, plans_table
from linernotes.settings.describing import describe_methods
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.paths import require_folder
from linernotes.settings.reading import chosen_method, chosen_methods, parted
from linernotes.settings.verbs import PlanSettings, SearchSettings

FIRST = 10  # trials a terminal shows
MOST = 8  # methods whose correlations it shows

app = typer.Typer()


@app.command()
@plainly
def methods(as_json: JsonOption = False) -> None:
    """List all attribution methods: family, what each costs, where it comes from."""
    found = describe_methods()
    if as_json:
        print_json([method.__dict__ for method in found])
        return
    print_table(methods_table(found))


@app.command()
@plainly
@method_flags
@adaptable
def compare(
    clips: Annotated[list[Path], typer.Argument(help="Generated clips, or any sound files, of any length.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for compare.html and each method's attributions.")
    ],
    methods: MethodsOption = None,
    model: ModelOption = BUILTIN,
    catalog: CatalogueOption = BUILTIN,
    prompt: PromptOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Attribute CLIPS by several methods and show how far they agree, side by side."""
    chosen_methods(listed(methods), given(flags))
    check_clips(clips)
    require_folder(out)
    require_places(model, catalog)
    from linernotes.report.comparison import agreement_table, correlations_table

    with Bars() as bars:
        done = linernotes.compare(
            clips=clips,
            out=out,
            methods=listed(methods),
            model=model,
            catalogue=catalog,
            prompt=prompt,
            on_progress=bars,
            **given(flags),
        )
    a = done.agreement
    if as_json:
        print_json(a.record())
        return
    for caution in dict.fromkeys(c for each in next(iter(done.attributions.values())) for c in each.cautions):
        stdout.print(f"[bold red]{escape(caution)}[/]")
    print_table(agreement_table(a))
    if len(a.methods) <= MOST:
        print_table(correlations_table(a))
    stderr.print(f"\nOpen [bold]{escape(str(done.page))}[/] in a browser to see and hear it.")


@app.command()
@plainly
@settings_flags(EngineSettings, "Where it runs")
@method_flags
@settings_flags(PlanSettings)
@adaptable
def plan(
    methods: MethodsOption = None,
    model: ModelOption = BUILTIN,
    catalog: CatalogueOption = BUILTIN,
    index: IndexOption = None,
    exhaustive: ExhaustiveOption = False,
    shortlist: ShortlistOption = None,
    audit: AuditOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say what methods will cost before anything runs: time, memory, disk,
    from a few seconds of measurement.
    """
    engine, asked = parted(EngineSettings, given(flags))
    _, of_methods = parted(PlanSettings, asked)
    chosen_methods(listed(methods), of_methods)
    require_places(model, catalog)
    with Bars() as bars:
        plans = linernotes.plan(
            methods=listed(methods),
            model=model,
            catalogue=catalog,
            on_progress=bars,
            engine=engine,
            index=index,
            exhaustive=exhaustive,
            shortlist=shortlist,
            audit=audit,
            **asked,
        )
    if as_json:
        print_json([p.__dict__ for p in plans])
        return
    print_table(plans_table(plans))


@app.command()
@plainly
@method_flags
@settings_flags(SearchSettings)
def search(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for trials.db, trials.parquet, search.svg, best.toml.")
    ],
    grid: Annotated[
        list[str], typer.Option(help="SETTING=VALUE,VALUE,...; once for each setting to search.")
    ],
    method: Annotated[str, typer.Option(help="One of 'linernotes methods'.")] = DEFAULT_METHOD,
    bank: BankOption = BENCHMARK,
    model: Annotated[
        str | None, typer.Option(help="builtin for self-influence, benchmark for lds, if left out.")
    ] = None,
    catalog: Annotated[str | None, typer.Option(help="The same.")] = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Search a method's settings; a stopped search goes on where it was."""
    asked, fixed = parted(SearchSettings, given(flags))
    chosen_method(method, fixed)
    require_folder(out)
    require_places(model or BUILTIN, catalog or BUILTIN)
    if asked.metric == "lds":
        require_bank(bank)
    from linernotes.report.search import search_table

    with Bars() as bars:
        found = linernotes.search(
            out=out,
            grid=grid,
            method=method,
            bank=bank,
            model=model,
            catalogue=catalog,
            on_progress=bars,
            **given(flags),
        )
    if as_json:
        print_json({**found.__dict__, "trials": [trial.__dict__ for trial in found.trials]})
        return
    print_table(search_table(found, FIRST))
    stderr.print(f"\nBest settings: [bold]{escape(str(out / 'best.toml'))}[/] (attribute --settings)")


@app.command()
@plainly
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this part: sweep, query, ingest, demo, queries, methods or scale. May be repeated."
        ),
    ] = None,
    methods: MethodsOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="So little that the figures only show that it runs.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Of scale: a large catalogue's model.")] = None,
    catalog: Annotated[str | None, typer.Option(help="Of scale: a large catalogue.")] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="Of scale: the catalogue's index; built there if it is not."),
    ] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what attribution costs on this machine, on the built-in model;
    ratios are of one and the same run.
    """
    chosen_methods(listed(methods), {})
    if out is not None:
        require_folder(out)
    if model or catalog:
        require_places(model or BUILTIN, catalog or BUILTIN)
    with Bars() as bars:
        parts = {"only": tuple(only)} if only else {}
        figures = linernotes.bench(
            methods=listed(methods),
            on_progress=bars,
            quick=quick,
            model=model,
            catalogue=catalog,
            index=index,
            **parts,
        )
    costs, grown = figures.pop("methods", []), figures.pop("scale", [])
    tables = [costs_table(costs)] if costs else []
    if grown:
        from linernotes.report.scale import scale_table

        tables.append(scale_table(grown))
    if figures:
        tables.append(figures_table(figures))
    if out is not None:
        for table in tables:
            table.save(out)
    if as_json:
        parts_measured = {"methods": costs, "scale": grown}
        found = {name: [vars(row) for row in rows] for name, rows in parts_measured.items() if rows}
        print_json({**figures, **found})
        return
    for table in tables:
        print_table(table)
