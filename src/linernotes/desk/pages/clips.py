"""Clips: a list with what was found of each; one of them with its attribution, alive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from linernotes.attribution.result import PAGE, RECORD
from linernotes.credits.record import RECORD as CREDITS
from linernotes.credits.record import TABLE as CREDITS_TABLE
from linernotes.credits.record import Credits
from linernotes.desk import queue, reading
from linernotes.desk.asks import Attribute, Credit, Generate, Verify, known_method
from linernotes.desk.desk import Desk
from linernotes.desk.drawing import desk_of, draw, draw_part, see, send, wants_part
from linernotes.desk.folder import CONTENT, PARTS, VERIFIED
from linernotes.desk.limits import LONGEST_S, PAGE_ROWS, Number, Offset
from linernotes.desk.schema import ACTIVE, FAILED, AttributionRow, ClipRow, JobRow
from linernotes.desk.slow import slowly
from linernotes.desk.uploads import take_upload
from linernotes.errors import LinernotesError, UsageError
from linernotes.settings.methods import METHOD_SETTINGS

router = APIRouter()
SOUND_KINDS = {
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
}
KEPT = {
    RECORD: "application/json",
    PAGE: "text/html",
    "scores.parquet": "application/vnd.apache.parquet",
    "evidence.parquet": "application/vnd.apache.parquet",
    CREDITS: "application/json",
    CREDITS_TABLE: "text/csv",
}
PART_KINDS = {".mp3": "audio/mpeg", ".png": "image/png"}


@router.get("/")
def first() -> RedirectResponse:
    """Clips come first."""
    return see("/clips")


@router.get("/clips")
def listed(
    request: Request,
    words: Annotated[str, Query(max_length=200)] = "",
    verdict: Annotated[str, Query(pattern="^(named|none|open)?$")] = "",
    origin: Annotated[str, Query(pattern="^(generated|dropped)?$")] = "",
    offset: Offset = 0,
) -> HTMLResponse:
    """The list of clips, with what makes new ones."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        page = reading.clips(session, words, verdict, origin, offset, PAGE_ROWS, desk.opened.method)
        takes = queue.seconds_of(session, "attribute")
        made = session.scalar(select(func.count()).where(ClipRow.origin == "generated")) or 0
    query = urlencode({"words": words, "verdict": verdict, "origin": origin})
    context: dict[str, Any] = {
        "page": page,
        "words": words,
        "verdict": verdict,
        "origin": origin,
        "query": query,
    }
    if wants_part(request):
        return draw_part("clips_table.html.j2", **context)
    return draw(
        request, "clips.html.j2", **context, takes=takes, next_seed=made, longest=f"{LONGEST_S / 60:g}"
    )


@router.post("/clips/generate")
def generate(
    request: Request, prompt: Annotated[str, Form(max_length=500)], seed: Annotated[str, Form()] = "0"
) -> RedirectResponse:
    """Makes a clip, and then attributes it."""
    try:
        ask = Generate(prompt=prompt.strip(), seed=int(seed or 0))
    except (ValueError, ValidationError):
        raise UsageError(
            "a clip needs a prompt of 1 to 500 letters, and a seed from 0 to 4294967295"
        ) from None
    job = desk_of(request).ask(ask)
    return see(f"/clips?asked={job.id}")


@router.post("/clips")
async def drop(
    request: Request, file: list[UploadFile], prompt: Annotated[str, Form(max_length=500)] = ""
) -> RedirectResponse:
    """Takes sound files, each with its sidecar if that is among them."""
    desk, given = desk_of(request), prompt.strip() or None
    taken = [await slowly(take_upload, desk, *pair, prompt=given) for pair in paired(file)]
    return see(f"/clips/{taken[0].clip_id}" if len(taken) == 1 else "/clips")


def paired(uploads: list[UploadFile]) -> list[tuple[UploadFile, UploadFile | None]]:
    """Sound files with the sidecars that are named after them."""
    sidecars = {one.filename or "": one for one in uploads if (one.filename or "").endswith(".safetensors")}
    sounds = [one for one in uploads if (one.filename or "") not in sidecars]
    if not sounds:
        raise UsageError("no sound file was given: drop the clip together with its sidecar")
    pairs = [(sound, sidecars.pop(f"{sound.filename}.safetensors", None)) for sound in sounds]
    if sidecars:
        name = next(iter(sidecars))
        raise UsageError(f"{name} is the sidecar of a clip that is not here: drop both together")
    return pairs


@router.get("/clips/{clip_id}")
def one(request: Request, clip_id: str, attribution: str = "") -> HTMLResponse:
    """A clip with one of its attributions."""
    desk = desk_of(request)
    desk.catalogue_trouble()  # opens one that was built anew
    with desk.database.reading() as session:
        clip = clip_row(session, clip_id)
        rows = list(reading.attributions_of(session, clip_id))
        worker = queue.fact(session, "worker")
        catalogue_hash = queue.fact(session, "tracks").get("hash")
        jobs = list(
            session.scalars(
                select(JobRow)
                .where(JobRow.clip_id == clip_id, JobRow.kind == "attribute")
                .order_by(JobRow.id.desc())
            )
        )
        waits = reading.waits(session)
        same = len(reading.of_prompt(session, clip.prompt)) if clip.prompt else 0
    preferred = [row for row in rows if row.method == desk.opened.method] or rows
    shown = next((row for row in rows if row.id == attribution), preferred[0] if preferred else None)
    job = next((job for job in jobs if job.state in ACTIVE), None)
    failed = jobs[0] if jobs and jobs[0].state == FAILED else None
    return draw(
        request,
        "clip.html.j2",
        clip=clip,
        attributions=rows,
        shown=shown,
        content=_content(desk, shown),
        credits=_credits(desk, shown),
        stale=bool(shown and catalogue_hash not in (None, shown.catalogue_hash)),
        model_hash=worker.get("model_hash"),
        job=job,
        wait=waits.get(job.id) if job else None,
        failed=failed,
        methods=list(METHOD_SETTINGS),
        default_method=desk.opened.method,
        same_prompt=same,
    )


