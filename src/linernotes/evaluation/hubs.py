"""Two warnings about scores that need no truth: the same tracks first for every
clip, other tracks first for other noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from linernotes.evaluation.agreement import correlation, hub_share, overlap
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.intervals import Interval, bootstrap_mean, interval

FIRST = 10
RESAMPLES = 500


@dataclass(frozen=True)
class HubShare:
    """How much of one clip's first places another clip's share, and which track is first most often."""

    method: str
    share: Interval
    most_common: str
    times: int
    queries: int


@dataclass(frozen=True)
class Repeatability:
    """Agreement of a method with itself under other noise, mean over queries and pairs of seeds."""

    method: str
    pearson: Interval
    first_shared: Interval  # share of the first ten that are the same


def measure_hubs(bank: Bank, scores: Mapping[str, np.ndarray], titles: Mapping[str, str]) -> list[HubShare]:
    """Methods in the order given, over the reporting queries."""
    rows = bank.rows("reporting")
    random = np.random.default_rng(0)
    found = []
    for method, scores_qn in scores.items():
        tops = np.argsort(-scores_qn[rows], axis=1, kind="stable")[:, :FIRST]
        shared = np.array([[overlap(a, b) for b in tops] for a in tops])
        drawn = []
        for _ in range(RESAMPLES):
            some = random.integers(len(rows), size=len(rows))
            apart = some[:, None] != some[None]  # a query drawn twice is no pair
            drawn.append(shared[some][:, some][apart].mean() if apart.any() else np.nan)
        ((track, times),) = Counter(tops.ravel().tolist()).most_common(1)
        name = bank.tracks[track]
        found.append(
            HubShare(
                method, interval(hub_share(tops), np.array(drawn)), titles.get(name, name), times, len(rows)
            )
        )
    return found


def measure_repeatability(bank: Bank, runs: Sequence[Mapping[str, np.ndarray]]) -> list[Repeatability]:
    """Methods in the order given; ``runs``: scores by method, one mapping a seed."""
    rows = bank.rows("reporting")
    found = []
    for method in runs[0]:
        pearson, shared = [], []
        for q in rows:  # one value a clip: pairs of the same seeds are not independent
            pairs = [
                (a[method][q].astype(float), b[method][q].astype(float)) for a, b in combinations(runs, 2)
            ]
            tops = [[np.argsort(-x, kind="stable")[:FIRST] for x in pair] for pair in pairs]
            pearson.append(np.mean([correlation(x, y) for x, y in pairs]))
            shared.append(np.mean([overlap(x, y) for x, y in tops]))
        found.append(
            Repeatability(method, bootstrap_mean(np.array(pearson)), bootstrap_mean(np.array(shared)))
        )
    return found
