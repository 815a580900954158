"""From what is said of segments to what is said of their tracks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linernotes.settings.methods import METHOD_SETTINGS, Gather
from linernotes.settings.training import Drawn

if TYPE_CHECKING:
    from linernotes.catalog.store import Catalogue

ALL_COUNT: tuple[Gather, ...] = ("norm", "sum")  # each segment as often as training saw it
MEDIAN_SQUARE = 0.45493642  # of normal deviates
STEEPEST = 1e6


def seen_by(track_n: np.ndarray, trained_n: np.ndarray, drawn: Drawn) -> np.ndarray:
    """How often training saw each segment, over an even draw of segments: 1, or, where it drew tracks evenly
    and a random place in them, less for a segment of a long track.

    Args:
        trained_n: which were trained on.
    """
    if drawn == "segments":
        return np.ones(len(track_n))
    tracks = len(np.unique(track_n[trained_n]))
    return int(trained_n.sum()) / tracks / np.bincount(track_n)[track_n]


def gather_tracks(
    scores_n: np.ndarray, track_n: np.ndarray, n_tracks: int, gather: Gather, stray: float = 0.0
) -> np.ndarray:
    """Scores of segments -> scores of tracks ``[n_tracks]``, in the same unit; a track of one segment has its
    segment's.

    ``norm``: the root of the sum of squares of the segments' scores that are above 0 (of the highest alone,
    below 0, if none is), less ``stray`` for each segment but one. Few segments of a long recording matter to
    a clip. A sum sets what lies below 0 in the others, noise for the most part, against them; and without
    ``stray`` a long track would be above 0 for its length.
    ``sum``: what segments would do that have nothing to do with each other. ``max``: the highest, where a
    score is a likeness. ``mean``: their sum over their number.

    Args:
        scores_n: -inf for what must not be found.
        track_n: which track each segment is of, from 0 to ``n_tracks - 1``; one without segments has 0 (-inf
            by ``max``).
        stray: of a ``norm``: the mean square above 0 of a segment that has nothing to do with the clip.
    """
    scores_n, count_t = scores_n.astype(np.float64), np.bincount(track_n, minlength=n_tracks)
    if gather in ("sum", "mean"):
        sum_t = np.bincount(track_n, scores_n, n_tracks)
        return sum_t if gather == "sum" else sum_t / np.maximum(count_t, 1)
    highest_t = np.full(n_tracks, -np.inf)
    np.maximum.at(highest_t, track_n, scores_n)
    if gather == "max":
        return highest_t
    highest_t[count_t == 0] = 0
    squares_t = np.where(
        highest_t > 0, np.bincount(track_n, np.maximum(scores_n, 0) ** 2, n_tracks), -(highest_t**2)
    )
    squares_t -= stray * np.maximum(count_t - 1, 0)
    return np.sign(squares_t) * np.sqrt(np.abs(squares_t))


def stray_of(scores_n: np.ndarray, weight_n: np.ndarray | None = None) -> float:
    """The mean square above 0 of a segment that has nothing to do with the clip: half the variance that the
    median square tells of, since what has to do with it are few.

    Args:
        weight_n: of how many segments each one speaks; of itself if None.
    """
    if not len(scores_n):
        return 0.0
    squares_n = scores_n.astype(np.float64) ** 2
    order = np.argsort(squares_n)
    upto_n = np.cumsum(np.ones(len(order)) if weight_n is None else weight_n[order])
    return float(squares_n[order][np.searchsorted(upto_n, upto_n[-1] / 2)]) / MEDIAN_SQUARE / 2


@dataclass(frozen=True)
class Gatherer:
    """How the scores of one method's segments become their tracks' in one catalogue."""

    gather: Gather
    track_n: np.ndarray
    n_tracks: int
    trained_n: np.ndarray  # bool
    seen_n: np.ndarray  # how often training saw each segment: the same for all of a track

    def of(
        self, scores_n: np.ndarray, weight_n: np.ndarray | None = None, way: Gather | None = None
    ) -> np.ndarray:
        """Scores of the tracks; where all segments of a track count, each does as often as training saw it.

        Args:
            scores_n: of all segments of the catalogue.
            weight_n: of how many tracks each one's track speaks; a track of 0 was not scored, and has what
                its segments have. Each of itself if None.
            way: another than the method's own.
        """
        weight_n, way = np.ones(len(scores_n)) if weight_n is None else weight_n, way or self.gather
        stray = self._stray(scores_n, weight_n)
        scores_t = gather_tracks(scores_n, self.track_n, self.n_tracks, way, stray)
        if not weight_n.all():
            scored_t = np.bincount(self.track_n, weight_n, self.n_tracks) > 0
            highest_t = gather_tracks(scores_n, self.track_n, self.n_tracks, "max")
            scores_t = np.where(scored_t, scores_t, highest_t)
        return scores_t * self.seen_t if way in ALL_COUNT else scores_t

    def slopes(self, scores_n: np.ndarray, weight_n: np.ndarray | None = None) -> np.ndarray:
        """By how much each segment's score moves its track's norm ``[N]``, at most ``STEEPEST``: what errors
        are passed on by (delta method).
        """
        weight_n = np.ones(len(scores_n)) if weight_n is None else weight_n
        stray = self._stray(scores_n, weight_n)
        score_n = np.abs(gather_tracks(scores_n, self.track_n, self.n_tracks, "norm", stray))[self.track_n]
        highest_n = gather_tracks(scores_n, self.track_n, self.n_tracks, "max")[self.track_n]
        counts_n = np.where(highest_n > 0, scores_n > 0, scores_n == highest_n)
        size_n = np.abs(scores_n) * counts_n
        under_n = np.maximum(score_n, size_n / STEEPEST)
        alone_n = np.bincount(self.track_n, minlength=self.n_tracks)[self.track_n] == 1
        slope_n = size_n / np.where(under_n > 0, under_n, 1.0)
        return np.where(alone_n | (under_n == 0), 1.0, slope_n) * self.seen_n

    @property
    def seen_t(self) -> np.ndarray:
        """How often training saw each segment of a track."""
        seen_t = np.ones(self.n_tracks)
        seen_t[self.track_n] = self.seen_n
        return seen_t

    def _stray(self, scores_n: np.ndarray, weight_n: np.ndarray) -> float:
        known_n = self.trained_n & (weight_n > 0) & np.isfinite(scores_n)
        return stray_of(scores_n[known_n], weight_n[known_n])


def gatherer(catalogue: Catalogue, gather: Gather, seen_n: np.ndarray) -> Gatherer:
    """Of all segments of a catalogue."""
    trained_n = trained_of(catalogue)
    return Gatherer(gather, catalogue.track_n, len(catalogue.tracks), trained_n, seen_n)


def trained_of(catalogue: Catalogue) -> np.ndarray:
    """Which segments were trained on."""
    trained_n = np.zeros(len(catalogue), dtype=bool)
    trained_n[catalogue.training_rows] = True
    return trained_n


def weigh_tracks(weight_n: np.ndarray, track_n: np.ndarray, n_tracks: int) -> np.ndarray:
    """Of how many tracks each one speaks, as all its segments say (``shortlisting.Scored``)."""
    said_t = np.bincount(track_n, weight_n, n_tracks)
    return said_t / np.maximum(np.bincount(track_n, minlength=n_tracks), 1)


def noted(catalogue: Catalogue, gather: Gather) -> Gather | None:
    """What a record says of how tracks were gathered: nothing where norms make no difference (tracks of one
    segment, likenesses), and so the same as records from before them.
    """
    return gather if gather == "norm" and len(catalogue) > len(catalogue.tracks) else None


def gathered_before(method: str) -> Gather:
    """How tracks of several segments were gathered before a record said it."""
    return "max" if METHOD_SETTINGS[method].gather == "max" else "sum"
