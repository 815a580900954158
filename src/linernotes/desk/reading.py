"""What pages and programs read of the database, as plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Double, Integer, Select, column, func, or_, select, text
from sqlalchemy.orm import Session

from linernotes.attribution.result import FIRST_TRACKS
from linernotes.desk import queue
from linernotes.desk.schema import (
    ACTIVE,
    RUNNING,
    AttributionRow,
    ClipRow,
    JobRow,
    ShareRow,
    SittingRow,
    StatementRow,
    TrackRow,
    TrialRow,
)

Row = TypeVar("Row")
WAITING_SHOWN = 20  # jobs under way or waiting, in the list of jobs; further ones are counted
FINISHED_SHOWN = 6  # jobs that ended, in the list of jobs


@dataclass(frozen=True)
class Listed:
    """A clip with its newest attribution by the desk's method, or what is under way for it."""

    clip: ClipRow
    attribution: AttributionRow | None
    job: JobRow | None


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Part of a list."""

    rows: Sequence[Row]
    total: int
    offset: int
    limit: int

    @property
    def more(self) -> bool:
        return self.offset + len(self.rows) < self.total


def clips(
    session: Session,
    words: str = "",
    verdict: str = "",
    origin: str = "",
    offset: int = 0,
    limit: int = 50,
    method: str = "",
) -> Page[Listed]:
    """Clips, newest first.

    Args:
        words: in name or prompt, all of them.
        verdict: ``named`` (some track is), ``none`` (none is) or ``open`` (not attributed yet).
        origin: ``generated`` or ``dropped``.
        method: whose attribution stands beside a clip.
    """
    newest = (
        select(AttributionRow.clip_id, func.max(AttributionRow.created).label("created"))
        .where(AttributionRow.method == method)
        .group_by(AttributionRow.clip_id)
        .subquery()
    )
    found: Select[Any, Any] = (
        select(ClipRow, AttributionRow)
        .outerjoin(newest, newest.c.clip_id == ClipRow.id)
        .outerjoin(
            AttributionRow,
            (AttributionRow.clip_id == ClipRow.id)
            & (AttributionRow.method == method)
            & (AttributionRow.created == newest.c.created),
        )
    )
    for word in words.split()[:10]:
        like = f"%{_plain(word)}%"
        found = found.where(
            or_(ClipRow.name.ilike(like, escape="\\"), ClipRow.prompt.ilike(like, escape="\\"))
        )
    if origin:
        found = found.where(ClipRow.origin == origin)
    if verdict == "named":
        found = found.where(AttributionRow.named > 0)
    elif verdict == "none":
        found = found.where(AttributionRow.named == 0)
    elif verdict == "open":
        found = found.where(AttributionRow.id.is_(None))
    total = session.scalar(select(func.count()).select_from(found.subquery("counted"))) or 0
    rows = session.execute(
        found.order_by(ClipRow.created.desc(), ClipRow.id).offset(offset).limit(limit)
    ).all()
    under_way = {
        job.clip_id: job
        for job in session.scalars(
            select(JobRow).where(JobRow.state.in_(ACTIVE), JobRow.clip_id.is_not(None))
        )
    }
    return Page([Listed(clip, row, under_way.get(clip.id)) for clip, row in rows], total, offset, limit)


def attributions_of(session: Session, clip_id: str) -> Sequence[AttributionRow]:
    """All answers for a clip, newest first."""
    rows = select(AttributionRow).where(AttributionRow.clip_id == clip_id)
    return session.scalars(rows.order_by(AttributionRow.created.desc())).all()


def jobs(session: Session) -> list[JobRow]:
    """What is under way and waits first, in order, then what ended last."""
    active = session.scalars(
        select(JobRow).where(JobRow.state.in_(ACTIVE)).order_by(JobRow.id).limit(WAITING_SHOWN)
    ).all()
    ended = session.scalars(
        select(JobRow).where(JobRow.state.not_in(ACTIVE)).order_by(JobRow.ended.desc()).limit(FINISHED_SHOWN)
    ).all()
    return [*active, *ended]


def waits(session: Session) -> dict[int, float | None]:
    """Seconds until each job under way or waiting is done; None where nobody knows."""
    found: dict[int, float | None] = {}
    known: dict[str, float | None] = {}  # by kind
    until: float | None = 0.0
    active = select(JobRow.id, JobRow.kind, JobRow.state, JobRow.started).where(JobRow.state.in_(ACTIVE))
    for name, kind, state, started in session.execute(active.order_by(JobRow.id)):
        if kind not in known:
            known[kind] = queue.seconds_of(session, kind)
        takes = known[kind]
        if takes is not None and state == RUNNING:
            takes = max(0.0, takes - queue.seconds_since(started))
        until = None if until is None or takes is None else until + takes
        found[name] = until
    return found


def tracks(session: Session, words: str, split: str, offset: int, limit: int) -> Page[TrackRow]:
    """Tracks by full text over title, artist, album, caption and identifiers; all of them, in the
    catalogue's order, if no words are given.
    """
    found = select(TrackRow)
    if split:
        found = found.where(TrackRow.split == split)
    if query := matching(words):
        hits = text("SELECT rowid AS place, rank AS hit FROM track_words WHERE track_words MATCH :query")
        hit = hits.bindparams(query=query).columns(column("place", Integer), column("hit", Double)).subquery()
        found = found.join(hit, hit.c.place == TrackRow.place).order_by(hit.c.hit)
    total = session.scalar(select(func.count()).select_from(found.subquery())) or 0
    return Page(
        session.scalars(found.order_by(TrackRow.place).offset(offset).limit(limit)).all(),
        total,
        offset,
        limit,
    )


def matching(words: str) -> str:
    """What FTS5 is asked for: every word, the last one as far as it was written."""
    parts = [
        "".join(c for c in word if c.isalnum() or c in "_'") for word in words.replace("-", " ").split()[:12]
    ]
    parts = [part.replace("'", " ").strip() for part in parts]
    parts = [part for part in parts if part]
    return " ".join(f'"{part}"*' if i == len(parts) - 1 else f'"{part}"' for i, part in enumerate(parts))


@dataclass(frozen=True)
class Shaped:
    """A clip that a track shaped."""

    clip: ClipRow
    attribution: AttributionRow
    share: ShareRow


def shaped_by(session: Session, track_id: str, method: str) -> list[Shaped]:
    """Clips in which a track is named, largest share first; then those where it is among the first only."""
    rows = session.execute(
        select(ClipRow, AttributionRow, ShareRow)
        .join(AttributionRow, AttributionRow.id == ShareRow.attribution_id)
        .join(ClipRow, ClipRow.id == AttributionRow.clip_id)
        .where(ShareRow.track_id == track_id, AttributionRow.method == method)
        .where(or_(ShareRow.named, ShareRow.number <= FIRST_TRACKS))
    ).all()
    found = [Shaped(*row) for row in rows]
    return sorted(found, key=lambda one: (not one.share.named, -(one.share.share or 0), one.share.number))


def of_prompt(session: Session, prompt: str) -> Sequence[ClipRow]:
    """Clips of one prompt, oldest first."""
    return session.scalars(select(ClipRow).where(ClipRow.prompt == prompt).order_by(ClipRow.created)).all()


def statements(session: Session) -> Sequence[StatementRow]:
    """All statements, newest first."""
    return session.scalars(select(StatementRow).order_by(StatementRow.created.desc())).all()


def sittings(session: Session) -> list[tuple[SittingRow, ClipRow, list[TrialRow]]]:
    """All blind tests, newest first, with their clips and pairs."""
    rows = session.execute(
        select(SittingRow, ClipRow)
        .join(AttributionRow, AttributionRow.id == SittingRow.attribution_id)
        .join(ClipRow, ClipRow.id == AttributionRow.clip_id)
        .order_by(SittingRow.created.desc())
    ).all()
    return [(sitting, clip, list(trials(session, sitting.id))) for sitting, clip in rows]


def trials(session: Session, sitting_id: str) -> Sequence[TrialRow]:
    """The pairs of a blind test, in order."""
    rows = select(TrialRow).where(TrialRow.sitting_id == sitting_id)
    return session.scalars(rows.order_by(TrialRow.number)).all()


def _plain(word: str) -> str:
    """A word whose signs mean themselves in LIKE."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
