"""Comparisons: several methods on one clip, several clips of one prompt."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from linernotes.artefacts import read_json
from linernotes.desk import reading
from linernotes.desk.asks import Compare, require_comparable
from linernotes.desk.drawing import desk_of, draw, see
from linernotes.desk.pages.clips import clip_row
from linernotes.desk.schema import AttributionRow, ClipRow, ComparisonRow, ShareRow, TrackRow
from linernotes.settings.methods import METHOD_SETTINGS

router = APIRouter()
SIDE_BY_SIDE = 10  # first tracks of a column
MOST_CLIPS = 8
QUICK = ("readout", "latent", "activations")  # what is ticked: the default and the best likenesses


@router.get("/compare")
def choose(request: Request, clip: str = "") -> HTMLResponse:
    """What can be compared, and what was."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        chosen = clip_row(session, clip) if clip else None
        clips = session.scalars(select(ClipRow).order_by(ClipRow.created.desc()).limit(100)).all()
        made = session.execute(
            select(ComparisonRow, ClipRow)
            .join(ClipRow, ClipRow.id == ComparisonRow.clip_id)
            .order_by(ComparisonRow.created.desc())
            .limit(50)
        ).all()
        prompts = session.execute(
            select(ClipRow.prompt, func.count(), func.min(ClipRow.id))
            .where(ClipRow.prompt.is_not(None))
            .group_by(ClipRow.prompt)
            .having(func.count() > 1)
        ).all()
    return draw(
        request,
        "compare.html.j2",
        chosen=chosen,
        clips=clips,
        made=made,
        prompts=prompts,
        methods={name: settings.family for name, settings in METHOD_SETTINGS.items()},
        ticked=QUICK,
    )


@router.post("/compare")
def ask(
    request: Request,
    clip_id: Annotated[str, Form(max_length=16)],
    methods: Annotated[list[str] | None, Form()] = None,
) -> RedirectResponse:
    """Compares methods on a clip."""
    chosen = [name for name in METHOD_SETTINGS if name in (methods or [])]
    require_comparable(chosen)
    desk = desk_of(request)
    with desk.database.reading() as session:
        clip_row(session, clip_id)
    job = desk.ask(Compare(clip_id=clip_id, methods=chosen), clip_id)
    return see(f"/compare?asked={job.id}")


@router.get("/compare/prompt")
def prompt(request: Request, clip: str) -> HTMLResponse:
    """The clips of one prompt, side by side."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        of = clip_row(session, clip)
        if of.prompt is None:
            raise HTTPException(404, "nobody knows this clip's prompt")
        clips = reading.of_prompt(session, of.prompt)[:MOST_CLIPS]
        columns = []
        for one in clips:
            rows = [r for r in reading.attributions_of(session, one.id) if r.method == desk.opened.method]
            columns.append(
                {"clip": one, "row": rows[0] if rows else None, "first": first_tracks(session, rows[:1])}
            )
    return draw(request, "compare_prompt.html.j2", prompt=of.prompt, columns=columns)


@router.get("/compare/{comparison_id}")
def one(request: Request, comparison_id: str) -> HTMLResponse:
    """Several methods on one clip: what each puts first, and how far they agree."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        made = session.get(ComparisonRow, comparison_id)
        if made is None:
            raise HTTPException(404, "there is no such comparison")
        clip = clip_row(session, made.clip_id)
        rows = [session.get(AttributionRow, name) for name in made.attributions]
        columns = [{"row": row, "first": first_tracks(session, [row])} for row in rows if row is not None]
    agreement = read_json(desk.folder.comparison(made.id) / "agreement.json", "a comparison")
    return draw(
        request, "compare_methods.html.j2", clip=clip, columns=columns, agreement=agreement, made=made
    )


def first_tracks(session: Session, rows: list[AttributionRow]) -> list[tuple[ShareRow, TrackRow | None]]:
    """What an attribution puts first, with what the catalogue says of it."""
    if not rows:
        return []
    found = session.execute(
        select(ShareRow, TrackRow)
        .outerjoin(TrackRow, TrackRow.track_id == ShareRow.track_id)
        .where(ShareRow.attribution_id == rows[0].id, ShareRow.number <= SIDE_BY_SIDE)
        .order_by(ShareRow.number)
    ).all()
    return [(share, track) for share, track in found]
