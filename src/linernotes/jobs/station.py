"""The worker's side of an engine that has processes of its own: it is briefed with a task, opens what the
task needs, and answers job after job. The same in a local process and in a Ray actor.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linernotes.errors import LinernotesError
from linernotes.jobs.executor import Task


@dataclass(frozen=True)
class Done:
    """A job's result."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """What a job raised."""

    error: Exception


@dataclass(frozen=True)
class Lost:
    """The worker ended before it answered."""

    why: str


Answer = Done | Failed | Lost


@dataclass(frozen=True)
class Briefing:
    """A task on its way to a worker: what must be reached and opened comes first, so that a worker that
    cannot says so in its own words.
    """

    paths: Sequence[Path]
    key: str
    setup: bytes
    task: bytes


def briefing(task: Task[Any, Any, Any]) -> bytes:
    """A task for workers, pickled by value: tensors do not go through shared memory."""
    pickled = pickle.dumps(task.setup), pickle.dumps(task)
    return pickle.dumps(Briefing(tuple(task.paths), task.setup.key, *pickled))


class Station:
    """What a worker keeps from job to job."""

    def __init__(self) -> None:
        self._briefing: Briefing | None = None
        self._task: Task[Any, Any, Any] | None = None
        self._key: str | None = None
        self._opened: Any = None

    def brief(self, message: bytes) -> None:
        """Takes on a task; it is opened with its first job."""
        self._briefing, self._task = pickle.loads(message), None

    def answer(self, job: Any) -> bytes:
        """What comes of a job, pickled: ``Done`` or ``Failed``."""
        try:
            return pickle.dumps(Done(self._ready().do(self._opened, job)))
        except Exception as error:
            return pickle.dumps(Failed(_sendable(error)))

    def _ready(self) -> Task[Any, Any, Any]:
        if self._task is None:
            assert self._briefing is not None
            require_reached(self._briefing.paths)
            if self._key != self._briefing.key:
                self._key, self._opened = None, None  # two models at once may be too many
                self._opened = pickle.loads(self._briefing.setup).open()
                self._key = self._briefing.key
            self._task = pickle.loads(self._briefing.task)
        return self._task


def require_reached(paths: Sequence[Path]) -> None:
    """Refuses to begin where something that a task needs is not to be seen.

    Raises:
        LinernotesError: names the first such path and this machine.
    """
    for path in paths:
        if not path.exists():
            raise LinernotesError(
                f"a worker on {socket.gethostname()} cannot reach {path}: put it where every node sees it "
                "under the same path (NFS, say), or use --engine processes"
            )


def one_thread() -> None:
    """Keeps this process to one thread: as many workers as cores must not each take all of them, and a result
    must not depend on how many there are.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # this worker's own, read when torch is imported
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _sendable(error: Exception) -> Exception:
    """The error, with where it was raised as a note; one that cannot be pickled as its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(error, LinernotesError):  # whose sentence is the whole answer
        error.add_note("in a worker:\n" + traceback.format_exc())
    return error
