"""How often a training segment's own track comes first when the segment
itself is the query, with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.evaluation.intervals import Interval, bootstrap_mean
from linernotes.evaluation.self_influence import SelfRank


@dataclass(frozen=True)
class OwnFirst:
    """A method's self-influence over some segments."""

    method: str
    first: int  # segments whose own track has rank 1
    first_share: Interval
    mean_rank: Interval  # of the own track; 1 is best
    ranks: Sequence[SelfRank]


def measure_own_first(method: str, ranks: Sequence[SelfRank]) -> OwnFirst:
    """Sums up the ranks of segments; intervals are over segments."""
    rank_n = np.array([rank.track_rank for rank in ranks], dtype=float)
    first_n = (rank_n == 1).astype(float)
    return OwnFirst(method, int(first_n.sum()), bootstrap_mean(first_n), bootstrap_mean(rank_n), ranks)
