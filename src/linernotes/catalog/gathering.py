"""From what is said of segments to what is said of their tracks."""

from __future__ import annotations

from typing import cast

import numpy as np

from linernotes.settings.methods import METHOD_SETTINGS, Gather


def gather_tracks(scores_n: np.ndarray, track_n: np.ndarray, n_tracks: int, gather: Gather) -> np.ndarray:
    """Scores of segments -> scores of tracks ``[n_tracks]``, in the same unit; a track of one segment has its
    segment's.

    ``norm``: the root of the sum of squares of the segments' scores that are above 0; the highest if none
    is. Few segments of a long recording matter to a clip. A sum sets what lies below 0 in the others, noise
    for the most part, against them; the highest alone forgets that there may be several.
    ``sum``: what segments would do that have nothing to do with each other. ``max``: the highest, where a
    score is a likeness. ``mean``: their sum over their number.

    Args:
        scores_n: -inf for what must not be found.
        track_n: which track each segment is of, from 0 to ``n_tracks - 1``; one without segments has 0 (-inf
            by ``max``).
    """
    scores_n, count_t = scores_n.astype(np.float64), np.bincount(track_n, minlength=n_tracks)
    if gather in ("max", "norm"):
        highest_t = np.full(n_tracks, -np.inf)
        np.maximum.at(highest_t, track_n, scores_n)
        if gather == "max":
            return highest_t
        norm_t = np.sqrt(np.bincount(track_n, np.maximum(scores_n, 0) ** 2, n_tracks))
        return np.where((highest_t > 0) | (count_t == 0), norm_t, highest_t)
    sum_t = np.bincount(track_n, scores_n, n_tracks)
    return sum_t if gather == "sum" else sum_t / np.maximum(count_t, 1)


def weigh_tracks(weight_n: np.ndarray, track_n: np.ndarray, n_tracks: int) -> np.ndarray:
    """Of how many tracks each one speaks, as all its segments say (``shortlisting.Scored``)."""
    said_t = np.bincount(track_n, weight_n, n_tracks)
    return said_t / np.maximum(np.bincount(track_n, minlength=n_tracks), 1)


def gathered_by(method: str, said: str | None) -> Gather:
    """How a record's tracks were gathered from their segments.

    Args:
        said: by the record; None of one from before it was kept, when scores that were no likeness were added
            up.
    """
    if said:
        return cast(Gather, said)
    return "max" if METHOD_SETTINGS[method].gather == "max" else "sum"
