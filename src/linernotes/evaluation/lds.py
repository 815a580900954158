"""The linear datamodelling score: do a method's scores, summed over the tracks a retrained model saw, predict
how well it knows each query (Park et al. 2023, def. 2.5)? And the ceiling that even a perfect predictor
cannot pass, since a retrain is noisy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.store import LEAST_MODELS, Bank
from linernotes.evaluation.intervals import Interval, Resamples, bootstrap_correlations, interval, share
from linernotes.settings.verbs import Output

OUTPUTS: tuple[Output, ...] = ("loss", "prediction")


@dataclass(frozen=True)
class MethodLds:
    """One method's score: mean Spearman correlation over queries, with an
    interval over queries and models.
    """

    method: str
    lds: Interval
    of_ceiling: Interval  # as a share of the ceiling, both on the same resamples
    truncated: Interval | None  # when only the first ``kept`` tracks of each query count
    kept: int | None
    # the reference's LDS minus this one's, on the same resamples; None for the reference itself
    behind: Interval | None
    behind_truncated: Interval | None  # the reference's LDS minus this one's truncated form's
    by_kind: dict[str, float]
    drawn_b: np.ndarray  # the LDS in each resample, which are the same for all methods of a bank


@dataclass(frozen=True)
class MeasuredLds:
    """The LDS of several methods on one bank."""

    output: Output
    split: str
    queries: int
    models: int
    seeds: float  # models that the outcome of a half is the mean of (harmonic mean over halves)
    seed_correlation: Interval  # of two seeds' outputs over the same halves
    ceiling: Interval  # the correlation of a perfect predictor of the expected output with that mean
    reference: str  # the method that all are compared with
    within: str  # the column whose counts are taken out, or ""
    methods: list[MethodLds]


def outputs_mq(bank: Bank, output: Output) -> np.ndarray:
    """What a retrain is asked: the queries' losses, or how far its predictions are from the first model's;
    mean over draws.

    Raises:
        LinernotesError: they predict nothing that could have moved.
    """
    if output == "prediction" and not predicts(bank):
        raise LinernotesError(
            f"the models of {bank.path} predict no target, so only their losses can be asked for: leave out "
            "--output"
        )
    return (bank.loss_mqk if output == "loss" else bank.change_mqk).mean(axis=2, dtype=np.float64)


def predicts(bank: Bank) -> bool:
    """Whether the bank knows how far its models' predictions moved."""
    return bool(np.isfinite(bank.change_mqk).all())


def measure_lds(
    bank: Bank,
    scores: Mapping[str, np.ndarray],
    split: str = "reporting",
    output: Output = "loss",
    reference: str = "",
    within: tuple[str, Mapping[str, np.ndarray]] | None = None,
    kept: Mapping[str, int] | None = None,
    seed: int = 0,
) -> MeasuredLds:
    """The LDS of methods, best first.

    Args:
        scores: by method, ``scores_qn`` [queries, training tracks] of all of the bank's queries, in its
            order.
        split: which queries count.
        reference: the method that the others are compared with; the best if it is not among them (which
            flatters it).
        within: a column of the catalogue and, by its values, which training tracks have them. What a linear
            function of *how many* tracks of each a model saw explains is taken out of outcomes and
            predictions: the partial correlation. What is left is which of them it saw.
        kept: how many tracks a method's truncated scores keep. If None it is chosen on the queries for
            tuning; where there are none, or these are what counts, there is no truncated form.

    Raises:
        LinernotesError: too few models or queries for an interval.
        UsageError: a column with so many values that their counts would explain anything.
    """
    halves, runs, rows = bank.which("half"), bank.runs(), bank.rows(split)
    _require_enough(bank, split)
    out_mq, seen_mn = outputs_mq(bank, output), bank.present_mn.astype(np.float64)
    if within:
        counts_mg = seen_mn @ np.stack(list(within[1].values()), axis=1)
        _require_few(within, halves)
        out_mq, seen_mn = (without_counts(values, counts_mg, halves) for values in (out_mq, seen_mn))
    resamples = Resamples.draw(len(halves), len(rows), seed)
    value, drawn = _seed_correlation(out_mq[:, rows], runs, resamples)
    seed_correlation = interval(value, drawn)
    seeds = 1 / np.mean([1 / len(run) for run in runs])
    top, top_drawn = ceiling_of_mean(np.array(value), float(seeds)), ceiling_of_mean(drawn, float(seeds))
    ceiling = interval(float(top), top_drawn)

    target_qm = _ranks(-np.stack([out_mq[run].mean(axis=0) for run in runs], axis=1))
    present_mn = seen_mn[halves]
    names = list(scores)
    tuning = bank.rows("tuning") if split == "reporting" else []
    if kept is None and tuning:
        kept = {name: choose_kept(scores[name][tuning], present_mn, target_qm[tuning]) for name in names}
    kept = kept or {}
    predicted = {name: _ranks(_predicted(scores[name][rows], present_mn)) for name in names}
    short = {n: _ranks(_predicted(truncated(scores[n][rows], kept[n]), present_mn)) for n in kept}
    plain_values, plain_drawn = bootstrap_correlations(
        [(predicted[n], target_qm[rows]) for n in names], resamples
    )
    order = np.argsort(-plain_values, kind="stable")
    short_values, short_drawn = (
        bootstrap_correlations([(short[n], target_qm[rows]) for n in names], resamples)
        if kept
        else (plain_values, plain_drawn)
    )
    first = names.index(reference) if reference in names else int(order[0])
    kinds = [bank.queries[q].kind for q in rows]
    methods = []
    for i in order:
        each_q = spearman_q(predicted[names[i]], target_qm[rows])
        methods.append(
            MethodLds(
                method=names[i],
                lds=interval(plain_values[i], plain_drawn[i]),
                of_ceiling=interval(  # of a ceiling of nothing any LDS is boundlessly much
                    float(share(plain_values[i], top)),
                    share(plain_drawn[i], top_drawn, np.where(plain_drawn[i] < 0, -np.inf, np.inf)),
                ),
                truncated=interval(short_values[i], short_drawn[i]) if kept else None,
                kept=kept.get(names[i]),
                behind=interval(plain_values[first] - plain_values[i], plain_drawn[first] - plain_drawn[i])
                if i != first
                else None,
                behind_truncated=interval(
                    plain_values[first] - short_values[i], plain_drawn[first] - short_drawn[i]
                )
                if kept and i != first
                else None,
                by_kind={
                    kind: float(each_q[[k == kind for k in kinds]].mean()) for kind in dict.fromkeys(kinds)
                },
                drawn_b=plain_drawn[i],
            )
        )
    return MeasuredLds(
        output=output,
        split=split,
        queries=len(rows),
        models=len(halves),
        seeds=float(seeds),
        seed_correlation=seed_correlation,
        ceiling=ceiling,
        reference=names[first],
        within=within[0] if within else "",
        methods=methods,
    )


