"""The same for programs: JSON under ``/api``, described at ``/openapi.json`` and, for readers, at ``/docs``.

Lists come in parts (``offset``, ``limit``). A request with an ``Idempotency-Key`` is carried out once,
however often it is sent; a clip that is posted twice is one clip even without.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Header, HTTPException, Query, Request, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from linernotes.attribution.result import RECORD
from linernotes.credits.record import RECORD as CREDITS
from linernotes.credits.statement_record import RECORD as STATEMENT
from linernotes.desk import queue, reading
from linernotes.desk.answering import answered, once
from linernotes.desk.answers import (
    AskedMethod,
    AskedMethods,
    AttributionAnswer,
    ClipAnswer,
    Clips,
    JobAnswer,
    Jobs,
    Posted,
    Problem,
    ShapedAnswer,
    StatementAnswer,
    Statements,
    TrackAnswer,
    Tracks,
)
from linernotes.desk.asks import (
    Ask,
    Attribute,
    Audit,
    Compare,
    Credit,
    Generate,
    State,
    Verify,
    kind_of,
    known_method,
    require_comparable,
)
from linernotes.desk.desk import Desk
from linernotes.desk.drawing import desk_of, draw, send
from linernotes.desk.limits import MOST_ROWS, PAGE_ROWS, Number, Offset
from linernotes.desk.pages.accounts import statement_row
from linernotes.desk.pages.clips import attribution_row, clip_row
from linernotes.desk.schema import JobRow, StatementRow, TrackRow
from linernotes.desk.slow import slowly
from linernotes.desk.uploads import hash_of, looked_at

router = APIRouter()

Name = Annotated[str, InPath(pattern="^[0-9a-f]{16}$", description="An identifier, 16 hexadecimal digits.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many rows at most.")]
Words = Annotated[str, Query(max_length=200, description="All of them must occur.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The request is carried out once under this key; sent again, it gets the same answer.",
    ),
]


WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 413, 421, 422, 503, 507)
}
api = APIRouter(prefix="/api", responses=WRONG)


def queued(request: Request, key: str | None, ask: Ask, clip_id: str | None = None) -> JSONResponse:
    """A job that is asked for."""

    def do(session: Session) -> JobAnswer:
        return JobAnswer.model_validate(queue.ask(session, ask, clip_id))

    return once(desk_of(request).database, key, [kind_of(ask), ask.model_dump()], 202, do)


@api.get("/clips", tags=["clips"])
def clips(
    request: Request,
    words: Words = "",
    verdict: Literal["", "named", "none", "open"] = "",
    origin: Literal["", "generated", "dropped"] = "",
    offset: Offset = 0,
    limit: Limit = PAGE_ROWS,
) -> Clips:
    """Clips, newest first."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        page = reading.clips(session, words, verdict, origin, offset, limit, desk.opened.method)
    return Clips(rows=[ClipAnswer.model_validate(one.clip) for one in page.rows], total=page.total)


@api.post("/clips", tags=["clips"], status_code=201, response_model=Posted)
async def post_clip(
    request: Request,
    file: UploadFile,
    sidecar: UploadFile | None = None,
    prompt: Annotated[str | None, Form(max_length=500)] = None,
    key: Key = None,
) -> JSONResponse:
    """Sends a sound file, with its sidecar if linernotes made it; it is attributed once, however often it is
    sent.
    """
    return await slowly(_posted, desk_of(request), file, sidecar, (prompt or "").strip() or None, key)


def _posted(
    desk: Desk, file: UploadFile, sidecar: UploadFile | None, prompt: str | None, key: str | None
) -> JSONResponse:
    sent = [hash_of(one.file) if one is not None else None for one in (file, sidecar)]
    wish = ["clip", file.filename, prompt, *sent]
    with desk.database.reading() as session:
        there = answered(session, key, wish)
    if there is not None:
        return there
    with looked_at(desk, file, sidecar, prompt) as enter:
        return once(desk.database, key, wish, 201, lambda session: Posted(**vars(enter(session))))


