"""What a method will cost, before it runs: counts of unit jobs x seconds of
each, measured now on a few real segments.

A unit is one pass over one (segment, draw) pair, or one segment's decoding. Counts follow from the method's
formulas and are exact; seconds are this machine's, now.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from linernotes.attribution.query import heard_rows, segment_query
from linernotes.attribution.shortlisting import expected_segments
from linernotes.errors import LinernotesError, LinernotesWarning, UsageError
from linernotes.evaluation.cost.units import seconds_of_units
from linernotes.methods.all import METHODS, with_room
from linernotes.methods.contract import Prepared, Progress, Query
from linernotes.models.workers import at_once
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import MethodSettings

# units of passes over the catalogue, which workers share; what is done once is counted as done here
SWEPT = {
    "forward",
    "product",
    "output product",
    "projection",
    "single projection",
    "output projection",
    "activation",
}


@dataclass(frozen=True)
class Plan:
    """What a method will cost for a number of queries."""

    method: str
    queries: int
    workers: int  # that passes over the catalogue are shared among
    segments: int  # that are scored exactly: all, or of a shortlist and its audit
    once_s: float
    queries_s: float  # all of them, together
    once_forwards: float  # forward-equivalents: seconds over those of one forward pass
    query_forwards: float
    memory_mib: float
    disk_mib: float


def plan(
    method: str,
    prepared: Prepared,
    settings: MethodSettings,
    queries: int,
    query: Query,
    engine: EngineSettings | None = None,
) -> Plan:
    """What ``method`` will cost for ``queries`` queries, by counting its work and
    measuring its units now, on ``query``.

    Memory is the most this process holds, with the model, while it runs the
    units, and what the method adds to it. Workers elsewhere are taken to be as
    quick as this machine's cores, or its GPU; their start is not counted.

    Raises:
        UsageError: ``engine`` does not say how many workers.
        LinernotesError: memory does not hold the passes.
    """
    workers, here = workers_of(prepared, engine or EngineSettings())
    settings = with_room(method, prepared, settings, [query], queries)
    forget_peak()
    if not prepared.model.random:
        counts_of_draws = {"draws", "gradient_draws"} & type(settings).model_fields.keys()
        settings = settings.model_copy(update=dict.fromkeys(counts_of_draws, 1))
    work = METHODS[method].work(prepared, settings, query)
    counts = (work.once, work.per_run, work.per_query)
    seconds = seconds_of_units(prepared, settings, query, {"forward"}.union(*counts))

    def total(units: Mapping[str, float], share: float = 1.0) -> float:
        """Seconds, of which passes over the catalogue take a ``share``."""
        return sum(count * seconds[name] * (share if name in SWEPT else 1) for name, count in units.items())

    once_s = total(work.once)
    share = here / workers
    queries_s = total(work.per_run, share) + queries * total(work.per_query, share)
    queries_here_s = total(work.per_run) + queries * total(work.per_query)
    return Plan(
        method=method,
        queries=queries,
        workers=workers,
        segments=len(prepared.rows),
        once_s=once_s,
        queries_s=queries_s,
        once_forwards=once_s / seconds["forward"],
        query_forwards=queries_here_s / seconds["forward"],
        memory_mib=(held_bytes() + work.memory_bytes + queries * work.memory_bytes_per_query) / 2**20,
        disk_mib=work.disk_bytes / 2**20,
    )


def plan_methods(
    chosen: Mapping[str, MethodSettings],
    prepared_for: Callable[[str], Prepared],
    queries: int,
    on_progress: Progress | None = None,
    engine: EngineSettings | None = None,
) -> list[Plan]:
    """What each of some methods will cost, measured on a segment of the catalogue.

    Args:
        prepared_for: model and catalogue, with what a method takes shortlists from.

    Raises:
        LinernotesError: memory does not hold the passes of the only one, or of any; of some of several, a
            warning says so.
    """
    plans: list[Plan] = []
    for i, (name, settings) in enumerate(chosen.items()):
        if on_progress:
            on_progress(f"measuring ({name})", i, len(chosen))
        prepared = prepared_for(name)
        query = segment_query(prepared.catalogue, int(heard_rows(prepared.catalogue, 1)[0]))
        only = tuple(range(expected_segments(prepared, queries))) if prepared.index else None
        try:
            plans.append(plan(name, replace(prepared, only=only), settings, queries, query, engine))
        except LinernotesError as error:
            if isinstance(error, UsageError) or (not plans and name == [*chosen][-1]):
                raise
            warnings.warn(f"{name} is not planned: {error}", LinernotesWarning, stacklevel=2)
    if on_progress:
        on_progress("measuring", len(chosen), len(chosen))
    return plans


def workers_of(prepared: Prepared, engine: EngineSettings) -> tuple[int, int]:
    """The workers of an engine, and how many of them this process, which measures, is worth."""
    here = at_once(prepared.model)
    if engine.engine == "ray" and not engine.workers:
        raise UsageError("--engine ray has as many workers as the cluster: say how many with --workers")
    return engine.workers or here, here


def forget_peak() -> None:
    """Gives free memory back and counts this process's peak from now on, so that what ran before is not taken
    for a method's own, nor for a child's: Linux hands the peak on to it. On other systems nothing happens:
    figures may then be too high.
    """
    if sys.platform != "linux":
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim:
        trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak is set to what is held now


def held_bytes() -> int:
    """The most that this process has held since ``forget_peak``."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
