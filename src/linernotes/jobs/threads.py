"""Jobs on threads, in order: for what shares one model's memory, and lets go of the interpreter while it
computes.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from types import TracebackType
from typing import Self

from linernotes.jobs.executor import Job, Result, Task, Worker


class Threads:
    """An ``Executor`` whose workers are threads of this process; nothing is pickled."""

    def __init__(self, count: int) -> None:
        self._count = count

    def run(
        self,
        task: Task[Worker, Job, Result],
        jobs: Iterable[Job],
        on_done: Callable[[Job], None] | None = None,
    ) -> Iterator[Result]:
        """See ``Executor``. ``jobs`` is taken from as workers come free, in the calling thread: it may draw
        random numbers.
        """
        free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for _ in range(self._count):
            free.put(task.setup.open())

        def do(job: Job) -> Result:
            worker = free.get()
            try:
                return task.do(worker, job)
            finally:
                free.put(worker)

        waiting: deque[tuple[Job, Future[Result]]] = deque()
        pool = _pool(self._count)

        def first() -> Result:
            job, future = waiting.popleft()
            result = future.result()
            if on_done:
                on_done(job)
            return result

        try:
            for job in jobs:
                waiting.append((job, pool.submit(do, job)))
                if len(waiting) > self._count:
                    yield first()
            while waiting:
                yield first()
        finally:
            for _, future in waiting:
                future.cancel()
            wait([future for _, future in waiting])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The threads stay for whoever comes next."""


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The same threads for every sweep: each new thread would get, and keep, memory of its own."""
    return ThreadPoolExecutor(threads)
