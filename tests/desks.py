"""A desk to test: opened on a tiny real model, asked as a browser or a program asks it, worked off in this
process or by a worker of its own.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from starlette.testclient import TestClient

from conftest import RATE_HZ, SEGMENT_SAMPLES, tone
from linernotes.desk.application import create_application
from linernotes.desk.desk import Desk, open_desk
from linernotes.desk.opened import Opened
from linernotes.desk.schema import AttributionRow, ClipRow, JobRow
from linernotes.desk.security import Gate
from linernotes.desk.worker import Worker

OWN = "http://127.0.0.1:8420"
PATIENCE_S = 90.0  # for another process, on a machine that is busy


def wav(hz: float = 330.0, samples: int = SEGMENT_SAMPLES, kind: str = "WAV") -> bytes:
    """A sound file of a tone."""
    return sound_file(tone(hz, samples), kind)


def lossless(samples: int = SEGMENT_SAMPLES) -> tuple[bytes, bytes]:
    """The very same samples as WAV and as FLAC."""
    whole = np.round(tone(330.0, samples) * 2**14).astype(np.int16)
    return sound_file(whole), sound_file(whole, "FLAC")


def sound_file(samples: np.ndarray, kind: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=kind)
    return buffer.getvalue()


def browser(desk: Desk, gate: Gate | None = None, client: str = "127.0.0.1", at: str = OWN) -> TestClient:
    """What asks a desk, without a network between them."""
    application = create_application(desk, gate or Gate(desk.token))
    return TestClient(application, at, follow_redirects=False, client=(client, 50000))


@contextmanager
def reading_desk(folder: Path) -> Iterator[Desk]:
    """A desk at which nobody works, and whose model and catalogue are nowhere."""
    opened = Opened(folder=folder, model="no/model", catalogue="no/catalogue")
    with open_desk(opened, working=False) as desk:
        yield desk


def a_worker(desk: Desk) -> Worker:
    """A worker in this process, with model and catalogue open."""
    worker = Worker(desk.opened, desk.database, os.getppid())
    worker.open()
    return worker


def worked_off(desk: Desk) -> list[JobRow]:
    """All jobs, after a worker in this process has done those that wait."""
    worker = a_worker(desk)
    while worker.one():
        pass
    return jobs_of(desk)


def jobs_of(desk: Desk) -> list[JobRow]:
    """All jobs, in order."""
    with desk.database.reading() as session:
        return list(session.query(JobRow).order_by(JobRow.id))


def counted(desk: Desk, *tables: type) -> list[int]:
    """Rows in tables."""
    with desk.database.reading() as session:
        return [session.query(table).count() for table in tables]


def a_clip(name: str, moment: str = "2026-11-01T00:00:00.000Z", prompt: str | None = None) -> ClipRow:
    return ClipRow(
        id=name,
        name=f"{name}.wav",
        prompt=prompt,
        file="clip.wav",
        seconds=1.0,
        origin="dropped",
        created=moment,
    )


def an_attribution(name: str, clip: str, method: str = "readout") -> AttributionRow:
    return AttributionRow(
        id=name,
        clip_id=clip,
        method=method,
        model="tiny",
        model_hash="m" * 16,
        catalogue_hash="c" * 16,
        sentence="No track can be named.",
        named=0,
        remainder=None,
        lent=False,
        tracks=7,
    )


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, f"it did not come to it that {what}"
        time.sleep(0.05)