def _require_enough(bank: Bank, split: str) -> None:
    """Refuses a bank of too few models or queries for an interval."""
    halves, rows = bank.which("half"), bank.rows(split)
    twice = sum(len(run) > 1 for run in bank.runs())
    if len(halves) < LEAST_MODELS or twice < 2:
        raise LinernotesError(
            f"{bank.path} holds {len(halves)} halves and {twice} of them a second time, too few for an "
            f"interval: build it with at least {LEAST_MODELS} and 2"
        )
    if len(rows) < 2:
        raise LinernotesError(
            f"{bank.path} holds {len(rows)} queries for {split}, too few for an interval: add prompts"
        )


def _require_few(within: tuple[str, Mapping[str, np.ndarray]], halves: np.ndarray) -> None:
    """Refuses to take out a column with so many values that their counts would explain anything."""
    if len(within[1]) > len(halves) // 3:
        raise UsageError(
            f"{within[0]} has {len(within[1])} values, too many to take out of {len(halves)} models: "
            f"choose a column with at most {len(halves) // 3}"
        )


def ceiling_of_mean(correlation: np.ndarray, seeds: float) -> np.ndarray:
    """The correlation of a perfect predictor with a mean over ``seeds`` runs, of which two
    correlate so (Spearman-Brown): the root of S r / (1 + (S - 1) r). Halves of different
    numbers of runs count by their harmonic mean.
    """
    r = np.maximum(correlation, 0)
    return np.sqrt(seeds * r / (1 + (seeds - 1) * r))


def _seed_correlation(
    out_mq: np.ndarray, runs: list[list[int]], resamples: Resamples
) -> tuple[float, np.ndarray]:
    """How well two seeds agree on the halves that both were trained on, mean over
    all pairs of seeds; and its resamples.
    """
    pairs = [(a, b) for b in range(1, max(len(run) for run in runs)) for a in range(b)]
    values, drawn, weights = [], [], []
    for a, b in pairs:
        both = np.array([i for i, run in enumerate(runs) if len(run) > b])
        one_qm, other_qm = (_ranks(out_mq[[runs[i][seed] for i in both]].T) for seed in (a, b))
        found, resampled = bootstrap_correlations([(one_qm, other_qm)], resamples.of_models(both))
        values.append(found[0])
        drawn.append(resampled[0])
        weights.append(len(both))
    return float(np.average(values, weights=weights)), np.average(drawn, axis=0, weights=weights)


def without_counts(values_mx: np.ndarray, counts_mg: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """What is left of models' values when the best linear function of their counts, fitted on some of them,
    is taken out.
    """
    known_mg = np.column_stack([np.ones(len(counts_mg)), counts_mg])
    return values_mx - known_mg @ (np.linalg.pinv(known_mg[fitted_on]) @ values_mx[fitted_on])


def spearman_q(x_qm: np.ndarray, y_qm: np.ndarray) -> np.ndarray:
    """Correlation of ranks over models, of each query."""
    x, y = _ranks(x_qm), _ranks(y_qm)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    product = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(product > 0, (x * y).sum(axis=1) / np.maximum(product, 1e-12), 0.0)


def truncated(scores_qn: np.ndarray, kept: int) -> np.ndarray:
    """Only the first ``kept`` tracks of each query count, by how far they stand above the next one."""
    if kept >= scores_qn.shape[1]:
        return scores_qn
    edge_q = -np.partition(-scores_qn, kept, axis=1)[:, kept]
    return np.maximum(scores_qn - edge_q[:, None], 0)


def choose_kept(scores_qn: np.ndarray, present_mn: np.ndarray, target_qm: np.ndarray) -> int:
    """How many tracks a truncated score keeps, where that serves best on queries that are not reported on."""
    n = scores_qn.shape[1]
    choices = [k for k in (1, 2, 3, 5, 8, 12, 18, 25, 35, 50, 75, 100, 150, 250) if k < n]
    return choices[
        int(np.argmax([predicted_mean(truncated(scores_qn, k), present_mn, target_qm) for k in choices]))
    ]


def predicted_mean(scores_qn: np.ndarray, present_mn: np.ndarray, target_qm: np.ndarray) -> float:
    """The LDS itself: mean over queries of the rank correlation of summed scores and targets."""
    return float(spearman_q(_predicted(scores_qn, present_mn), target_qm).mean())


def _predicted(scores_qn: np.ndarray, present_mn: np.ndarray) -> np.ndarray:
    return scores_qn.astype(np.float64) @ present_mn.T.astype(np.float64)


def _ranks(values: np.ndarray) -> np.ndarray:
    return rankdata(values, axis=1)
