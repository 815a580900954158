"""The queue of jobs: in the database, so that it survives whoever reads or works it off. One worker takes
jobs in the order in which they were asked for; what was under way when a worker ended is taken up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from linernotes.desk.asks import Ask, kind_of
from linernotes.desk.schema import (
    ACTIVE,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    STOPPED,
    FactRow,
    JobRow,
    now,
)

KILLED = "the worker was ended (out of memory, perhaps)"
ATTEMPTS = 3  # times a job is begun before it is taken for the reason why workers end
REMEMBERED = 5  # jobs of a kind whose durations forecast the next one's


def ask(session: Session, asked: Ask, clip_id: str | None = None) -> JobRow:
    """Puts a job into the queue; the one that is there, if the same is under way already."""
    kind = kind_of(asked)
    key = f"{kind} {asked.model_dump_json()}"
    there = session.scalar(select(JobRow).where(JobRow.key == key, JobRow.state.in_(ACTIVE)))
    if there is not None:
        return there
    job = JobRow(kind=kind, asked=asked.model_dump(), key=key, clip_id=clip_id)
    session.add(job)
    session.flush()
    return job


def take(session: Session) -> JobRow | None:
    """The next job, from now on under way; None if there is none."""
    job = session.scalar(select(JobRow).where(JobRow.state == QUEUED).order_by(JobRow.id).limit(1))
    if job is not None:
        job.state, job.started, job.begun = RUNNING, now(), job.begun + 1
        job.what, job.done, job.total = "", 0, 0
    return job


def take_back(session: Session, why: str | None) -> list[JobRow]:
    """Puts what was under way back into the queue, when the worker that did it has ended; gives up what
    was begun too often.

    Args:
        why: how it ended, in words; None if it was asked to, for which no job is to blame.
    """
    jobs = list(session.scalars(select(JobRow).where(JobRow.state == RUNNING)))
    for job in jobs:
        if job.stop:
            end(job, STOPPED, "")
        elif why is None:
            job.state, job.what, job.begun = QUEUED, "", job.begun - 1
        elif job.begun >= ATTEMPTS:
            end(job, FAILED, f"{why} in this job {job.begun} times, so it is not begun again")
        else:
            job.state, job.what = QUEUED, ""
    return jobs


def end(job: JobRow, state: str, sentence: str, made: Mapping[str, Any] | None = None) -> None:
    """Ends a job."""
    job.state, job.sentence, job.ended = state, sentence, now()
    job.made = dict(made) if made is not None else None


def stop(session: Session, job: JobRow) -> None:
    """Wants a job to end: at once if it waits, as soon as the worker looks if it is under way."""
    if job.state == QUEUED:
        end(job, STOPPED, "")
    elif job.state == RUNNING:
        job.stop = True


def progressed(session: Session, job_id: int, what: str, done: int, total: int) -> bool:
    """Notes how far a job is; whether it is to go on."""
    session.execute(update(JobRow).where(JobRow.id == job_id).values(what=what, done=done, total=total))
    return not session.scalar(select(JobRow.stop).where(JobRow.id == job_id))


def note(session: Session, name: str, value: Mapping[str, Any]) -> None:
    """Keeps a fact under its name."""
    row = {"name": name, "value": dict(value)}
    session.execute(insert(FactRow).values(row).on_conflict_do_update(["name"], set_={"value": row["value"]}))


def fact(session: Session, name: str) -> dict[str, Any]:
    """What is known under a name; empty if nothing is."""
    row = session.get(FactRow, name)
    return row.value if row else {}


def seconds_since(moment: str | None) -> float:
    """Seconds that have passed since a moment; 0 for none."""
    if moment is None:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def seconds_of(session: Session, kind: str) -> float | None:
    """How long a job of this kind will take: as the last ones did, else as was planned when the model was
    opened; None where nobody knows.
    """
    lasted = (func.julianday(JobRow.ended) - func.julianday(JobRow.started)) * 86400
    done = select(lasted).where(JobRow.kind == kind, JobRow.state == DONE).order_by(JobRow.id.desc())
    if recent := list(session.scalars(done.limit(REMEMBERED))):
        return float(median(recent))
    planned = fact(session, "plan").get(kind)
    return float(planned) if planned is not None else None
