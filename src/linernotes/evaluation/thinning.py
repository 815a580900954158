"""How influence thins out: what one more track of each rank is worth to a clip, in catalogues of several
sizes, and the law that the effects follow.

A clip's loss under retrained models is regressed on how many tracks of each rank, by a method's scores, a
model saw. Every model learned a random half of the tracks, in as many steps, so this says by how much more a
track of these ranks lowers the loss than one of the last half of the ranks does. Models of all tracks do not
say more: in as many steps they saw each track half as often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import chi2

from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.store import LEAST_MODELS, Bank
from linernotes.evaluation.intervals import Interval, Resamples, interval, share
from linernotes.evaluation.lds import MeasuredLds, measure_lds, outputs_mq

STARTS = (1, 4, 11, 21, 51, 101, 251, 501, 1001)  # ranks at which bins begin, the last reaches to the half
LEAST_TRACKS = 2 * STARTS[1]
FIRST = (3, 10, 20)  # how much of all effects the first so many tracks carry
USUAL = 512  # tracks: where the law is anchored
LAW_RESAMPLES = 400
SURE = 1e-9  # of a clip's loss: nothing is known better
LEAST_SIZES = 2  # that a law is fitted to, to ask whether it says what was found at a larger one
LEARNED = (1_000, 10_000, 100_000)  # tracks that a model learned: what the law is asked about
NOTICED = 1e-3  # of a clip's loss: an effect that is counted in a forecast


@dataclass(frozen=True)
class Sized:
    """A benchmark of some size: its bank, and by method ``scores_qn`` of all its queries and training
    tracks.
    """

    name: str
    bank: Bank
    scores: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class OfRanks:
    """What one more track of some ranks is worth: by how much more it lowers a clip's loss than one of the
    last half of the ranks does, as a share of that loss.
    """

    first: int
    last: int
    effect: Interval


@dataclass(frozen=True)
class OfSize:
    """How influence is spread over a catalogue of one size, by one method."""

    name: str
    tracks: int
    halves: int
    models: int  # of halves, further seeds included
    clips: int
    ranks: list[OfRanks]
    together: Interval  # effects of the first half of the ranks, each over the last half's
    # the share of them that the first so many carry; of effects that are not told apart from nothing none
    first: dict[int, Interval]
    told: int  # the last rank up to which all bins are told apart from the last half of the ranks


@dataclass(frozen=True)
class Forecast:
    """What the law says of a model that learned some number of tracks."""

    learned: int
    first_effect: Interval  # of the first three of them, each
    noticed: Interval  # how many tracks have an effect of at least ``NOTICED``


@dataclass(frozen=True)
class Foretold:
    """What the law of all smaller sizes says of one, beside what was found there."""

    tracks: int
    ranks: list[tuple[OfRanks, Interval]]  # found, foretold
    probability: float  # of a miss as large by chance: chi squared of all bins together


@dataclass(frozen=True)
class Law:
    """The effect of rank r among N tracks, of which a model learned half: ``strength * r ** -by_rank * (N /
    512) ** -by_size``. Effects by themselves, not over the last ranks': that they fall to nothing is assumed.

    Intervals come from fits to resamples of all banks. Where the law misses the measured effects by more than
    their noise, they are as much wider.
    """

    strength: Interval
    by_rank: Interval
    by_size: Interval
    misfit: float  # chi squared over degrees of freedom: 1 if the law holds and noise is all it misses by
    freedom: int
    forecasts: list[Forecast]
    foretold: list[Foretold]  # of every size that has at least ``LEAST_SIZES`` smaller ones

    def effects(self, rank: np.ndarray, tracks: int) -> np.ndarray:
        """The effects of tracks of these ranks in a catalogue of so many."""
        fit = np.array([np.log(self.strength.value), self.by_rank.value, self.by_size.value])
        return _effects(fit, rank, tracks)


@dataclass(frozen=True)
class Thinning:
    """Effects by rank in catalogues of several sizes, smallest first."""

    methods: list[str]  # the one that the law is of, then those beside it
    sizes: dict[str, list[OfSize]]  # by method
    lds: list[MeasuredLds]  # of each size: does a method's order still predict retraining?
    law: Law | None  # of at least two sizes


def measure_thinning(cases: Sequence[Sized], seed: int = 0) -> Thinning:
    """Effects by rank on each of some banks, and the law of the first method's.

    Raises:
        LinernotesError: a bank has too few halves or tracks, a model that says nothing, or models that were
            trained in another way.
    """
    cases = sorted(cases, key=lambda case: len(case.bank.tracks))
    for case in cases:
        _require_alike(cases[0], case)
    methods = list(cases[0].scores)
    spread = {method: [_spread(case, method, seed) for case in cases] for method in methods}
    sizes = {
        method: [_of_size(case, found) for case, found in zip(cases, spread[method], strict=True)]
        for method in methods
    }
    law = None
    if len({size.tracks for size in sizes[methods[0]]}) > 1:
        law = _law(spread[methods[0]], sizes[methods[0]])
    lds = [measure_lds(case.bank, case.scores, reference=methods[0], seed=seed) for case in cases]
    return Thinning(methods, sizes, lds, law)


def _require_alike(one: Sized, other: Sized) -> None:
    """Refuses models that differ in more than their number of tracks, with steps in proportion to it."""
    recipes = [dict(case.bank.header.get("training", {})) for case in (one, other)]
    steps = [
        recipe.pop("steps", 0) / len(c.bank.tracks) for recipe, c in zip(recipes, (one, other), strict=True)
    ]
    differing = sorted(k for k in {*recipes[0], *recipes[1]} if recipes[0].get(k) != recipes[1].get(k))
    if abs(steps[0] - steps[1]) > 0.01 * max(steps):
        differing.append("steps a track")
    if differing:
        raise LinernotesError(
            f"{other.name} was trained otherwise than {one.name} ({', '.join(differing)}), so that more than "
            "their sizes would be compared: leave out one of them"
        )


@dataclass(frozen=True)
class _Spread:
    """Effects by bins of ranks, of the whole bank first, then of its resamples: ``[1 + resamples, bins]``."""

    tracks: int
    bins: list[tuple[int, int]]  # the last one is what the others are held against
    effect_rb: np.ndarray  # of the bins but the last


def _spread(case: Sized, method: str, seed: int) -> _Spread:
    bank, scores_qn = case.bank, case.scores[method]
    rows, runs = bank.rows("reporting"), bank.runs()
    tracks = bank.present_mn.shape[1]
    for what, there, least in (("halves", len(runs), LEAST_MODELS), ("tracks", tracks, LEAST_TRACKS)):
        if there < least:
            raise LinernotesError(
                f"{bank.path} holds {there} {what}, too few for an interval: build it with at least {least}"
            )
    out_mq = outputs_mq(bank, "loss")[:, rows]
    if len(silent := [bank.names[m] for m in np.flatnonzero(~np.isfinite(out_mq).all(axis=1))]):
        raise LinernotesError(
            f"{bank.path} holds models without a loss ({', '.join(silent)}): remove their files from its "
            "retrains and the packed bank, and build it again"
        )
    loss_mq = np.stack([out_mq[run].mean(axis=0) for run in runs])
    loss_mq = loss_mq / loss_mq.mean(axis=0)
    present_mn = bank.present_mn[[run[0] for run in runs]].astype(float)
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
    """Ranks, the first half of them in bins; the others stand together."""
    half = tracks // 2
    # a bin that would begin at the half's end, with few ranks of its own, is left to the one before
    starts = [start for start, after in zip(STARTS, (*STARTS[1:], np.inf), strict=True) if after - 1 <= half]
    ends = [start - 1 for start in starts[1:]] + [half]
    return [*zip(starts, ends, strict=True), (half + 1, tracks)]


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


def _of_size(case: Sized, found: _Spread) -> OfSize:
    ranks = [
        OfRanks(low, high, _said(found.effect_rb[:, b])) for b, (low, high) in enumerate(found.bins[:-1])
    ]
    told = 0
    for each in ranks:
        if not each.effect.low > 0:
            break
        told = each.last
    carried_rb = np.cumsum(found.effect_rb * [high - low + 1 for low, high in found.bins[:-1]], axis=1)
    ends, together_r = [high for _, high in found.bins[:-1]], carried_rb[:, -1]
    together = _said(together_r)
    return OfSize(
        name=case.name,
        tracks=found.tracks,
        halves=len(case.bank.which("half")),
        models=sum(len(run) for run in case.bank.runs()),
        clips=len(case.bank.rows("reporting")),
        ranks=ranks,
        together=together,
        first={
            count: _said(share(carried_rb[:, ends.index(count)], together_r, np.inf))
            for count in FIRST
            if count in ends[:-1] and together.low > 0
        },
        told=told,
    )


def _said(values_r: np.ndarray) -> Interval:
    return interval(float(values_r[0]), values_r[1:])


def _law(spread: Sequence[_Spread], sizes: Sequence[OfSize]) -> Law:
    """Fitted to the effects of all bins of all sizes, weighted by how surely they are known, each with the
    others of its size.
    """
    fits, missed = _fits(spread)
    freedom = len(missed) - fits.shape[1]
    misfit = float(missed @ missed / freedom) if freedom else float("nan")
    fits = _widened(fits, misfit)
    forecasts = []
    for learned in LEARNED:  # of twice as many tracks a model learned half; it has every second rank
        rank = 2 * np.arange(1, learned + 1)
        effects = [_effects(fit, rank, 2 * learned) for fit in fits]
        forecasts.append(
            Forecast(
                learned=learned,
                first_effect=_said(np.array([effect[:3].mean() for effect in effects])),
                noticed=_said(np.array([(effect >= NOTICED).sum() for effect in effects], dtype=float)),
            )
        )
    strength, by_rank, by_size = np.exp(fits[:, 0]), fits[:, 1], fits[:, 2]
    foretold = []
    for each, size in zip(spread, sizes, strict=True):
        smaller = [other for other in spread if other.tracks < each.tracks]
        if len({other.tracks for other in smaller}) >= LEAST_SIZES:
            foretold.append(_foretold(smaller, each, size))
    return Law(
        strength=_said(strength),
        by_rank=_said(by_rank),
        by_size=_said(by_size),
        misfit=misfit,
        freedom=freedom,
        forecasts=forecasts,
        foretold=foretold,
    )


def _foretold(smaller: Sequence[_Spread], largest: _Spread, size: OfSize) -> Foretold:
    fits, missed = _fits(smaller)
    freedom = len(missed) - fits.shape[1]
    fits = _widened(fits, float(missed @ missed / freedom) if freedom else float("nan"))
    said_rb = np.stack([_over_last(fit, largest) for fit in fits])
    apart_b = largest.effect_rb[0] - said_rb[0]
    spread_bb = np.atleast_2d(np.cov(largest.effect_rb[1:].T)) + np.atleast_2d(np.cov(said_rb[1:].T))
    distance = float(apart_b @ np.linalg.pinv(spread_bb) @ apart_b)
    return Foretold(
        tracks=largest.tracks,
        ranks=[(each, _said(said_rb[:, b])) for b, each in enumerate(size.ranks)],
        probability=float(chi2.sf(distance, len(apart_b))),
    )


def _fits(spread: Sequence[_Spread]) -> tuple[np.ndarray, np.ndarray]:
    """The law's three numbers, of the banks first, then of their resamples; and by how many standard
    deviations the first misses each bin.
    """
    whiten = [_whitening(each.effect_rb[1:]) for each in spread]
    first = max(spread[0].effect_rb[0, 0], 1e-6)

    def missed(fit: np.ndarray, r: int) -> np.ndarray:
        return np.concatenate(
            [
                white @ (_over_last(fit, each) - each.effect_rb[r])
                for each, white in zip(spread, whiten, strict=True)
            ]
        )

    start = np.array([np.log(first), 1.0, 1.0])
    bounds = ([-25.0, -2.0, -3.0], [5.0, 5.0, 5.0])
    found = []
    for r in range(LAW_RESAMPLES + 1):
        found.append(least_squares(missed, start, args=(r,), bounds=bounds).x)
        start = found[0]
    return np.array(found), missed(found[0], 0)


def _whitening(effect_rb: np.ndarray) -> np.ndarray:
    """What makes of the bins' errors independent ones of variance 1."""
    covariance_bb = np.atleast_2d(np.cov(effect_rb.T))
    values, vectors = np.linalg.eigh(covariance_bb)
    known: np.ndarray = vectors / np.sqrt(np.maximum(values, max(1e-12 * values[-1], SURE**2)))
    return known.T


def _widened(fits: np.ndarray, misfit: float) -> np.ndarray:
    """With more uncertainty where the law misses the effects by more than their noise."""
    return fits[0] + (fits - fits[0]) * np.sqrt(max(1.0, misfit if np.isfinite(misfit) else 1.0))


def _over_last(fit: np.ndarray, size: _Spread) -> np.ndarray:
    """The law's effects of a size's bins, over the last one's."""
    effect_n = _effects(fit, np.arange(1, size.tracks + 1), size.tracks)
    *expected_b, last = (effect_n[low - 1 : high].mean() for low, high in size.bins)
    return np.array(expected_b) - last


def _effects(fit: np.ndarray, rank: np.ndarray, tracks: int) -> np.ndarray:
    strength, by_rank, by_size = np.exp(fit[0]), fit[1], fit[2]
    found: np.ndarray = strength * rank.astype(float) ** -by_rank * (tracks / USUAL) ** -by_size
    return found