@api.post("/clips/generate", tags=["clips"], status_code=202, response_model=JobAnswer)
def post_generate(request: Request, asked: Generate, key: Key = None) -> JSONResponse:
    """Makes a clip from a prompt, and attributes it."""
    return queued(request, key, asked)


@api.get("/clips/{clip_id}", tags=["clips"])
def get_clip(request: Request, clip_id: Name) -> ClipAnswer:
    """A clip."""
    with desk_of(request).database.reading() as session:
        return ClipAnswer.model_validate(clip_row(session, clip_id))


@api.get("/clips/{clip_id}/attributions", tags=["attributions"])
def clip_attributions(request: Request, clip_id: Name) -> list[AttributionAnswer]:
    """A clip's attributions, newest first."""
    with desk_of(request).database.reading() as session:
        clip_row(session, clip_id)
        rows = reading.attributions_of(session, clip_id)
    return [AttributionAnswer.model_validate(row) for row in rows]


@api.post("/clips/{clip_id}/attributions", tags=["attributions"], status_code=202, response_model=JobAnswer)
def post_attribution(request: Request, clip_id: Name, asked: AskedMethod, key: Key = None) -> JSONResponse:
    """Attributes a clip by a method."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        clip_row(session, clip_id)
    method = known_method(asked.method or desk.opened.method)
    return queued(request, key, Attribute(clip_id=clip_id, method=method), clip_id)


@api.post("/clips/{clip_id}/comparisons", tags=["attributions"], status_code=202, response_model=JobAnswer)
def post_comparison(request: Request, clip_id: Name, asked: AskedMethods, key: Key = None) -> JSONResponse:
    """Attributes a clip by several methods, and says how far they agree."""
    with desk_of(request).database.reading() as session:
        clip_row(session, clip_id)
    methods = list(dict.fromkeys(known_method(name) for name in asked.methods))
    require_comparable(methods)
    return queued(request, key, Compare(clip_id=clip_id, methods=methods), clip_id)


@api.get("/attributions/{attribution_id}", tags=["attributions"], response_class=FileResponse)
def get_attribution(request: Request, attribution_id: Name) -> FileResponse:
    """The record: the very ``attribution.json`` that the command line writes."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    return send(desk.folder.attribution(row.id) / RECORD, "application/json")


@api.post(
    "/attributions/{attribution_id}/credits", tags=["accounts"], status_code=202, response_model=JobAnswer
)
def post_credits(request: Request, attribution_id: Name, key: Key = None) -> JSONResponse:
    """Says whose a clip is."""
    with desk_of(request).database.reading() as session:
        row = attribution_row(session, attribution_id)
    return queued(request, key, Credit(attribution_id=row.id), row.clip_id)


@api.get("/attributions/{attribution_id}/credits", tags=["accounts"], response_class=FileResponse)
def get_credits(request: Request, attribution_id: Name) -> FileResponse:
    """The very ``credits.json`` that the command line writes."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    path = desk.folder.attribution(row.id) / CREDITS
    if not path.exists():
        raise HTTPException(404, "this clip was not credited yet")
    return send(path, "application/json")


@api.post(
    "/attributions/{attribution_id}/verification",
    tags=["attributions"],
    status_code=202,
    response_model=JobAnswer,
)
def post_verification(request: Request, attribution_id: Name, key: Key = None) -> JSONResponse:
    """Trains again without the first tracks, and makes the clip again."""
    with desk_of(request).database.reading() as session:
        row = attribution_row(session, attribution_id)
    return queued(request, key, Verify(attribution_id=row.id), row.clip_id)


@api.get("/tracks", tags=["catalogue"])
def tracks(
    request: Request,
    words: Words = "",
    split: Literal["", "train", "decoy"] = "",
    offset: Offset = 0,
    limit: Limit = PAGE_ROWS,
) -> Tracks:
    """Tracks by full text over title, artist, album, caption and identifiers."""
    desk = desk_of(request)
    desk.catalogue()
    with desk.database.reading() as session:
        page = reading.tracks(session, words, split, offset, limit)
    return Tracks(rows=[TrackAnswer.model_validate(row) for row in page.rows], total=page.total)


@api.get("/tracks/{place}/clips", tags=["catalogue"])
def track_clips(request: Request, place: Number) -> list[ShapedAnswer]:
    """Clips that a track shaped, by its place in the catalogue."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = session.get(TrackRow, place)
        if row is None:
            raise HTTPException(404, "there is no such track")
        shaped = reading.shaped_by(session, row.track_id, desk.opened.method)
    return [
        ShapedAnswer(
            clip_id=one.clip.id,
            attribution_id=one.attribution.id,
            number=one.share.number,
            named=one.share.named,
            share=one.share.share,
            expected=one.share.expected,
            low=one.share.low,
            high=one.share.high,
        )
        for one in shaped
    ]


