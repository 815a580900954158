"""The standard error of each track's score: how far it would lie elsewhere had other noise been drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from linernotes.attribution.result import ScoreError
from linernotes.methods.contract import Deviations

SURE = float(ndtri(0.95))  # standard errors of noise that a score is told apart from nothing by


def totals_of(errors: Sequence[ScoreError | None]) -> np.ndarray:
    """The standard errors, nan where one is not known."""
    return np.array([np.nan if error is None else error.total for error in errors])


def score_errors(
    deviations: Deviations | None,
    weights_q: np.ndarray,
    seen_n: np.ndarray | float,
    track_n: np.ndarray,
    n_tracks: int,
) -> list[ScoreError | None]:
    """Standard errors of one clip's scores, by a track's place among the catalogue's; None of a method that
    does not know them. All windows and segments met the same noise: windows' deviations are added up before
    they are squared, and segments' are taken together.

    A track's score is a norm of its segments' (``catalog.gathering``), and noise lifts a norm above nothing.
    What it lifts a track of several segments to one time in twenty, if all are worth nothing, is ``SURE`` of
    its standard errors, as it is of a track of one.

    Args:
        weights_q: how much each window counts in the clip.
        seen_n: how often training saw each segment.
    """
    if deviations is None:
        return [None] * n_tracks

    rows = np.arange(len(track_n)) if deviations.rows is None else deviations.rows
    seen_n = np.broadcast_to(seen_n, len(track_n))[rows]

    def of_windows(deviation_rqn: np.ndarray) -> np.ndarray:
        return np.tensordot(deviation_rqn, weights_q, axes=(1, 0)).astype(np.float64) * seen_n

    items_rn = of_windows(deviations.items_rqn)
    if deviations.clip_rqn is None:
        total_t = noise_of(items_rn, track_n[rows], n_tracks)
        return [ScoreError(total=total, clip=None) for total in total_t.tolist()]
    clip_rn = of_windows(deviations.clip_rqn)
    clip_t = noise_of(clip_rn, track_n[rows], n_tracks)
    total_t = noise_of(np.concatenate([items_rn, clip_rn]), track_n[rows], n_tracks)
    return [
        ScoreError(total=total, clip=clip)
        for total, clip in zip(total_t.tolist(), clip_t.tolist(), strict=True)
    ]


def noise_of(deviation_rn: np.ndarray, track_n: np.ndarray, n_tracks: int) -> np.ndarray:
    """The ``SURE``-th part of what noise lifts each track's norm to one time in twenty, ``[n_tracks]``: of a
    track of one segment its standard error.

    With segments' covariance C the sum of squares above nothing has the mean tr(C)/2 and, where segments are
    independent or err as one, the variance 5/4 tr(C^2); its 95 % point lies as many deviations above its mean
    as that of one segment does.

    Args:
        deviation_rn: independent deviations, whose squares sum to a segment's variance.
    """
    trace_t, squares_t = np.zeros(n_tracks), np.zeros(n_tracks)
    for r, one_n in enumerate(deviation_rn):
        for s, other_n in enumerate(deviation_rn[: r + 1]):
            both_t = np.bincount(track_n, one_n * other_n, n_tracks)
            squares_t += both_t**2 if r == s else 2 * both_t**2
            if r == s:
                trace_t += both_t
    return np.sqrt(trace_t / 2 + (SURE**2 - 1 / 2) * np.sqrt(squares_t)) / SURE
