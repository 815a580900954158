"""Whether methods say the same: correlations, overlaps of first places,
concentration, and hubs, over training tracks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from linernotes.artefacts import without_nan

RBO_PERSISTENCE = 0.9  # 86 % of the weight lies on the first ten places (Webber et al. 2010, sec. 4.2)


@dataclass(frozen=True)
class Agreement:
    """Each matrix is [methods, methods], the mean over queries; each list has one value a method."""

    methods: list[str]
    queries: list[str]
    first: int  # what "the first places" are in all that follows
    pearson: np.ndarray
    spearman: np.ndarray
    overlap: np.ndarray  # share of the first places that both fill with the same tracks
    rank_biased_overlap: np.ndarray
    concentration: np.ndarray  # share of what stands above the median score that the first places hold
    # share of the first places of one query that are first places of another, mean over pairs
    hub_share: np.ndarray
    # decoys among the first places of all tracks, mean over queries; nan without decoys
    decoys_first: np.ndarray

    def record(self) -> dict[str, Any]:
        """What JSON can say of it: null for what there is none of."""
        listed = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}
        return dict(without_nan(listed))


def measure_agreement(
    scores: Mapping[str, np.ndarray], queries: list[str], decoy_n: np.ndarray, first: int = 10
) -> Agreement:
    """Compares methods.

    Args:
        scores: by method, ``scores_qn`` [queries, tracks], higher = more.
        decoy_n: which tracks are decoys; they are left out but for ``decoys_first``.
    """
    names = list(scores)
    trained = {name: scores_qn[:, ~decoy_n] for name, scores_qn in scores.items()}
    first = min(first, int((~decoy_n).sum()))
    tops = {name: np.argsort(-s, axis=1, kind="stable") for name, s in trained.items()}
    ranks = {name: np.apply_along_axis(rankdata, 1, s) for name, s in trained.items()}

    def matrix(of: dict[str, np.ndarray], measure: object) -> np.ndarray:
        value = np.eye(len(names))
        for a, b in combinations(range(len(names)), 2):
            pairs = zip(of[names[a]], of[names[b]], strict=True)
            value[a, b] = value[b, a] = np.mean([measure(x, y) for x, y in pairs])  # type: ignore[operator]
        return value

    everyone = {name: np.argsort(-s, axis=1, kind="stable")[:, :first] for name, s in scores.items()}
    return Agreement(
        methods=names,
        queries=queries,
        first=first,
        pearson=matrix(trained, correlation),
        spearman=matrix(ranks, correlation),
        overlap=matrix(tops, lambda x, y: overlap(x[:first], y[:first])),
        rank_biased_overlap=matrix(tops, rank_biased_overlap),
        concentration=np.array(
            [np.mean([concentration(row, first) for row in trained[name]]) for name in names]
        ),
        hub_share=np.array([hub_share(tops[name][:, :first]) for name in names]),
        decoys_first=np.array(
            [decoy_n[everyone[n]].sum(axis=1).mean() if decoy_n.any() else np.nan for n in names]
        ),
    )


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; 0 if either is constant."""
    x, y = x - x.mean(), y - y.mean()
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 0 else 0.0


def overlap(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the places of two equally long lists that hold the same members, wherever they stand."""
    return len(set(x.tolist()) & set(y.tolist())) / len(x)


def rank_biased_overlap(x: np.ndarray, y: np.ndarray) -> float:
    """RBO of two whole rankings (Webber et al. 2010, eq. 7, truncated
    where the weight left is below 1e-6).
    """
    depth = min(len(x), int(np.ceil(np.log(1e-6) / np.log(RBO_PERSISTENCE))))
    seen_x: set[int] = set()
    seen_y: set[int] = set()
    total = weight = 0.0
    for d in range(depth):
        seen_x.add(int(x[d]))
        seen_y.add(int(y[d]))
        share = RBO_PERSISTENCE**d
        total += share * len(seen_x & seen_y) / (d + 1)
        weight += share
    return total / weight


def concentration(scores_n: np.ndarray, first: int) -> float:
    """Share of the sum of what stands above the median that the first places hold; 1 = all of it."""
    above = np.sort(np.maximum(scores_n - np.median(scores_n), 0))[::-1]
    return float(above[:first].sum() / above.sum()) if above.sum() > 0 else 0.0


def hub_share(tops_qk: np.ndarray) -> float:
    """Mean over pairs of queries of the overlap of their first places; nan for a single query."""
    pairs = list(combinations(tops_qk, 2))
    return float(np.mean([overlap(x, y) for x, y in pairs])) if pairs else float("nan")
