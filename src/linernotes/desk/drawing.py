"""Pages: templates, what all of them show, and files that are sent in parts."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from linernotes.desk import queue, reading
from linernotes.desk.desk import Desk
from linernotes.desk.schema import JobRow
from linernotes.report.words import clock, percent
from linernotes.version import __version__

KIND_NAMES = {
    "generate": "make a clip",
    "attribute": "attribute",
    "compare": "compare methods",
    "verify": "verify",
    "credit": "credit",
    "state": "statement",
    "audit": "audit",
    "sit": "prepare a blind test",
    "measure": "measure methods",
}
STATE_NAMES = {
    "queued": "waits",
    "running": "under way",
    "done": "done",
    "failed": "failed",
    "stopped": "stopped",
}


def span(seconds: float | None) -> str:
    """A duration in words, as precise as a forecast is."""
    if seconds is None:
        return "nobody knows yet how long"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


def day(moment: str | None) -> str:
    """A stored time as a day and a minute, UTC."""
    if not moment:
        return ""
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("linernotes.desk", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clock": clock, "percent": percent, "day": day, "span": span, "json": json.dumps}
    environment.globals |= {"version": __version__, "kinds": KIND_NAMES, "states": STATE_NAMES}
    return environment


ENVIRONMENT = _environment()


def desk_of(request: Request) -> Desk:
    """The desk that a request is for."""
    desk: Desk = request.app.state.desk
    return desk


def wants_part(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


def draw(request: Request, name: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        worker = {"state": "starting", "sentence": "", **queue.fact(session, "worker")}
        listed = reading.jobs(session)
        panel = jobs_panel(listed, reading.waits(session))
    page = ENVIRONMENT.get_template(name).render(
        **context,
        at=request.url.path,
        nonce=request.scope.get("nonce", ""),
        panel=panel,
        worker=worker,
        model=desk.opened.model,
        catalogue_name=desk.opened.catalogue,
        working=desk.supervisor is not None,
    )
    return HTMLResponse(page, status)


def draw_part(name: str, **context: Any) -> HTMLResponse:
    """A part of a page."""
    return HTMLResponse(ENVIRONMENT.get_template(name).render(**context))


def jobs_panel(listed: list[JobRow], waits: dict[int, float | None]) -> str:
    """The list of jobs as HTML."""
    return ENVIRONMENT.get_template("jobs.html.j2").render(jobs=listed, waits=waits)


def see(path: str) -> RedirectResponse:
    """On to another page after something was changed."""
    return RedirectResponse(path, status_code=303)


def send(path: Path, kind: str, name: str = "") -> FileResponse:
    """A file of the desk's own, in whatever parts are asked for; under a ``name`` if it is to be kept."""
    if not path.is_file():
        raise HTTPException(404, "this file is not in the desk's folder any more: restore it from a copy")
    headers = {"Cache-Control": "private, max-age=3600"} if not name else {}
    return FileResponse(path, media_type=kind, filename=name or None, headers=headers)
