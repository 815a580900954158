"""Bootstrap intervals over queries and retrained models at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with its interval: one of 95 % unless whoever makes it says otherwise."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        low, high = (
            f"{e:.2f}".replace("0.", ".", 1) if abs(e) < 0.995 else f"{e:.2f}" for e in (self.low, self.high)
        )
        return f"{self.value:.2f} [{low},{high}]"


def interval(value: float, resampled: np.ndarray) -> Interval:
    """The percentile interval of a bootstrap; resamples without a value (nan) do not count, those without a
    bound (inf) do.
    """
    edge, known = (1 - LEVEL) / 2, resampled[~np.isnan(resampled)]
    if not len(known):
        return Interval(float(value), float("nan"), float("nan"))
    bounded = np.isfinite(known).all()
    low, high = np.quantile(known, [edge, 1 - edge], method="linear" if bounded else "nearest")
    return Interval(float(value), float(low), float(high))


def share(value: np.ndarray, of: np.ndarray, of_nothing: float | np.ndarray = np.nan) -> np.ndarray:
    """``value / of``; ``of_nothing`` where that is not above 0."""
    return np.where(of > 0, value / np.where(of > 0, of, 1), of_nothing)


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of some values, resampled."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return interval(float(values.mean()), values[drawn].mean(axis=1))


@dataclass(frozen=True)
class Resamples:
    """How often each model, and each query, is drawn in each resample of a bootstrap."""

    counts_bm: np.ndarray
    weight_bq: np.ndarray  # shares: rows add up to 1

    @classmethod
    def draw(cls, models: int, queries: int, seed: int = 0) -> Resamples:
        random = np.random.default_rng(seed)
        counts_bm = random.multinomial(models, np.full(models, 1 / models), size=RESAMPLES).astype(float)
        return cls(
            counts_bm, random.multinomial(queries, np.full(queries, 1 / queries), size=RESAMPLES) / queries
        )

    def of_models(self, some: np.ndarray) -> Resamples:
        """The same resamples, of some of the models only."""
        return Resamples(self.counts_bm[:, some], self.weight_bq)


def bootstrap_correlations(
    pairs: list[tuple[np.ndarray, np.ndarray]], resamples: Resamples
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over queries of correlations over models, for several methods on the same resamples.

    Args:
        pairs: for each method two arrays ``[queries, models]``, of ranks for Spearman's.

    Returns:
        ``[methods]`` values, and ``[methods, resamples]`` with queries and models drawn anew each time; ranks
        are kept. A resample without any model has no value (nan).
    """
    queries, models = pairs[0][0].shape
    once_1m, all_1q = np.ones((1, models)), np.full((1, queries), 1 / queries)
    values = [(_weighted(x, y, once_1m) * all_1q).sum(axis=1)[0] for x, y in pairs]
    drawn = [(_weighted(x, y, resamples.counts_bm) * resamples.weight_bq).sum(axis=1) for x, y in pairs]
    return np.array(values), np.where(resamples.counts_bm.any(axis=1), np.array(drawn), np.nan)


def _weighted(x_qm: np.ndarray, y_qm: np.ndarray, weight_bm: np.ndarray) -> np.ndarray:
    """Correlation over models of each query under each row of weights,
    ``[B, Q]``; 0 where either is constant.
    """
    share_bm = weight_bm / np.maximum(weight_bm.sum(axis=1, keepdims=True), 1)
    mean_x, mean_y = share_bm @ x_qm.T, share_bm @ y_qm.T
    both = share_bm @ (x_qm * y_qm).T - mean_x * mean_y
    spread_x = share_bm @ (x_qm**2).T - mean_x**2
    spread_y = share_bm @ (y_qm**2).T - mean_y**2
    product = np.sqrt(np.maximum(spread_x, 0) * np.maximum(spread_y, 0))
    return np.where(product > 1e-12, both / np.maximum(product, 1e-12), 0.0)
