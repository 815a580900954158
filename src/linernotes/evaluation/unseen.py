"""Does a calibration hold on clips and models that it was not fitted on? Fits again without some of both, and
looks at these.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtr, ndtri

from linernotes.attribution.effects import LEVEL, Calibration, Curve, Shape, below, mapped, track_variance
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.calibration import START, Outcomes, arguments, fit_curve, outcomes_of
from linernotes.evaluation.intervals import Interval, bootstrap_mean

FOLDS = 4  # of clips; of models there are two
EDGE = float(ndtri(0.5 + LEVEL / 2))  # standard deviations from the middle of an interval to its end


@dataclass(frozen=True)
class Bin:
    """Tracks whose expected effect lies between two bounds: what was expected, and what retraining shows."""

    low: float
    high: float
    pairs: int  # of a clip and a track
    expected: float
    measured: Interval  # 90 %, from the spread of single contrasts
    coverage: float  # of the 90 % intervals


@dataclass(frozen=True)
class MeasuredCalibration:
    """How a method's calibration does on clips and models that it was not fitted on."""

    method: str
    calibration: Calibration  # fitted on everything
    coverage: Interval
    bins: list[Bin]
    named: float  # tracks a clip, mean
    named_above: Interval  # share of the named whose contrast is positive
    named_above_expected: float  # what that share would be if every named effect were as expected


@dataclass(frozen=True)
class Contrasts:
    """What models that a fit has not seen say of some tracks and clips, one row each."""

    q: np.ndarray  # which clip
    expected: np.ndarray
    measured: np.ndarray
    error: np.ndarray  # the standard deviation of the measured about the expected, under the model
    named: np.ndarray

    def where(self, chosen: np.ndarray) -> Contrasts:
        return Contrasts(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def by_clip(self) -> list[Contrasts]:
        """Clips that have any."""
        return [self.where(self.q == q) for q in np.unique(self.q)]

    def mean(self) -> float:
        """Of the measured ones, by how sure they are."""
        return float(np.average(self.measured, weights=1 / self.error**2))

    @property
    def held(self) -> np.ndarray:
        """Whether each lies in its interval."""
        return np.abs(self.measured - self.expected) < EDGE * self.error


def measure_calibration(
    bank: Bank,
    scores_qn: np.ndarray,
    loss_q: np.ndarray,
    segments_n: np.ndarray,
    calibration: Calibration,
    edges: Sequence[float] = (-np.inf, -5e-4, 0.0, 5e-4, 1e-3, 2e-3, 4e-3, 1e-2, np.inf),
    seed: int = 0,
    n_training: int | None = None,
    lent: bool = False,
) -> MeasuredCalibration:
    """Fits again without each quarter of the clips and each half of the models, and holds the expected
    effects of these against the contrasts of these: what the models with a track know of the clip over what
    those without know, the other tracks' expected effects taken out. How much chance there is from seed to
    seed is read off the models that were fitted on, too. Of a track that all of these models saw, or none,
    nothing is known.

    Args:
        lent: the calibration is another model's: its own curve is held against all clips and models, and none
            is fitted.
    """
    found = outcomes_of(bank, loss_q, segments_n, n_training)
    u_qn = arguments(calibration.shape, scores_qn, loss_q, found.n)
    order = np.random.default_rng(seed).permutation(len(loss_q))
    parts, folds = found.parts(), min(FOLDS, len(order))
    pieces = [
        _unseen(
            found,
            calibration.shape,
            u_qn,
            order[fold::folds],
            unseen_h,
            seen_h,
            calibration.curve if lent else None,
        )
        for fold in range(folds)
        for unseen_h, seen_h in (parts, parts[::-1])
    ]
    every = Contrasts(*(np.concatenate([getattr(p, c.name) for p in pieces]) for c in fields(Contrasts)))
    named = every.where(every.named)
    above = [float((clip.measured > 0).mean()) for clip in named.by_clip()]
    bins = [
        _bin(low, high, every.where((every.expected >= low) & (every.expected < high)))
        for low, high in itertools.pairwise(edges)
    ]
    return MeasuredCalibration(
        calibration.method,
        calibration,
        bootstrap_mean(np.array([clip.held.mean() for clip in every.by_clip()])),
        [found_bin for found_bin in bins if found_bin],
        len(named.q) / 2 / len(loss_q),
        bootstrap_mean(np.array(above)),
        float(ndtr(named.expected / named.error).mean()) if len(named.q) else float("nan"),
    )


def _unseen(
    found: Outcomes,
    shape: Shape,
    u_qn: np.ndarray,
    unseen_q: np.ndarray,
    unseen_h: np.ndarray,
    seen_h: np.ndarray,
    curve: Curve | None,
) -> Contrasts:
    """The contrasts of some clips in some halves, and what a fit on the other clips and halves expects."""
    segments_n, n = found.segments_n, found.n
    noise_q = found.noise_q(seen_h)
    if curve is None:
        seen_q = np.setdiff1d(np.arange(len(u_qn)), unseen_q)
        curve, _ = fit_curve(found, shape, u_qn, seen_q, seen_h, noise_q, START[shape])
    told_n = np.ptp(found.x_hn[unseen_h], axis=0) > 0
    rows = []
    for q in unseen_q:
        f_n = mapped(shape, u_qn[q], curve)
        measured_n, error_n = _contrasts_of(
            found.x_hn[unseen_h],
            found.y_hq[unseen_h, q],
            f_n / n,
            track_variance(f_n, segments_n, curve) / n**2,
            noise_q[q] * found.share_h[unseen_h],
            told_n,
        )
        doubt_n = below(np.zeros_like(f_n), f_n[None], curve.own * np.sqrt(segments_n), curve.share)
        named_n = doubt_n < (1 - LEVEL) / 2
        rows.append((np.full(told_n.sum(), q), (f_n / n)[told_n], measured_n, error_n, named_n[told_n]))
    return Contrasts(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _bin(low: float, high: float, inside: Contrasts) -> Bin | None:
    """What became of all of whom so much was expected; None if there are none."""
    if not len(inside.q):
        return None
    mean = inside.mean()
    by_clip = [clip.mean() for clip in inside.by_clip()]
    spread = EDGE * float(np.std(by_clip) / np.sqrt(max(len(by_clip) - 1, 1)))
    return Bin(
        float(low),
        float(high),
        len(inside.q),
        float(np.average(inside.expected, weights=1 / inside.error**2)),
        Interval(mean, mean - spread, mean + spread),
        float(inside.held.mean()),
    )


def _contrasts_of(
    x_hn: np.ndarray,
    y_h: np.ndarray,
    e_n: np.ndarray,
    variance_n: np.ndarray,
    noise_h: np.ndarray,
    told_n: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Each track's effect by its own contrast, the others' expected effects taken out, and the standard
    deviation that it has about the expected one under the model.

    Args:
        told_n: the tracks that some of these models saw and others did not: the only ones that are told.
    """
    x_hn = x_hn - x_hn.mean(axis=0)
    left_h = y_h - y_h.mean() + x_hn @ e_n
    covariance_hh = (x_hn * variance_n) @ x_hn.T + np.diag(noise_h)
    x_ht = x_hn[:, told_n]
    squared_t = (x_ht**2).sum(axis=0)
    spread_t = np.einsum("ht,hk,kt->t", x_ht, covariance_hh, x_ht, optimize=True)
    return e_n[told_n] - (x_ht.T @ left_h) / squared_t, np.sqrt(spread_t) / squared_t
