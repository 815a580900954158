"""Hands jobs to workers in processes of their own, one each, and puts their answers back into order; a job
whose worker is lost goes to another.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from linernotes.errors import LinernotesError
from linernotes.jobs.executor import Job
from linernotes.jobs.station import Answer, Done, Failed, briefing

Hand = TypeVar("Hand")  # a worker with a job in hand


class Crew(Protocol[Hand]):
    """Workers in processes of their own, however these are reached."""

    def brief(self, message: bytes, jobs: int) -> None:
        """Gives all workers a task, of so many jobs."""

    def free(self) -> bool:
        """Whether a worker is ready for a job."""

    def give(self, job: Any) -> Hand:
        """Gives a free worker a job."""

    def answers(self, busy: Collection[Hand]) -> list[tuple[Hand, Answer]]:
        """Waits until a worker has answered (or is lost), or another has become free."""

    def end(self, hand: Hand) -> None:
        """Ends a worker in the middle of its job."""


def dispatch(
    crew: Crew[Hand],
    briefed: Any,
    jobs: Iterable[Job],
    on_done: Callable[[Job], None] | None,
    lost: str,
    again: int = 0,
) -> Iterator[Any]:
    """The results of all jobs, in their order. Results that others wait for are held, so they must be small.

    Args:
        briefed: the task.
        lost: the sentence for a job whose workers were lost; ``{why}`` says how.
        again: how often a job may go to another worker.

    Raises:
        LinernotesError: workers were lost too often; or what a job raised.
    """
    todo = deque(enumerate(jobs))
    if not todo:
        return
    crew.brief(briefing(briefed), len(todo))
    busy: dict[Hand, tuple[int, Job]] = {}
    results: dict[int, Any] = {}
    losses: Counter[int] = Counter()
    upcoming = 0
    try:
        while todo or busy:
            while todo and crew.free():
                number, job = todo.popleft()
                busy[crew.give(job)] = number, job
            # all that answered are free before any answer is looked at: one may be an error
            answered = [(*busy.pop(hand), answer) for hand, answer in crew.answers(busy.keys())]
            for number, job, answer in answered:
                if isinstance(answer, Done):
                    results[number] = answer.result
                    if on_done:
                        on_done(job)
                elif isinstance(answer, Failed):
                    raise answer.error
                else:
                    losses[number] += 1
                    if losses[number] > again:
                        raise LinernotesError(lost.format(why=answer.why))
                    logging.getLogger("linernotes").warning(
                        f"a worker was lost ({answer.why}): its job goes to another"
                    )
                    todo.appendleft((number, job))
            while upcoming in results:
                yield results.pop(upcoming)
                upcoming += 1
    finally:
        for hand in busy:
            crew.end(hand)  # nobody would take its answer
