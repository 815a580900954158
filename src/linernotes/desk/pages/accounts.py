"""Accounts: statements by period, whose lines open to their clips; signed, audited, exported."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from linernotes.credits.statement import period_days
from linernotes.credits.statement_record import EXPORT, RECORD, TABLE, read_statement
from linernotes.desk import reading
from linernotes.desk.asks import Audit, State
from linernotes.desk.drawing import desk_of, draw, see, send
from linernotes.desk.limits import PAGE_ROWS, Offset
from linernotes.desk.schema import AttributionRow, ClipRow, StatementRow
from linernotes.errors import UsageError

router = APIRouter()
SIGNATURE = "statement.sig.json"
KEPT = {
    RECORD: "application/json",
    TABLE: "text/csv",
    EXPORT: "text/tab-separated-values",
    SIGNATURE: "application/json",
}


@router.get("/accounts")
def listed(request: Request) -> HTMLResponse:
    """All statements, and the form for another."""
    with desk_of(request).database.reading() as session:
        rows = reading.statements(session)
    return draw(request, "accounts.html.j2", rows=rows, this_month=datetime.now(UTC).strftime("%Y-%m"))


@router.post("/accounts")
def state(request: Request, period: Annotated[str, Form(max_length=7)]) -> RedirectResponse:
    """Accounts for a period."""
    period_days(period.strip())
    try:
        ask = State(period=period.strip())
    except ValidationError:  # digits of another script, which are digits to Python
        raise UsageError(f"{period.strip()} is no period: write 2026-11, 2026-Q4 or 2026") from None
    job = desk_of(request).ask(ask)
    return see(f"/accounts?asked={job.id}")


@router.get("/accounts/key.pub")
def public_key(request: Request) -> FileResponse:
    """What statements are checked with by those who receive them."""
    key = desk_of(request).folder.key
    public = key.with_name(f"{key.name}.pub")
    if not public.exists():
        raise HTTPException(404, "no statement was signed yet")
    return send(public, "text/plain", "desk.pub")


@router.get("/accounts/{statement_id}")
def one(request: Request, statement_id: str, offset: Offset = 0) -> HTMLResponse:
    """A statement: parties, lines with their clips, what is left, and whether it holds."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = statement_row(session, statement_id)
        of_clip = {
            attribution.id: clip
            for attribution, clip in session.execute(
                select(AttributionRow, ClipRow)
                .join(ClipRow, ClipRow.id == AttributionRow.clip_id)
                .where(AttributionRow.id.in_(row.clips))
            )
        }
        left_out = [(session.get(ClipRow, clip), why) for clip, why in row.left_out]
    found, _ = read_statement(desk.folder.statement(row.id) / RECORD)
    pages = {entry.clip: of_clip.get(_attribution_of(entry.credits_file)) for entry in found.clips}
    shown = list(found.lines)[offset : offset + PAGE_ROWS]
    return draw(
        request,
        "statement.html.j2",
        row=row,
        statement=found,
        pages=pages,
        names={entry.clip: entry.name for entry in found.clips},
        lines=shown,
        page=reading.Page(shown, len(found.lines), offset, PAGE_ROWS),
        query="",
        left_out=left_out,
        signed=(desk.folder.statement(row.id) / SIGNATURE).exists(),
    )


@router.post("/accounts/{statement_id}/audit")
def audit(request: Request, statement_id: str) -> RedirectResponse:
    """Checks a statement again."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = statement_row(session, statement_id)
    job = desk.ask(Audit(statement_id=row.id))
    return see(f"/accounts/{row.id}?asked={job.id}")


@router.get("/accounts/{statement_id}/{name}")
def kept(request: Request, statement_id: str, name: str) -> FileResponse:
    """A statement's file, to be kept or sent."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = statement_row(session, statement_id)
    path = desk.folder.statement(row.id) / name
    if name not in KEPT or not path.is_file():
        raise HTTPException(404, "there is no such file")
    return send(path, KEPT[name], f"{row.period}-{name}")


def statement_row(session: Session, statement_id: str) -> StatementRow:
    """A statement, or the page that says that there is none."""
    row = session.get(StatementRow, statement_id)
    if row is None:
        raise HTTPException(404, "there is no such statement")
    return row


def _attribution_of(credits_file: str) -> str:
    """The attribution beside which credits lie, by their path in a desk's folder."""
    parts = credits_file.split("/")
    return parts[-2] if len(parts) > 1 else ""
