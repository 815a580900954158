"""Blind tests: can people hear what the model says?"""

from __future__ import annotations

import csv
import io
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from linernotes.desk import reading
from linernotes.desk.asks import Sit
from linernotes.desk.drawing import desk_of, draw, see, send
from linernotes.desk.pages.clips import attribution_row, clip_row
from linernotes.desk.schema import AttributionRow, ClipRow, SittingRow, TrackRow, TrialRow, now
from linernotes.errors import UsageError
from linernotes.evaluation.listening import Told

router = APIRouter()
COLUMNS = (
    "sitting",
    "begun",
    "clip",
    "attribution",
    "pair",
    "alike_in",
    "named_track",
    "other_track",
    "chosen",
    "right",
    "answered",
)


def told(trials: list[TrialRow]) -> Told:
    """What answers come to."""
    answered = [trial for trial in trials if trial.answer]
    return Told(sum(trial.answer == trial.named_is for trial in answered), len(answered))


@router.get("/blind")
def listed(request: Request) -> HTMLResponse:
    """All tests, and what they say together."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        sat = reading.sittings(session)
        able = session.execute(
            select(AttributionRow, ClipRow)
            .join(ClipRow, ClipRow.id == AttributionRow.clip_id)
            .where(AttributionRow.named > 0, AttributionRow.method == desk.opened.method)
            .order_by(AttributionRow.created.desc())
            .limit(100)
        ).all()
    together = told([trial for _, _, trials in sat for trial in trials])
    rows = [(sitting, clip, told(trials), len(trials)) for sitting, clip, trials in sat]
    return draw(request, "blind.html.j2", rows=rows, together=together, able=able)


@router.post("/blind")
def begin(
    request: Request,
    attribution_id: Annotated[str, Form(max_length=16)],
    pairs: Annotated[int, Form(ge=1, le=20)] = 5,
) -> RedirectResponse:
    """Prepares a test of a clip."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        row = attribution_row(session, attribution_id)
    if not row.named:
        raise UsageError("no track of this clip is named, so there is nothing to hear: choose another clip")
    job = desk.ask(Sit(attribution_id=row.id, pairs=pairs, seed=secrets.randbelow(2**32)), row.clip_id)
    return see(f"/blind?asked={job.id}")


@router.get("/blind/answers.csv")
def answers(request: Request) -> Response:
    """All answers, one line a pair."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        sat = reading.sittings(session)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    for sitting, clip, trials in sat:
        writer.writerows(_line(sitting, clip, trial) for trial in trials if trial.answer)
    headers = {"Content-Disposition": 'attachment; filename="blind-test.csv"'}
    return Response(buffer.getvalue(), media_type="text/csv", headers=headers)


def _line(sitting: SittingRow, clip: ClipRow, trial: TrialRow) -> dict[str, Any]:
    chosen = trial.named_track if trial.answer == trial.named_is else trial.other_track
    return {
        "sitting": sitting.id,
        "begun": sitting.created,
        "clip": clip.id,
        "attribution": sitting.attribution_id,
        "pair": trial.number,
        "alike_in": sitting.alike,
        "named_track": trial.named_track,
        "other_track": trial.other_track,
        "chosen": chosen,
        "right": int(trial.answer == trial.named_is),
        "answered": trial.answered,
    }


@router.get("/blind/{sitting_id}")
def sit(request: Request, sitting_id: str) -> HTMLResponse:
    """The first pair that was not answered yet; in the end what came out."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        sitting, clip, trials = _sitting(session, sitting_id)
        titles = {
            track.track_id: track
            for track in session.scalars(
                select(TrackRow).where(
                    TrackRow.track_id.in_([name for t in trials for name in (t.named_track, t.other_track)])
                )
            )
        }
    following = next((trial for trial in trials if trial.answer is None), None)
    if following is None:
        return draw(
            request,
            "blind_done.html.j2",
            sitting=sitting,
            clip=clip,
            trials=trials,
            told=told(trials),
            titles=titles,
        )
    # nothing of which is which reaches the page before it is answered
    return draw(
        request,
        "blind_pair.html.j2",
        sitting=sitting.id,
        alike=sitting.alike,
        prompt=clip.prompt,
        number=following.number,
        of=len(trials),
        gains=following.gains,
    )


@router.get("/blind/{sitting_id}/{name}.mp3")
def heard(request: Request, sitting_id: str, name: str) -> FileResponse:
    """A sound of a test: the clip, or a side of a pair."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        _, _, trials = _sitting(session, sitting_id)
    known = {"clip", *(f"{trial.number}{side}" for trial in trials for side in "ab")}
    path = desk.folder.sitting(sitting_id) / f"{name}.mp3"
    if name not in known or not path.is_file():
        raise HTTPException(404, "there is no such sound")
    return send(path, "audio/mpeg")


@router.post("/blind/{sitting_id}")
def answer(
    request: Request,
    sitting_id: str,
    number: Annotated[int, Form()],
    chosen: Annotated[str, Form(alias="answer", pattern="^[ab]$")],
) -> RedirectResponse:
    """Keeps an answer; the first one to a pair stands."""
    desk = desk_of(request)
    with desk.database.writing() as session:
        _, _, trials = _sitting(session, sitting_id)
        trial = next((trial for trial in trials if trial.number == number), None)
        if trial is None:
            raise HTTPException(404, "there is no such pair")
        if trial.answer is None:
            trial.answer, trial.answered = chosen, now()
    return see(f"/blind/{sitting_id}")


def _sitting(session: Session, sitting_id: str) -> tuple[SittingRow, ClipRow, list[TrialRow]]:
    sitting = session.get(SittingRow, sitting_id)
    if sitting is None:
        raise HTTPException(404, "there is no such blind test")
    row = attribution_row(session, sitting.attribution_id)
    return sitting, clip_row(session, row.clip_id), list(reading.trials(session, sitting_id))
