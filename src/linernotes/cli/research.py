"""Verbs about methods rather than clips: which there are, what they cost, how far they agree, which settings
are best.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from linernotes.cli.checks import check_bank, check_clips, check_methods, check_out, check_places
from linernotes.cli.options import (
    BankOption,
    CatalogueOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    PromptOption,
    given,
    listed,
    method_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, stderr, stdout
from linernotes.report.costs import costs_table, figures_table, methods_table, plans_table
from linernotes.settings.methods import DEFAULT_METHOD, describe_methods

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
def compare(
    clips: Annotated[list[Path], typer.Argument(help="Generated clips, or any sound files, of any length.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for compare.html and each method's attributions.")
    ],
    methods: MethodsOption = None,
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    prompt: PromptOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Attribute CLIPS by several methods and show how far they agree, side by side."""
    check_methods(listed(methods), given(flags))
    check_clips(clips)
    check_out(out)
    check_places(model, catalog)
    from linernotes import api
    from linernotes.report.comparison import agreement_table, correlations_table

    with Bars() as bars:
        done = api.compare(
            clips, out, listed(methods), model, catalog, prompt, on_progress=bars, **given(flags)
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
@method_flags
def plan(
    methods: MethodsOption = None,
    queries: Annotated[int, typer.Option(min=1, help="Clips to attribute in one run.")] = 1,
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say what methods will cost before anything runs: time, memory, disk, from a few seconds of
    measurement.
    """
    check_methods(listed(methods), given(flags))
    check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        plans = api.plan(listed(methods), queries, model, catalog, on_progress=bars, **given(flags))
    if as_json:
        print_json([p.__dict__ for p in plans])
        return
    print_table(plans_table(plans))


@app.command()
@plainly
@method_flags
def search(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for trials.db, trials.parquet, search.svg, best.toml.")
    ],
    grid: Annotated[
        list[str], typer.Option(help="SETTING=VALUE,VALUE,...; once for each setting to search.")
    ],
    method: Annotated[str, typer.Option(help="One of 'linernotes methods'.")] = DEFAULT_METHOD,
    metric: Annotated[
        str, typer.Option(help="self-influence (small is good), or lds on a bank's tuning clips.")
    ] = "self-influence",
    sampler: Annotated[
        str, typer.Option(help="grid: all choices; tpe: look where it is promising.")
    ] = "grid",
    trials: Annotated[int | None, typer.Option(min=1, help="How many; all of the grid if left out.")] = None,
    segments: Annotated[int, typer.Option(min=1, help="Training segments that are taken as queries.")] = 40,
    candidates: Annotated[int, typer.Option(min=2, help="Segments among which they are ranked.")] = 200,
    bank: BankOption = "benchmark",
    model: Annotated[
        str | None, typer.Option(help="builtin for self-influence, benchmark for lds, if left out.")
    ] = None,
    catalog: Annotated[str | None, typer.Option(help="The same.")] = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Search a method's settings; a stopped search goes on where it was."""
    check_out(out)
    check_places(model or "builtin", catalog or "builtin")
    if metric == "lds":
        check_bank(bank)
    from linernotes import api
    from linernotes.report.search import search_table

    with Bars() as bars:
        found = api.search(
            out,
            grid,
            method,
            metric,
            sampler,
            trials,
            segments,
            candidates,
            bank,
            model,
            catalog,
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
        typer.Option(help="Only this part: sweep, query, ingest, demo, queries or methods. May be repeated."),
    ] = None,
    methods: MethodsOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="So little that the figures only show that it runs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what attribution costs on this machine, on the built-in model; ratios are of one and the same
    run.
    """
    check_methods(listed(methods), {})
    from linernotes import api

    with Bars() as bars:
        parts = {"only": tuple(only)} if only else {}
        figures = api.bench(methods=listed(methods), on_progress=bars, quick=quick, **parts)
    costs = figures.pop("methods", [])
    if as_json:
        print_json({**figures, **({"methods": [cost.__dict__ for cost in costs]} if costs else {})})
        return
    if costs:
        print_table(costs_table(costs))
    if figures:
        print_table(figures_table(figures))
