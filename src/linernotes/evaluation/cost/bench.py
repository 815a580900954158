"""What attribution costs, as ratios within one run: machines differ and are shared, so seconds alone mean
little.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from linernotes.catalog.store import Catalogue
from linernotes.draws import random_for
from linernotes.errors import LinernotesError
from linernotes.evaluation.cost.planning import Plan, forget_peak
from linernotes.losses import DEFAULT_BATCH, item_losses, items_of
from linernotes.methods.contract import Progress
from linernotes.models.contract import PredictingModel, device_of
from linernotes.settings.methods import METHOD_SETTINGS

# unasked for are only the last five: the first is a part of one of them, the second takes an hour and 15 GB
BENCHES = ("query", "scale", "sweep", "ingest", "demo", "queries", "methods")
UNASKED = BENCHES[2:]
PROMPTS = [
    f"{what} for {instrument}, {tempo}, {metre} time"
    for what, instrument, tempo, metre in [
        ("a reel in D major", "violin", "fast", "2/2"),
        ("a jig in G major", "flute", "lively", "6/8"),
        ("a chorale in G major", "church organ", "slow", "4/4"),
        ("an air in A minor", "guitar", "slow", "4/4"),
        ("a hornpipe in D major", "accordion", "steady", "4/4"),
        ("a waltz in G major", "piano", "lively", "3/4"),
        ("a march in D major", "trumpet", "steady", "2/4"),
        ("a slip jig in E minor", "clarinet", "fast", "9/8"),
    ]
]
EVERYTHING = ("--exhaustive",)  # the whole catalogue, not a shortlist
METHOD_DRAWS = 2  # of every method that has draws: cost goes with them


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    repeats: int
    sweep_segments: int
    singles: int  # single runs that stand for all
    prompts: int  # clips that are attributed at once
    flags: tuple[str, ...]  # of every attribution
    ingest_tracks: int | None  # all if None
    real: tuple[int, ...]  # segments of the parts of a catalogue
    made_up: tuple[int, ...]  # vectors
    every_up_to: int  # segments of a catalogue that is scored exactly throughout, too


FULL = Extent(
    repeats=5,
    sweep_segments=128,
    singles=3,
    prompts=len(PROMPTS),
    flags=(),
    ingest_tracks=None,
    real=(1_000, 10_000),
    made_up=(100_000, 1_000_000, 10_000_000),
    every_up_to=20_000,
)
# does it still run? its figures mean nothing
QUICK = Extent(
    repeats=1,
    sweep_segments=32,
    singles=1,
    prompts=2,
    flags=("--draws", "1", "--gradient-draws", "8"),
    ingest_tracks=16,
    real=(64,),
    made_up=(10_000, 20_000),
    every_up_to=100,
)


def seconds_of(job: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def sweep_overhead(
    model: PredictingModel,
    catalogue: Catalogue,
    draws: int,
    batch_size: int = DEFAULT_BATCH,
    extent: Extent = FULL,
) -> dict[str, float]:
    """Time of a sweep over that of the bare forward passes it needs, on the same segments, taken in turns.

    The bare passes get tensors that lie ready: no data is read, no loss is formed and nothing is written.
    """
    rows = catalogue.training_rows[: extent.sweep_segments]
    drawn = model.draw(draws, random_for("noise bank", 0))
    repeated = torch.arange(batch_size) % len(rows)
    items = items_of(model, catalogue, rows)[repeated.to(device_of(model))]
    some = model.draw(batch_size, random_for("bench", 0)).to(device_of(model))
    passes = len(rows) * draws // batch_size

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(passes):
                model.prediction(items, some)
        if device_of(model).type == "cuda":
            torch.cuda.synchronize()

    def sweep() -> None:
        with tempfile.TemporaryDirectory() as folder:
            item_losses(model, catalogue, drawn, {"base": {}}, Path(folder), rows, batch_size)

    bare()
    pairs = [(seconds_of(sweep), seconds_of(bare)) for _ in range(extent.repeats)]
    forwards = passes * batch_size
    return {
        "sweep_over_bare_forwards": statistics.median(s / b for s, b in pairs),
        "sweep_ms_per_forward": 1000 * statistics.median(s for s, _ in pairs) / forwards,
    }


def command_seconds(*arguments: str, cache: Path) -> tuple[float, float]:
    """Wall-clock seconds and peak memory in MiB of one run of the command line, start-up included.

    Raises:
        LinernotesError: the command failed.
    """
    forget_peak()
    start = time.perf_counter()
    environment = {**os.environ, "LINERNOTES_CACHE": str(cache)}
    command = [sys.executable, "-m", "linernotes", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            last = said.read().strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise LinernotesError(f"'linernotes {' '.join(arguments)}' failed ({last[0]}): run it by hand")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def query_costs(
    cache: Path, together: bool, on_progress: Progress | None = None, extent: Extent = FULL
) -> dict[str, float]:
    """Seconds of attributing one query over the whole built-in catalogue, by the command line with its
    defaults, when what is computed once per model is there; and, if ``together``, of eight queries at once,
    against eight times the median of three single runs.
    """
    report = on_progress or (lambda what, done, total: None)
    with tempfile.TemporaryDirectory() as folder:
        clips = []
        for i, prompt in enumerate(PROMPTS[: extent.prompts if together else 1]):
            clips.append(str(Path(folder, f"clip{i}.flac")))
            command_seconds("generate", "--prompt", prompt, "--seed", str(i), "-o", clips[-1], cache=cache)
        first_s, _ = command_seconds(
            "attribute", clips[0], *EVERYTHING, *extent.flags, "-o", f"{folder}/first", cache=cache
        )
        singles = []
        for i, clip in enumerate(clips[: extent.singles]):
            seconds, memory = command_seconds(
                "attribute", clip, *EVERYTHING, *extent.flags, "-o", f"{folder}/single{i}", cache=cache
            )
            singles.append(seconds)
            report("single queries", i + 1, extent.singles)
        figures = {
            "first_query_s": first_s,  # if the cache was empty: with what is computed once per model
            "query_s": statistics.median(singles),
            "query_peak_mib": memory,
        }
        if together:
            all_s, all_memory = command_seconds(
                "attribute", *clips, *EVERYTHING, *extent.flags, "-o", f"{folder}/together", cache=cache
            )
            figures |= {
                "eight_queries_s": all_s,
                "eight_queries_over_eight_single": all_s / (len(clips) * statistics.median(singles)),
                "eight_queries_peak_mib": all_memory,
            }
    return figures


def ingest_speed(source: Path, cache: Path) -> dict[str, float]:
    """Seconds of sound that ``catalog build`` takes in per second, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = command_seconds(
            "catalog", "build", str(source), "-o", f"{folder}/catalogue", cache=cache
        )
        heard = float(Catalogue(Path(folder, "catalogue")).seconds_n.sum())
    return {"ingest_sound_s": heard, "ingest_times_real_time": heard / seconds}


