"""What a desk's database holds. Tables change by migrations (``migrations/versions``), never here alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

QUEUED, RUNNING, DONE, FAILED, STOPPED = "queued", "running", "done", "failed", "stopped"
ACTIVE = (QUEUED, RUNNING)


def now() -> str:
    """The time as it is stored: UTC, ISO 8601, sortable as text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """What all tables have in common."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012 (SQLAlchemy's own name)


class ClipRow(Base):
    """A clip that was generated here or dropped in."""

    __tablename__ = "clip"
    id: Mapped[str] = mapped_column(
        primary_key=True
    )  # of its bytes and its prompt: the same clip is one clip
    name: Mapped[str]
    prompt: Mapped[str | None]  # None: nobody knows it
    file: Mapped[str]  # in the clip's folder
    seconds: Mapped[float]
    origin: Mapped[str]  # generated, dropped
    seed: Mapped[int | None] = mapped_column(default=None)
    model_hash: Mapped[str | None] = mapped_column(default=None)  # of the model that generated it
    created: Mapped[str] = mapped_column(default_factory=now)


class AttributionRow(Base):
    """One method's answer for one clip: what lists need of its record."""

    __tablename__ = "attribution"
    id: Mapped[str] = mapped_column(primary_key=True)  # of all that it depends on
    clip_id: Mapped[str] = mapped_column(ForeignKey("clip.id"), index=True)
    method: Mapped[str]
    model: Mapped[str]
    model_hash: Mapped[str]
    catalogue_hash: Mapped[str]
    sentence: Mapped[str]  # the verdict, or why there is none
    named: Mapped[int]
    remainder: Mapped[float | None]  # None: nothing is shared
    lent: Mapped[bool]
    tracks: Mapped[int]  # training tracks that were asked
    credited: Mapped[str | None] = mapped_column(default=None)  # when
    verified: Mapped[str | None] = mapped_column(default=None)
    created: Mapped[str] = mapped_column(default_factory=now)


class ShareRow(Base):
    """A track's place in an attribution."""

    __tablename__ = "share"
    attribution_id: Mapped[str] = mapped_column(ForeignKey("attribution.id"), primary_key=True)
    track_id: Mapped[str] = mapped_column(primary_key=True, index=True)
    number: Mapped[int]  # among training tracks
    score: Mapped[float]
    named: Mapped[bool]
    expected: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    share: Mapped[float | None]  # of a named track
    start_s: Mapped[float]  # where its best segment begins


class ComparisonRow(Base):
    """Several methods on one clip."""

    __tablename__ = "comparison"
    id: Mapped[str] = mapped_column(primary_key=True)
    clip_id: Mapped[str] = mapped_column(ForeignKey("clip.id"), index=True)
    methods: Mapped[list[Any]]
    attributions: Mapped[list[Any]]  # their ids, in the methods' order
    created: Mapped[str] = mapped_column(default_factory=now)


class StatementRow(Base):
    """An account of a period."""

    __tablename__ = "statement"
    id: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(index=True)
    clips: Mapped[list[Any]]  # attribution ids
    left_out: Mapped[list[Any]]  # [clip id, why]
    checks: Mapped[list[Any] | None] = mapped_column(default=None)  # of the last audit
    audited: Mapped[str | None] = mapped_column(default=None)
    created: Mapped[str] = mapped_column(default_factory=now)


class SittingRow(Base):
    """A blind test: somebody, one clip, pairs of tracks."""

    __tablename__ = "sitting"
    id: Mapped[str] = mapped_column(primary_key=True)
    attribution_id: Mapped[str] = mapped_column(ForeignKey("attribution.id"), index=True)
    alike: Mapped[str]  # the column of which both tracks of a pair have the same value; empty: none
    created: Mapped[str] = mapped_column(default_factory=now)


class TrialRow(Base):
    """One pair of a blind test, and what was answered."""

    __tablename__ = "trial"
    sitting_id: Mapped[str] = mapped_column(ForeignKey("sitting.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    named_track: Mapped[str]
    other_track: Mapped[str]
    named_is: Mapped[str]  # a or b
    gains: Mapped[dict[str, Any]]  # of clip, a and b
    answer: Mapped[str | None] = mapped_column(default=None)  # a or b
    answered: Mapped[str | None] = mapped_column(default=None)


class JobRow(Base):
    """Something that the worker does, did or will do."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    kind: Mapped[str]
    asked: Mapped[dict[str, Any]]
    key: Mapped[str]  # the same while the same thing is asked for; one of each is under way at a time
    clip_id: Mapped[str | None] = mapped_column(default=None, index=True)
    state: Mapped[str] = mapped_column(String, default=QUEUED, index=True)
    what: Mapped[str] = mapped_column(default="")  # is being done
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    begun: Mapped[int] = mapped_column(default=0)  # how often
    stop: Mapped[bool] = mapped_column(default=False)  # somebody wants it to end
    sentence: Mapped[str] = mapped_column(default="")  # why it failed
    made: Mapped[dict[str, Any] | None] = mapped_column(default=None)  # what came of it, by id
    created: Mapped[str] = mapped_column(default_factory=now)
    started: Mapped[str | None] = mapped_column(default=None)
    ended: Mapped[str | None] = mapped_column(default=None)

    __table_args__ = (
        Index("job_under_way", "key", unique=True, sqlite_where=text("state IN ('queued', 'running')")),
    )


class AnswerRow(Base):
    """What a program was answered under an idempotency key."""

    __tablename__ = "answer"
    key: Mapped[str] = mapped_column(primary_key=True)
    asked: Mapped[str]  # a hash of the request
    status: Mapped[int]
    body: Mapped[dict[str, Any]]
    created: Mapped[str] = mapped_column(default_factory=now)


class FactRow(Base):
    """What server and worker tell each other: the model that is open, how long jobs take."""

    __tablename__ = "fact"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]


class TrackRow(Base):
    """A track of the catalogue that is open, to be searched (``track_words`` is its full text)."""

    __tablename__ = "track"
    place: Mapped[int] = mapped_column(primary_key=True)  # among the catalogue's tracks
    track_id: Mapped[str] = mapped_column(index=True)
    title: Mapped[str]
    artist: Mapped[str]
    split: Mapped[str]
    seconds: Mapped[float]
    details: Mapped[dict[str, Any]]