def _content(desk: Desk, shown: AttributionRow | None) -> str:
    if shown is None:
        return ""
    path = desk.folder.attribution(shown.id) / CONTENT
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return (
            '<p class="notice wrong" role="alert">The files of this attribution are not in the desk\'s '
            "folder: attribute the clip again, or restore them from a copy.</p>"
        )


def _credits(desk: Desk, shown: AttributionRow | None) -> Credits | None:
    if shown is None or not shown.credited:
        return None
    try:
        return Credits.load(desk.folder.attribution(shown.id) / CREDITS)
    except LinernotesError:
        return None


@router.get("/clips/{clip_id}/sound")
def sound(request: Request, clip_id: str, keep: bool = False) -> FileResponse:
    """The clip as it came."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        clip = clip_row(session, clip_id)
    path = desk.folder.clip(clip.id) / clip.file
    if not path.is_file():
        raise LinernotesError(
            f"the clip {clip.name} is no longer in the desk's folder: restore it from a copy"
        )
    return send(path, SOUND_KINDS.get(path.suffix, "application/octet-stream"), path.name if keep else "")


@router.post("/clips/{clip_id}/attribute")
def attribute(
    request: Request, clip_id: str, method: Annotated[str, Form(max_length=40)]
) -> RedirectResponse:
    """Attributes a clip again, by a method."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        clip_row(session, clip_id)
    job = desk.ask(Attribute(clip_id=clip_id, method=known_method(method)), clip_id)
    return see(f"/clips/{clip_id}?asked={job.id}")


@router.get("/attributions/{attribution_id}")
def attribution_page(request: Request, attribution_id: str) -> RedirectResponse:
    """On to the clip's page with this attribution."""
    with desk_of(request).database.reading() as session:
        row = attribution_row(session, attribution_id)
    return see(f"/clips/{row.clip_id}?attribution={row.id}")


@router.get("/attributions/{attribution_id}/parts/{name}")
def part(request: Request, attribution_id: str, name: str) -> FileResponse:
    """A sound or a picture of an attribution's page."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    return send(_within(desk.folder.attribution(row.id) / PARTS, name), PART_KINDS.get(Path(name).suffix, ""))


@router.get("/attributions/{attribution_id}/verify.html")
def verified(request: Request, attribution_id: str) -> Response:
    """The page of a verification: one file with everything in it, and without scripts here."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    path = _within(desk.folder.attribution(row.id) / VERIFIED, "verify.html")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; sandbox"
    return Response(path.read_bytes(), media_type="text/html", headers={"Content-Security-Policy": policy})


@router.get("/attributions/{attribution_id}/{name}")
def kept(request: Request, attribution_id: str, name: str) -> FileResponse:
    """A file that the command line writes as well, to be kept."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    if name not in KEPT:
        raise HTTPException(404, "there is no such file")
    return send(_within(desk.folder.attribution(row.id), name), KEPT[name], name)


@router.post("/attributions/{attribution_id}/credit")
def credit(request: Request, attribution_id: str) -> RedirectResponse:
    """Says whose the clip is."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    job = desk.ask(Credit(attribution_id=row.id), row.clip_id)
    return see(f"/clips/{row.clip_id}?attribution={row.id}&asked={job.id}")


@router.post("/attributions/{attribution_id}/verify")
def verify(request: Request, attribution_id: str) -> RedirectResponse:
    """Trains again without the first tracks."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    job = desk.ask(Verify(attribution_id=row.id), row.clip_id)
    return see(f"/clips/{row.clip_id}?attribution={row.id}&asked={job.id}")


@router.post("/jobs/{job_id}/stop")
def stop(request: Request, job_id: Number) -> Response:
    """Does not want a job any more."""
    desk = desk_of(request)
    with desk.database.writing() as session:
        job = session.get(JobRow, job_id)
        if job is None:
            raise HTTPException(404, "there is no such job")
        queue.stop(session, job)
    if wants_part(request):
        return Response(status_code=204)
    return see("/clips")


def clip_row(session: Session, clip_id: str) -> ClipRow:
    """A clip, or the page that says that there is none."""
    row = session.get(ClipRow, clip_id)
    if row is None:
        raise HTTPException(404, "there is no such clip")
    return row


def attribution_row(session: Session, attribution_id: str) -> AttributionRow:
    """An attribution, or the page that says that there is none."""
    row = session.get(AttributionRow, attribution_id)
    if row is None:
        raise HTTPException(404, "there is no such attribution")
    return row


def _within(folder: Path, name: str) -> Path:
    """A file that a folder holds, by its name among those that are there: no path is made of what was
    asked.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == name and path.is_file():
            return path
    raise HTTPException(404, "there is no such file")
