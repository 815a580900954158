"""What programs are answered, and what they ask with: the shapes of JSON under ``/api``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from linernotes.desk.asks import Method


class Shown(BaseModel):
    """What is answered, read from a row."""

    model_config = ConfigDict(from_attributes=True)


class Problem(BaseModel):
    """One plain sentence: what is wrong, and the remedy."""

    error: str


class ClipAnswer(Shown):
    """A clip."""

    id: str
    name: str
    prompt: str | None
    seconds: float
    origin: str
    seed: int | None
    model_hash: str | None
    created: str


class AttributionAnswer(Shown):
    """What lists say of an attribution; the record itself is at its own address."""

    id: str
    clip_id: str
    method: str
    model: str
    model_hash: str
    catalogue_hash: str
    sentence: str
    named: int
    remainder: float | None
    lent: bool
    credited: str | None
    verified: str | None
    created: str


class JobAnswer(Shown):
    """A job: what is asked, how far it is, what came of it. ``seconds_left`` is null where nobody knows."""

    id: int
    kind: str
    asked: dict[str, Any]
    clip_id: str | None
    state: str
    what: str
    done: int
    total: int
    sentence: str
    made: dict[str, Any] | None
    created: str
    started: str | None
    ended: str | None
    seconds_left: float | None = None


class TrackAnswer(Shown):
    """A track of the catalogue."""

    place: int
    track_id: str
    title: str
    artist: str
    split: str
    seconds: float
    details: dict[str, Any]


class ShapedAnswer(BaseModel):
    """A clip that a track shaped."""

    clip_id: str
    attribution_id: str
    number: int
    named: bool
    share: float | None
    expected: float | None
    low: float | None
    high: float | None


class StatementAnswer(Shown):
    """What lists say of a statement."""

    id: str
    period: str
    clips: list[str]
    left_out: list[list[str]]
    checks: list[dict[str, Any]] | None
    audited: str | None
    created: str


class Clips(BaseModel):
    """Part of the list of clips."""

    rows: list[ClipAnswer]
    total: int


class Jobs(BaseModel):
    """Part of the list of jobs."""

    rows: list[JobAnswer]
    total: int


class Tracks(BaseModel):
    """Part of the list of tracks."""

    rows: list[TrackAnswer]
    total: int


class Statements(BaseModel):
    """Part of the list of statements."""

    rows: list[StatementAnswer]
    total: int


class Posted(BaseModel):
    """A clip that was sent: whether it is new, and the job that attributes it if so."""

    clip_id: str
    new: bool
    job_id: int | None


class AskedMethod(BaseModel):
    """By which method a clip is attributed; the desk's own if none is given."""

    model_config = ConfigDict(extra="forbid")
    method: Method | None = None


class AskedMethods(BaseModel):
    """By which methods a clip is compared."""

    model_config = ConfigDict(extra="forbid")
    methods: list[Method]
