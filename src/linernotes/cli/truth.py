"""The part of ``linernotes evaluate ...`` that holds methods against retraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

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
from linernotes.cli.output import Bars, plainly, print_json, publish, stdout
from linernotes.errors import UsageError

app = typer.Typer()

OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Folder for table (Parquet, Markdown) and picture (SVG); nothing is saved if left out.",
    ),
]
ScoresOption = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FILE: scores from elsewhere, Parquet with columns query, track_id, score. May be repeated."
    ),
]
WithinOption = Annotated[
    str | None,
    typer.Option(
        help="Metadata column: leave out what the mere number of tracks of each of its values explains."
    ),
]


@app.command("lds")
@plainly
@method_flags
def evaluate_lds(
    methods: MethodsOption = None,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    split: Annotated[str, typer.Option(help="Which clips count: reporting or tuning.")] = "reporting",
    output: Annotated[
        str, typer.Option(help="What retrains are asked: their loss or their prediction.")
    ] = "loss",
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
    from linernotes.report.truth import lds_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, files, on_progress=bars)
        found = api.evaluate_lds(opened, listed(methods), split, output, within, **given(flags))  # type: ignore[arg-type]
    publish(lds_table(found), out, as_json)


@app.command("counterfactual")
@plainly
@method_flags
def evaluate_counterfactual(
    methods: Annotated[
        str | None,
        typer.Option(help="Methods to train for, with commas between; left out: show what has been trained."),
    ] = None,
    percent: Annotated[
        float, typer.Option(help="Share of the catalogue that is left out, if methods are named.")
    ] = 2.0,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Leave out one set of tracks for all clips at once.")
    ] = False,
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    scores: ScoresOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Leave-k-out: train again without a method's first tracks, and see what becomes of the clips.

    Without --methods it shows what has been trained, in --out or with the bank; with them it trains, about a
    minute a clip and method, into --out, and adds to what is there.
    """
    if scores and not methods:
        raise UsageError(
            "--scores needs --methods here: without, only what has been trained is shown; name 'random', say"
        )
    if methods and out is None:
        raise UsageError(
            "--methods trains models, which need a folder: give one with --out, or leave out --methods"
        )
    files = _files(scores)
    if methods:
        check_truth(bank, model, catalog, listed(methods), given(flags))
    else:
        check_bank(bank)
        check_places(model, catalog)
    from linernotes import api
    from linernotes.report.truth import counterfactual_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, files, on_progress=bars)
        names = [*(listed(methods) or ()), *(opened.files if methods else ())]
        outcomes = api.evaluate_counterfactual(
            opened, names, percent, pooled, out, on_progress=bars, **given(flags)
        )
    publish(counterfactual_table(outcomes), out, as_json)


@app.command("planted")
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
    """Which relations (duplicate, transposed, other instrument, ...) the model learns from, and which each
    method sees.
    """
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api
    from linernotes.report.truth import planted_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        found = api.evaluate_planted(opened, listed(methods), **given(flags))
    publish(planted_table(found), out, as_json)


@app.command("groups")
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

    The benchmark's bank holds album and instrument; for any other column one model is trained for every
    value, into --out.
    """
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api
    from linernotes.report.truth import groups_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        measured, rises = api.evaluate_groups(
            opened, by, listed(methods), out, on_progress=bars, **given(flags)
        )
    publish(groups_table(by, measured, rises), out, as_json)


@app.command("hubs")
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
    from linernotes.report.truth import hubs_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        found = api.evaluate_hubs(opened, listed(methods), **given(flags))
    publish(hubs_table(found), out, as_json)


@app.command("repeatability")
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
    """How far a method agrees with itself when all of its noise is drawn anew; scores every clip once a
    seed.
    """
    check_truth(bank, model, catalog, listed(methods), given(flags))
    from linernotes import api
    from linernotes.report.truth import repeatability_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        found = api.evaluate_repeatability(opened, listed(methods), seeds, **given(flags))
    publish(repeatability_table(seeds, found), out, as_json)


@app.command("leaderboard")
@plainly
@method_flags
def evaluate_leaderboard(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page to write (Markdown); its pictures go beside it.")
    ],
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
    from linernotes.report.truth import lds_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        board = api.write_leaderboard(opened, out, listed(methods), within, **given(flags))
    if as_json:
        print_json(lds_table(board.lds).json())
        return
    stdout.print(escape(str(out)))


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