def demo_cost() -> dict[str, float]:
    """Seconds and peak memory of ``linernotes demo`` with nothing computed beforehand."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory = command_seconds("demo", "-o", f"{folder}/out", cache=Path(folder, "cache"))
    return {"demo_s": seconds, "demo_peak_mib": memory}


@dataclass(frozen=True)
class MethodCost:
    """What one query cost by one method, through the command line, start-up and report taken off."""

    method: str
    once_s: float  # first query less second
    query_s: float
    planned_once_s: float  # what ``linernotes plan`` said in this same run
    planned_query_s: float
    peak_mib: float
    planned_mib: float
    disk_mib: float  # what is kept for the next query
    planned_disk_mib: float


def method_costs(
    methods: Sequence[str], planned_for: Callable[[str], Plan], on_progress: Progress | None = None
) -> list[MethodCost]:
    """Every method on the built-in model and catalogue, each with an empty cache at first, ``METHOD_DRAWS``
    draws; held against what ``planned_for`` it says just before.
    """
    report = on_progress or (lambda what, done, total: None)
    costs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = [str(folder / f"clip{i}.flac") for i in range(2)]
        for i, clip in enumerate(clips):
            command_seconds("generate", "--prompt", PROMPTS[i], "--seed", str(i), "-o", clip, cache=folder)
        start_s = min(_attribute("random", clip, folder / "start")[0] for clip in clips)
        for i, method in enumerate(methods):
            report(f"methods ({method})", i, len(methods))
            planned, cache = planned_for(method), folder / method
            first_s, first_mib = _attribute(method, clips[0], cache)
            kept = sum(path.stat().st_size for path in cache.rglob("*.safetensors"))
            second_s, second_mib = _attribute(method, clips[1], cache) if kept else (first_s, first_mib)
            costs.append(
                MethodCost(
                    method=method,
                    once_s=first_s - second_s,
                    query_s=max(0.0, second_s - start_s),
                    planned_once_s=planned.once_s,
                    planned_query_s=planned.queries_s,
                    peak_mib=max(first_mib, second_mib),
                    planned_mib=planned.memory_mib,
                    disk_mib=kept / 2**20,
                    planned_disk_mib=planned.disk_mib,
                )
            )
    report("methods", len(methods), len(methods))
    return costs


def fewer_draws(method: str) -> dict[str, Any]:
    """The setting that keeps a method's measurement short: ``METHOD_DRAWS``, if it has draws."""
    return {"draws": METHOD_DRAWS} if "draws" in METHOD_SETTINGS[method].model_fields else {}


def _attribute(method: str, clip: str, cache: Path) -> tuple[float, float]:
    flags = [word for name, value in fewer_draws(method).items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as out:
        return command_seconds(
            "attribute", clip, "--method", method, *EVERYTHING, *flags, "-o", out, cache=cache
        )
