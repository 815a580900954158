"""Jobs one after the other in the calling thread: for jobs that spread themselves over this process's
threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from linernotes.jobs.executor import Job, Result, Task, Worker


class Inline:
    """An ``Executor`` whose one worker is this process."""

    def __init__(self, threads: int = 0) -> None:
        """``threads``: how many torch uses as long as the executor is open; 0: as many as it does."""
        self._threads = threads
        self._before = 0

    def run(
        self,
        task: Task[Worker, Job, Result],
        jobs: Iterable[Job],
        on_done: Callable[[Job], None] | None = None,
    ) -> Iterator[Result]:
        """See ``Executor``."""
        worker = task.setup.open()
        for job in jobs:
            result = task.do(worker, job)
            if on_done:
                on_done(job)
            yield result

    def __enter__(self) -> Self:
        if self._threads:
            import torch

            self._before = torch.get_num_threads()
            torch.set_num_threads(self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads:
            import torch

            torch.set_num_threads(self._before)
