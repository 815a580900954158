"""Jobs on a Ray cluster: actors of one core each, and a part of a GPU if that is asked for. A worker that is
lost is replaced, and its job goes to another.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError

from linernotes.artefacts import hash_files
from linernotes.errors import LinernotesError, UsageError
from linernotes.jobs.dispatch import dispatch
from linernotes.jobs.executor import Job, Result, Task, Worker
from linernotes.jobs.station import Answer, Lost, Station, one_thread
from linernotes.version import __version__

AGAIN = 2  # how often a job whose worker was lost goes to another
ANSWERS_WITHIN_S = 5.0  # the head of a cluster, to a mere knock: Ray itself would try for minutes
PATIENCE_S = 30.0  # until it is said that no worker has come yet
HEAD = re.compile(r"(?P<host>[^/\s]+):(?P<port>\d{1,5})")
STORE_BYTES = 128 << 20  # of a Ray that is started here: tasks pass through it, results go to files
USAGE = "RAY_USAGE_STATS_ENABLED"
LONGEST_REASON = 200  # characters of what Ray says


class Ray:
    """An ``Executor`` whose workers are Ray actors. A cluster the host program is connected to already is
    used, and left connected.
    """

    def __init__(self, address: str, count: int, gpus: float, at_once: int) -> None:
        """Nothing is connected yet.

        Args:
            address: ``HOST:PORT`` of the cluster's head; ``RAY_ADDRESS``, or a Ray of this machine's own, if
                empty.
            count: workers; as many as the cluster has room for if 0.
            gpus: GPUs of each worker.
            at_once: workers of a Ray that is started here.
        """
        self._address = address or os.environ.get("RAY_ADDRESS", "") or "local"
        self._count, self._gpus, self._at_once = count, gpus, at_once
        self._ours = False
        self._idle: list[_Seat] = []
        self._busy: list[_Seat] = []
        self._starting: list[_Seat] = []
        self._wanted = self._stillborn = self._number = 0
        self._task: Any = None
        self._build = build()
        self._said = False

    def run(
        self,
        task: Task[Worker, Job, Result],
        jobs: Iterable[Job],
        on_done: Callable[[Job], None] | None = None,
    ) -> Iterator[Result]:
        """See ``Executor``."""
        lost = (
            f"a job lost its worker {AGAIN + 1} times ({{why}}), perhaps for want of memory; what was "
            "finished is kept: give fewer --workers, or nodes with more memory, and run the command again"
        )
        return dispatch(self, task, jobs, on_done, lost, AGAIN)

    def __enter__(self) -> Self:
        _require_address(self._address)
        if not ray.is_initialized():
            _connect(self._address, self._count or self._at_once)
            self._ours = True
        try:
            self._count = self._count or _room(self._gpus)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seats in (self._idle, self._busy, self._starting):
            for seat in seats:
                ray.kill(seat.actor)
            seats.clear()
        if self._ours:
            ray.shutdown()
            self._ours = False

    def brief(self, message: bytes, jobs: int) -> None:
        """See ``Crew``."""
        self._task, self._number = ray.put(message), self._number + 1
        self._wanted, self._stillborn = min(self._count, jobs), 0

    def free(self) -> bool:
        """See ``Crew``."""
        while len(self._idle) + len(self._busy) + len(self._starting) < self._wanted:
            self._starting.append(_hired(self._gpus, self._build))
        return bool(self._idle)

    def give(self, job: Any) -> _Seat:
        """See ``Crew``."""
        seat = self._idle.pop(0)
        # in a list the task stays where it is until the worker asks for it, once
        seat.reply = seat.actor.answer.remote(self._number, [self._task], job)
        self._busy.append(seat)
        return seat

    def answers(self, busy: Collection[_Seat]) -> list[tuple[_Seat, Answer]]:
        """See ``Crew``."""
        replies = [seat.reply for seat in (*busy, *self._starting)]
        ready, _ = ray.wait(replies, timeout=PATIENCE_S)
        if not ready and not busy and not self._said:
            what = f"1 CPU and {self._gpus:g} GPUs" if self._gpus else "1 CPU"
            logging.getLogger("linernotes").warning(
                f"no worker has started yet: waiting until the cluster has {what} to spare"
            )
            self._said = True
        ready, _ = ray.wait(replies, num_returns=len(replies), timeout=0)
        for seat in [seat for seat in self._starting if seat.reply in ready]:
            self._started(seat)
        return [(seat, self._answer(seat)) for seat in [*busy] if seat.reply in ready]

    def end(self, hand: _Seat) -> None:
        """See ``Crew``."""
        self._busy.remove(hand)
        ray.kill(hand.actor)

    def _started(self, seat: _Seat) -> None:
        self._starting.remove(seat)
        try:
            wrong = ray.get(seat.reply)
        except RayError as error:
            self._stillborn += 1
            if self._stillborn > AGAIN:
                raise LinernotesError(
                    f"no worker could be started on the cluster ({_reason(error)}): install linernotes "
                    f"{__version__} with its extra [ray] on every node"
                ) from error
            return
        if wrong:
            raise LinernotesError(wrong)
        self._idle.append(seat)

    def _answer(self, seat: _Seat) -> Answer:
        try:
            answer: Answer = pickle.loads(ray.get(seat.reply))
        except RayError as error:
            self.end(seat)
            return Lost(_reason(error))
        self._busy.remove(seat)
        self._idle.append(seat)
        return answer


@dataclass(eq=False)
class _Seat:
    """A worker as the driver holds it: the actor, and what it will reply next (first, whether it can
    begin).
    """

    actor: Any
    reply: Any


class _Actor:
    """A worker as it sits on its node."""

    def __init__(self, drivers: dict[str, str]) -> None:
        one_thread()
        self._wrong = _difference(drivers)
        self._station, self._number = Station(), 0

    def hello(self) -> str | None:
        """Why it cannot work for this driver, if it cannot."""
        return self._wrong

    def answer(self, number: int, task: list[Any], job: Any) -> bytes:
        """What comes of a job of the task with this number."""
        if number != self._number:
            self._station.brief(ray.get(task[0]))
            self._number = number
        return self._station.answer(job)


def _hired(gpus: float, drivers: dict[str, str]) -> _Seat:
    actor = ray.remote(num_cpus=1, num_gpus=gpus)(_Actor).remote(drivers)
    return _Seat(actor, actor.hello.remote())


def build() -> dict[str, str]:
    """What must be the same on every node for the results to be the same, to the last bit."""
    root = Path(__file__).parent.parent
    return {
        "linernotes": f"{__version__}, code {hash_files(root.rglob('*.py'), root)}",
        "torch": version("torch"),
    }


def _difference(drivers: dict[str, str]) -> str | None:
    here = build()
    for name, wanted in drivers.items():
        if here.get(name) != wanted:
            return (
                f"a worker on {socket.gethostname()} runs {name} {here.get(name)}, and this is {wanted}: "
                "install the same on every node"
            )
    return None


def _require_address(address: str) -> None:
    if address not in ("local", "auto") and not HEAD.fullmatch(address):
        raise UsageError(f"--address {address} is no HOST:PORT: give that of 'ray start --head'")


def _connect(address: str, workers: int) -> None:
    """Connects to the cluster at ``address``, or starts a Ray of this machine's own.

    Raises:
        LinernotesError: no cluster there, or one of another Ray or Python.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    head = HEAD.fullmatch(address)
    if head:
        with _refused(address), socket.create_connection((head["host"], int(head["port"])), ANSWERS_WITHIN_S):
            pass
    before = os.environ.get(USAGE)
    os.environ[USAGE] = "0"  # read while Ray starts; nothing here is anyone else's business
    try:
        with _refused(address), warnings.catch_warnings():
            # Ray forks to start its own programs at once, which is safe
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            if address == "local":
                own = {"num_cpus": workers, "object_store_memory": STORE_BYTES}
                ray.init("local", include_dashboard=False, **own, **quiet)
            else:
                ray.init(address, **quiet)
    finally:
        os.environ.pop(USAGE)
        os.environ.update({USAGE: before} if before is not None else {})


@contextmanager
def _refused(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise LinernotesError(
            f"there is no Ray cluster at {address} that can be used ({_reason(error)}): start one with 'ray "
            "start --head', give the address that it printed, and set RAY_AUTH_MODE and RAY_AUTH_TOKEN as "
            "it has them"
        ) from error


def _room(gpus: float) -> int:
    """How many workers the cluster has room for.

    Raises:
        LinernotesError: none.
    """
    there = ray.cluster_resources()
    room = int(min(there.get("CPU", 0), there.get("GPU", 0) / gpus if gpus else float("inf")))
    if not room:
        raise LinernotesError(
            f"the cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, no room for a "
            "worker: add nodes, or give other --gpus-per-worker"
        )
    return room


def _reason(error: BaseException) -> str:
    """The first line of what Ray says that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:LONGEST_REASON]
