"""The part of ``linernotes evaluate ...`` that holds methods against retraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from linernotes.cli.checks import check_bank, check_file, check_places, check_truth
from linernotes.cli.options import (
    BankOption,
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    JsonOption,
    MethodsOption,
    given,
    listed,
    method_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, stdout
from linernotes.errors import UsageError

truth_app = typer.Typer()

OutOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", "-o", help="Folder for the table (Parquet) and the picture (SVG); nothing is saved if left out."),
]
ScoresOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(help="NAME=FILE: scores from elsewhere, Parquet with columns query, track_id, score. May be repeated."),
]
WithinOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Metadata column: leave out what the mere number of tracks of each of its values explains."),
]


@truth_app.command("lds")
@plainly
@method_flags
def evaluate_lds(
    methods: MethodsOption = None,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    split: Annotated[str, typer.Option(help="Which clips count: reporting or tuning.")] = "reporting",
    output: Annotated[str, typer.Option(help="What retrains are asked: their loss or their prediction.")] = "loss",
    within: WithinOption = None,
    scores: ScoresOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """The linear datamodelling score: do scores predict what training on known subsets does to a clip?"""
    _one_of("--split", split, ("reporting", "tuning"))
    _one_of("--output", output, ("loss", "prediction"))
    files = _files(scores)
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, files, on_progress=bars)
        t = api.evaluate_lds(opened, listed(methods), split, output, within, **given(flags))  # type: ignore[arg-type]
    if told(api.tell_lds(t), out, as_json):
        return
    table = Table("method", "LDS", "ceiling", "truncated", "to", f"behind {t.reference}", box=None, header_style="dim")
    for m in t.methods:
        share = f"{100 * m.of_ceiling.value:.0f} %" if t.ceiling.value > 0.05 else ""
        cells = (str(m.lds), share, str(m.truncated or ""), str(m.kept or ""), str(m.behind or ""))
        table.add_row(f"[bold]{escape(m.method)}[/]", *cells)
    stdout.print(table)
    stdout.print(
        f"\nNoise ceiling {t.ceiling}: two seeds correlate at {t.seed_correlation}. "
        f"[dim]{t.queries} clips for {t.split}, {t.models} models; {t.output}; 95 % intervals over clips and models.[/]"
        + (f"[dim] What the mere number of tracks of each {escape(t.within)} explains is taken out.[/]" if t.within else "")
    )


@truth_app.command("counterfactual")
@plainly
@method_flags
def evaluate_counterfactual(
    methods: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Methods to train for, with commas between; left out: show what has been trained."),
    ] = None,
    percent: Annotated[float, typer.Option(help="Share of the catalogue that is left out, if methods are named.")] = 2.0,
    pooled: Annotated[bool, typer.Option("--pooled", help="Leave out one set of tracks for all clips at once.")] = False,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    scores: ScoresOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Leave-k-out: train again without a method's first tracks, and see what becomes of the clips.

    Without --methods it shows what has been trained, in --out or with the bank; with them it trains, about a minute a clip and
    method, into --out, and adds to what is there.
    """
    if scores and not methods:
        raise UsageError("--scores needs --methods here: without, only what has been trained is shown; name 'random', say")
    if methods and out is None:
        raise UsageError("--methods trains models, which need a folder: give one with --out, or leave out --methods")
    files = _files(scores)
    if methods:
        check_truth(bank, model, catalog, listed(methods), given(flags))
    else:
        check_bank(bank)
        check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, files, on_progress=bars)
        names = [*(listed(methods) or ()), *(opened.files if methods else ())]
        outcomes = api.evaluate_counterfactual(opened, names, percent, pooled, out, on_progress=bars, **given(flags))
    if told(api.tell_counterfactual(outcomes), out, as_json):
        return
    columns = ("method", "left out", "its own rise", "of its loss", "of others'", "over likeness", "dB moved")
    table = Table(*columns, box=None, header_style="dim")
    for o in outcomes:
        left = f"{o.percent:g} %{' pooled' if o.pooled else ''}"
        ahead = _fine(o.over_likeness) if o.over_likeness else ""
        values = (_fine(o.specific), f"{o.rise.value:+.4f}", f"{o.control.value:+.4f}" if o.control else "", ahead)
        table.add_row(f"[bold]{escape(o.method)}[/]", left, *values, f"{next(iter(o.distances.values())).value:+.1f}")
    stdout.print(table)
    stdout.print(
        "[dim]Rise of the clip's loss over what leaving out as many random tracks does; its own: less the other clips' rise "
        "under the same model. 95 % intervals over models and clips.[/]"
    )


