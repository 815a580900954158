"""Leave-k-out: train again without the tracks a method puts first, and see what becomes of the clip, against
leaving out as many at random. A method that does not beat mere resemblance here has not shown that it sees
inside the model.

A retrain is noisy, and part of its noise is common to all clips. Every retrain therefore has a seed of its
own, a clip's loss is read against the other clips' under the same retrain, and intervals are over retrains
(and clips, where one serves many).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.errors import LinernotesError, MissingError, UsageError
from linernotes.evaluation.bank.measuring import DISTANCES
from linernotes.evaluation.bank.setting import Retrain
from linernotes.evaluation.bank.store import Bank, read_bank
from linernotes.evaluation.intervals import RESAMPLES, Interval, interval

COUNTERFACTUAL_FILE = "counterfactual.safetensors"
AT_RANDOM = "at random"  # no method: what every method is held against
RANDOM_ARMS = 4
POOLED_ARMS = 2
ARMS_SEED = 7


@dataclass(frozen=True)
class Arm:
    """One retrain and why: which method's first tracks it was trained without, what share of the catalogue,
    for which clip (empty if pooled or at random).
    """

    method: str
    percent: float
    pooled: bool
    query: str
    retrain: str


@dataclass(frozen=True)
class Outcome:
    """What leaving out a method's first tracks does, over what leaving out as many at random does.

    ``specific`` is the figure to read: the clip's own rise less the mean rise of the other clips under the
    same retrain; in the pooled form, where every clip is meant, the rise itself. At random it is that of each
    clip that others have retrains for.
    """

    method: str
    percent: float
    pooled: bool
    retrains: int
    clips: int
    tracks: float  # left out
    rise: Interval  # of the clip's loss
    control: Interval | None  # of the other clips' losses; None in the pooled form
    specific: Interval
    relative: Interval  # specific, as a share of the clip's loss
    distances: dict[str, Interval]  # how much further the clip moved
    over_likeness: Interval | None  # specific, less that of the resemblance method that does best


def plan_arms(
    bank: Bank, scores: Mapping[str, np.ndarray], percent: float, queries: Sequence[int]
) -> tuple[list[Arm], list[Retrain]]:
    """Retrains without each clip's own first tracks, by each method, and without as many at random.

    Args:
        scores: by method, ``scores_qn`` of all of the bank's queries over its training tracks.
        percent: share of the catalogue that is left out.
        queries: rows of the bank's queries.

    Raises:
        UsageError: the share is no track, or more than half.
    """
    n = len(bank.tracks)
    k = tracks_in(percent, n)
    plan = _Plan(n, percent, pooled=False)
    for draw in range(RANDOM_ARMS):
        plan.add(np.random.default_rng([ARMS_SEED, k, draw]).permutation(n)[:k], AT_RANDOM, "")
    for method, scores_qn in scores.items():
        for q in queries:
            plan.add(np.argsort(-scores_qn[q], kind="stable")[:k], method, bank.queries[q].name)
    return plan.arms, list(plan.retrains.values())


def plan_pooled(
    bank: Bank, scores: Mapping[str, np.ndarray], percent: float, queries: Sequence[int]
) -> tuple[list[Arm], list[Retrain]]:
    """The cheaper form: one set of tracks for all clips together, the ``percent`` of the
    catalogue that stand highest for any of them (by their best place, then by their mean
    place), left out at once, with several seeds.
    """
    n = len(bank.tracks)
    k = tracks_in(percent, n)
    plan = _Plan(n, percent, pooled=True)
    for draw in range(RANDOM_ARMS):
        plan.add(np.random.default_rng([ARMS_SEED, k, draw]).permutation(n)[:k], AT_RANDOM, "")
    for method, scores_qn in scores.items():
        places = np.argsort(np.argsort(-scores_qn[list(queries)], axis=1, kind="stable"), axis=1)
        left_out = np.lexsort((places.mean(axis=0), places.min(axis=0)))[:k]
        for repeat in range(POOLED_ARMS):
            plan.add(left_out, method, "", repeat)
    return plan.arms, list(plan.retrains.values())


def arms_of_scores(bank: Bank, scores: Mapping[str, np.ndarray], arms: Sequence[Arm]) -> list[Arm]:
    """Those of ``arms`` that leave out what these scores put first. A method that was trained with other
    settings, or is not among them, is left out whole: its cases would be a mean over two methods.
    """
    wanted: list[Arm] = []
    for percent, pooled in dict.fromkeys((arm.percent, arm.pooled) for arm in arms):
        queries = [q for q in bank.rows("reporting") if pooled or bank.queries[q].heard]
        wanted += (plan_pooled if pooled else plan_arms)(bank, scores, percent, queries)[0]
    others = {(arm.method, arm.percent, arm.pooled) for arm in arms if arm not in wanted}
    return [arm for arm in arms if (arm.method, arm.percent, arm.pooled) not in others]


def tracks_in(percent: float, n: int) -> int:
    """How many tracks that share of a catalogue is.

    Raises:
        UsageError: none, or more than half.
    """
    k = round(percent / 100 * n) if np.isfinite(percent) else 0
    if not 1 <= k <= n // 2:
        raise UsageError(
            f"{percent:g} % of {n} tracks is {k}: choose a share that leaves out at least one, at most half"
        )
    return k


def measure_outcomes(bank: Bank, arms: Sequence[Arm], likenesses: Sequence[str] = ()) -> list[Outcome]:
    """What became of the reporting clips, from a bank that holds the arms' retrains.

    Args:
        likenesses: the methods that ask for resemblance only.

    Raises:
        LinernotesError: a retrain is missing.
    """
    row = {name: i for i, name in enumerate(bank.names)}
    if missing := [arm.retrain for arm in arms if arm.retrain not in row]:
        raise LinernotesError(
            f"{bank.path} lacks the retrain {missing[0]} and {len(missing) - 1} more: build it anew"
        )
    cases: dict[tuple[float, bool], dict[str, list[Arm]]] = {}
    for arm in arms:
        cases.setdefault((arm.percent, arm.pooled), {}).setdefault(arm.method, []).append(arm)
    outcomes = []
    for (percent, pooled), by_method in cases.items():
        chance = [row[arm.retrain] for arm in by_method[AT_RANDOM]]
        found = {m: _Cases(bank, [row[a.retrain] for a in own], own, chance) for m, own in by_method.items()}
        drawn = {method: case.resampled() for method, case in found.items()}
        best = max(
            (m for m in found if m in likenesses), key=lambda m: found[m].means()["specific"], default=None
        )
        for method, case in found.items():
            means = case.means()
            at = {name: interval(value, drawn[method][name]) for name, value in means.items()}
            ahead = None
            if best is not None and method not in (best, AT_RANDOM):
                difference = drawn[method]["specific"] - drawn[best]["specific"]
                ahead = interval(means["specific"] - found[best].means()["specific"], difference)
            left_out = float(np.mean([(~bank.present_mn[m]).sum() for m in case.rows]))
            outcomes.append(
                Outcome(
                    method=method,
                    percent=percent,
                    pooled=pooled,
                    retrains=len(case.rows),
                    clips=case.clips,
                    tracks=left_out,
                    rise=at["rise"],
                    control=None if pooled else at["control"],
                    specific=at["specific"],
                    relative=at["relative"],
                    distances={name: at[name] for name in DISTANCES},
                    over_likeness=ahead,
                )
            )
    return outcomes


def read_arms(path: Path) -> tuple[Bank, list[Arm]]:
    """The retrains of a finished leave-k-out, and what each was for.

    Raises:
        MissingError: there are none.
        LinernotesError: the file is damaged.
    """
    if not path.exists():
        raise MissingError(f"there is no leave-k-out at {path}: train one with --methods and --out")
    bank = read_bank(path)
    return bank, [Arm(**arm) for arm in bank.header["arms"]]


class _Plan:
    """Collects arms and their retrains; two arms that leave out the same tracks share one."""

    def __init__(self, n: int, percent: float, pooled: bool) -> None:
        self.n, self.percent, self.pooled = n, percent, pooled
        self.arms: list[Arm] = []
        self.retrains: dict[str, Retrain] = {}

    def add(self, left_out: np.ndarray, method: str, query: str, repeat: int = 0) -> None:
        present = np.ones(self.n, dtype=bool)
        present[left_out] = False
        name = f"without-{hash_arrays({'present': present})}-{repeat}"
        self.arms.append(Arm(method, self.percent, self.pooled, query, name))
        seed = int(hash_json([ARMS_SEED, name])[:7], 16)
        self.retrains.setdefault(name, Retrain(name, "without", present, seed))


class _Cases:
    """One method's retrains at one share, against the random ones: each retrain
    is a case, over one clip or over all.
    """

    def __init__(self, bank: Bank, rows: Sequence[int], arms: Sequence[Arm], chance: Sequence[int]) -> None:
        self.rows = list(rows)
        self.reporting = bank.rows("reporting")
        place = {
            query.name: self.reporting.index(q) for q, query in enumerate(bank.queries) if q in self.reporting
        }
        self.own = [place.get(arm.query) for arm in arms]
        self.loss_mq = bank.loss_mqk[:, self.reporting].mean(axis=2, dtype=np.float64)
        heard = [q for q, query in enumerate(bank.queries) if query.heard]
        self.heard = {self.reporting.index(q): h for h, q in enumerate(heard) if q in self.reporting}
        self.distance_mhd = bank.distance_mhd
        self.chance = list(chance)
        # at random no clip is meant: every clip that others have retrains for is then read against the rest
        self.singly = sorted(self.heard) if arms[0].method == AT_RANDOM and not arms[0].pooled else []

    @property
    def clips(self) -> int:
        return len(self.singly) or (len(self.reporting) if self.own[0] is None else len(set(self.own)))

    def means(self) -> dict[str, float]:
        everyone = np.arange(len(self.reporting))
        return self._means(np.arange(len(self.rows)), partial(_without, self.chance), everyone, self.singly)

    def resampled(self) -> dict[str, np.ndarray]:
        """The same with cases, random arms and clips drawn anew; the same
        draws for methods with as many cases.
        """
        random = np.random.default_rng(ARMS_SEED)
        some = []
        for _ in range(RESAMPLES // 4):
            cases = random.integers(len(self.rows), size=len(self.rows))
            against = [self.chance[i] for i in random.integers(len(self.chance), size=len(self.chance))]
            clips = random.integers(len(self.reporting), size=len(self.reporting))
            singly = random.choice(self.singly, len(self.singly)).tolist() if self.singly else []
            some.append(self._means(cases, partial(_without, against), clips, singly))
        return {name: np.array([each[name] for each in some]) for name in some[0]}

    def _means(
        self, cases: np.ndarray, chance: Callable[[int], list[int]], clips: np.ndarray, singly: list[int]
    ) -> dict[str, float]:
        values: dict[str, list[float]] = {
            name: [] for name in ("rise", "control", "specific", "relative", *DISTANCES)
        }
        for case in cases:
            m, own = self.rows[case], self.own[case]
            against = chance(m)
            base_q = self.loss_mq[against].mean(axis=0)
            rise_q = self.loss_mq[m] - base_q
            single = [own] if own is not None else singly  # clips that are read against the others
            mine = np.array(single) if single else clips
            controls = []
            for one in single:
                others = [q for q in clips if q != one] or [q for q in range(len(self.reporting)) if q != one]
                controls.append(float(rise_q[others].mean()))
            control = float(np.mean(controls)) if controls else 0.0
            rise = float(rise_q[mine].mean())
            values["rise"].append(rise)
            values["control"].append(control)
            values["specific"].append(rise - control)
            values["relative"].append((rise - control) / float(base_q[mine].mean()))
            moved = [
                self.distance_mhd[m, self.heard[q]] - self.distance_mhd[against, self.heard[q]].mean(axis=0)
                for q in mine.tolist()
                if q in self.heard
            ]
            for d, name in enumerate(DISTANCES):
                values[name].append(float(np.mean([each[d] for each in moved])) if moved else np.nan)
        return {
            name: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for name, v in values.items()
        }


def _without(rows: list[int], m: int) -> list[int]:
    """The random arms a retrain is held against: a random arm is not held against itself."""
    return [row for row in rows if row != m] or rows
