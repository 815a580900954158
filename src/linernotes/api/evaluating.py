"""Methods held against retraining: every measure of a bank, and the leaderboard."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linernotes.api.banking import OpenedBank, check, trusted
from linernotes.demo.places import BENCHMARK_PARTS
from linernotes.errors import MissingError, UsageError
from linernotes.evaluation.bank.retraining import Retrain, run_retrains
from linernotes.evaluation.bank.store import Bank, pack_bank, read_bank
from linernotes.evaluation.board import LIKENESSES, Board, measure_board
from linernotes.evaluation.counterfactual import (
    COUNTERFACTUAL_FILE,
    Arm,
    Outcome,
    measure_outcomes,
    plan_arms,
    plan_pooled,
    read_arms,
)
from linernotes.evaluation.groups import GroupScore, groups_of, measure_groups, plan_groups
from linernotes.evaluation.hubs import HubShare, Repeatability, measure_hubs, measure_repeatability
from linernotes.evaluation.lds import MeasuredLds, Output, measure_lds
from linernotes.evaluation.planted import MeasuredPlanted, measure_planted
from linernotes.methods.contract import Progress
from linernotes.report.leaderboard import write_leaderboard as write
from linernotes.settings.methods import DEFAULT_METHOD, MethodSettings, runnable
from linernotes.settings.reading import as_flags, refuse_together, settings_where_they_fit


def chosen_methods(methods: Sequence[str] | None, settings: dict[str, Any]) -> dict[str, MethodSettings]:
    """Methods with their settings; all that can run if None."""
    names = list(methods) if methods is not None else runnable(settings)
    refuse_together(settings)
    if not names:
        raise UsageError("no method was named: leave out --methods for all of them")
    return settings_where_they_fit(names, settings)


def evaluate_lds(
    opened: OpenedBank,
    methods: Sequence[str] | None = None,
    split: str = "reporting",
    output: Output = "loss",
    within: str | None = None,
    **settings: Any,
) -> MeasuredLds:
    """How well each method's scores predict what retraining on known subsets does to the bank's clips.

    Args:
        within: a metadata column; what the mere number of tracks of each of its values explains does not
            count.
    """
    scores = opened.training_scores(chosen_methods(methods, settings))
    groups = (within, groups_of(opened.prepared.catalogue.tracks, within)) if within else None
    return measure_lds(opened.bank, scores, split, output, DEFAULT_METHOD, groups)


def evaluate_planted(
    opened: OpenedBank, methods: Sequence[str] | None = None, **settings: Any
) -> MeasuredPlanted:
    """Which of the catalogue's known relations the model learned from, and which of them each method sees."""
    chosen = chosen_methods(methods, settings)
    if not opened.sources:
        raise UsageError(
            f"{opened.prepared.catalogue.path} has no planted tracks: give columns 'relation' and "
            "'related_to'"
        )
    of_sources = {name: opened.source_scores(name, s).scores_qt for name, s in chosen.items()}
    of_clips = {name: opened.clip_scores(name, s).scores_qt for name, s in chosen.items()}
    return measure_planted(opened.bank, opened.prepared.catalogue, opened.sources, of_sources, of_clips)


