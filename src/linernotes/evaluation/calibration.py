"""Fits what a score is worth from a retrain bank, and measures whether the intervals hold on clips and models
that the fit has not seen.

A clip's loss under the models of random halves is linear in which tracks each saw, x: y = mu - X e + noise.
Effects of tracks lie about a monotone map of their scores (``attribution.effects``), so y, a sum over many of
them, is nearly normal with covariance X D X' + noise, and the map's numbers are those of the highest marginal
likelihood (empirical Bayes); what training's chance does is known from halves that were trained on twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from linernotes.attribution.effects import (
    LEVEL,
    TINY,
    Calibration,
    Curve,
    Shape,
    argument,
    asked,
    below,
    mapped,
    shape_of,
    track_variance,
)
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.intervals import Interval, bootstrap_mean
from linernotes.settings.methods import MethodSettings

LEAST_HALVES = 16
LEAST_AGAIN = 4  # halves trained on twice
PRIOR = 4  # pairs of seeds that the mean of all clips counts for in the noise of one
RESAMPLES = 50
FOLDS = 4  # of clips; of models there are two
STEPS = 60  # of L-BFGS, at most
# standard deviations of a prior: keep a number where it began if nothing is known of it
STRAY = (2.0, 0.5, 2.0, 2.0)
FAR = 1e9
EDGE = float(ndtri(0.5 + LEVEL / 2))  # standard deviations from the middle of an interval to its end
START = {"power": (0.7, 0.9, -0.7, -1.2), "exponential": (-2.5, 1.0, -0.7, -1.2)}


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
class Outcomes:
    """What a bank says of Q clips: losses under H halves, as shares of each clip's loss."""

    y_hq: np.ndarray  # mean over a half's models
    share_h: np.ndarray  # of the variance of one model that is left in that mean
    x_hn: np.ndarray  # which tracks each half holds, less a half
    within_hq: np.ndarray  # squared deviations of a half's models from their mean, added up
    pairs_h: np.ndarray  # how many models more than one each half has
    segments_n: np.ndarray

    def noise_q(self, halves: np.ndarray) -> np.ndarray:
        """Each clip's variance from seed to seed, as these halves say."""
        within_q, pairs = self.within_hq[halves].sum(axis=0), int(self.pairs_h[halves].sum())
        return (within_q + PRIOR * within_q.mean() / pairs) / (pairs + PRIOR)

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """The halves in two equal parts, each with every other one of those that were trained on twice."""
        order = np.argsort(self.pairs_h == 0, kind="stable")
        return np.sort(order[::2]), np.sort(order[1::2])


def outcomes_of(bank: Bank, loss_q: np.ndarray, segments_n: np.ndarray) -> Outcomes:
    """What is asked of a bank.

    Args:
        loss_q: the clips' losses under the model they are from.

    Raises:
        LinernotesError: too few retrains for an interval.
    """
    runs = bank.runs()
    twice = [run for run in runs if len(run) > 1]
    if len(runs) < LEAST_HALVES or len(twice) < LEAST_AGAIN:
        raise LinernotesError(
            f"{bank.path} holds {len(runs)} halves, {len(twice)} of them more than once, too few to say what "
            f"a score is worth: build it with at least {LEAST_HALVES} and {LEAST_AGAIN}"
        )
    relative_mq = bank.loss_mqk.mean(axis=2, dtype=np.float64) / loss_q
    return Outcomes(
        np.stack([relative_mq[run].mean(axis=0) for run in runs]),
        np.array([1 / len(run) for run in runs]),
        bank.present_mn[bank.which("half")] - 0.5,
        np.stack([((relative_mq[run] - relative_mq[run].mean(axis=0)) ** 2).sum(axis=0) for run in runs]),
        np.array([len(run) - 1 for run in runs]),
        segments_n,
    )


