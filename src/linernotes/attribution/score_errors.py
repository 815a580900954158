"""The standard error of each track's score: how far it would lie elsewhere had other noise been drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linernotes.attribution.result import ScoreError
from linernotes.methods.contract import Deviations


def totals_of(errors: Sequence[ScoreError | None]) -> np.ndarray:
    """The standard errors, nan where one is not known."""
    return np.array([np.nan if error is None else error.total for error in errors])


def score_errors(
    deviations: Deviations | None,
    weights_q: np.ndarray,
    slope_n: np.ndarray | float,
    track_n: np.ndarray,
    n_tracks: int,
) -> list[ScoreError | None]:
    """Standard errors of one clip's scores, by a track's place among the catalogue's; None of a method that
    does not know them. All windows and segments met the same noise, so deviations are added up before they
    are squared.

    Args:
        weights_q: how much each window counts in the clip.
        slope_n: by how much each segment's score moves its track's (``catalog.gathering``).
    """
    if deviations is None:
        return [None] * n_tracks

    rows = np.arange(len(track_n)) if deviations.rows is None else deviations.rows
    slope_n = np.broadcast_to(slope_n, len(track_n))[rows]

    def variance(deviation_rqn: np.ndarray) -> np.ndarray:
        deviation_rn = np.tensordot(deviation_rqn, weights_q, axes=(1, 0)) * slope_n
        by_track = [np.bincount(track_n[rows], one_n, n_tracks) for one_n in deviation_rn]
        return np.square(by_track).sum(axis=0)

    items_t = variance(deviations.items_rqn)
    if deviations.clip_rqn is None:
        return [ScoreError(total=total, clip=None) for total in np.sqrt(items_t).tolist()]
    clip_t = variance(deviations.clip_rqn)
    total_t = np.sqrt(items_t + clip_t)
    return [
        ScoreError(total=total, clip=clip)
        for total, clip in zip(total_t.tolist(), np.sqrt(clip_t).tolist(), strict=True)
    ]