def evaluate_counterfactual(
    opened: OpenedBank,
    methods: Sequence[str] = (),
    percent: float = 2.0,
    pooled: bool = False,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Leave-k-out: what becomes of clips when the tracks that methods put first are left out, against random
    ones.

    Without ``methods``, from what was trained before, in ``out`` or with the bank; else by training again,
    about a minute for each method and clip, and adding to what is in ``out``.

    Args:
        percent: share of the catalogue that is left out.
        pooled: one set of tracks for all reporting clips, in place of each heard clip's own.

    Raises:
        MissingError: nothing was trained before.
        UsageError: no clip can be heard, or there is no folder to train into.
    """
    bank = opened.bank
    places = [folder / COUNTERFACTUAL_FILE for folder in ([Path(out)] if out else []) + [bank.path.parent]]
    if not methods:
        trained, arms = _trained_arms(opened, places)
        return measure_outcomes(trained, arms, LIKENESSES)
    if out is None:
        raise UsageError("training again needs a folder for its results: give one with --out")
    named = [name for name in methods if name not in opened.files]
    scores = opened.training_scores(chosen_methods(named, settings) if named else {})
    queries = [q for q in bank.rows("reporting") if pooled or bank.queries[q].heard]
    if not queries:
        raise UsageError(
            f"{bank.path} has no clip for reporting that every model makes again: build it with 'heard' "
            "prompts"
        )
    plan = plan_pooled if pooled else plan_arms
    arms, retrains = plan(bank, {name: scores[name] for name in methods}, percent, queries)
    planned = {retrain.name: retrain for retrain in retrains}
    if places[0].exists():
        before, earlier = read_arms(places[0])
        bank.require_same(before)
        # what stood there may be of other settings
        cases = {(arm.method, arm.percent, arm.pooled) for arm in arms}
        arms = [*(arm for arm in earlier if (arm.method, arm.percent, arm.pooled) not in cases), *arms]
        for name, present_n, seed in zip(before.names, before.present_mn, before.seeds, strict=True):
            planned.setdefault(name, Retrain(name, "without", present_n, seed))
    setting, folder, all_planned = opened.setting(), Path(out), list(planned.values())
    run_retrains(setting, all_planned, folder / "retrains", on_progress)
    reasons = {"arms": [arm.__dict__ for arm in arms]}
    trained = pack_bank(setting, all_planned, folder / COUNTERFACTUAL_FILE, folder / "retrains", reasons)
    trusted(trained, check(opened, trained))
    return measure_outcomes(trained, arms, LIKENESSES)


def _trained_arms(opened: OpenedBank, places: Sequence[Path]) -> tuple[Bank, list[Arm]]:
    """What was trained before, in the first of some files that is there."""
    trained, arms = read_arms(next((path for path in places if path.exists()), places[-1]))
    opened.bank.require_same(trained)
    trusted(trained, check(opened, trained))
    return trained, arms


def evaluate_groups(
    opened: OpenedBank,
    column: str,
    methods: Sequence[str] | None = None,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> tuple[list[GroupScore], dict[str, float]]:
    """Leave one group out, train again, and compare with each method's sums over groups. Trains into ``out``
    unless the bank has the retrains already. Returns the methods, best first, and the mean rise of the clips'
    losses without each group.
    """
    bank, name = opened.bank, f"groups-{column}.safetensors"
    groups = groups_of(opened.prepared.catalogue.tracks, column)
    scores = opened.training_scores(chosen_methods(methods, settings))
    if column in _grouped_by(bank):
        trained = _trained_groups(opened, column)
    elif out is None:
        raise UsageError(
            f"the bank has no retrains without each {column}: give a folder with --out, and they are made"
        )
    else:
        setting, folder, planned = opened.setting(), Path(out), list(plan_groups(groups).values())
        run_retrains(setting, planned, folder / "retrains", on_progress)
        trained = pack_bank(setting, planned, folder / name, folder / "retrains", {"column": column})
        trusted(trained, check(opened, trained))
    measured, rise_qg = measure_groups(trained, bank, groups, scores)
    rows = bank.rows("reporting")
    return measured, {group: float(rise_qg[rows, g].mean()) for g, group in enumerate(groups)}


def _grouped_by(bank: Bank) -> list[str]:
    """The metadata columns of which retrains without each value lie with a bank."""
    return sorted(path.stem.removeprefix("groups-") for path in bank.path.parent.glob("groups-*.safetensors"))


def _trained_groups(opened: OpenedBank, column: str) -> Bank:
    """The retrains without each value of a column that lie with the bank."""
    trained = read_bank(opened.bank.path.parent / f"groups-{column}.safetensors")
    opened.bank.require_same(trained)
    trusted(trained, check(opened, trained))
    return trained


def evaluate_hubs(
    opened: OpenedBank, methods: Sequence[str] | None = None, **settings: Any
) -> list[HubShare]:
    """How often the same tracks come first for different clips."""
    scores = opened.training_scores(chosen_methods(methods, settings))
    titles = {track.track_id: track.title for track in opened.prepared.catalogue.tracks}
    return measure_hubs(opened.bank, scores, titles)


def evaluate_repeatability(
    opened: OpenedBank, methods: Sequence[str] | None = None, seeds: int = 2, **settings: Any
) -> list[Repeatability]:
    """How far a method agrees with itself when all of its noise is drawn anew."""
    if seeds < 2:
        raise UsageError(f"--seeds {seeds} leaves nothing to compare: give at least 2")
    first = int(settings.pop("seed", 0))
    runs = [
        opened.training_scores(chosen_methods(methods, {**settings, "seed": seed}))
        for seed in range(first, first + seeds)
    ]
    return measure_repeatability(opened.bank, runs)


def write_leaderboard(
    opened: OpenedBank,
    path: str | Path,
    methods: Sequence[str] | None = None,
    within: str | None = None,
    **settings: Any,
) -> Board:
    """Writes the leaderboard: every method by every measure that bank and catalogue allow.

    Args:
        within: a metadata column; the LDS is measured once more without what the mere number of tracks of
            each of its values explains. The instrument if left out, where the catalogue says it.
    """
    bank, catalogue, chosen = opened.bank, opened.prepared.catalogue, chosen_methods(methods, settings)
    words = [
        "linernotes",
        "evaluate",
        "leaderboard",
        "-o",
        str(path),
        *(["--methods", ",".join(methods)] if methods else []),
    ]
    words += ["--within", within] if within not in (None, "instrument") else []
    if bank.path.parent != BENCHMARK_PARTS:
        words += [
            "--bank",
            str(bank.path),
            "--model",
            str(opened.prepared.model_folder),
            "--catalog",
            str(catalogue.path),
        ]
    words += as_flags(settings)
    if within is None and any(track.extra.get("instrument") for track in catalogue.tracks):
        within = "instrument"
    try:
        left_out = _trained_arms(opened, [bank.path.parent / COUNTERFACTUAL_FILE])
    except MissingError:
        left_out = None
    board = measure_board(
        bank,
        catalogue,
        opened.training_scores(chosen),
        within,
        evaluate_planted(opened, list(chosen), **settings) if opened.sources else None,
        left_out,
        {column: _trained_groups(opened, column) for column in _grouped_by(bank)},
        {name: opened.clip_scores(name, s).seconds / len(bank.queries) for name, s in chosen.items()},
    )
    write(Path(path), board, shlex.join(words))
    return board
