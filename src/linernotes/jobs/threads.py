"""Jobs on threads, in order: for what shares one model's memory, and lets go of the interpreter while it
computes.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

Worker = TypeVar("Worker")
Job = TypeVar("Job")
Result = TypeVar("Result")


def in_threads(
    workers: Sequence[Worker], jobs: Iterable[Job], work: Callable[[Worker, Job], Result]
) -> Iterator[Result]:
    """``work(worker, job)`` of every job, in the jobs' order; no worker has two at once.

    ``jobs`` is taken from as workers come free, in the calling thread: it may draw random numbers.
    """
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def run(job: Job) -> Result:
        worker = free.get()
        try:
            return work(worker, job)
        finally:
            free.put(worker)

    waiting: deque[Future[Result]] = deque()
    pool = _pool(len(workers))
    try:
        for job in jobs:
            waiting.append(pool.submit(run, job))
            if len(waiting) > len(workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The same threads for every sweep: each new thread would get, and keep, memory of its own."""
    return ThreadPoolExecutor(threads)
