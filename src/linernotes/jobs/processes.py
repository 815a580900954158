"""Jobs on processes of their own, one thread each: for what holds a model and trains it. Jobs and results are
pickled.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from linernotes.errors import LinernotesError

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    jobs: Iterable[Job],
    work: Callable[[Job], Result],
    at_once: int,
    begin: Callable[..., None],
    arguments: tuple[Any, ...],
) -> Iterator[Result]:
    """``work(job)`` of every job, as they are finished.

    Args:
        begin: called with ``arguments`` in every process before its first job.

    Raises:
        LinernotesError: a process was killed; what its jobs left on disk is there.
    """
    pool = ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn"), begin, arguments)
    whole = False
    try:
        for finished in as_completed([pool.submit(work, job) for job in jobs]):
            yield finished.result()
        whole = True
    except BrokenProcessPool:
        raise LinernotesError(
            f"a process was killed, perhaps for want of memory ({at_once} ran at once); what was finished is "
            "kept: run the same command again"
        ) from None
    finally:
        # not all children of this program: others may be its host's
        own = list((pool._processes or {}).values())
        pool.shutdown(wait=whole, cancel_futures=True)
        for process in [] if whole else own:
            process.terminate()
