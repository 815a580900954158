"""What every engine has in common: jobs in, results out in the jobs' order, over workers that are set up once
each.

A task says what all its jobs share and what to do with one. It reaches workers pickled, but for an engine
that shares this process's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

Worker = TypeVar("Worker")
Job = TypeVar("Job")
Result = TypeVar("Result")
Value = TypeVar("Value")
WorkerOut = TypeVar("WorkerOut", covariant=True)
WorkerIn = TypeVar("WorkerIn", contravariant=True)
JobIn = TypeVar("JobIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


class Setup(Protocol[WorkerOut]):
    """What a worker holds from job to job: a model that is opened, say."""

    @property
    def key(self) -> str:
        """Equal for setups that open to the same: a worker keeps what it has opened for the next task."""

    def open(self) -> WorkerOut:
        """Opens it, once in each worker.

        Raises:
            LinernotesError: what is there is not what the task was made for.
        """


class Task(Protocol[WorkerIn, JobIn, ResultOut]):
    """What is to be done, many times over."""

    @property
    def setup(self) -> Setup[Any]:
        """What each worker needs."""

    @property
    def paths(self) -> Sequence[Path]:
        """Absolute paths that must be there for every worker: on a cluster, on a disk that all nodes
        share.
        """

    def do(self, worker: WorkerIn, job: JobIn) -> ResultOut:
        """One job's result, which depends on nothing but task and job."""


class Executor(Protocol):
    """Runs the jobs of a task. As a context manager it keeps its workers from task to task, and lets them go
    at the end.
    """

    def run(
        self,
        task: Task[Worker, Job, Result],
        jobs: Iterable[Job],
        on_done: Callable[[Job], None] | None = None,
    ) -> Iterator[Result]:
        """The result of every job, in the jobs' order; at most one job a worker is in hand.

        Args:
            on_done: called in this thread with each job as it is finished, in whatever order that is.

        Raises:
            LinernotesError: a job's own, as itself; a worker that cannot be set up, or is lost.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Here(Generic[Value]):
    """A value of this process alone, such as a progress bar or a model that is open: in another process it is
    None.
    """

    def __init__(self, value: Value | None) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type[Here[Value]], tuple[None]]:
        return Here, (None,)
