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
from linernotes.desk.schema import ACTIVE, JobRow

EVERY_S = 0.5
ALIVE_S = 15.0  # a comment, so that a connection whose reader has gone is noticed


class Happenings:
    """Follows the queue of jobs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._readers: set[asyncio.Queue[str]] = set()
        self._panel, self._seen = "", ""
        self._under_way: set[int] = set()

    async def follow(self) -> None:
        """Looks, and tells; for as long as the server runs."""
        while True:
            if self._readers:
                try:
                    for event in await asyncio.to_thread(self._look):
                        for reader in self._readers:
                            reader.put_nowait(event)
                except OperationalError:
                    pass  # held by somebody else: it is looked at again
            await asyncio.sleep(EVERY_S)

    def _look(self) -> list[str]:
        with self._desk.database.reading() as session:
            listed = reading.jobs(session)
            signature = json.dumps(
                [(job.id, job.state, job.what, job.done, job.total, job.stop) for job in listed]
            )
            if signature == self._seen:
                return []
            self._seen = signature
            panel = jobs_panel(listed, reading.waits(session, listed))
            gone = self._under_way - {job.id for job in listed if job.state in ACTIVE}
            ended = [session.get(JobRow, one) for one in gone]
            self._under_way = set(session.scalars(select(JobRow.id).where(JobRow.state.in_(ACTIVE))))
        self._panel = panel
        events = [_event("jobs", panel)]
        if ended:
            events.append(_event("ended", [_told(job) for job in ended if job is not None]))
        return events

    async def stream(self, request: Request) -> AsyncIterator[str]:
        """What one page is told, from now on."""
        reader: asyncio.Queue[str] = asyncio.Queue()
        self._readers.add(reader)
        try:
            if self._panel:
                yield _event("jobs", self._panel)
            while not await request.is_disconnected():
                try:
                    yield await asyncio.wait_for(reader.get(), ALIVE_S)
                except TimeoutError:
                    yield ": nothing\n\n"
        finally:
            self._readers.discard(reader)


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
