"""What a method will cost, before it runs: counts of unit jobs x seconds of each, measured now on a few real segments.

A unit is one pass over one (segment, draw) pair, or one segment's decoding. Counts follow from the method's formulas and are
exact; seconds are this machine's, now.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from linernotes.curvature.per_item import linear_layers
from linernotes.evaluation.cost.units import seconds_of_units
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.mucs import ascend
from linernotes.models.training import read_checkpoints
from linernotes.settings.methods import MethodSettings

TENSOR_BYTES = 4
PILOT_RETAIN = 16


@dataclass(frozen=True)
class Work:
    """Counts of units, and bytes that are kept."""

    once: Mapping[str, float] = field(default_factory=dict)  # once per model and catalogue
    per_run: Mapping[str, float] = field(default_factory=dict)  # shared by all queries of a run
    per_query: Mapping[str, float] = field(default_factory=dict)
    disk_bytes: float = 0.0  # what is kept for the next query
    memory_bytes: float = 0.0  # beyond a running model
    memory_bytes_per_query: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a method will cost for a number of queries."""

    method: str
    queries: int
    once_s: float
    queries_s: float  # all of them, together
    once_forwards: float  # forward-equivalents: seconds over those of one forward pass
    query_forwards: float
    memory_mib: float
    disk_mib: float


def work_of(method: str, prepared: Prepared, settings: MethodSettings, query: Query) -> Work:
    """How much a method has to do on this model and catalogue; ``query`` stands for all queries."""
    s: Any = settings
    model, catalogue = prepared.model, prepared.catalogue
    n, n_train = len(prepared.rows), prepared.n_training
    parameters = model.layers(getattr(s, "layers", "all"))
    size = TENSOR_BYTES * sum(p.numel() for p in parameters.values())
    linears = linear_layers(model.denoiser, parameters.keys())
    sides = [(layer.in_features + (layer.bias is not None), layer.out_features) for layer in linears.values()]
    factors = TENSOR_BYTES * sum(i * i + o * o + i * o for i, o in sides)
    first_order = getattr(s, "score_by", "") == "first-order"
    base = {} if first_order else {"forward": n * getattr(s, "draws", 0)}
    shared = {"product": n * s.draws} if first_order else {}
    losses = TENSOR_BYTES * n * getattr(s, "draws", 0)
    curvature = {"covariance": n_train * getattr(s, "fisher_draws", 0), "value": n_train * getattr(s, "fisher_draws", 0)}
    if method == "abu":
        everything = TENSOR_BYTES * sum(p.numel() for p in model.layers("all").values())
        return Work(
            {**base, "square": n_train * s.fisher_draws}, shared, {"gradient": s.steps * s.gradient_draws, **base},
            everything + losses, 4 * everything, 2 * size,
        )  # fmt: skip
    if method == "abu-ekfac":
        step = {"gradient": s.steps * s.gradient_draws, **base}
        return Work({**base, **curvature}, shared, step, factors + losses, 4 * factors, 2 * size)
    if method == "mucs":
        pilot = s.model_copy(update={"retain_batch": PILOT_RETAIN})  # how far it is to the bound hardly depends on this
        _, taken = ascend(prepared, [query], pilot)
        steps = {"gradient": taken * (min(s.retain_batch, n_train) + s.gradient_draws)}
        return Work(base, shared, {**steps, **base}, losses, 0.0, 4 * size)
    if method == "forward-inf":
        return Work(base, shared, {"gradient": s.gradient_draws, **base}, losses, 0.0, 2 * size)
    if method in ("grad-dot", "grad-cos", "representer", "tracin"):
        times = 1 + len(read_checkpoints(prepared.model_folder) if method == "tracin" and prepared.model_folder else [])
        unit = "output product" if getattr(s, "layers", "all") == "output" else "product"
        return Work({}, {unit: times * n * s.draws}, {"gradient": times * s.gradient_draws}, 0.0, 0.0, 2 * size)
    if method == "ekfac":
        return Work(curvature, {"product": n * s.draws}, {"gradient": s.gradient_draws}, factors, 4 * factors, 2 * size)
    if method in ("trak", "d-trak", "das"):
        width = len(linears) * s.projection**2
        kept = TENSOR_BYTES * len(catalogue) * width
        solve = 1e-9 * (2 * n_train * width**2 + 2 / 3 * width**3)
        unit = "output projection" if method == "d-trak" else "projection"
        if method == "das":
            many = 2e-9 * len(catalogue) * width**2
            once = {"single projection": len(catalogue) * s.draws}
            return Work(once, {"gigaflop": s.draws * (solve + many)}, {"projection": s.draws}, s.draws * kept, 6 * kept, 0.0)
        return Work({unit: len(catalogue) * s.draws}, {"gigaflop": solve}, {unit: s.gradient_draws}, kept, 4 * kept, 0.0)
    if method in ("timbre", "tonal", "clap"):
        unit = "clap" if method == "clap" else "sound"
        return Work({unit: len(catalogue)}, {}, {unit: 1}, TENSOR_BYTES * len(catalogue) * 300)
    if method == "activations":
        return Work({}, {"activation": n * s.draws}, {})
    return Work()


def plan(method: str, prepared: Prepared, settings: MethodSettings, queries: int, query: Query) -> Plan:
    """What ``method`` will cost for ``queries`` queries, by counting its work and measuring its units now, on ``query``.

    Memory is the most this process has held (with the model, and the units just run) and what the method adds to it.
    """
    work = work_of(method, prepared, settings, query)
    counts = (work.once, work.per_run, work.per_query)
    seconds = seconds_of_units(prepared, settings, query, {"forward"}.union(*counts))

    def total(units: Mapping[str, float]) -> float:
        return sum(count * seconds[name] for name, count in units.items())

    once_s = total(work.once)
    queries_s = total(work.per_run) + queries * total(work.per_query)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Plan(
        method=method,
        queries=queries,
        once_s=once_s,
        queries_s=queries_s,
        once_forwards=once_s / seconds["forward"],
        query_forwards=queries_s / seconds["forward"],
        memory_mib=(held + work.memory_bytes + queries * work.memory_bytes_per_query) / 2**20,
        disk_mib=work.disk_bytes / 2**20,
    )
