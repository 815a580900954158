"""What a shortlist misses: measured when an index is built, on clips that it holds for that and whose exact
scores are known; and bounded again in every answer, by an audit of segments outside the shortlist.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

FIRST = 20  # the exact first segments that a shortlist must not miss
WANTED = 0.95  # of them, on average
LEVEL = 0.95  # of intervals and bounds
RESAMPLES = 2000


class Recall(BaseModel, frozen=True):
    """Where in the index's order the exact first segments of held clips stand."""

    method: str  # whose exact scores
    clips: str  # which, in words
    segments: int  # that were trained on, and searched
    places: list[list[int]]  # of each clip's exact first ``FIRST``, best first; 0 is the index's first
    scores: list[list[float]]  # theirs
    slope: float  # exact score a unit of resemblance, of segments beyond the default shortlist

    def of(self, size: int) -> tuple[float, float, float]:
        """The share of the exact first that are among the index's first ``size``: mean over clips, and its
        interval by bootstrap over clips.
        """
        return _interval((np.array(self.places) < size).mean(axis=1))

    def of_score(self, size: int) -> tuple[float, float, float]:
        """The share of the summed score of the exact first, alike."""
        scores = np.array(self.scores)
        return _interval((scores * (np.array(self.places) < size)).sum(axis=1) / scores.sum(axis=1))

    def size_for(self, wanted: float = WANTED) -> int:
        """The smallest shortlist that holds so large a share of the exact first, on average."""
        places = np.sort(np.array(self.places).ravel())
        return int(places[max(0, math.ceil(wanted * len(places)) - 1)]) + 1


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(values.mean()), float(low), float(high)


def measure_recall(
    resemblance_qn: np.ndarray, exact_qn: np.ndarray, clips: str, method: str, wanted: float = WANTED
) -> Recall:
    """From what the index says and what is so, of the same segments.

    Args:
        resemblance_qn: what the index says, in units of the exact score's.
        exact_qn: -inf for what a clip must not find (itself).
    """
    allowed_qn = np.isfinite(exact_qn)
    said_qn = np.where(allowed_qn, resemblance_qn, -np.inf)
    order_qn = np.argsort(-said_qn, axis=1, kind="stable")
    place_qn = np.empty_like(order_qn)
    np.put_along_axis(place_qn, order_qn, np.arange(said_qn.shape[1])[None], axis=1)
    first = np.argsort(-exact_qn, axis=1, kind="stable")[:, :FIRST]
    found = Recall(
        method=method,
        clips=clips,
        segments=said_qn.shape[1],
        places=np.take_along_axis(place_qn, first, axis=1).tolist(),
        scores=np.take_along_axis(exact_qn, first, axis=1).tolist(),
        slope=0.0,
    )
    outside_qn = (place_qn >= found.size_for(wanted)) & allowed_qn
    said, so = resemblance_qn[outside_qn], exact_qn[outside_qn]
    slope = float(said @ so / (said @ said)) if said.any() else 0.0
    return found.model_copy(update={"slope": slope})


class Shortlist(BaseModel, frozen=True):
    """How a clip's segments were scored: a shortlist exactly, the others by the index, and what an audit of
    these others found.
    """

    index_hash: str
    listed: int  # segments that were scored exactly because the index put them first
    outside: int  # segments that were trained on and not listed
    recall: float  # share of the exact first ``FIRST`` segments in such a shortlist, of held clips
    recall_low: float
    recall_high: float
    audited: int  # of those outside, drawn at random and scored exactly as well
    above: int  # of those audited, how many score as high as the last of the first ``FIRST``
    above_at_most: int  # segments outside that do, at the most
    # the summed scores outside, as the index has them and the audit corrects them, over those listed
    outside_share: float
    outside_low: float
    outside_high: float

    @property
    def sentence(self) -> str:
        """What was searched, and what may have been missed."""
        every = self.listed + self.outside
        if not self.outside:
            return f"All {every} segments were scored exactly."
        held = f"{self.recall:.0%} [{self.recall_low:.0%}, {self.recall_high:.0%}]"
        rest = f"{self.outside_share:.0%} [{self.outside_low:.0%}, {self.outside_high:.0%}]"
        return (
            f"{self.listed} of {every} segments, those that an index put first, were scored exactly. Such a "
            f"shortlist held {held} of the exact first {FIRST} of the clips that the index was tried on. Of "
            f"{self.audited} others, drawn at random and scored exactly, {self.above or 'none'} scored as "
            f"high as the first {FIRST}, so at most {self.above_at_most} of all {self.outside} others do "
            f"(95 % sure); the scores of all others come to {rest} of the shortlist's."
        )


@dataclass(frozen=True)
class Audited:
    """What an audit says of all segments outside a shortlist."""

    above: int
    above_at_most: int
    total: float
    error: float  # half the interval of the total


def audit(exact_a: np.ndarray, said_a: np.ndarray, said_outside: np.ndarray, bar: float) -> Audited:
    """From A segments drawn evenly from those outside.

    ``above_at_most`` is the upper end of Clopper and Pearson's interval for a share, times how many are
    outside. The total is what the index says of all of them, corrected by the mean difference of those
    audited (the difference estimator of survey sampling; Cochran 1977, section 7.2), with Student's t.

    Args:
        exact_a: their exact scores.
        said_a: what the index says of them, and ``said_outside`` of all outside.
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
