"""Work for engines that takes no time: squares of numbers, with something that happens in the middle of a
shard. Workers import this file, so it brings nothing but torch.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from linernotes.jobs.executor import Executor
from linernotes.jobs.shards import in_shards

ROWS, SIZE = 13, 3
SLOW_S = 2.0


@dataclass(frozen=True)
class Squares:
    """Squares of the rows' numbers; in the middle of the shard that begins at ``at`` something happens, as
    often as ``times``. The file ``computed`` gets a line for each shard that is begun.
    """

    happens: Callable[[], None]
    at: int
    times: int
    computed: Path
    key: str = "squares"
    paths: Sequence[Path] = ()

    @property
    def setup(self) -> Squares:
        return self

    def open(self) -> float:
        return 0.5

    def compute(self, worker: float, rows: slice) -> dict[str, torch.Tensor]:
        with self.computed.open("a") as file:
            file.write(f"{rows.start}\n")
        if rows.start == self.at and begun(self.computed).count(self.at) <= self.times:
            self.happens()
        numbers = torch.arange(rows.start, rows.stop).float()
        return {"x": (numbers * worker)[:, None] ** 2, "y": numbers}


def begun(computed: Path) -> list[int]:
    """Where the shards began that were begun so far."""
    return [int(line) for line in computed.read_text().split()] if computed.exists() else []


def squares(
    folder: Path,
    executor: Executor,
    happens: Callable[[], None] | None = None,
    at: int = -1,
    times: int = 1,
) -> tuple[bytes, list[int], list[int]]:
    """The bytes that are made in ``folder``, where the shards began that were computed, and what progress
    said.
    """
    work = Squares(happens or dawdle, at, times, folder / "computed")
    reports: list[int] = []
    path = folder / "squares.safetensors"
    in_shards(path, "squares", {"of": "numbers"}, ROWS, SIZE, work, executor, reports.append)
    assert sorted(p.name for p in folder.iterdir()) == ["computed", path.name]
    return path.read_bytes(), begun(folder / "computed"), reports


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dawdle() -> None:
    time.sleep(SLOW_S)


def hang() -> None:
    time.sleep(600)


def stop() -> None:
    raise RuntimeError("stopped")
