"""The catalogue: its tracks, to be searched and heard; what each one shaped; what is not in it, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse

from linernotes.desk import reading
from linernotes.desk.desk import Desk
from linernotes.desk.drawing import desk_of, draw, draw_part, send, wants_part
from linernotes.desk.limits import PAGE_ROWS, Number, Offset
from linernotes.desk.schema import TrackRow
from linernotes.desk.slow import slowly

router = APIRouter()
REMEDIES = "Mend them and build the catalogue anew with 'linernotes catalog build'."


@router.get("/catalogue")
def listed(
    request: Request,
    words: Annotated[str, Query(max_length=200)] = "",
    split: Annotated[str, Query(pattern="^(train|decoy)?$")] = "",
    offset: Offset = 0,
) -> HTMLResponse:
    """Tracks by what is written of them."""
    desk = desk_of(request)
    trouble = desk.catalogue_trouble()
    with desk.database.reading() as session:
        page = reading.tracks(session, words, split, offset, PAGE_ROWS)
    context: dict[str, Any] = {
        "page": page,
        "words": words,
        "split": split,
        "query": urlencode({"words": words, "split": split}),
    }
    if wants_part(request):
        return draw_part("catalogue_table.html.j2", **context)
    rejects = 0 if trouble else len(desk.catalogue().rejects())
    return draw(request, "catalogue.html.j2", **context, trouble=trouble, rejects=rejects)


@router.get("/catalogue/rejects")
def rejects(request: Request) -> HTMLResponse:
    """Files that are not in the catalogue, with reason and remedy."""
    return draw(request, "rejects.html.j2", rejects=desk_of(request).catalogue().rejects(), remedies=REMEDIES)


@router.get("/catalogue/tracks/{place}")
def track(request: Request, place: Number) -> HTMLResponse:
    """A track, and the clips it shaped."""
    desk = desk_of(request)
    trouble = desk.catalogue_trouble()
    with desk.database.reading() as session:
        row = _row(session.get(TrackRow, place))
        shaped = reading.shaped_by(session, row.track_id, desk.opened.method)
    starts = {round(one.share.start_s, 2) for one in shaped if one.share.named}
    segment_s = desk.catalogue().encoding.segment_s if not trouble else 0.0
    marks = [
        {"start": start_s, "end": min(start_s + segment_s, row.seconds), "label": ""}
        for start_s in sorted(starts)
    ]
    total = sum(one.share.share or 0.0 for one in shaped)
    return draw(
        request,
        "track.html.j2",
        track=row,
        shaped=shaped,
        marks=json.dumps(marks if row.seconds > segment_s else []),
        total=total,
        trouble=trouble,
        method=desk.opened.method,
    )


@router.get("/catalogue/tracks/{place}/sound")
async def sound(request: Request, place: Number) -> FileResponse:
    """A track, to be heard."""
    heard, _ = await slowly(_prepared, desk_of(request), place)
    return send(heard, "audio/mpeg")


@router.get("/catalogue/tracks/{place}/peaks.json")
async def peaks(request: Request, place: Number) -> FileResponse:
    """The outline of its waveform."""
    _, outline = await slowly(_prepared, desk_of(request), place)
    return send(outline, "application/json")


def _prepared(desk: Desk, place: int) -> tuple[Path, Path]:
    with desk.database.reading() as session:
        row = _row(session.get(TrackRow, place))
    catalogue = desk.catalogue()
    return desk.sounds.of_track(catalogue.path, catalogue.hash, row.place)


def _row(row: TrackRow | None) -> TrackRow:
    if row is None:
        raise HTTPException(404, "there is no such track")
    return row
