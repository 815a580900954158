"""Leave-k-out: train again without the tracks a method puts first, and see what becomes of the clip, against leaving out as
many at random. A method that does not beat mere resemblance here has not shown that it sees inside the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linernotes.artefacts import hash_arrays
from linernotes.errors import LinernotesError, MissingError, UsageError
from linernotes.evaluation.bank.retraining import DISTANCES, Retrain
from linernotes.evaluation.bank.store import Bank, read_bank
from linernotes.evaluation.intervals import Interval, bootstrap_mean

COUNTERFACTUAL_FILE = "counterfactual.safetensors"
RANDOM = "at random"  # no method: what every method is held against
POOLED = "pooled"
RANDOM_DRAWS = 3
ARMS_SEED = 7


@dataclass(frozen=True)
class Arm:
    """One thing that is left out: by which method, how many percent of the catalogue, for which query (or pooled: for all)."""

    method: str
    percent: float
    query: str
    retrain: str  # the name of the retrain


@dataclass(frozen=True)
class Outcome:
    """What leaving out a method's first tracks does, over what leaving out as many random ones does; mean over queries."""

    method: str
    percent: float
    pooled: bool
    queries: int
    tracks: float  # left out, on average
    loss: Interval  # rise of the query's own loss over the random arms
    relative: Interval  # the same as a share of the query's loss in the random arms
    control: Interval  # rise of the other queries' losses over the random arms
    distances: dict[str, Interval]  # how much further than in the random arms the clip moved


def plan_arms(
    bank: Bank, scores: Mapping[str, np.ndarray], percents: Mapping[float, Sequence[str]], queries: Sequence[int]
) -> tuple[list[Arm], list[Retrain]]:
    """The retrains of per-query leave-k-out.

    Args:
        scores: by method, ``scores_qn`` of all of the bank's queries over its training tracks.
        percents: which methods at which share of the catalogue, in percent.
        queries: rows of the bank's queries.
    """
    arms: list[Arm] = []
    retrains: dict[str, Retrain] = {}
    n = len(bank.tracks)
    for percent, methods in percents.items():
        k = tracks_in(percent, n)
        for draw in range(RANDOM_DRAWS):
            left_out = np.random.default_rng([ARMS_SEED, k, draw]).permutation(n)[:k]
            _add(arms, retrains, left_out, n, RANDOM, percent, f"draw {draw}", seed=ARMS_SEED + draw)
        for method in methods:
            for q in queries:
                left_out = np.argsort(-scores[method][q], kind="stable")[:k]
                _add(arms, retrains, left_out, n, method, percent, bank.queries[q].name)
    return arms, list(retrains.values())


def plan_pooled(
    bank: Bank, scores: Mapping[str, np.ndarray], percent: float, queries: Sequence[int]
) -> tuple[list[Arm], list[Retrain]]:
    """The retrains of the pooled form: the union of all queries' first tracks is left out at once, as many for every method."""
    arms: list[Arm] = []
    retrains: dict[str, Retrain] = {}
    n = len(bank.tracks)
    k = tracks_in(percent, n)
    size = min(len({int(i) for q in queries for i in np.argsort(-s[q], kind="stable")[:k]}) for s in scores.values())
    for method, scores_qn in scores.items():
        places = np.argsort(np.argsort(-scores_qn[list(queries)], axis=1, kind="stable"), axis=1)
        left_out = np.argsort(places.min(axis=0), kind="stable")[:size]
        _add(arms, retrains, left_out, n, method, percent, POOLED)
    for draw in range(RANDOM_DRAWS):
        left_out = np.random.default_rng([ARMS_SEED, 10_000, draw]).permutation(n)[:size]
        _add(arms, retrains, left_out, n, RANDOM, percent, f"{POOLED} {draw}", seed=ARMS_SEED + draw)
    return arms, list(retrains.values())


def tracks_in(percent: float, n: int) -> int:
    """How many tracks that share of a catalogue is.

    Raises:
        UsageError: none, or more than half.
    """
    k = round(percent / 100 * n)
    if not 1 <= k <= n // 2:
        raise UsageError(f"{percent:g} % of {n} tracks is {k}: choose a share that leaves out at least one, at most half")
    return k


def measure_outcomes(bank: Bank, arms: Sequence[Arm]) -> list[Outcome]:
    """What became of the queries, from a bank that holds the arms' retrains."""
    row = {name: i for i, name in enumerate(bank.names)}
    if missing := [arm.retrain for arm in arms if arm.retrain not in row]:
        raise LinernotesError(f"{bank.path} lacks the retrain {missing[0]} and {len(missing) - 1} more: build it anew")
    place = {query.name: q for q, query in enumerate(bank.queries)}
    heard = [q for q, query in enumerate(bank.queries) if query.heard]
    loss_mq = bank.loss_mqk.mean(axis=2, dtype=np.float64)
    outcomes = []
    cases = dict.fromkeys((arm.method, arm.percent, arm.query.startswith(POOLED)) for arm in arms if arm.method != RANDOM)
    for method, percent, pooled in cases:
        own = [a for a in arms if (a.method, a.percent, a.query.startswith(POOLED)) == (method, percent, pooled)]
        chance = [
            row[a.retrain] for a in arms if (a.method, a.percent, a.query.startswith(POOLED)) == (RANDOM, percent, pooled)
        ]
        base_q = loss_mq[chance].mean(axis=0)
        still_hd = bank.distance_mhd[chance].mean(axis=0)
        rises, shares, controls = [], [], []
        further: list[np.ndarray] = []
        reporting = bank.rows("reporting")
        for arm in own:
            m = row[arm.retrain]
            for q in reporting if pooled else [place[arm.query]]:
                rises.append(loss_mq[m, q] - base_q[q])
                shares.append(rises[-1] / base_q[q])
                if q in heard:
                    further.append(bank.distance_mhd[m, heard.index(q)] - still_hd[heard.index(q)])
            others = [] if pooled else [q for q in reporting if q != place[arm.query]]
            controls += [loss_mq[m, q] - base_q[q] for q in others]
        moved = np.array(further).reshape(-1, len(DISTANCES))
        left_out = [(~bank.present_mn[row[a.retrain]]).sum() for a in own]
        outcomes.append(
            Outcome(
                method, percent, pooled, len(rises), float(np.mean(left_out)), bootstrap_mean(np.array(rises)),
                bootstrap_mean(np.array(shares)), bootstrap_mean(np.array(controls)),
                {name: bootstrap_mean(moved[:, i]) for i, name in enumerate(DISTANCES)},
            )
        )  # fmt: skip
    return outcomes


def _add(
    arms: list[Arm], retrains: dict[str, Retrain], left_out: np.ndarray, n: int, method: str, percent: float, query: str,
    seed: int = ARMS_SEED,
) -> None:  # fmt: skip
    """Adds an arm and its retrain; two arms that leave out the same tracks share one."""
    present = np.ones(n, dtype=bool)
    present[left_out] = False
    name = f"without-{hash_arrays({'present': present})}-{seed}"
    arms.append(Arm(method, percent, query, name))
    retrains.setdefault(name, Retrain(name, "without", present, seed))


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
