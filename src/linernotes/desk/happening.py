"""What happens at a desk, told to all pages that are open: one look at the database for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from linernotes.desk import reading
from linernotes.desk.desk import Desk
from linernotes.desk.drawing import jobs_panel
from linernotes.desk.schema import JobRow

EVERY_S = 0.5
REMEMBERED = 100  # jobs that ended last
END = ""
ALIVE_S = 15.0  # a comment, so that a connection whose reader has gone is noticed


class Happenings:
    """Follows the queue of jobs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._readers: set[asyncio.Queue[str]] = set()
        self._panel, self._seen = "", ""
        self._told: set[int] | None = None  # jobs of which it was told that they ended
        self._loop: asyncio.AbstractEventLoop | None = None

    async def follow(self) -> None:
        """Looks, and tells; for as long as the server runs."""
        self._loop = asyncio.get_running_loop()
        while True:
            try:  # with nobody there, too: whoever comes in between must miss nothing
                for event in await asyncio.to_thread(self._look):
                    self._send(event)
            except OperationalError:
                pass  # held by somebody else: it is looked at again
            await asyncio.sleep(EVERY_S)

    def _send(self, event: str) -> None:
        for reader in self._readers:
            reader.put_nowait(event)

    def _look(self) -> list[str]:
        with self._desk.database.reading() as session:
            listed = reading.jobs(session)
            newest = select(JobRow).where(JobRow.ended.is_not(None)).order_by(JobRow.ended.desc())
            ended = list(session.scalars(newest.limit(REMEMBERED)))
            signature = json.dumps(
                [(job.id, job.state, job.what, job.done, job.total, job.stop) for job in listed]
            )
            if signature == self._seen:
                return []
            self._seen = signature
            panel = jobs_panel(listed, reading.waits(session))
        known = {job.id for job in ended} if self._told is None else self._told
        new = [job for job in ended if job.id not in known]
        self._told = {job.id for job in ended}
        self._panel = panel
        return [_event("jobs", panel), *([_event("ended", [_told(job) for job in new])] if new else [])]

    async def stream(self, request: Request, asked: int) -> AsyncIterator[str]:
        """What one page is told, from now on.

        Args:
            asked: the job that its reader waits for; told of at once if it has ended.
        """
        reader: asyncio.Queue[str] = asyncio.Queue()
        self._readers.add(reader)
        try:
            if self._panel:
                yield _event("jobs", self._panel)
            if asked and (there := await asyncio.to_thread(self._ended, asked)):
                yield _event("ended", [there])
            while not await request.is_disconnected():
                try:
                    event = await asyncio.wait_for(reader.get(), ALIVE_S)
                except TimeoutError:
                    event = ": nothing\n\n"
                if event == END:
                    return
                yield event
        finally:
            self._readers.discard(reader)

    def _ended(self, asked: int) -> dict[str, Any] | None:
        with self._desk.database.reading() as session:
            job = session.get(JobRow, asked)
        return _told(job) if job is not None and job.ended else None

    def end(self) -> None:
        """Ends all streams, so that the server need not wait for them; from whatever thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._send, END)


def _told(job: JobRow) -> dict[str, Any]:
    made = job.made or {}
    pages = {
        "clip": "/clips/",
        "comparison": "/compare/",
        "statement": "/accounts/",
        "sitting": "/blind/",
        "attribution": "/attributions/",
    }
    page = next((path + made[name] for name, path in pages.items() if name in made), "")
    clip_id = job.clip_id or made.get("clip")
    return {"id": job.id, "kind": job.kind, "clip_id": clip_id, "sentence": job.sentence, "page": page}


def _event(name: str, content: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
