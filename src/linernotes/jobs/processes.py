"""Jobs in processes of this machine, one thread each: for what needs an interpreter, or a model that it
trains, for itself.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from linernotes.jobs.dispatch import dispatch
from linernotes.jobs.executor import Job, Result, Task, Worker
from linernotes.jobs.station import Answer, Lost, Station, one_thread

ENDS_WITHIN_S = 10.0
BRIEFING, JOB = "briefing", "job"  # what is sent to a worker


@dataclass(eq=False)
class _Process:
    """A worker: its process, this end of its pipe, and whether it knows the task at hand."""

    process: BaseProcess
    pipe: connection.Connection
    briefed: bool = False


class Processes:
    """An ``Executor`` whose workers are processes, started when they are first needed. Ctrl-C is this
    process's to answer, and other children of it are left alone.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle: list[_Process] = []
        self._busy: list[_Process] = []
        self._message = b""

    def run(
        self,
        task: Task[Worker, Job, Result],
        jobs: Iterable[Job],
        on_done: Callable[[Job], None] | None = None,
    ) -> Iterator[Result]:
        """See ``Executor``. A process that was killed is not replaced: what it lacked, memory as a rule, the
        next would lack too.
        """
        lost = (
            f"a process was killed, perhaps for want of memory ({self._count} ran at once; {{why}}); what "
            "was finished is kept: run the same command again"
        )
        return dispatch(self, task, jobs, on_done, lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in [*self._busy]:
            self.end(worker)
        for worker in self._idle:
            worker.pipe.close()  # the end of its work
        for worker in self._idle:
            worker.process.join(ENDS_WITHIN_S)
            if worker.process.exitcode is None:
                worker.process.terminate()
                worker.process.join()
        self._idle.clear()

    def brief(self, message: bytes, jobs: int) -> None:
        """See ``Crew``."""
        self._message = message
        for worker in self._idle:
            worker.briefed = False

    def free(self) -> bool:
        """See ``Crew``."""
        return bool(self._idle) or len(self._busy) < self._count

    def give(self, job: Any) -> _Process:
        """See ``Crew``."""
        worker = self._idle.pop() if self._idle else _started()
        self._busy.append(worker)
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died, which its answer will say
            if not worker.briefed:
                worker.pipe.send((BRIEFING, self._message))
                worker.briefed = True
            worker.pipe.send((JOB, job))
        return worker

    def answers(self, busy: Collection[_Process]) -> list[tuple[_Process, Answer]]:
        """See ``Crew``."""
        ready = connection.wait([worker.pipe for worker in busy])
        return [(worker, self._answer(worker)) for worker in busy if worker.pipe in ready]

    def end(self, hand: _Process) -> None:
        """See ``Crew``."""
        hand.process.terminate()
        hand.process.join(ENDS_WITHIN_S)
        hand.pipe.close()
        self._busy.remove(hand)

    def _answer(self, worker: _Process) -> Answer:
        try:
            answer: Answer = pickle.loads(worker.pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            self.end(worker)
            return Lost(f"exit code {worker.process.exitcode}")
        self._busy.remove(worker)
        self._idle.append(worker)
        return answer


def _started() -> _Process:
    ours, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(its,), daemon=True)
    process.start()
    its.close()  # so that its end is felt at ours
    return _Process(process, ours)


def _serve(pipe: connection.Connection) -> None:
    """A worker's whole life: a briefing, jobs, perhaps another briefing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    end_with_parent()
    one_thread()
    station = Station()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has ended, or has enough
        while True:
            kind, content = pipe.recv()
            if kind == BRIEFING:
                station.brief(content)
            else:
                pipe.send_bytes(station.answer(content))


def end_with_parent() -> None:
    """Ends this process when its parent has gone, however that ended and whatever is being done: nobody will
    ask for the answer, and a training takes minutes in which it keeps others off its cores and its locks.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
