"""Verbs about methods rather than clips: which there are, what they cost, how far they agree, which settings are best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from linernotes.cli.checks import check_bank, check_clips, check_methods, check_out, check_places
from linernotes.cli.options import (
    BankOption,
    CatalogueOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    given,
    listed,
    method_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, stderr, stdout
from linernotes.settings.methods import DEFAULT_METHOD, describe_methods

FIRST = 10  # trials a terminal shows

research_app = typer.Typer()


@research_app.command()
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


@research_app.command()
@plainly
@method_flags
def compare(
    clips: Annotated[list[Path], typer.Argument(help="Generated clips, or any sound files, of any length.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for compare.html and each method's attributions.")],
    methods: MethodsOption = None,
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    prompt: Annotated[Optional[str], typer.Option(help="The prompt, if anyone knows it, of clips without a sidecar.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Attribute CLIPS by several methods and show how far they agree, side by side."""
    check_methods(listed(methods), given(flags))
    check_clips(clips)
    check_out(out)
    check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        done = api.compare(clips, out, listed(methods), model, catalog, prompt, on_progress=bars, **given(flags))
    a = done.agreement
    if as_json:
        print_json(a.record())
        return
    for caution in dict.fromkeys(c for each in next(iter(done.attributions.values())) for c in each.cautions):
        stdout.print(f"[bold red]{escape(caution)}[/]")
    table = Table(
        "method", f"held by the first {a.first}", "first shared between clips", "decoys first", box=None, header_style="dim"
    )
    for i, name in enumerate(a.methods):
        shared = f"{100 * a.hub_share[i]:.0f} %" if len(a.queries) > 1 else ""
        decoys = f"{a.decoys_first[i]:.1f}" if math.isfinite(a.decoys_first[i]) else ""
        table.add_row(f"[bold]{name}[/]", f"{100 * a.concentration[i]:.0f} %", shared, decoys)
    stdout.print(table)
    most = Table("Spearman", *a.methods, box=None, header_style="dim", pad_edge=False)
    if len(a.methods) <= 8:
        for name, row in zip(a.methods, a.spearman, strict=True):
            most.add_row(f"[bold]{name}[/]", *(f"{value:.2f}" for value in row))
        stdout.print(most)
    stderr.print(f"\nOpen [bold]{escape(str(done.page))}[/] in a browser to see and hear it.")


@research_app.command()
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
    """Say what methods will cost before anything runs: time, memory, disk, from a few seconds of measurement."""
    check_methods(listed(methods), given(flags))
    check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        plans = api.plan(listed(methods), queries, model, catalog, on_progress=bars, **given(flags))
    if as_json:
        print_json([p.__dict__ for p in plans])
        return
    told = "1 query" if queries == 1 else f"{queries} queries"
    table = Table(
        "method", "once per model", told, "forwards: once", f"forwards: {told}", "memory", "disk", box=None, header_style="dim"
    )
    for p in plans:
        table.add_row(
            f"[bold]{p.method}[/]", f"{p.once_s:.0f} s", f"{p.queries_s:.0f} s", f"{p.once_forwards:,.0f}",
            f"{p.query_forwards:,.0f}", f"{p.memory_mib / 1024:.1f} GiB", f"{p.disk_mib:.0f} MiB",
        )  # fmt: skip
    stdout.print(table)
    stdout.print("\n[dim]Start-up is not counted. Forwards: what the time would pay for in forward passes of one segment.[/]")


@research_app.command()
@plainly
@method_flags
def sweep(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for trials.db, trials.parquet, sweep.svg, best.toml.")],
    grid: Annotated[list[str], typer.Option(help="SETTING=VALUE,VALUE,...; once for each setting to search.")],
    method: Annotated[str, typer.Option(help="One of 'linernotes methods'.")] = DEFAULT_METHOD,
    metric: Annotated[
        str, typer.Option(help="self-influence (small is good), or lds on a bank's tuning clips.")
    ] = "self-influence",
    sampler: Annotated[str, typer.Option(help="grid: all choices; tpe: look where it is promising.")] = "grid",
    trials: Annotated[Optional[int], typer.Option(min=1, help="How many; all of the grid if left out.")] = None,  # noqa: UP045
    segments: Annotated[int, typer.Option(min=1, help="Training segments that are taken as queries.")] = 40,
    candidates: Annotated[int, typer.Option(min=2, help="Segments among which they are ranked.")] = 200,
    bank: BankOption = "benchmark",
    model: Annotated[Optional[str], typer.Option(help="builtin for self-influence, benchmark for lds, if left out.")] = None,  # noqa: UP045
    catalog: Annotated[Optional[str], typer.Option(help="The same.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Search a method's settings; a stopped search goes on where it was."""
    check_out(out)
    check_places(model or "builtin", catalog or "builtin")
    if metric == "lds":
        check_bank(bank)
    from linernotes import api

    with Bars() as bars:
        found = api.sweep(
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
    measured = list(found.trials[0].values)
    table = Table(*found.grid, *(name.replace("_", " ") for name in measured), box=None, header_style="dim")
    for trial in found.trials[:FIRST]:
        values = (f"{value:.3g}" for value in trial.values.values())
        table.add_row(*(f"{value:g}" if isinstance(value, float) else str(value) for value in trial.chosen.values()), *values)
    stdout.print(table)
    failed = [trial.failed for trial in found.trials if trial.failed]
    stdout.print(
        f"[dim]The first {min(FIRST, len(found.trials))} of {len(found.trials)} trials. {escape(found.unit)}[/]"
        + (f"[dim]\n{len(failed)} failed, the first because {escape(failed[0])}[/]" if failed else "")
    )
    stderr.print(f"\nBest settings: [bold]{escape(str(out / 'best.toml'))}[/] (attribute --settings)")


@research_app.command()
@plainly
def bench(
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Only this part: sweep, query, ingest, demo, queries or methods. May be repeated."),
    ] = None,
    methods: MethodsOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="So little that the figures only show that it runs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what attribution costs on this machine, on the built-in model; ratios are of one and the same run."""
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
        by_method = Table("method", "once per model, s", "a query, s", "peak, MiB", "disk, MiB", box=None, header_style="dim")
        for c in costs:
            once, query = (c.once_s, c.planned_once_s), (c.query_s, c.planned_query_s)
            cells = (once, query, (c.peak_mib, c.planned_mib), (c.disk_mib, c.planned_disk_mib))
            by_method.add_row(f"[bold]{c.method}[/]", *(f"{was:.0f} / {planned:.0f}" for was, planned in cells))
        stdout.print(by_method)
        stdout.print("[dim]Each measured / as 'linernotes plan' said just before.[/]")
    if figures:
        table = Table("what", "measured", box=None, header_style="dim")
        for name, value in figures.items():
            table.add_row(name.replace("_", " "), f"{value:.3g}")
        stdout.print(table)
