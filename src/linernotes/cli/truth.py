"""The part of ``linernotes evaluate ...`` that holds methods against retraining."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.options import (
    BankOption,
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    Command,
    JsonOption,
    MethodsOption,
    OutOption,
    adaptable,
    adding,
    given,
    listed,
    method_flags,
    settings_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, publish, stdout
from linernotes.demo.places import BENCHMARK, require_bank, require_places
from linernotes.errors import UsageError
from linernotes.evaluation.bank.folder import require_scores
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.settings.reading import chosen_methods, parted
from linernotes.settings.verbs import (
    CounterfactualSettings,
    GroupsSettings,
    LdsSettings,
    LeaderboardSettings,
    RepeatabilitySettings,
    VerbSettings,
)

if TYPE_CHECKING:
    from linernotes.evaluation.bank.opened import OpenedBank
    from linernotes.report.table import Table

app = typer.Typer()
WHERE = "Where it trains"

ScoresOption = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FILE: scores from elsewhere, Parquet with columns query, track_id, score. May be repeated."
    ),
]
SCORES = inspect.Parameter("scores", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ScoresOption)


@dataclass(frozen=True)
class Asked:
    """What an evaluation is asked for: of which bank, methods (all if None) and settings, and where to
    keep what it trains.
    """

    opened: OpenedBank
    methods: list[str] | None
    out: Path | None
    settings: dict[str, Any]
    engine: RetrainEngineSettings


def of_a_bank(
    kind: type[VerbSettings] = VerbSettings, with_scores: bool = False, trains: bool = False
) -> Callable[[Callable[[Asked], Table]], Command]:
    """Makes a command of what evaluates methods against an opened bank and returns a table: with the options
    that all of these have, flags for the settings of ``kind`` and of methods, and, if wanted, ``--scores``,
    and of where it trains.
    """
    further = [SCORES] if with_scores else []

    def command_of(evaluate: Callable[[Asked], Table]) -> Command:
        @adaptable
        def command(
            methods: MethodsOption = None,
            bank: BankOption = BENCHMARK,
            model: BenchmarkModelOption = BENCHMARK,
            catalog: BenchmarkCatalogueOption = BENCHMARK,
            out: OutOption = None,
            as_json: JsonOption = False,
            **flags: Any,
        ) -> None:
            files = _files(flags.pop("scores", None))
            engine, asked = parted(RetrainEngineSettings, given(flags))
            _check(bank=bank, model=model, catalog=catalog, methods=listed(methods), kind=kind, flags=asked)
            with Bars() as bars:
                opened = linernotes.open_bank(bank, model, catalog, files, on_progress=bars)
                table = evaluate(Asked(opened, listed(methods), out, asked, engine))
            publish(table, out, as_json)

        command.__doc__ = evaluate.__doc__
        made = method_flags(settings_flags(kind)(adding(further)(command)))
        return settings_flags(RetrainEngineSettings, WHERE)(made) if trains else made

    return command_of


@app.command("lds")
@plainly
@of_a_bank(LdsSettings, with_scores=True)
def evaluate_lds(asked: Asked) -> Table:
    """The linear datamodelling score: do scores predict what training on known subsets does to a clip?"""
    from linernotes.report.truth import lds_table

    return lds_table(linernotes.evaluate_lds(asked.opened, asked.methods, **asked.settings))


@app.command("counterfactual")
@plainly
@settings_flags(RetrainEngineSettings, WHERE)
@method_flags
@settings_flags(CounterfactualSettings)
@adaptable
def evaluate_counterfactual(
    methods: Annotated[
        str | None,
        typer.Option(help="Methods to train for, with commas between; left out: show what has been trained."),
    ] = None,
    bank: BankOption = BENCHMARK,
    model: BenchmarkModelOption = BENCHMARK,
    catalog: BenchmarkCatalogueOption = BENCHMARK,
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
    engine, asked = parted(RetrainEngineSettings, given(flags))
    _check(
        bank=bank,
        model=model,
        catalog=catalog,
        methods=listed(methods),
        kind=CounterfactualSettings,
        flags=asked,
    )
    from linernotes.report.truth import counterfactual_table

    with Bars() as bars:
        opened = linernotes.open_bank(bank, model, catalog, files, on_progress=bars)
        names = [*(listed(methods) or ()), *(opened.files if methods else ())]
        outcomes = linernotes.evaluate_counterfactual(opened, names, out, engine, **asked)
    publish(counterfactual_table(outcomes), out, as_json)


@app.command("planted")
@plainly
@of_a_bank()
def evaluate_planted(asked: Asked) -> Table:
    """Which relations (duplicate, transposed, other instrument, ...) the model
    learns from, and which each method sees.
    """
    from linernotes.report.truth import planted_table

    return planted_table(linernotes.evaluate_planted(asked.opened, asked.methods, **asked.settings))


@app.command("groups")
@plainly
@of_a_bank(GroupsSettings, trains=True)
def evaluate_groups(asked: Asked) -> Table:
    """Leave one group out, train again, and compare with each method's sums over groups.

    The benchmark's bank holds album and instrument; for any other column one model is trained for every
    value, into --out.
    """
    from linernotes.report.truth import groups_table

    by = parted(GroupsSettings, asked.settings)[0].by
    found = linernotes.evaluate_groups(asked.opened, asked.methods, asked.out, asked.engine, **asked.settings)
    return groups_table(by, *found)


@app.command("hubs")
@plainly
@of_a_bank()
def evaluate_hubs(asked: Asked) -> Table:
    """How often the same tracks come first for different clips."""
    from linernotes.report.truth import hubs_table

    return hubs_table(linernotes.evaluate_hubs(asked.opened, asked.methods, **asked.settings))


@app.command("repeatability")
@plainly
@of_a_bank(RepeatabilitySettings)
def evaluate_repeatability(asked: Asked) -> Table:
    """How far a method agrees with itself when all of its noise is drawn
    anew; scores every clip once a seed.
    """
    from linernotes.report.truth import repeatability_table

    seeds = parted(RepeatabilitySettings, asked.settings)[0].seeds
    return repeatability_table(
        seeds, linernotes.evaluate_repeatability(asked.opened, asked.methods, **asked.settings)
    )


@app.command("leaderboard")
@plainly
@method_flags
@settings_flags(LeaderboardSettings)
@adaptable
def evaluate_leaderboard(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page to write (Markdown); its pictures go beside it.")
    ],
    methods: MethodsOption = None,
    bank: BankOption = BENCHMARK,
    model: BenchmarkModelOption = BENCHMARK,
    catalog: BenchmarkCatalogueOption = BENCHMARK,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Write the leaderboard: every method by every measure, from a bank and the scores kept with it."""
    _check(
        bank=bank,
        model=model,
        catalog=catalog,
        methods=listed(methods),
        kind=LeaderboardSettings,
        flags=flags,
    )
    from linernotes.report.truth import lds_table

    with Bars() as bars:
        opened = linernotes.open_bank(bank, model, catalog, on_progress=bars)
        board = linernotes.write_leaderboard(opened, out, listed(methods), **given(flags))
    if as_json:
        print_json(lds_table(board.lds).json())
        return
    stdout.print(escape(str(out)))


def _check(
    bank: str,
    model: str,
    catalog: str,
    methods: Sequence[str] | None,
    kind: type[VerbSettings],
    flags: Mapping[str, Any],
) -> None:
    """Refuses what an evaluation against a bank cannot use."""
    require_bank(bank)
    require_places(model, catalog)
    _, of_methods = parted(kind, given(flags))
    chosen_methods(methods, of_methods)


def _files(scores: Sequence[str] | None) -> Mapping[str, str]:
    named = [line.partition("=") for line in scores or ()]
    for name, equals, path in named:
        if not (name and equals and path):
            raise UsageError(f"--scores {name!r} names no file: write --scores NAME=FILE")
        require_scores(Path(path))
    return {name: path for name, _, path in named}
