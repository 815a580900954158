"""Groups of tracks (an artist, a collection, an instrument): leave one out, train
again, and compare with the scores' sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.artefacts import hash_json
from linernotes.catalog.track import Track
from linernotes.errors import UsageError
from linernotes.evaluation.bank.setting import Retrain
from linernotes.evaluation.bank.store import LEAST_MODELS, Bank
from linernotes.evaluation.intervals import Interval, bootstrap_mean
from linernotes.evaluation.lds import choose_kept, outputs_mq, truncated

GROUPS_SEED = 11
GAINS_AT = 3


@dataclass(frozen=True)
class GroupScore:
    """How well a method's sums over groups name the groups a clip needed most."""

    method: str
    top1: Interval  # share of queries whose first group is the right one
    ndcg: Interval  # of the first three, gains are rises of loss
    # top1 when only the first tracks of each query count; None without clips to choose by
    truncated: Interval | None
    queries: int


def groups_of(tracks: Sequence[Track], column: str) -> dict[str, np.ndarray]:
    """By value of a metadata column, which of the training tracks have it.

    Raises:
        UsageError: no such column, or the same value everywhere.
    """
    trained = [track for track in tracks if track.trained]
    values = [str(getattr(track, column, None) or track.extra.get(column, "")) for track in trained]
    names = sorted(set(values) - {""})
    if len(names) < 2:
        raise UsageError(
            f"training tracks have {len(names)} different values of {column!r}: group by another column"
        )
    return {name: np.array([value == name for value in values]) for name in names}


def plan_groups(groups: Mapping[str, np.ndarray]) -> dict[str, Retrain]:
    """One retrain without each group, by its name, each with a seed of its own."""
    plan = {}
    for name, members in groups.items():
        code = hash_json([name, members.tolist()])
        plan[name] = Retrain(f"group-{code[:10]}", "group", ~members, GROUPS_SEED + int(code[:6], 16))
    return plan


def measure_groups(
    bank: Bank, full: Bank, groups: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]
) -> tuple[list[GroupScore], np.ndarray]:
    """Methods, best first, and the truth ``rise_qg``: each query's loss without a group
    less its mean over full-data retrains.

    A group's score is the sum of its tracks', each less the query's mean over all tracks: whoever trains as
    many steps without a group trains more on all others, and where a method has its zero says nothing.
    Intervals are over queries; the truth is one retrain a group.

    Args:
        bank: holds a retrain without each group; ``full``: holds full-data retrains.
        scores: by method, ``scores_qn`` over training tracks.
    """
    row = {name: i for i, name in enumerate(bank.names)}
    planned = plan_groups(groups)
    base_q = full.loss_mqk[full.which("full")].mean(axis=(0, 2), dtype=np.float64)
    loss_mq = bank.loss_mqk.mean(axis=2, dtype=np.float64)
    rise_qg = np.stack([loss_mq[row[planned[name].name]] - base_q for name in groups], axis=1)
    rows, tuning, halves = bank.rows("reporting"), full.rows("tuning"), full.which("half")
    measured = []
    for method, scores_qn in scores.items():
        sums_qg = group_sums(scores_qn, groups)
        gains = np.array([ndcg(sums_qg[q], rise_qg[q]) for q in rows])
        short = None
        if tuning and len(halves) >= LEAST_MODELS:
            kept = choose_kept(
                scores_qn[tuning], full.present_mn[halves], -outputs_mq(full, "loss")[halves].T[tuning]
            )
            short = bootstrap_mean(_right(group_sums(truncated(scores_qn, kept), groups), rise_qg)[rows])
        right = bootstrap_mean(_right(sums_qg, rise_qg)[rows])
        measured.append(GroupScore(method, right, bootstrap_mean(gains), short, len(rows)))
    return sorted(measured, key=lambda m: -m.ndcg.value), rise_qg


def group_sums(scores_qn: np.ndarray, groups: Mapping[str, np.ndarray]) -> np.ndarray:
    """Sums over each group's tracks of their scores less the query's mean, ``[queries, groups]``."""
    centred_qn = scores_qn.astype(np.float64) - scores_qn.mean(axis=1, keepdims=True, dtype=np.float64)
    return np.stack([centred_qn[:, members].sum(axis=1) for members in groups.values()], axis=1)


def _right(sums_qg: np.ndarray, rise_qg: np.ndarray) -> np.ndarray:
    return (sums_qg.argmax(axis=1) == rise_qg.argmax(axis=1)).astype(float)


def ndcg(scores_g: np.ndarray, gains_g: np.ndarray, first: int = GAINS_AT) -> float:
    """Normalised discounted cumulative gain of the first places (Järvelin and Kekäläinen 2002); gains below 0
    count as 0.

    nan where no gain is above 0.
    """
    gains = np.maximum(gains_g, 0)
    discount = 1 / np.log2(np.arange(2, 2 + min(first, len(gains))))
    reached = gains[np.argsort(-scores_g, kind="stable")[:first]] @ discount
    best = np.sort(gains)[::-1][:first] @ discount
    return float(reached / best) if best > 0 else float("nan")
