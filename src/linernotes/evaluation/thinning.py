"""How influence thins out: what one more track of each rank is worth to a clip, in catalogues of several
sizes, and the law that the effects follow.

A clip's loss under retrained models is regressed on how many tracks of each rank, by a method's scores, a
model saw. Every model saw the same number of tracks, in as many steps, so this says by how much more a track
of these ranks lowers the loss than one of the last ranks does. Models of all tracks do not say more: in as
many steps they saw each track half as often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.store import LEAST_MODELS, Bank
from linernotes.evaluation.intervals import Interval, Resamples, interval, share
from linernotes.evaluation.lds import outputs_mq

PLACES = ((1, 3), (4, 10), (11, 20), (21, 50), (51, 100), (101, 250), (251, 500))
FIRST = (3, 10, 20, 50)  # how much of all effects the first so many tracks carry
USUAL = 512  # tracks of the first benchmark: where the law is anchored
LAW_RESAMPLES = 200
LARGE = (1_000, 10_000, 100_000)  # tracks that the law is asked about
NOTICED = 1e-3  # of a clip's loss: an effect that is counted in a forecast


@dataclass(frozen=True)
class OfRanks:
    """What one more track of some ranks is worth: by how much more it lowers a clip's loss than one of the
    last ranks does, as a share of that loss.
    """

    first: int
    last: int
    effect: Interval


@dataclass(frozen=True)
class OfSize:
    """How influence is spread over a catalogue of one size."""

    name: str
    tracks: int
    models: int  # halves
    clips: int
    ranks: list[OfRanks]
    last: tuple[int, int]  # the ranks that the others are held against
    together: Interval  # all tracks' effects
    first: dict[int, Interval]  # the share of them that the first so many carry
    told: int  # the last rank up to which tracks are told apart from the last ones


@dataclass(frozen=True)
class Forecast:
    """What the law says of a catalogue of some size."""

    tracks: int
    first_effect: Interval  # of the first three, each
    first_share: Interval  # of the first twenty together, in all effects
    noticed: Interval  # how many tracks have an effect of at least ``NOTICED``


@dataclass(frozen=True)
class Law:
    """The effect of rank r among N tracks: ``strength * r ** -by_rank * (N / 512) ** -by_size``."""

    strength: Interval
    by_rank: Interval
    by_size: Interval
    forecasts: list[Forecast]

    def effects(self, rank: np.ndarray, tracks: int) -> np.ndarray:
        """The effects of tracks of these ranks in a catalogue of so many."""
        return _effects((self.strength.value, self.by_rank.value, self.by_size.value), rank, tracks)


@dataclass(frozen=True)
class Thinning:
    """Effects by rank in catalogues of several sizes."""

    method: str
    sizes: list[OfSize]
    law: Law | None  # of at least two sizes


def measure_thinning(method: str, cases: Sequence[tuple[str, Bank, np.ndarray]], seed: int = 0) -> Thinning:
    """Effects by rank on each of some banks, and their law.

    Args:
        cases: for each a name, the bank, and the method's scores ``scores_qn`` of all its queries and
            training tracks.

    Raises:
        LinernotesError: a bank has too few halves.
    """
    spread = [_spread(bank, scores_qn, seed) for _, bank, scores_qn in cases]
    sizes = [_of_size(name, bank, found) for (name, bank, _), found in zip(cases, spread, strict=True)]
    order = np.argsort([size.tracks for size in sizes], kind="stable")
    law = _law([spread[i] for i in order]) if len({size.tracks for size in sizes}) > 1 else None
    return Thinning(method, [sizes[i] for i in order], law)


@dataclass(frozen=True)
class _Spread:
    """Effects by bins of ranks, of the whole bank first, then of its resamples: ``[1 + resamples, bins]``."""

    tracks: int
    bins: list[tuple[int, int]]  # the last one is what the others are held against
    effect_rb: np.ndarray  # of the bins but the last


def _spread(bank: Bank, scores_qn: np.ndarray, seed: int) -> _Spread:
    rows, runs = bank.rows("reporting"), bank.runs()
    if len(runs) < LEAST_MODELS:
        raise LinernotesError(
            f"{bank.path} holds {len(runs)} halves, too few for an interval: build it with at least "
            f"{LEAST_MODELS}"
        )
    out_mq = outputs_mq(bank, "loss")[:, rows]
    loss_mq = np.stack([out_mq[run].mean(axis=0) for run in runs])
    loss_mq = loss_mq / loss_mq.mean(axis=0)
    present_mn = bank.present_mn[[run[0] for run in runs]].astype(float)
    tracks = present_mn.shape[1]
    bins = _bins(tracks)
    rank_qn = 1 + np.argsort(np.argsort(-scores_qn[rows], axis=1, kind="stable"), axis=1)
    count_mqb = np.stack(
        [present_mn @ ((rank_qn >= low) & (rank_qn <= high)).T for low, high in bins[:-1]], axis=2
    )
    resamples = Resamples.draw(len(runs), len(rows), seed)
    weight_rm = np.vstack([np.ones(len(runs)), resamples.counts_bm])
    weight_rq = np.vstack([np.full(len(rows), 1 / len(rows)), resamples.weight_bq])
    return _Spread(tracks, bins, _regressed(count_mqb, loss_mq, weight_rm, weight_rq))


def _bins(tracks: int) -> list[tuple[int, int]]:
    """Ranks, the first half of them at most in bins; the others stand together."""
    bins = [(low, high) for low, high in PLACES if high <= tracks // 2]
    return [*bins, ((bins[-1][1] if bins else 0) + 1, tracks)]


def _regressed(
    count_mqb: np.ndarray, loss_mq: np.ndarray, weight_rm: np.ndarray, weight_rq: np.ndarray
) -> np.ndarray:
    """By how much one more track of each bin lowers the loss: least squares over models and queries, each
    query with a level of its own, under each row of weights.
    """
    bins = count_mqb.shape[2]
    found = np.empty((len(weight_rm), bins))
    for r, (weight_m, weight_q) in enumerate(zip(weight_rm, weight_rq, strict=True)):
        share_m = weight_m / weight_m.sum()
        x_mqb = count_mqb - np.einsum("m,mqb->qb", share_m, count_mqb)
        y_mq = loss_mq - share_m @ loss_mq
        weighted = x_mqb * (share_m[:, None] * weight_q)[..., None]
        moment = np.einsum("mqb,mqc->bc", weighted, x_mqb)
        found[r] = -np.linalg.lstsq(moment, np.einsum("mqb,mq->b", weighted, y_mq), rcond=None)[0]
    return found


def _of_size(name: str, bank: Bank, found: _Spread) -> OfSize:
    def said(values_r: np.ndarray) -> Interval:
        return interval(float(values_r[0]), values_r[1:])

    ranks = [OfRanks(low, high, said(found.effect_rb[:, b])) for b, (low, high) in enumerate(found.bins[:-1])]
    told = 0
    for each in ranks:
        if each.effect.low <= 0:
            break
        told = each.last
    carried_rb = np.cumsum(found.effect_rb * [high - low + 1 for low, high in found.bins[:-1]], axis=1)
    ends = [high for _, high in found.bins[:-1]]
    together_r = carried_rb[:, -1]
    first = {
        count: said(share(carried_rb[:, ends.index(count)], together_r)) for count in FIRST if count in ends
    }
    return OfSize(
        name=name,
        tracks=found.tracks,
        models=len(bank.which("half")),
        clips=len(bank.rows("reporting")),
        ranks=ranks,
        last=found.bins[-1],
        together=said(together_r),
        first=first,
        told=told,
    )


def _law(spread: Sequence[_Spread]) -> Law:
    """Fitted to the effects of all bins of all sizes, each weighted by how surely it is known; the intervals
    are of fits to resamples.
    """
    sure = [1 / np.maximum(each.effect_rb[1:].std(axis=0), 1e-12) for each in spread]
    start = np.log([max(spread[0].effect_rb[0, 0], 1e-6), 1.0, 1.0])
    fits = np.array([_fit(spread, sure, r, start) for r in range(LAW_RESAMPLES + 1)])

    def said(values_r: np.ndarray) -> Interval:
        return interval(float(values_r[0]), values_r[1:])

    forecasts = []
    for tracks in LARGE:
        effects = [_effects(fit, np.arange(1, tracks + 1), tracks) for fit in fits]
        forecasts.append(
            Forecast(
                tracks=tracks,
                first_effect=said(np.array([effect[:3].mean() for effect in effects])),
                first_share=said(np.array([effect[:20].sum() / effect.sum() for effect in effects])),
                noticed=said(np.array([(effect >= NOTICED).sum() for effect in effects], dtype=float)),
            )
        )
    strength, by_rank, by_size = fits.T
    return Law(said(strength), said(by_rank), said(by_size), forecasts)


def _effects(law: Sequence[float], rank: np.ndarray, tracks: int) -> np.ndarray:
    strength, by_rank, by_size = law
    found: np.ndarray = strength * rank**-by_rank * (tracks / USUAL) ** -by_size
    return found


def _fit(spread: Sequence[_Spread], sure: Sequence[np.ndarray], r: int, start: np.ndarray) -> np.ndarray:
    """Strength and exponents by least squares, of their logarithms: all are above 0."""

    def missed(logarithms: np.ndarray) -> np.ndarray:
        parts = []
        for each, weight_b in zip(spread, sure, strict=True):
            by_rank = _effects(np.exp(logarithms), np.arange(1, each.tracks + 1), each.tracks)
            *expected_b, last = (by_rank[low - 1 : high].mean() for low, high in each.bins)
            parts.append((np.array(expected_b) - last - each.effect_rb[r]) * weight_b)
        return np.concatenate(parts)

    found: np.ndarray = np.exp(least_squares(missed, start, bounds=(-25, 5)).x)
    return found
