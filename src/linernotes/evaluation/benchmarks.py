"""Methods on several benchmarks: the same figures on each, from stored scores, and how far benchmarks agree
on the order of methods.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.scores import GATHERS, Scored, of_columns
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.counterfactual import Outcome
from linernotes.evaluation.intervals import Interval, interval
from linernotes.evaluation.lds import MeasuredLds, measure_lds
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS

CHANCE = "random"
TOGETHER = "together"
TAU_RESAMPLES = 500


@dataclass(frozen=True)
class Case:
    """A benchmark with all that was measured for it."""

    name: str
    bank: Bank
    scored: Mapping[str, Scored]  # by method; the catalogue's training tracks come first
    outcomes: Sequence[Outcome] = ()  # leave-k-out; empty where none was trained


@dataclass(frozen=True)
class OnBenchmark:
    """What a benchmark says of the methods."""

    name: str
    lds: MeasuredLds
    # the same for every way to gather a track's score from its segments', as "METHOD, WAY"; None where every
    # track is one segment
    gathered: MeasuredLds | None
    # of these ways, by how much each is above the same method's sum; and, on average over all methods whose
    # scores are of losses, as "TOGETHER, WAY"
    over_sum: Mapping[str, Interval]
    outcomes: Sequence[Outcome]
    tracks: int
    twice: int  # halves that were trained on more than once


@dataclass(frozen=True)
class Concord:
    """How far two benchmarks agree on the order of methods: Kendall's tau, with an interval over clips and
    models of both, and how probable one as large is by chance (exact, one-sided). Of chance itself, which is
    last everywhere, nothing is asked.
    """

    one: str
    other: str
    methods: int
    tau: Interval
    probability: float
    tau_truncated: float  # nan where a benchmark has no truncated form
    probability_truncated: float


@dataclass(frozen=True)
class Across:
    """A table over benchmarks."""

    benchmarks: list[OnBenchmark]
    concord: list[Concord]
    kept_on: str  # the benchmark on whose tuning clips the numbers of tracks kept were chosen, or ""


def measure_across(cases: Sequence[Case]) -> Across:
    """The LDS of the same methods on several benchmarks.

    How many tracks a truncated score keeps is chosen on the tuning clips of the first benchmark that has
    some, and taken over by the others: on these nothing is chosen.

    Raises:
        LinernotesError: benchmarks with scores of different methods, or a bank too small for an interval.
    """
    methods = list(cases[0].scored)
    for case in cases:
        if set(case.scored) != set(methods):
            missing = sorted(set(methods) ^ set(case.scored))
            raise LinernotesError(
                f"{', '.join(missing)} is not scored on both {cases[0].name} and {case.name}: score the same "
                "methods on all benchmarks"
            )
    tuned = next((case for case in cases if case.bank.rows("tuning")), None)
    kept = None
    if tuned:
        found = measure_lds(tuned.bank, _trained(tuned), reference=DEFAULT_METHOD)
        kept = {m.method: m.kept for m in found.methods if m.kept is not None}
    benchmarks = [_measured(case, kept) for case in cases]
    return Across(
        benchmarks=benchmarks,
        concord=[_concord(one, other) for one, other in combinations(benchmarks, 2)],
        kept_on=tuned.name if tuned else "",
    )


def _measured(case: Case, kept: Mapping[str, int] | None) -> OnBenchmark:
    bank = case.bank
    gathered = None
    if all(scored.gathered for scored in case.scored.values()):
        ways = {
            f"{method}, {way}": of_columns(scored.gathered[way], bank)
            for method, scored in case.scored.items()
            for way in GATHERS
        }
        of_ways = {way: kept[way.split(", ")[0]] for way in ways} if kept else None
        gathered = measure_lds(bank, ways, reference=f"{DEFAULT_METHOD}, sum", kept=of_ways)
    return OnBenchmark(
        name=case.name,
        lds=measure_lds(bank, _trained(case), reference=DEFAULT_METHOD, kept=kept),
        gathered=gathered,
        over_sum=_over_sum(gathered) if gathered else {},
        outcomes=case.outcomes,
        tracks=len(bank.tracks),
        twice=sum(len(run) > 1 for run in bank.runs()),
    )


def _over_sum(gathered: MeasuredLds) -> dict[str, Interval]:
    ways = {m.method: m for m in gathered.methods}
    found = {}
    together = defaultdict[str, list[tuple[float, np.ndarray]]](list)
    for way, measured in ways.items():
        method, _, kind = way.partition(", ")
        whole = ways[f"{method}, sum"]
        if whole is measured:
            continue
        over = measured.lds.value - whole.lds.value, measured.drawn_b - whole.drawn_b
        found[way] = interval(*over)
        if of_losses(method):
            together[kind].append(over)
    for kind, several in together.items():
        values, drawn = zip(*several, strict=True)
        found[f"{TOGETHER}, {kind}"] = interval(float(np.mean(values)), np.mean(drawn, axis=0))
    return found


def of_losses(method: str) -> bool:
    """Whether a method's scores are of losses or gradients, and no likenesses."""
    return METHOD_SETTINGS[method].gather == "norm" and method != CHANCE


def _trained(case: Case) -> dict[str, np.ndarray]:
    return {method: of_columns(scored.scores_qt, case.bank) for method, scored in case.scored.items()}


def _concord(one: OnBenchmark, other: OnBenchmark) -> Concord:
    found = [{m.method: m for m in each.lds.methods if m.method != CHANCE} for each in (one, other)]
    names = list(found[0])
    plain = [[of[name].lds.value for name in names] for of in found]
    short = [[t.value if (t := of[name].truncated) is not None else np.nan for name in names] for of in found]
    tau, probability = _tau(*plain)
    # the resamples of one with those of the other from the end: with as many models they are drawn alike
    one_b, other_b = (np.stack([of[name].drawn_b for name in names]) for of in found)
    drawn = [_tau(x, y)[0] for x, y in zip(one_b.T[:TAU_RESAMPLES], other_b.T[::-1], strict=False)]
    tau_truncated, probability_truncated = _tau(*short)
    return Concord(
        one=one.name,
        other=other.name,
        methods=len(names),
        tau=interval(tau, np.array(drawn)),
        probability=probability,
        tau_truncated=tau_truncated,
        probability_truncated=probability_truncated,
    )


def _tau(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    if len(one) < 2 or not np.isfinite([one, other]).all():
        return float("nan"), float("nan")
    found = kendalltau(one, other, method="exact", alternative="greater")
    return float(found.statistic), float(found.pvalue)
