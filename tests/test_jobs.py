"""Jobs on every local engine: each once, results in the jobs' order, workers set up once each, and nobody
else's process is touched.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from linernotes.errors import LinernotesError, UsageError
from linernotes.jobs.engines import executor_of
from linernotes.jobs.executor import Executor, Here
from linernotes.jobs.inline import Inline
from linernotes.jobs.processes import Processes
from linernotes.jobs.threads import Threads
from linernotes.settings.engine import EngineSettings


@dataclass(frozen=True)
class Opening:
    """A worker is a list of what it was opened for; each opening leaves a line in a file."""

    key: str
    log: Path

    def open(self) -> list[str]:
        with self.log.open("a") as file:
            file.write(f"{self.key} {os.getpid()}\n")
        return [self.key]


@dataclass(frozen=True)
class Calling:
    """A task that calls a function."""

    setup: Opening
    do: Callable[[Any, Any], Any]
    paths: Sequence[Path] = ()


def squared(worker: list[str], job: int) -> tuple[str, int]:
    time.sleep(0.002 * (job % 3))  # later jobs are done earlier
    return worker[0], job * job


def complains(worker: list[str], job: int) -> None:
    raise UsageError(f"job {job} makes no sense: leave it out")


def dies_of_the_third(worker: list[str], job: int) -> int:
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return job


ENGINES: dict[str, Callable[[], Executor]] = {
    "inline": Inline,
    "threads": lambda: Threads(3),
    "processes": lambda: Processes(2),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_results_are_in_the_jobs_order_and_workers_are_set_up_once(engine: str, tmp_path: Path) -> None:
    task, again = (Calling(Opening("a", tmp_path / "log"), squared) for _ in range(2))
    done: list[int] = []
    with ENGINES[engine]() as executor:
        assert list(executor.run(task, range(9), done.append)) == [("a", job * job) for job in range(9)]
        assert sorted(done) == list(range(9))
        assert list(executor.run(again, [4, 3])) == [("a", 16), ("a", 9)]
        assert list(executor.run(again, [])) == []
    opened = (tmp_path / "log").read_text().split("\n")[:-1]
    if engine == "processes":  # the second task found them open
        assert len(opened) == 2 == len(set(opened))


def test_processes_hold_what_the_latest_task_needs(tmp_path: Path) -> None:
    with Processes(1) as executor:
        for key in ("a", "b", "b", "a"):
            assert list(executor.run(Calling(Opening(key, tmp_path / "log"), squared), [2])) == [(key, 4)]
    assert [line[0] for line in (tmp_path / "log").read_text().split("\n")[:-1]] == ["a", "b", "a"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_jobs_own_sentence_arrives_as_itself(engine: str, tmp_path: Path) -> None:
    task = Calling(Opening("a", tmp_path / "log"), complains)
    with (
        ENGINES[engine]() as executor,
        pytest.raises(UsageError, match=r"^job 0 makes no sense: leave it out$"),
    ):
        list(executor.run(task, [0]))


def test_a_path_that_workers_need_and_do_not_see_is_named(tmp_path: Path) -> None:
    task = Calling(Opening("a", tmp_path / "log"), squared, (tmp_path, tmp_path / "not here"))
    with Processes(2) as executor, pytest.raises(LinernotesError, match=r"cannot reach .*not here: put it"):
        list(executor.run(task, range(3)))


def test_threads_give_no_worker_two_jobs_at_once(tmp_path: Path) -> None:
    busy: set[int] = set()

    def work(worker: list[str], job: int) -> int:
        assert id(worker) not in busy
        busy.add(id(worker))
        time.sleep(0.002 * (job % 3))
        busy.remove(id(worker))
        return job * job

    task = Calling(Opening("a", tmp_path / "log"), work)
    assert list(Threads(3).run(task, range(30))) == [job * job for job in range(30)]


def test_threads_draw_jobs_in_the_calling_thread_as_workers_come_free(tmp_path: Path) -> None:
    drawn: list[str] = []

    def jobs() -> Iterator[int]:
        for job in range(12):
            drawn.append(threading.current_thread().name)
            yield job

    results = Threads(2).run(Calling(Opening("a", tmp_path / "log"), lambda worker, job: job), jobs())
    assert next(results) == 0 and len(drawn) <= 4
    assert len(list(results)) == 11 and set(drawn) == {threading.current_thread().name}


def test_what_is_of_this_process_alone_stays_in_it(tmp_path: Path) -> None:
    task = Calling(Opening("a", tmp_path / "log"), holds_something)
    assert list(Inline().run(task, [Here(1)])) == [True]
    with Processes(1) as executor:
        assert list(executor.run(task, [Here(1)])) == [False]


def holds_something(worker: list[str], job: Here[int]) -> bool:
    return job.value is not None


def test_a_killed_process_is_a_sentence_and_others_live_on(tmp_path: Path) -> None:
    """Processes of the host program are no business of ours."""
    hosts = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    hosts.start()
    variables = dict(os.environ)
    task = Calling(Opening("a", tmp_path / "log"), dies_of_the_third)
    try:
        with (
            Processes(2) as executor,
            pytest.raises(LinernotesError, match="was killed, perhaps for want of memory"),
        ):
            list(executor.run(task, range(6)))
        assert hosts.is_alive() and dict(os.environ) == variables
        assert multiprocessing.active_children() == [hosts]
    finally:
        hosts.terminate()
        hosts.join()


def test_whoever_takes_no_more_results_ends_the_workers_at_work(tmp_path: Path) -> None:
    with Processes(2) as executor:
        results = executor.run(Calling(Opening("a", tmp_path / "log"), sleeps), [0, 60])
        assert next(results) == 0
        start = time.monotonic()
        results.close()
        assert time.monotonic() - start < 30 and len(multiprocessing.active_children()) == 1
        assert list(executor.run(Calling(Opening("a", tmp_path / "log"), sleeps), [0, 0])) == [0, 0]
    assert not multiprocessing.active_children()


def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """In the middle of a job: nobody will ask for its answer."""
    log = tmp_path / "log"
    host = multiprocessing.get_context("spawn").Process(target=sleeps_in_a_process, args=(log,))
    host.start()
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    worker = int(log.read_text().split()[1])
    assert runs(worker)
    host.kill()
    host.join()
    until(lambda: not runs(worker))


def runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def sleeps_in_a_process(log: Path) -> None:
    with Processes(1) as executor:
        list(executor.run(Calling(Opening("a", log), sleeps), [600]))


def sleeps(worker: list[str], job: int) -> int:
    time.sleep(job)
    return job


def test_what_belongs_to_ray_is_refused_elsewhere() -> None:
    for settings in (EngineSettings(address="head:6379"), EngineSettings(gpus_per_worker=1)):
        with pytest.raises(UsageError, match="belongs to --engine ray, not to threads"):
            executor_of(settings)
