"""Fits what a score is worth from a retrain bank.

A clip's loss under the models of random halves is linear in which tracks each saw, x: y = mu - X e + noise.
Effects of tracks lie about a monotone map of their scores (``attribution.effects``), so y, a sum over many of
them, is nearly normal with covariance X D X' + noise, and the map's numbers are those of the highest marginal
likelihood (empirical Bayes); what training's chance does is known from halves that were trained on twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from linernotes.attribution.effects import (
    TINY,
    Calibration,
    Curve,
    Shape,
    argument,
    asked,
    shape_of,
)
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.store import Bank
from linernotes.settings.methods import Gather, MethodSettings

LEAST_HALVES = 16
LEAST_AGAIN = 4  # halves trained on twice
PRIOR = 4  # pairs of seeds that the mean of all clips counts for in the noise of one
RESAMPLES = 50
STEPS = 60  # of L-BFGS, at most
# standard deviations of a prior: keep a number where it began if nothing is known of it
STRAY = (2.0, 0.5, 2.0, 2.0)
FAR = 1e9
START = {"power": (0.7, 0.9, -0.7, -1.2), "exponential": (-2.5, 1.0, -0.7, -1.2)}


@dataclass(frozen=True)
class Outcomes:
    """What a bank says of Q clips: losses under H halves, as shares of each clip's loss."""

    y_hq: np.ndarray  # mean over a half's models
    share_h: np.ndarray  # of the variance of one model that is left in that mean
    x_hn: np.ndarray  # which tracks each half holds, less a half
    within_hq: np.ndarray  # squared deviations of a half's models from their mean, added up
    pairs_h: np.ndarray  # how many models more than one each half has
    segments_n: np.ndarray  # of each track, or the sum of the squares of how often training saw them
    n: int  # training segments

    def noise_q(self, halves: np.ndarray) -> np.ndarray:
        """Each clip's variance from seed to seed, as these halves say."""
        within_q, pairs = self.within_hq[halves].sum(axis=0), int(self.pairs_h[halves].sum())
        return (within_q + PRIOR * within_q.mean() / pairs) / (pairs + PRIOR)

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """The halves in two equal parts, each with every other one of those that were trained on twice."""
        order = np.argsort(self.pairs_h == 0, kind="stable")
        return np.sort(order[::2]), np.sort(order[1::2])


def outcomes_of(
    bank: Bank, loss_q: np.ndarray, segments_n: np.ndarray, n_training: int | None = None
) -> Outcomes:
    """What is asked of a bank.

    Args:
        loss_q: the clips' losses under the model they are from.
        segments_n: how many segments each track has, or the sum of the squares of how often training saw
            them.
        n_training: of how many segments training drew; their sum if None.

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
        int(segments_n.sum()) if n_training is None else n_training,
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
    gather: Gather | None = None,
    n_training: int | None = None,
) -> Calibration:
    """The calibration of one method's scores of a bank's clips over its training tracks.

    Args:
        segments_n, n_training: as in ``outcomes_of``.
        gather: ``catalog.gathering.noted`` of the catalogue.

    Raises:
        LinernotesError: too few retrains.
    """
    found = outcomes_of(bank, loss_q, segments_n, n_training)
    shape = shape_of(method)
    u_qn = arguments(shape, scores_qn, loss_q, found.n)
    clips, halves = np.arange(len(loss_q)), np.arange(len(found.y_hq))
    noise_q = found.noise_q(halves)
    curve, start = fit_curve(found, shape, u_qn, clips, halves, noise_q, START[shape])
    random = np.random.default_rng(seed)
    resamples = []
    for i in range(RESAMPLES):
        # a clip may be drawn twice; a half may not, since its noise would then be known: half of them, once,
        # vary as much as all of them drawn anew
        some_q = random.choice(clips, len(clips))
        some_h = np.sort(random.permutation(halves)[: len(halves) // 2])
        resamples.append(fit_curve(found, shape, u_qn, some_q, some_h, noise_q, start)[0])
        if on_progress:
            on_progress(i + 1, RESAMPLES)
    full_q = bank.loss_mqk[bank.which("full")].mean(axis=(0, 2), dtype=np.float64) / loss_q
    left_out = float((0.5 - found.x_hn).sum(axis=1).mean() / len(segments_n))
    return Calibration(
        method=method,
        settings=asked(settings.model_dump()),
        gather=gather,
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


def arguments(shape: Shape, scores_qn: np.ndarray, loss_q: np.ndarray, n: int) -> np.ndarray:
    """What a map of this shape is a function of, for scores of clips ``[clips, tracks]``."""
    return np.stack(
        [argument(shape, s.astype(np.float64), loss, n) for s, loss in zip(scores_qn, loss_q, strict=True)]
    )


def fit_curve(
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
    n = float(found.n)
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
