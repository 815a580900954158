"""The paper's grid search as a tool: any settings of any method, by any metric, through Optuna; a killed
search goes on.

A search lives in a folder: ``trials.db`` (Optuna's own SQLite storage, which its dashboard opens),
``trials.parquet``, ``best.toml`` (what ``attribute --settings`` takes).
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from linernotes.artefacts import hash_json, replacing, write_parquet
from linernotes.attribution.query import segment_query
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.scores import of_training_tracks
from linernotes.evaluation.bank.store import LEAST_MODELS, Bank
from linernotes.evaluation.lds import choose_kept, outputs_mq, predicted_mean, truncated
from linernotes.evaluation.self_influence import choose_segments, rank_of
from linernotes.methods.all import score
from linernotes.methods.contract import Prepared, Query
from linernotes.settings.methods import MethodSettings
from linernotes.settings.reading import checked, settings_of
from linernotes.settings.verbs import Sampler


@dataclass(frozen=True)
class Metric:
    """What a search tries to make small or large, measured with one method and one choice of settings."""

    direction: str  # Optuna's: "minimize" or "maximize"
    unit: str
    # the first value is the metric, the rest are noted
    measure: Callable[[str, MethodSettings, Path], dict[str, float]]
    # what a search must share with the one it goes on from
    made_from: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One choice of settings and what was measured; ``failed`` says why there is nothing."""

    number: int
    chosen: dict[str, Any]
    values: dict[str, float]
    seconds: float
    failed: str = ""


@dataclass(frozen=True)
class Search:
    """A finished search, best trial first; trials that failed come last."""

    method: str
    metric: str
    unit: str
    grid: dict[str, list[Any]]
    trials: list[Trial]


def self_influence_metric(prepared: Prepared, segments: int, candidates: int, seed: int) -> Metric:
    """Mean rank of a training segment's own track among ``candidates`` segments (1 is best), over
    ``segments`` segments chosen by clustering; beside it the share that come first, and ``harm``: the score
    of the median candidate, for unlearning how much worse the copies get at tracks that have nothing to do
    with the query.
    """
    catalogue = prepared.catalogue
    own = choose_segments(catalogue, segments, seed)
    others = np.setdiff1d(catalogue.training_rows, own)
    if candidates < segments:
        raise UsageError(
            f"--candidates {candidates} is fewer than --segments {segments}: rank among at least as many"
        )
    more = np.random.default_rng(seed).permutation(others)[: candidates - segments]
    some = replace(prepared, only=tuple(int(row) for row in np.concatenate([own, more])))
    queries = [segment_query(catalogue, int(row)) for row in own]

    def measure(method: str, settings: MethodSettings, folder: Path) -> dict[str, float]:
        scores_qn = score(method, some, queries, settings, folder).scores_qn
        ranks = np.array([rank_of(q, scores_n) for q, scores_n in enumerate(scores_qn)])
        return {
            "mean_rank": float(ranks.mean()),
            "first": float((ranks == 1).mean()),
            "harm": float(np.median(scores_qn)),
        }

    made_from = {"model": prepared.model.weights_hash, "catalogue": catalogue.hash, "segments": segments}
    if prepared.drawn == "tracks":
        made_from["drawn"] = prepared.drawn
    return Metric("minimize", f"mean rank among {len(some.rows)} segments", measure, made_from)


