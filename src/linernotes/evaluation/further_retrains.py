"""Retrains beside a bank, for leave-k-out and for groups: trained, packed with what was trained before, read
back, and trusted only after the same check as the bank's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from linernotes.errors import UsageError
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.bank.retraining import run_retrains
from linernotes.evaluation.bank.setting import Retrain
from linernotes.evaluation.bank.store import Bank, pack_bank, read_bank
from linernotes.evaluation.counterfactual import COUNTERFACTUAL_FILE, Arm, plan_arms, plan_pooled, read_arms
from linernotes.evaluation.groups import plan_groups
from linernotes.jobs.executor import Executor
from linernotes.settings.verbs import CounterfactualSettings


def train_left_out(
    opened: OpenedBank,
    scores: Mapping[str, np.ndarray],
    settings: CounterfactualSettings,
    folder: Path,
    executor: Executor | None = None,
) -> tuple[Bank, list[Arm]]:
    """Trains without what each of ``scores`` (``scores_qn`` by method) puts first, and adds it to the
    leave-k-out in ``folder``; arms of the same method, share and form replace those that stood there, which
    may be of other settings.

    Raises:
        UsageError: no clip can be heard, or the share is no track or more than half.
    """
    bank, path = opened.bank, folder / COUNTERFACTUAL_FILE
    queries = [q for q in bank.rows("reporting") if settings.pooled or bank.queries[q].heard]
    if not queries:
        raise UsageError(
            f"{bank.path} has no clip for reporting that every model makes again: build it with 'heard' "
            "prompts"
        )
    arms, retrains = (plan_pooled if settings.pooled else plan_arms)(bank, scores, settings.percent, queries)
    planned = {retrain.name: retrain for retrain in retrains}
    if path.exists():
        before, earlier = read_arms(path)
        bank.require_same(before)
        cases = {(arm.method, arm.percent, arm.pooled) for arm in arms}
        arms = [*(arm for arm in earlier if (arm.method, arm.percent, arm.pooled) not in cases), *arms]
        for name, present_n, seed in zip(before.names, before.present_mn, before.seeds, strict=True):
            planned.setdefault(name, Retrain(name, "without", present_n, seed))
    reasons = {"arms": [arm.__dict__ for arm in arms]}
    return _train(opened, list(planned.values()), path, reasons, executor), arms


def read_left_out(opened: OpenedBank, folders: Sequence[Path]) -> tuple[Bank, list[Arm]]:
    """The leave-k-out that was trained before, in the first of some folders that has one.

    Raises:
        MissingError: none has.
        LinernotesError: it is of another bank, or cannot be trusted.
    """
    places = [folder / COUNTERFACTUAL_FILE for folder in folders]
    trained, arms = read_arms(next((path for path in places if path.exists()), places[-1]))
    return _trusted(opened, trained), arms


def train_without_groups(
    opened: OpenedBank,
    column: str,
    groups: Mapping[str, np.ndarray],
    folder: Path,
    executor: Executor | None = None,
) -> Bank:
    """Trains without each group of tracks, one model a group, into ``folder``."""
    planned, path = list(plan_groups(groups).values()), folder / f"groups-{column}.safetensors"
    return _train(opened, planned, path, {"column": column}, executor)


def read_groups(opened: OpenedBank, column: str) -> Bank:
    """The retrains without each value of a metadata column that lie with the bank.

    Raises:
        LinernotesError: there are none, they are of another bank, or cannot be trusted.
    """
    return _trusted(opened, read_bank(opened.bank.path.parent / f"groups-{column}.safetensors"))


def grouped_by(bank: Bank) -> list[str]:
    """The metadata columns of which retrains without each value lie with a bank."""
    return sorted(path.stem.removeprefix("groups-") for path in bank.path.parent.glob("groups-*.safetensors"))


def _train(
    opened: OpenedBank,
    planned: list[Retrain],
    path: Path,
    more: Mapping[str, object],
    executor: Executor | None,
) -> Bank:
    setting, folder = opened.setting(), path.parent / "retrains"
    run_retrains(setting, planned, folder, opened.prepared.on_progress, executor)
    trained = pack_bank(setting, planned, path, folder, more)
    opened.require_sane(trained)
    return trained


def _trusted(opened: OpenedBank, trained: Bank) -> Bank:
    opened.bank.require_same(trained)
    opened.require_sane(trained)
    return trained