@api.get("/statements", tags=["accounts"])
def statements(request: Request, offset: Offset = 0, limit: Limit = PAGE_ROWS) -> Statements:
    """Statements, newest first."""
    with desk_of(request).database.reading() as session:
        total = session.scalar(select(func.count()).select_from(StatementRow)) or 0
        rows = reading.statements(session)[offset : offset + limit]
    return Statements(rows=[StatementAnswer.model_validate(row) for row in rows], total=total)


@api.post("/statements", tags=["accounts"], status_code=202, response_model=JobAnswer)
def post_statement(request: Request, asked: State, key: Key = None) -> JSONResponse:
    """Accounts for a period: credits what is not credited yet, sums up, signs, audits."""
    from linernotes.credits.statement import period_days

    period_days(asked.period)
    return queued(request, key, asked)


@api.get("/statements/{statement_id}", tags=["accounts"], response_class=FileResponse)
def get_statement(request: Request, statement_id: Name) -> FileResponse:
    """The very ``statement.json`` that the command line writes."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = statement_row(session, statement_id)
    return send(desk.folder.statement(row.id) / STATEMENT, "application/json")


@api.post("/statements/{statement_id}/audit", tags=["accounts"], status_code=202, response_model=JobAnswer)
def post_audit(request: Request, statement_id: Name, key: Key = None) -> JSONResponse:
    """Checks a statement again."""
    with desk_of(request).database.reading() as session:
        row = statement_row(session, statement_id)
    return queued(request, key, Audit(statement_id=row.id))


@api.get("/jobs", tags=["jobs"])
def jobs(request: Request, offset: Offset = 0, limit: Limit = PAGE_ROWS) -> Jobs:
    """Jobs, newest first."""
    with desk_of(request).database.reading() as session:
        total = session.scalar(select(func.count()).select_from(JobRow)) or 0
        rows = session.scalars(select(JobRow).order_by(JobRow.id.desc()).offset(offset).limit(limit)).all()
        waits = reading.waits(session)
    return Jobs(rows=[_job(row, waits) for row in rows], total=total)


@api.get("/jobs/{job_id}", tags=["jobs"])
def get_job(request: Request, job_id: Number) -> JobAnswer:
    """A job."""
    with desk_of(request).database.reading() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise HTTPException(404, "there is no such job")
        return _job(row, reading.waits(session))


@api.post("/jobs/{job_id}/stop", tags=["jobs"])
def stop_job(request: Request, job_id: Number) -> JobAnswer:
    """Does not want a job any more; it ends as soon as the worker looks."""
    with desk_of(request).database.writing() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise HTTPException(404, "there is no such job")
        queue.stop(session, row)
        return _job(row, {})


def _job(row: JobRow, waits: dict[int, float | None]) -> JobAnswer:
    return JobAnswer.model_validate(row).model_copy(update={"seconds_left": waits.get(row.id)})


router.include_router(api)


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """What programs can ask, for readers; drawn from the same description that programs get."""
    described = request.app.openapi()
    calls = [
        {"method": method.upper(), "path": path, **call}
        for path, methods in described["paths"].items()
        for method, call in methods.items()
    ]
    return draw(request, "programs.html.j2", calls=calls)