def lds_metric(prepared: Prepared, bank: Bank, clips: Sequence[Query]) -> Metric:
    """Mean LDS over the bank's tuning clips, plain and, as ``truncated``, with only
    the first tracks of each clip counting.

    Args:
        clips: all of the bank's, in its order.
    """
    rows, halves = bank.rows("tuning"), bank.which("half")
    if not rows or len(halves) < LEAST_MODELS:
        raise UsageError(
            f"{bank.path} has {len(rows)} tuning clips and {len(halves)} halves, too few to choose settings "
            "by"
        )
    catalogue = prepared.catalogue
    target_qm = -outputs_mq(bank, "loss")[halves].T[rows]
    present_mn = bank.present_mn[halves]

    def measure(method: str, settings: MethodSettings, folder: Path) -> dict[str, float]:
        scores_qs = score(method, prepared, [clips[q] for q in rows], settings, folder).scores_qn
        gather = prepared.gatherer(settings.gather)
        scores_qt = np.stack([gather.of(scores_n) for scores_n in scores_qs])
        scores_qn = of_training_tracks(scores_qt, bank, catalogue)
        kept = choose_kept(scores_qn, present_mn, target_qm)
        plain, short = (
            predicted_mean(s, present_mn, target_qm) for s in (scores_qn, truncated(scores_qn, kept))
        )
        return {"lds": plain, "truncated": short, "kept": float(kept)}

    made_from = {
        "model": prepared.model.weights_hash,
        "catalogue": catalogue.hash,
        "clips": bank.header["clips"],
    }
    if prepared.drawn == "tracks":
        made_from["drawn"] = prepared.drawn
    if len(catalogue) > len(catalogue.tracks):
        made_from["gather"] = "norm"  # as methods of losses do it since they do not add up
    return Metric("maximize", f"LDS, {len(rows)} tuning clips, {len(halves)} models", measure, made_from)


def read_grid(method: str, lines: Sequence[str], fixed: Collection[str] = ()) -> dict[str, list[Any]]:
    """``["layers=mlp,all", "step_size=1e-4,1e-3"]`` -> values by setting, each
    checked against the method's settings.

    Raises:
        UsageError: nothing to search, an unknown setting, a value out of range.
    """
    kind = settings_of(method)
    known = f"the settings of {method} are {', '.join(kind.model_fields)}"
    grid: dict[str, list[Any]] = {}
    for line in lines:
        name, equals, values = line.partition("=")
        name = name.strip().replace("-", "_")
        named = [value.strip() for value in values.split(",") if value.strip()]
        if name in grid:
            raise UsageError(f"--grid {line!r} names {name} a second time: put all its values into one")
        if name in fixed:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} stands beside --grid {line!r}: leave out one of them")
        if name == "together":
            raise UsageError(f"--grid {line!r} is refused: a search looks at clips one by one")
        if not equals or not named:
            raise UsageError(f"--grid {line!r} names no values: write --grid SETTING=VALUE,VALUE; {known}")
        values_of_it = [checked(kind, {name: value}, f" for {method}").model_dump()[name] for value in named]
        grid[name] = list(dict.fromkeys(values_of_it))
    if not grid:
        raise UsageError(f"the grid is empty: write at least one --grid SETTING=VALUE,VALUE; {known}")
    return grid