def fit_calibration(
    bank: Bank,
    scores_qn: np.ndarray,
    loss_q: np.ndarray,
    segments_n: np.ndarray,
    method: str,
    settings: MethodSettings,
    model: str = "",
    fitness: float | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """The calibration of one method's scores of a bank's clips over its training tracks.

    Raises:
        LinernotesError: too few retrains.
    """
    found = outcomes_of(bank, loss_q, segments_n)
    shape, n = shape_of(method), int(segments_n.sum())
    u_qn = _arguments(shape, scores_qn, loss_q, n)
    clips, halves = np.arange(len(loss_q)), np.arange(len(found.y_hq))
    noise_q = found.noise_q(halves)
    curve, start = _fit(found, shape, u_qn, clips, halves, noise_q, START[shape])
    random = np.random.default_rng(seed)
    resamples = []
    for i in range(RESAMPLES):
        # a clip may be drawn twice; a half may not, since its noise would then be known: half of them, once,
        # vary as much as all of them drawn anew
        some_q = random.choice(clips, len(clips))
        some_h = np.sort(random.permutation(halves)[: len(halves) // 2])
        resamples.append(_fit(found, shape, u_qn, some_q, some_h, noise_q, start)[0])
        if on_progress:
            on_progress(i + 1, RESAMPLES)
    full_q = bank.loss_mqk[bank.which("full")].mean(axis=(0, 2), dtype=np.float64) / loss_q
    left_out = float((0.5 - found.x_hn).sum(axis=1).mean() / len(segments_n))
    return Calibration(
        method=method,
        settings=asked(settings.model_dump()),
        shape=shape,
        curve=curve,
        resamples=resamples,
        whole=float((found.y_hq.mean(axis=0) - full_q).mean() / left_out),
        retrain_sd=float(np.sqrt(noise_q.mean())),
        fitness=fitness,
        clips=len(clips),
        models=sum(len(run) for run in bank.runs()),
        tracks=len(segments_n),
        bank=bank.path.parent.name,
        model=model,
        model_hash=bank.header["model"],
        catalogue_hash=bank.header["catalogue"],
    )


def measure_calibration(
    bank: Bank,
    scores_qn: np.ndarray,
    loss_q: np.ndarray,
    segments_n: np.ndarray,
    calibration: Calibration,
    edges: Sequence[float] = (-np.inf, -5e-4, 0.0, 5e-4, 1e-3, 2e-3, 4e-3, 1e-2, np.inf),
    seed: int = 0,
) -> MeasuredCalibration:
    """Fits again without each quarter of the clips and each half of the models, and holds the expected
    effects of these against the contrasts of these: what the models with a track know of the clip over what
    those without know, the other tracks' expected effects taken out. How much chance there is from seed to
    seed is read off the models that were fitted on, too.
    """
    found, n = outcomes_of(bank, loss_q, segments_n), int(segments_n.sum())
    u_qn = _arguments(calibration.shape, scores_qn, loss_q, n)
    order = np.random.default_rng(seed).permutation(len(loss_q))
    expected, contrast, error, named, clip = [], [], [], [], []
    parts = found.parts()
    for fold in range(FOLDS):
        unseen_q = order[fold::FOLDS]
        seen_q = np.setdiff1d(order, unseen_q)
        for unseen_h, seen_h in (parts, parts[::-1]):
            noise_q, start = found.noise_q(seen_h), START[calibration.shape]
            curve, _ = _fit(found, calibration.shape, u_qn, seen_q, seen_h, noise_q, start)
            for q in unseen_q:
                f_n = mapped(calibration.shape, u_qn[q], curve)
                variance_n = track_variance(f_n, segments_n, curve)
                noise_h = noise_q[q] * found.share_h[unseen_h]
                made = _contrasts(
                    found.x_hn[unseen_h], found.y_hq[unseen_h, q], f_n / n, variance_n / n**2, noise_h
                )
                expected.append(f_n / n)
                contrast.append(made[0])
                error.append(made[1])
                own_n = curve.own * np.sqrt(segments_n)
                doubt_n = below(np.zeros_like(f_n), f_n, own_n, curve.share)
                named.append(doubt_n < (1 - LEVEL) / 2)
                clip.append(np.full(len(f_n), q))
    e, c, s, is_named = (np.concatenate(v) for v in (expected, contrast, error, named))
    q_of = np.concatenate(clip)
    held = np.abs(c - e) < EDGE * s
    each = [held[q_of == q].mean() for q in range(len(loss_q))]
    bins = []
    for low, high in itertools.pairwise(edges):
        inside = (e >= low) & (e < high)
        if not inside.any():
            continue
        weight = 1 / s[inside] ** 2
        mean = float(np.average(c[inside], weights=weight))
        by_clip = [
            float(np.average(c[inside & (q_of == q)], weights=1 / s[inside & (q_of == q)] ** 2))
            for q in np.unique(q_of[inside])
        ]
        spread = EDGE * float(np.std(by_clip) / np.sqrt(max(len(by_clip) - 1, 1)))
        bins.append(
            Bin(
                float(low),
                float(high),
                int(inside.sum()),
                float(np.average(e[inside], weights=weight)),
                Interval(mean, mean - spread, mean + spread),
                float(held[inside].mean()),
            )
        )
    above = [float((c[is_named & (q_of == q)] > 0).mean()) for q in np.unique(q_of[is_named])]
    return MeasuredCalibration(
        calibration.method,
        calibration,
        bootstrap_mean(np.array(each)),
        bins,
        float(is_named.sum() / 2 / len(loss_q)),
        bootstrap_mean(np.array(above)),
        float(ndtr(e[is_named] / s[is_named]).mean()) if is_named.any() else float("nan"),
    )


def _contrasts(
    x_hn: np.ndarray, y_h: np.ndarray, e_n: np.ndarray, variance_n: np.ndarray, noise_h: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each track's effect by its own contrast, the others' expected effects taken out, and the standard
    deviation that it has about the expected one under the model.
    """
    x_hn = x_hn - x_hn.mean(axis=0)
    left_h = y_h - y_h.mean() + x_hn @ e_n
    squared_n = (x_hn**2).sum(axis=0)
    covariance_hh = (x_hn * variance_n) @ x_hn.T + np.diag(noise_h)
    spread_n = np.einsum("hn,hk,kn->n", x_hn, covariance_hh, x_hn, optimize=True)
    return e_n - (x_hn.T @ left_h) / squared_n, np.sqrt(spread_n) / squared_n


def _arguments(shape: Shape, scores_qn: np.ndarray, loss_q: np.ndarray, n: int) -> np.ndarray:
    return np.stack(
        [argument(shape, s.astype(np.float64), loss, n) for s, loss in zip(scores_qn, loss_q, strict=True)]
    )


def _fit(
    found: Outcomes,
    shape: Shape,
    u_qn: np.ndarray,
    clips: np.ndarray,
    halves: np.ndarray,
    noise_q: np.ndarray,
    start: Sequence[float],
) -> tuple[Curve, list[float]]:
    """The curve of the highest marginal likelihood on some clips and halves, and the four numbers it was
    found by.
    """
    n = float(found.segments_n.sum())
    u = torch.from_numpy(u_qn[clips])
    y = torch.from_numpy(found.y_hq[np.ix_(halves, clips)].T.copy())
    x = torch.from_numpy(found.x_hn[halves])
    noise = torch.from_numpy(noise_q[clips, None] * found.share_h[halves])
    segments = torch.from_numpy(found.segments_n.astype(np.float64))
    ones = torch.ones_like(y)
    began, reach = torch.tensor(START[shape], dtype=torch.float64), torch.tensor(STRAY, dtype=torch.float64)
    numbers = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([numbers], max_iter=STEPS, line_search_fn="strong_wolfe")

    def surprise() -> Tensor:
        """Negative log likelihood, the clips' mean losses integrated out."""
        scale, bend = numbers[0].exp(), numbers[1].abs()  # a map never falls
        f = scale * (u.sign() * (u.abs() + TINY) ** bend if shape == "power" else (bend * u).exp())
        variance = (numbers[3].exp() ** 2 * segments + (numbers[2].exp() * f) ** 2) / n**2
        covariance = (x * variance[:, None]) @ x.T + torch.diag_embed(noise)
        strayed = ((numbers - began) / reach).square().sum()
        root, failed = torch.linalg.cholesky_ex(covariance)
        if failed.any():  # a step too far: the line search turns back
            return strayed + FAR
        both = torch.stack([y + f / n @ x.T, ones], dim=2)
        left, one = torch.linalg.solve_triangular(root, both, upper=False).unbind(dim=2)
        weight = one.square().sum(dim=1)
        fitted = left.square().sum(dim=1) - (left * one).sum(dim=1) ** 2 / weight
        size = 2 * torch.diagonal(root, dim1=1, dim2=2).log().sum(dim=1) + weight.log()
        return ((fitted + size).sum() + strayed) / 2

    def again() -> float:
        search.zero_grad()
        loss = surprise()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    search.step(again)  # type: ignore[no-untyped-call]
    values = numbers.detach().tolist()
    if not np.isfinite(values).all():
        raise LinernotesError(
            "no map from scores to effects fits these retrains: the scores predict nothing of them; "
            "calibrate another method"
        )
    curve = Curve(
        scale=float(np.exp(values[0])),
        bend=abs(float(values[1])),
        share=float(np.exp(values[2])),
        own=float(np.exp(values[3])),
    )
    return curve, values
