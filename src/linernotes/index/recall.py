"""What a shortlist misses: measured when an index is built, on clips that it holds for that and whose exact
scores are known; and bounded again in every answer, by an audit of tracks outside the shortlist.

All of it is of whole tracks: a track's score is its segments' together, so one of which some segments were
scored and others not would have neither an exact score nor an estimated one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from linernotes.catalog.gathering import Gatherer, gather_tracks
from linernotes.errors import LinernotesError
from linernotes.settings.methods import Gather

FIRST = 20  # the exact first tracks that a shortlist must not miss
WANTED = 0.95  # of them, on average
WANTED_SCORE = 0.97  # of their summed score, on average
LEVEL = 0.95  # of intervals and bounds
GATHERED: Gather = "norm"  # tracks of which shortlists are taken: likenesses take none


class Recall(BaseModel, frozen=True):
    """Where in the index's order of tracks the exact first tracks of held clips stand, and what is expected
    of segments further back.
    """

    method: str  # whose exact scores
    settings: dict[str, Any]  # those of them that the scores' unit depends on
    clips: str  # which, in words
    tracks: int  # that were trained on, and searched
    segments: int  # theirs
    places: list[list[int]]  # of each clip's exact first ``FIRST``, best first; 0 is the index's first
    scores: list[list[float]]  # theirs
    behind: float  # the mean score of a track that is not on the default shortlist
    gather: Gather | None = None  # of tracks of several segments; None: by sums, before norms

    def of(self, size: int) -> tuple[float, float, float]:
        """The share of the exact first that are among the index's first ``size`` tracks: mean over clips,
        and its interval (Student's t over clips).
        """
        return _interval((np.array(self.places) < size).mean(axis=1))

    def of_score(self, size: int) -> tuple[float, float, float]:
        """The share of the summed score of the exact first, alike; what is below 0 counts as nothing."""
        return _interval((self._shares_qf * (np.array(self.places) < size)).sum(axis=1))

    def of_chosen(self) -> tuple[float, float, float]:
        """The same of shortlists that hold what is wanted on average, each clip's as long as the other clips
        have it: on the clips that a length was chosen on it holds as much by choice.
        """
        places, shares_qf = np.array(self.places), self._shares_qf
        if len(places) < 2:
            return self.of(self.size_for())
        each = range(len(places))
        sizes = [_size(np.delete(places, q, axis=0), np.delete(shares_qf, q, axis=0)) for q in each]
        return _interval((places < np.array(sizes)[:, None]).mean(axis=1))

    def size_for(self, tracks: int | None = None) -> int:
        """The smallest shortlist, in tracks, that holds ``WANTED`` of the exact first and ``WANTED_SCORE`` of
        their summed score, on average over clips.

        Args:
            tracks: of the catalogue that is searched, if it has become another than the index was tried on:
                a shortlist grows with it.
        """
        size = _size(np.array(self.places), self._shares_qf)
        return size if tracks in (None, self.tracks) else math.ceil(size * tracks / self.tracks)

    @property
    def as_gathered(self) -> bool:
        """Whether it was tried on tracks' scores as they are gathered now."""
        return self.gather == GATHERED or self.tracks == self.segments

    @property
    def _shares_qf(self) -> np.ndarray:
        """What each of a clip's first has of their summed score; alike, where none is above nothing."""
        above_qf = np.maximum(self.scores, 0.0)
        total_q1 = above_qf.sum(axis=1, keepdims=True)
        return np.where(total_q1 > 0, above_qf / np.where(total_q1 > 0, total_q1, 1.0), 1 / above_qf.shape[1])

    def expected(self, method: str, settings: Mapping[str, Any], n_training: int) -> float:
        """The score of a track that is not on a shortlist: of all the same, since among these resemblance
        says next to nothing. 0 where the index was tried with another method, scores of another unit, or
        tracks gathered otherwise.

        Args:
            settings: those that the scores' unit depends on.
            n_training: training segments of the catalogue; a score is as much smaller as it is larger.
        """
        if (method, dict(settings)) != (self.method, self.settings) or not self.as_gathered:
            return 0.0
        return self.behind * self.segments / n_training


def _size(places_qf: np.ndarray, shares_qf: np.ndarray) -> int:
    order = np.argsort(places_qf, axis=None)
    held = np.arange(1, len(order) + 1) / len(order)
    summed = np.cumsum(shares_qf.ravel()[order]) / len(places_qf)
    enough = (held >= WANTED) & (summed >= WANTED_SCORE)
    return int(places_qf.ravel()[order[np.argmax(enough)]]) + 1


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of shares with its interval, which stays among shares."""
    from scipy.stats import t as student  # takes seconds, and whoever only reads records needs none

    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, 0.0, 1.0
    error = float(student.ppf((1 + LEVEL) / 2, count - 1) * values.std(ddof=1) / math.sqrt(count))
    return mean, max(0.0, mean - error), min(1.0, mean + error)


def measure_recall(
    said_qn: np.ndarray,
    exact_qn: np.ndarray,
    track_n: np.ndarray,
    clips: str,
    method: str,
    settings: Mapping[str, Any],
    seen_n: np.ndarray | None = None,
) -> Recall:
    """From what the index says and what is so, of the same segments, all of them trained on.

    Args:
        exact_qn: -inf for what a clip must not find (its own track).
        track_n: which track each segment is of.
        seen_n: how often training saw each; once if None.

    Raises:
        LinernotesError: a clip must find no track at all.
    """
    _, track_n = np.unique(track_n, return_inverse=True)
    seen_n = np.ones(len(track_n)) if seen_n is None else seen_n
    n_tracks = int(track_n.max()) + 1
    said_qt = np.stack([said_of_tracks(said_n * seen_n, track_n, n_tracks) for said_n in said_qn])
    gather = Gatherer(GATHERED, track_n, n_tracks, np.ones(len(track_n), dtype=bool), seen_n)
    exact_qt = np.stack([gather.of(exact_n) for exact_n in exact_qn])
    allowed_qt = np.isfinite(exact_qt)
    order_qt = np.argsort(-np.where(allowed_qt, said_qt, -np.inf), axis=1, kind="stable")
    place_qt = np.empty_like(order_qt)
    np.put_along_axis(place_qt, order_qt, np.arange(said_qt.shape[1])[None], axis=1)
    if not (count := min(FIRST, int(allowed_qt.sum(axis=1).min()))):
        raise LinernotesError(
            "recall is tried with a catalogue's own segments, and a segment's own track is the only one that "
            "was trained on: add tracks to the catalogue, or attribute without an index"
        )
    first = np.argsort(-exact_qt, axis=1, kind="stable")[:, :count]
    found = Recall(
        method=method,
        settings=dict(settings),
        clips=clips,
        tracks=said_qt.shape[1],
        segments=len(track_n),
        places=np.take_along_axis(place_qt, first, axis=1).tolist(),
        scores=np.take_along_axis(exact_qt, first, axis=1).tolist(),
        behind=0.0,
        gather=None if n_tracks == len(track_n) else GATHERED,
    )
    behind_qt = (place_qt >= found.size_for()) & allowed_qt
    return found.model_copy(update={"behind": float(exact_qt[behind_qt].mean()) if behind_qt.any() else 0.0})


def said_of_tracks(said_n: np.ndarray, track_n: np.ndarray, n_tracks: int) -> np.ndarray:
    """What an index says of segments, as of their tracks ``[n_tracks]``; nothing is taken off for length,
    since of segments far behind it may say no more than that they are.
    """
    return gather_tracks(said_n, track_n, n_tracks, GATHERED)


class Shortlist(BaseModel, frozen=True):
    """How a clip's tracks were scored: those of a shortlist exactly, with all their segments, the others as
    such others usually score, and what an audit of these found.
    """

    index_hash: str
    tracks: int  # training tracks that were scored exactly because the index put them first
    segments: int  # theirs
    outside: int  # training tracks that were not
    recall: float  # share of the exact first ``FIRST`` tracks in such a shortlist, of held clips
    recall_low: float
    recall_high: float
    tried_by: str  # the method whose scores the index was tried with; "" where it is the clip's own
    tried_on: int  # training tracks of the catalogue that it was tried on
    audited: int  # tracks of those outside, drawn at random and scored exactly as well
    above: int  # of those audited, how many score as high as the last of the first ``FIRST``
    above_at_most: int  # tracks outside that do, at the most
    # the summed scores outside, as the audit has them, over those listed
    outside_share: float
    outside_low: float
    outside_high: float

    @property
    def sentence(self) -> str:
        """What was searched, and what may have been missed."""
        every = self.tracks + self.outside
        if not self.outside:
            return f"All {every} tracks were scored exactly."
        held = f"{self.recall:.0%} [{self.recall_low:.0%}, {self.recall_high:.0%}]"
        rest = f"{self.outside_share:.0%} [{self.outside_low:.0%}, {self.outside_high:.0%}]"
        by = f" by {self.tried_by}" if self.tried_by else ""
        when = "" if self.tried_on == every else f" when the catalogue had {self.tried_on} tracks"
        with_all = "" if self.segments == self.tracks else f", with all their {self.segments} segments"
        return (
            f"{self.tracks} of {every} tracks, those that an index put first, were scored exactly{with_all}. "
            f"Such a shortlist held {held} of the exact first {FIRST} of the clips that the index was tried "
            f"on{by}{when}. Of {self.audited} others, drawn at random and scored exactly, "
            f"{self.above or 'none'} scored as high as the first {FIRST}, so at most {self.above_at_most} of "
            f"all {self.outside} others do (95 % sure); the scores of all others come to {rest} of the "
            "shortlist's."
        )


@dataclass(frozen=True)
class Audited:
    """What an audit says of all tracks outside a shortlist."""

    above: int
    above_at_most: int
    total: float
    error: float  # half the interval of the total


def audit(exact_a: np.ndarray, said_a: np.ndarray, said_outside: np.ndarray, bar: float) -> Audited:
    """From A tracks drawn evenly from those outside.

    ``above_at_most`` is the upper end of Clopper and Pearson's interval for a share, times how many are
    outside. The total is what is expected of all of them, corrected by the mean difference of those audited
    (the difference estimator of survey sampling; Cochran 1977, section 7.2), with Student's t.

    Args:
        exact_a: their exact scores.
        said_a: what is expected of them, and ``said_outside`` of all outside.
        bar: the score of the last of the first.
    """
    count, outside = len(exact_a), len(said_outside)
    above = int((exact_a >= bar).sum())
    if not count:
        return Audited(0, 0, 0.0, 0.0)
    from scipy.stats import beta  # takes seconds, and whoever only reads records needs none
    from scipy.stats import t as student

    most = float(beta.ppf(LEVEL, above + 1, count - above)) if above < count else 1.0
    apart = exact_a - said_a
    total = float(said_outside.sum() + outside * apart.mean())
    if count == outside:  # nothing is unknown
        return Audited(above, above, total, 0.0)
    if count == 1:
        return Audited(above, math.floor(most * outside), total, math.inf)
    error = outside * math.sqrt(1 - count / outside) * float(apart.std(ddof=1)) / math.sqrt(count)
    error *= float(student.ppf((1 + LEVEL) / 2, count - 1))
    return Audited(above, math.floor(most * outside), total, error)
