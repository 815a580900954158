"""The queue's laws: in order, each wish once, nothing lost, nothing begun for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import event

from desks import a_clip, browser, reading_desk
from linernotes.desk import queue, reading
from linernotes.desk.asks import Attribute, Credit, Generate, Measure
from linernotes.desk.database import Database, open_database
from linernotes.desk.folder import DeskFolder
from linernotes.desk.schema import ACTIVE, DONE, FAILED, QUEUED, RUNNING, STOPPED, JobRow

CLIP = "0" * 16
WISHES = [Generate(prompt="a jig"), Generate(prompt="a jig", seed=1), Attribute(clip_id=CLIP), Measure()]
WHY = "the worker was ended"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(DeskFolder(tmp_path))
    yield opened
    opened.close()


def jobs(database: Database) -> list[JobRow]:
    with database.reading() as session:
        return list(session.query(JobRow).order_by(JobRow.id))


class Queue(RuleBasedStateMachine):
    """Whatever is asked, taken, stopped and killed in whatever order, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory()
        self.database = open_database(DeskFolder(Path(self.place.name)))
        self.model: dict[int, tuple[int, str, int]] = {}  # by id: wish, state, times begun

    def teardown(self) -> None:
        self.database.close()
        self.place.cleanup()

    def running(self) -> list[int]:
        return [one for one, (_, state, _) in self.model.items() if state == RUNNING]

    @rule(wish=st.integers(0, len(WISHES) - 1))
    def ask(self, wish: int) -> None:
        under_way = [one for one, (w, state, _) in self.model.items() if w == wish and state in ACTIVE]
        with self.database.writing() as session:
            job = queue.ask(session, WISHES[wish])
        if under_way:
            assert [job.id] == under_way  # the same wish is the same job
        else:
            assert job.id == len(self.model) + 1
            self.model[job.id] = (wish, QUEUED, 0)

    @precondition(lambda self: not self.running())
    @rule()
    def take(self) -> None:
        waiting = [one for one, (_, state, _) in self.model.items() if state == QUEUED]
        with self.database.writing() as session:
            job = queue.take(session)
        assert (job.id if job else None) == (min(waiting) if waiting else None)
        if job:
            wish, _, begun = self.model[job.id]
            self.model[job.id] = (wish, RUNNING, begun + 1)

    @precondition(lambda self: self.running())
    @rule()
    def killed(self) -> None:
        (one,) = self.running()
        wish, _, begun = self.model[one]
        with self.database.writing() as session:
            stopped = session.get_one(JobRow, one).stop
            queue.take_back(session, WHY)
        after = STOPPED if stopped else FAILED if begun >= queue.ATTEMPTS else QUEUED
        self.model[one] = (wish, after, begun)

    @precondition(lambda self: self.running())
    @rule()
    def closed(self) -> None:
        """In order, for which the job is not to blame, however often."""
        (one,) = self.running()
        wish, _, begun = self.model[one]
        with self.database.writing() as session:
            stopped = session.get_one(JobRow, one).stop
            queue.take_back(session, None)
        self.model[one] = (wish, STOPPED, begun) if stopped else (wish, QUEUED, begun - 1)

    @precondition(lambda self: self.running())
    @rule()
    def finish(self) -> None:
        (one,) = self.running()
        with self.database.writing() as session:
            queue.end(session.get_one(JobRow, one), DONE, "", {"clip": CLIP})
        self.model[one] = (self.model[one][0], DONE, self.model[one][2])

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(sorted(self.model)))
        with self.database.writing() as session:
            queue.stop(session, session.get_one(JobRow, one))
        wish, state, begun = self.model[one]
        self.model[one] = (wish, STOPPED if state == QUEUED else state, begun)
        if state == RUNNING:
            with self.database.writing() as session:
                assert not queue.progressed(session, one, "scoring", 1, 2)  # the worker is told

    @invariant()
    def as_the_list_says(self) -> None:
        found = {job.id: (job.state, job.begun) for job in jobs(self.database)}
        assert found == {one: (state, begun) for one, (_, state, begun) in self.model.items()}


Queue.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestQueue = Queue.TestCase


def test_a_job_that_ends_its_worker_is_given_up_with_a_sentence(database: Database) -> None:
    with database.writing() as session:
        queue.ask(session, WISHES[0])
    for _ in range(queue.ATTEMPTS):
        with database.writing() as session:
            assert queue.take(session) is not None
        with database.writing() as session:
            queue.take_back(session, WHY)
    (job,) = jobs(database)
    assert job.state == FAILED
    assert job.sentence == f"{WHY} in this job {queue.ATTEMPTS} times, so it is not begun again"


def test_what_ended_is_not_changed_by_being_stopped(database: Database) -> None:
    with database.writing() as session:
        job = queue.ask(session, WISHES[0])
        queue.end(job, DONE, "", {"clip": CLIP})
        queue.stop(session, job)
    (job,) = jobs(database)
    assert (job.state, job.stop, job.made) == (DONE, False, {"clip": CLIP})


def test_forecasts_are_of_the_last_jobs_else_of_the_plan_else_nobody_knows(database: Database) -> None:
    def seconds(kind: str) -> float | None:
        with database.reading() as session:
            return queue.seconds_of(session, kind)

    assert seconds("attribute") is None
    with database.writing() as session:
        queue.note(session, "plan", {"attribute": 40.0})
    assert seconds("attribute") == 40
    assert seconds("credit") is None
    with database.writing() as session:
        for i, lasted in enumerate((300, 300, 10, 10, 12, 11, 10)):  # the first two are forgotten
            job = queue.ask(session, Attribute(clip_id=f"{i:016x}"))
            queue.end(job, DONE, "")
            job.started, job.ended = (
                "2026-11-01T10:00:00.000Z",
                f"2026-11-01T10:{lasted // 60:02}:{lasted % 60:02}.000Z",
            )
        queue.end(queue.ask(session, WISHES[2]), FAILED, "so it is")  # no forecast is made of failures
    assert seconds("attribute") == pytest.approx(10, abs=0.01)


def test_who_waits_waits_for_all_before(database: Database) -> None:
    with database.writing() as session:
        queue.note(session, "plan", {"attribute": 20.0})
        for i in range(3):
            queue.ask(session, Attribute(clip_id=f"{i:016x}"))
        queue.ask(session, Credit(attribution_id=CLIP))
        queue.ask(session, Attribute(clip_id="f" * 16))
        queue.take(session)
    with database.reading() as session:
        waits = reading.waits(session)
    assert [round(waits[one] or 0) for one in (1, 2, 3)] == [20, 40, 60]
    assert waits[4] is None  # nobody knows how long credits take
    assert waits[5] is None


@pytest.mark.parametrize("path", ["/clips", "/accounts", "/api/jobs", f"/clips/{CLIP}"])
def test_a_page_asks_the_database_no_more_often_the_longer_the_queue_is(tmp_path: Path, path: str) -> None:
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        asked.append(statement)

    def statements() -> int:
        asked.clear()
        answer = browser(desk).get(path)
        assert answer.status_code == 200
        return len(asked)

    with reading_desk(tmp_path / "desk") as desk:
        event.listen(desk.database.engine, "before_cursor_execute", note)
        with desk.database.writing() as session:
            session.add(a_clip(CLIP))
            queue.ask(session, Attribute(clip_id="1" * 16))
        short = statements()
        with desk.database.writing() as session:
            for i in range(2, 60):
                queue.ask(session, Attribute(clip_id=f"{i:016x}"))
        assert statements() == short
        if not path.startswith("/api"):
            assert "and 39 more wait" in browser(desk).get(path).text
