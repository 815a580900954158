"""Methods held against retraining: every measure of a bank, and the leaderboard."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linernotes.api.workspace import Workspace
from linernotes.artefacts import held
from linernotes.demo.places import (
    BENCHMARK,
    BENCHMARKS,
    DEEP,
    LONG,
    SIZED_BENCHMARKS,
    benchmark_parts,
    require_held,
)
from linernotes.errors import UsageError
from linernotes.evaluation.bank.folder import BANK_FILE
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.bank.retraining import retrainers
from linernotes.evaluation.bank.scores import Scored, of_columns, stored_scores
from linernotes.evaluation.bank.store import Bank, read_bank
from linernotes.evaluation.benchmarks import Across, Case, measure_across
from linernotes.evaluation.board import LIKENESSES, Board, measure_board
from linernotes.evaluation.counterfactual import (
    COUNTERFACTUAL_FILE,
    Outcome,
    arms_of_scores,
    measure_outcomes,
    read_arms,
)
from linernotes.evaluation.further_retrains import (
    grouped_by,
    read_groups,
    read_left_out,
    train_left_out,
    train_without_groups,
)
from linernotes.evaluation.groups import GroupScore, groups_of, measure_groups
from linernotes.evaluation.hubs import HubShare, Repeatability, measure_hubs, measure_repeatability
from linernotes.evaluation.lds import MeasuredLds, measure_lds
from linernotes.evaluation.planted import MeasuredPlanted, planted_of
from linernotes.evaluation.thinning import Sized, Thinning, measure_thinning
from linernotes.methods.all import those_that_run
from linernotes.methods.contract import Progress
from linernotes.report.benchmarks import write_across
from linernotes.report.leaderboard import write_leaderboard as write
from linernotes.report.thinning import write_thinning as write_thinning_page
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.settings.methods import ACROSS, BY_SIZE, DEFAULT_METHOD, MethodSettings
from linernotes.settings.places import cache_folder
from linernotes.settings.reading import as_flags, chosen_methods, parted
from linernotes.settings.verbs import (
    CounterfactualSettings,
    GroupsSettings,
    LdsSettings,
    LeaderboardSettings,
    RepeatabilitySettings,
)


def evaluate_lds(opened: OpenedBank, methods: Sequence[str] | None = None, **settings: Any) -> MeasuredLds:
    """How well each method's scores predict what retraining on known subsets does to the bank's clips.

    Args:
        settings: fields of ``LdsSettings`` (``split``, ``output``, ``within``), and methods' settings.
    """
    asked, of_methods = parted(LdsSettings, settings)
    scores = opened.training_scores(_chosen(opened, methods, of_methods))
    return measure_lds(
        bank=opened.bank,
        scores=scores,
        split=asked.split,
        output=asked.output,
        reference=DEFAULT_METHOD,
        within=(asked.within, groups_of(opened.prepared.catalogue.tracks, asked.within))
        if asked.within
        else None,
    )


def evaluate_planted(
    opened: OpenedBank, methods: Sequence[str] | None = None, **settings: Any
) -> MeasuredPlanted:
    """Which of the catalogue's known relations the model learned from, and which of them each method sees."""
    return planted_of(opened, _chosen(opened, methods, settings))