@truth_app.command("planted")
@plainly
@method_flags
def evaluate_planted(
    methods: MethodsOption = None,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Which relations (duplicate, transposed, other instrument, ...) the model learns from, and which each method sees."""
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        t = api.evaluate_planted(opened, listed(methods), **given(flags))
    if told(api.tell_planted(t), out, as_json):
        return
    relations = Table("relation", "pairs", "learned from, as a share of itself", box=None, header_style="dim")
    for r in t.relations:
        relations.add_row(f"[bold]{r.relation}[/]", str(r.pairs), str(r.learned or ""))
    stdout.print(relations)
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    table.add_column(f"recall@{t.first}", no_wrap=True)
    for r in t.relations:
        table.add_column(r.relation, overflow="fold", max_width=5)
    table.add_column("decoys", no_wrap=True)
    for m, recall in t.recall.items():
        seen = (f"{r.recall[m]:.2f}" for r in t.relations)
        table.add_row(f"[bold]{m}[/]", str(recall), *seen, f"{t.decoys[m].value:.1f}")
    stdout.print(table)
    stdout.print(f"[dim]Decoys among the first {t.first} of all tracks; {t.decoys_by_chance:.1f} by chance.[/]")


@truth_app.command("groups")
@plainly
@method_flags
def evaluate_groups(
    by: Annotated[
        str, typer.Option(help="Metadata column whose values are the groups: artist, album, instrument, ...")
    ] = "album",
    methods: MethodsOption = None,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Leave one group out, train again, and compare with each method's sums over groups.

    The benchmark's bank holds album and instrument; for any other column one model is trained for every value, into --out.
    """
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        measured, rises = api.evaluate_groups(opened, by, listed(methods), out, on_progress=bars, **given(flags))
    if told(api.tell_groups(by, measured, rises), out, as_json):
        return
    table = Table("method", "first group right", "truncated", "NDCG@3", box=None, header_style="dim")
    for m in measured:
        table.add_row(f"[bold]{m.method}[/]", str(m.top1), str(m.truncated or ""), str(m.ndcg))
    stdout.print(table)
    listing = ", ".join(f"{escape(name)} {rise:+.4f}" for name, rise in sorted(rises.items(), key=lambda each: -each[1]))
    stdout.print(f"[dim]Mean rise of the clips' losses without each group: {listing}[/]")


@truth_app.command("hubs")
@plainly
@method_flags
def evaluate_hubs(
    methods: MethodsOption = None,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """How often the same tracks come first for different clips."""
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        found = api.evaluate_hubs(opened, listed(methods), **given(flags))
    if told(api.tell_hubs(found), out, as_json):
        return
    table = Table(
        "method", "first ten shared by two clips", "most common track", "among the first of", box=None, header_style="dim"
    )
    for h in found:
        table.add_row(f"[bold]{h.method}[/]", str(h.share), escape(h.most_common), f"{h.times} of {h.queries} clips")
    stdout.print(table)


@truth_app.command("repeatability")
@plainly
@method_flags
def evaluate_repeatability(
    methods: MethodsOption = None,
    seeds: Annotated[int, typer.Option(help="How many times the noise is drawn anew.")] = 2,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """How far a method agrees with itself when all of its noise is drawn anew; scores every clip once a seed."""
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        found = api.evaluate_repeatability(opened, listed(methods), seeds, **given(flags))
    if told(api.tell_repeatability(seeds, found), out, as_json):
        return
    table = Table("method", "correlation with itself", "first ten in common", box=None, header_style="dim")
    for r in found:
        table.add_row(f"[bold]{r.method}[/]", str(r.pearson), str(r.first_shared))
    stdout.print(table)


@truth_app.command("leaderboard")
@plainly
@method_flags
def evaluate_leaderboard(
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write (Markdown); its pictures go beside it.")],
    methods: MethodsOption = None,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    within: WithinOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Write the leaderboard: every method by every measure, from a bank and the scores kept with it."""
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        board = api.write_leaderboard(opened, out, listed(methods), within, **given(flags))
    if as_json:
        print_json(api.tell_lds(board.lds).json())
        return
    stdout.print(escape(str(out)))


def told(found: Any, out: Path | None, as_json: bool) -> bool:
    """Saves an evaluation where a folder is given, and prints it if JSON is wanted."""
    if out is not None:
        found.save(out)
    if as_json:
        print_json(found.json())
    return as_json


def _files(scores: Sequence[str] | None) -> Mapping[str, str]:
    named = [line.partition("=") for line in scores or ()]
    for name, equals, path in named:
        if not (name and equals and path):
            raise UsageError(f"--scores {name!r} names no file: write --scores NAME=FILE")
        check_file(Path(path), "a Parquet file of scores")
    return {name: path for name, _, path in named}


def _one_of(flag: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{flag} {value!r} is unknown: choose {' or '.join(allowed)}")


def _fine(i: Any) -> str:
    return f"{i.value:+.4f} [{i.low:+.4f}, {i.high:+.4f}]"
