"""Jobs in threads and processes: every one once, in order where that is promised, and nobody else's process
is touched.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest

from linernotes.errors import LinernotesError
from linernotes.jobs.processes import in_processes
from linernotes.jobs.threads import in_threads

begun: list[int] = []


def begin(number: int) -> None:
    begun.append(number)


def told_and_doubled(job: int) -> tuple[int, list[int]]:
    return 2 * job, begun


def dies_of_the_third(job: int) -> int:
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return job


def test_threads_keep_the_order_and_no_worker_has_two_jobs_at_once() -> None:
    busy: set[str] = set()

    def work(worker: str, job: int) -> int:
        assert worker not in busy
        busy.add(worker)
        time.sleep(0.002 * (job % 3))  # later jobs are done earlier
        busy.remove(worker)
        return job * job

    assert list(in_threads(["a", "b", "c"], range(30), work)) == [job * job for job in range(30)]


def test_jobs_are_drawn_in_the_calling_thread_as_workers_come_free() -> None:
    drawn: list[str] = []

    def jobs() -> object:
        for job in range(12):
            drawn.append(threading.current_thread().name)
            yield job

    results = in_threads(["a", "b"], jobs(), lambda worker, job: job)
    assert next(results) == 0 and len(drawn) <= 4
    assert len(list(results)) == 11 and set(drawn) == {threading.current_thread().name}


def test_processes_do_every_job_once_and_begin_before_the_first() -> None:
    found = list(in_processes(range(5), told_and_doubled, 2, begin, (7,)))
    assert sorted(doubled for doubled, _ in found) == [0, 2, 4, 6, 8]
    assert all(seen == [7] for _, seen in found)


def test_a_killed_process_is_a_sentence_and_others_live_on() -> None:
    """Processes of the host program are no business of ours."""
    hosts = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    hosts.start()
    variables = dict(os.environ)
    try:
        with pytest.raises(LinernotesError, match="was killed, perhaps for want of memory"):
            list(in_processes(range(6), dies_of_the_third, 2, begin, (0,)))
        hosts.join(1)
        assert hosts.is_alive() and dict(os.environ) == variables
        ours = [child for child in multiprocessing.active_children() if child is not hosts]
        for child in ours:
            child.join(10)
        assert not any(child.is_alive() for child in ours)
    finally:
        hosts.terminate()
        hosts.join()
