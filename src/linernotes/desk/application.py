"""The web application: its routes, what it says when something is wrong, and the stream of what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from sqlalchemy.exc import DatabaseError, OperationalError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from linernotes.desk import programs
from linernotes.desk.desk import Desk
from linernotes.desk.drawing import draw
from linernotes.desk.happening import Happenings
from linernotes.desk.limits import FORM_BYTES, MOST, SIDECAR_BYTES, UPLOAD_BYTES
from linernotes.desk.pages import accounts, blind, catalogue, clips, compare, truth
from linernotes.desk.receiving import Limited
from linernotes.desk.refusing import Caught, refusal
from linernotes.desk.security import Gate, Guard
from linernotes.desk.worker import FULL, said_of, sentence_of
from linernotes.errors import LinernotesError, UsageError
from linernotes.version import __version__

REPORT_FILES = {"shared.css": "text/css", "page.css": "text/css", "page.js": "text/javascript"}
TITLES = {400: "That cannot be done", 404: "Nothing is here", 405: "That cannot be done here", 409: "Not now"}
WRONG = "Something went wrong"


def create_application(desk: Desk, gate: Gate) -> FastAPI:
    """The application of an opened desk."""
    happenings = Happenings(desk)

    @asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().run_in_executor(None, _made_ready, desk)
        following = asyncio.create_task(happenings.follow())
        yield
        following.cancel()

    app = FastAPI(
        title="linernotes desk",
        version=__version__,
        description="Clips, what shaped them, and whose they are. What pages do, for programs.",
        docs_url=None,
        redoc_url=None,
        lifespan=living,
    )
    app.state.desk = desk
    app.state.happenings = happenings
    app.add_middleware(Limited, form=FORM_BYTES, upload=UPLOAD_BYTES + SIDECAR_BYTES)
    app.add_middleware(Caught)
    app.add_middleware(Guard, gate=gate)  # the last one added is asked first
    for part in (clips, catalogue, compare, blind, accounts, truth):
        app.include_router(part.router, include_in_schema=False)
    app.include_router(programs.router)
    app.mount("/static/vendor", StaticFiles(packages=[("linernotes.desk", "static/vendor")]))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        return _static(name)

    @app.get("/events", include_in_schema=False)
    async def events(request: Request, asked: Annotated[int, Query(ge=0, le=MOST)] = 0) -> StreamingResponse:
        return StreamingResponse(
            happenings.stream(request, asked),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    _say_what_is_wrong(app)
    return app


def _made_ready(desk: Desk) -> None:
    """Does beforehand what whoever comes first would wait for, and all others with them: enters the tracks
    that are searched, and imports what takes seconds.
    """
    desk.catalogue_trouble()
    truth.warm()  # imports scipy, which holds up every thread
    if desk.supervisor is not None:
        desk.sounds.warm()


def _static(name: str) -> Response:
    """A file of the package: the desk's own, or one that it shares with reports."""
    headers = {"Cache-Control": "private, max-age=300"}
    if name in REPORT_FILES:
        content = files("linernotes.report").joinpath(f"{name}.j2").read_bytes()
        return Response(content, media_type=REPORT_FILES[name], headers=headers)
    kinds = {"desk.css": "text/css", "desk.js": "text/javascript", "icon.svg": "image/svg+xml"}
    if name not in kinds:
        raise HTTPException(404, "there is no such file")
    return Response(
        files("linernotes.desk").joinpath("static", name).read_bytes(),
        media_type=kinds[name],
        headers=headers,
    )


def _say_what_is_wrong(app: FastAPI) -> None:
    """One plain sentence, as a page for readers and as JSON for programs."""

    def said(request: Request, status: int, sentence: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": sentence}, status)
        if request.headers.get("hx-request") == "true":
            return Response(sentence, status, media_type="text/plain")
        return draw(request, "wrong.html.j2", status, title=TITLES.get(status, WRONG), sentence=sentence)

    @app.exception_handler(LinernotesError)
    def refused(request: Request, error: LinernotesError) -> Response:
        return said(request, 422 if isinstance(error, UsageError) else 400, _capital(str(error)))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, OSError):  # while the body was kept
            return disk(request, error.__cause__)
        unknown = error.status_code == 404 and error.detail == "Not Found"
        sentence = f"there is no page at {request.url.path[:200]}" if unknown else str(error.detail)
        return said(request, error.status_code, _capital(sentence))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return said(request, 422, f"{where or 'the request'} is wrong: {first['msg'].lower()}")

    @app.exception_handler(OperationalError)
    def database(request: Request, error: OperationalError) -> Response:
        status = 507 if "full" in str(error.orig) else 503
        return refusal(request.url.path, status, _capital(sentence_of(error)) + ".")

    @app.exception_handler(DatabaseError)
    def damaged(request: Request, error: DatabaseError) -> Response:
        sentence = f"The desk's database is damaged ({error.orig}): restore its folder from a copy."
        return refusal(request.url.path, 503, sentence)

    @app.exception_handler(OSError)
    def disk(request: Request, error: OSError) -> Response:
        status = 507 if error.errno in FULL else 500
        return refusal(request.url.path, status, _capital(said_of(error)))


def _capital(sentence: str) -> str:
    """With a capital letter, unless it begins with a file's name."""
    return sentence[:1].upper() + sentence[1:] if sentence.partition(" ")[0].isalpha() else sentence