def evaluate_counterfactual(
    opened: OpenedBank,
    methods: Sequence[str] = (),
    out: str | Path | None = None,
    engine: RetrainEngineSettings | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Leave-k-out: what becomes of clips when the tracks that methods put
    first are left out, against random ones.

    Without ``methods``, from what was trained before, in ``out`` or with the bank; else by training again,
    about a minute for each method and clip, and adding to what is in ``out``.

    Args:
        methods: names of methods, or of scores that the bank was opened with.
        engine: what trains: processes of this machine if None.
        settings: fields of ``CounterfactualSettings``, and methods' settings: ``percent``, the share of the
            catalogue that is left out, and ``pooled``, one set of tracks for all reporting clips in place of
            each heard clip's own.

    Raises:
        MissingError: nothing was trained before.
        UsageError: no clip can be heard, or there is no folder to train into.
    """
    asked, of_methods = parted(CounterfactualSettings, settings)
    if not methods:
        folders = [*([Path(out)] if out else []), opened.bank.path.parent]
        return measure_outcomes(*read_left_out(opened, folders), LIKENESSES)
    if out is None:
        raise UsageError("training again needs a folder for its results: give one with --out")
    named = [name for name in methods if name not in opened.files]
    scores = opened.training_scores(_chosen(opened, named, of_methods) if named else {})
    wanted = {name: scores[name] for name in methods}
    with held(Path(out)), retrainers(engine) as executor:
        trained = train_left_out(opened, wanted, asked, Path(out), executor)
    return measure_outcomes(*trained, LIKENESSES)


def evaluate_groups(
    opened: OpenedBank,
    methods: Sequence[str] | None = None,
    out: str | Path | None = None,
    engine: RetrainEngineSettings | None = None,
    **settings: Any,
) -> tuple[list[GroupScore], dict[str, float]]:
    """Leave one group out, train again, and compare with each method's sums over groups. Trains into ``out``
    unless the bank has the retrains already. Returns the methods, best first, and the mean rise of the clips'
    losses without each group.

    Args:
        engine: what trains: processes of this machine if None.
        settings: the field of ``GroupsSettings``, ``by``, a metadata column, and methods' settings.
    """
    asked, of_methods = parted(GroupsSettings, settings)
    bank, groups = opened.bank, groups_of(opened.prepared.catalogue.tracks, asked.by)
    scores = opened.training_scores(_chosen(opened, methods, of_methods))
    if asked.by in grouped_by(bank):
        trained = read_groups(opened, asked.by)
    elif out is None:
        raise UsageError(
            f"the bank has no retrains without each {asked.by}: give a folder with --out, and they are made"
        )
    else:
        with held(Path(out)), retrainers(engine) as executor:
            trained = train_without_groups(opened, asked.by, groups, Path(out), executor)
    measured, rise_qg = measure_groups(trained, bank, groups, scores)
    rows = bank.rows("reporting")
    return measured, {group: float(rise_qg[rows, g].mean()) for g, group in enumerate(groups)}


def evaluate_hubs(
    opened: OpenedBank, methods: Sequence[str] | None = None, **settings: Any
) -> list[HubShare]:
    """How often the same tracks come first for different clips."""
    scores = opened.training_scores(_chosen(opened, methods, settings))
    titles = {track.track_id: track.title for track in opened.prepared.catalogue.tracks}
    return measure_hubs(opened.bank, scores, titles)


def evaluate_repeatability(
    opened: OpenedBank, methods: Sequence[str] | None = None, **settings: Any
) -> list[Repeatability]:
    """How far a method agrees with itself when all of its noise is drawn anew.

    Args:
        settings: the field of ``RepeatabilitySettings``, ``seeds``, and methods' settings.
    """
    asked, of_methods = parted(RepeatabilitySettings, settings)
    first = int(of_methods.pop("seed", 0))
    runs = [
        opened.training_scores(_chosen(opened, methods, {**of_methods, "seed": seed}))
        for seed in range(first, first + asked.seeds)
    ]
    return measure_repeatability(opened.bank, runs)


def write_leaderboard(
    opened: OpenedBank, path: str | Path, methods: Sequence[str] | None = None, **settings: Any
) -> Board:
    """Writes the leaderboard: every method by every measure that bank and catalogue allow.

    Args:
        settings: the field of ``LeaderboardSettings``, ``within``, and methods' settings. The LDS is measured
            once more without what the mere number of tracks of each of the column's values explains; of the
            instrument if left out, where the catalogue says it.
    """
    asked, of_methods = parted(LeaderboardSettings, settings)
    board = measure_board(opened, _chosen(opened, methods, of_methods), asked.within)
    prepared = opened.prepared
    words = ["linernotes", "evaluate", "leaderboard", "-o", str(path)]
    words += ["--methods", ",".join(methods)] if methods else []
    words += ["--within", asked.within] if asked.within not in (None, "instrument") else []
    places = (str(opened.bank.path), str(prepared.model_folder), str(prepared.catalogue.path))
    shipped = [name for name in BENCHMARKS if opened.bank.path.parent == benchmark_parts(name)]
    if shipped != [BENCHMARK]:
        for flag, place in zip(("--bank", "--model", "--catalog"), shipped * 3 or places, strict=True):
            words += [flag, place]
    write(Path(path), board, shlex.join([*words, *as_flags(of_methods)]))
    return board


def write_benchmarks(
    path: str | Path,
    benchmarks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    on_progress: Progress | None = None,
) -> Across:
    """Writes one table over benchmarks: the same methods, with their defaults, on each. It is made from banks
    and scores that are kept; those that are missing are computed first, of all methods on all benchmarks,
    before anything is measured.

    Args:
        benchmarks: by name; those of Stable Audio's kind whose banks the package holds if None.
        methods: eight that stand for all families if None.

    Raises:
        UsageError: no such benchmark or method.
        LinernotesError: the package holds no bank of one of them.
    """
    of_this_kind = _held([BENCHMARK, DEEP, LONG])
    names = list(benchmarks) if benchmarks is not None else of_this_kind
    chosen = chosen_methods(methods if methods is not None else ACROSS, {})
    for name in names:
        require_held(name)
    banks = {name: read_bank(benchmark_parts(name)) for name in names}
    scored = {name: _scored(name, bank, chosen, on_progress) for name, bank in banks.items()}
    across = measure_across(
        [Case(name, bank, scored[name], _left_out(bank, scored[name])) for name, bank in banks.items()]
    )
    words = ["linernotes", "evaluate", "benchmarks", "-o", str(path)]
    words += ["--benchmarks", ",".join(benchmarks)] if benchmarks is not None else []
    words += ["--methods", ",".join(methods)] if methods is not None else []
    write_across(Path(path), across, shlex.join(words))
    return across


def write_thinning(
    path: str | Path,
    benchmarks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    on_progress: Progress | None = None,
) -> Thinning:
    """Writes how influence thins out with the size of a catalogue: what one more track of each rank, by a
    method's scores, is worth to a clip, on benchmarks of several sizes, and the law of it; with a picture
    beside it. Made from banks and scores that are kept; scores that are missing are computed first.

    Args:
        benchmarks: by name; those of several sizes whose banks the package holds if None.
        methods: the one whose effects are told by rank and by a law, then those that stand beside it; the
            default, likenesses and chance if None.

    Raises:
        UsageError: no such benchmark or method.
        LinernotesError: the package holds no bank of one of them, or they are not of one kind.
    """
    names = list(dict.fromkeys(benchmarks if benchmarks is not None else _held(SIZED_BENCHMARKS)))
    chosen = chosen_methods(methods if methods is not None else BY_SIZE, {})
    cases = []
    for name in names:
        require_held(name)
        bank = read_bank(benchmark_parts(name))
        scored = _scored(name, bank, chosen, on_progress)
        cases.append(Sized(name, bank, {m: of_columns(s.scores_qt, bank) for m, s in scored.items()}))
    found = measure_thinning(cases)
    words = ["linernotes", "evaluate", "thinning", "-o", str(path)]
    words += ["--benchmarks", ",".join(benchmarks)] if benchmarks is not None else []
    words += ["--methods", ",".join(methods)] if methods is not None else []
    write_thinning_page(Path(path), found, shlex.join(words))
    return found


def _chosen(
    opened: OpenedBank, methods: Sequence[str] | None, values: Mapping[str, Any]
) -> dict[str, MethodSettings]:
    """Methods with their settings; all that run on the bank's model if None."""
    chosen = chosen_methods(methods, values)
    return those_that_run(opened.prepared.model, chosen, methods is not None)


def _held(names: Sequence[str]) -> list[str]:
    """Those whose banks the package holds."""
    return [name for name in names if (benchmark_parts(name) / BANK_FILE).exists()]


def _scored(
    name: str, bank: Bank, chosen: Mapping[str, MethodSettings], on_progress: Progress | None
) -> dict[str, Scored]:
    """Scores of a benchmark's clips by every method; its model is opened only where some are missing."""
    folders = [benchmark_parts(name) / "scores", cache_folder() / "bank-scores"]
    found = {method: stored_scores(bank, folders, method, own) for method, own in chosen.items()}
    opened = None
    if None in found.values():
        opened = Workspace(name, name, on_progress=on_progress).open_bank(name)
    return {
        method: scored or opened.clip_scores(method, chosen[method])  # type: ignore[union-attr]
        for method, scored in found.items()
    }


def _left_out(bank: Bank, scored: Mapping[str, Scored]) -> list[Outcome]:
    """The leave-k-out of a benchmark, at the share that all of them have; nothing where none was trained."""
    path = bank.path.parent / COUNTERFACTUAL_FILE
    if not path.exists():
        return []
    trained, arms = read_arms(path)
    bank.require_same(trained)
    scores = {method: of_columns(each.scores_qt, bank) for method, each in scored.items()}
    usual = [arm for arm in arms if arm.percent == CounterfactualSettings().percent]
    return measure_outcomes(trained, arms_of_scores(bank, scores, usual), LIKENESSES)