def search(
    method: str,
    grid: Mapping[str, list[Any]],
    fixed: Mapping[str, Any],
    metric_name: str,
    metric: Metric,
    sampler: Sampler,
    trials: int | None,
    folder: Path,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Search:
    """Measures all of a grid (``grid``), or as many choices as ``trials`` says, picked by a tree-structured
    Parzen estimator (``tpe``) from the grid's values, numbers between their least and greatest.

    Args:
        fixed: settings that are the same in every trial.

    Raises:
        UsageError: ``folder`` holds another search.
        LinernotesError: every trial failed; the first one's reason.
    """
    kind = settings_of(method)
    seed = int(fixed.get("seed", 0))
    choices = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    np.random.default_rng(seed).shuffle(choices)  # type: ignore[arg-type]
    count = min(trials or len(choices), len(choices)) if sampler == "grid" else trials or len(choices)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / 'trials.db').resolve()}",
        study_name="linernotes",
        load_if_exists=True,
        direction=metric.direction,
    )
    made_from = {
        "method": method,
        "grid": dict(grid),
        "fixed": dict(fixed),
        "metric": metric_name,
        "unit": metric.unit,
    }
    made_from |= {"sampler": sampler, **metric.made_from}
    known = study.user_attrs.get("search")
    if known is not None and known != hash_json(made_from):
        raise UsageError(
            f"{folder} holds another search: give another folder, or the same model, method, grid, metric, "
            "sampler"
        )
    study.set_user_attr("search", hash_json(made_from))

    def finished() -> list[optuna.trial.FrozenTrial]:
        done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return [trial for trial in study.trials if trial.state in done]

    def objective(trial: optuna.Trial) -> float:
        suggest = _one_of if sampler == "grid" else _between
        chosen = {name: suggest(trial, name, values) for name, values in grid.items()}
        trial.set_user_attr("chosen", chosen)
        start = time.perf_counter()
        work = folder / f".trial-{hash_json(chosen)}"
        try:
            values = metric.measure(method, checked(kind, {**fixed, **chosen}, f" for {method}"), work)
        except LinernotesError as error:
            trial.set_user_attr("failed", str(error))
            raise optuna.TrialPruned(str(error)) from None
        finally:
            trial.set_user_attr("seconds", time.perf_counter() - start)
            shutil.rmtree(work, ignore_errors=True)
        trial.set_user_attr("values", values)
        return next(iter(values.values()))

    while len(done := finished()) < count:
        if on_progress:
            on_progress("trials", len(done), count)
        if sampler == "grid":  # named one by one: Optuna's own grid counts an interrupted trial as done
            tried = [trial.user_attrs.get("chosen") for trial in done]
            study.enqueue_trial(next(choice for choice in choices if choice not in tried))
        # random numbers of its own for every trial, so that a search that goes on does not repeat its first
        # ones
        else:
            study.sampler = optuna.samplers.TPESampler(seed=seed + len(done))
        study.optimize(objective, n_trials=1)
    if on_progress:
        on_progress("trials", count, count)
    found = Search(method, metric_name, metric.unit, dict(grid), _sorted(finished(), metric.direction))
    if not any(trial.values for trial in found.trials):
        raise LinernotesError(
            f"all {len(found.trials)} trials failed, the first because {found.trials[0].failed}"
        )
    _write(found, fixed, kind, folder)
    return found


def _one_of(trial: optuna.Trial, name: str, values: list[Any]) -> Any:
    return trial.suggest_categorical(name, values)


def _between(trial: optuna.Trial, name: str, values: list[Any]) -> Any:
    if all(isinstance(v, float) for v in values) and len(values) > 1:
        return trial.suggest_float(name, min(values), max(values), log=min(values) > 0)
    if all(isinstance(v, int) and not isinstance(v, bool) for v in values) and len(values) > 1:
        return trial.suggest_int(name, min(values), max(values))
    return trial.suggest_categorical(name, values)


def _sorted(done: list[optuna.trial.FrozenTrial], direction: str) -> list[Trial]:
    trials = [
        Trial(t.number, a["chosen"], a.get("values", {}), a.get("seconds", 0.0), a.get("failed", ""))
        for t, a in ((trial, trial.user_attrs) for trial in done)
        if "chosen" in a
    ]
    sign = 1 if direction == "minimize" else -1
    return sorted(
        trials,
        key=lambda t: (
            sign * next(iter(t.values.values())) if t.values else math.inf,
            t.values.get("harm", 0),
        ),
    )


def _write(found: Search, fixed: Mapping[str, Any], kind: type[MethodSettings], folder: Path) -> None:
    rows = [
        {**t.chosen, **t.values, "seconds": t.seconds, "failed": t.failed, "trial": t.number}
        for t in found.trials
    ]
    write_parquet(
        folder / "trials.parquet", rows, {"method": found.method, "metric": found.metric, "unit": found.unit}
    )
    if found.trials and found.trials[0].values:
        best = checked(kind, {**fixed, **found.trials[0].chosen})
        write_settings(folder / "best.toml", found.method, best.model_dump())


def write_settings(path: Path, method: str, values: dict[str, Any]) -> None:
    """Settings as TOML that ``attribute --settings`` takes."""
    lines = [
        f"method = {json.dumps(method)}",
        *(f"{name} = {json.dumps(value)}" for name, value in values.items()),
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
