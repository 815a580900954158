"""Clips that are dropped in: taken in pieces and never larger than allowed, looked at in a process of its
own, with limits of memory and time, and filed under a hash of what they are.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Protocol

from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open
from sqlalchemy.orm import Session

from linernotes.audio.formats import SUFFIXES
from linernotes.desk import queue
from linernotes.desk.asks import Attribute
from linernotes.desk.filing import clip_id
from linernotes.desk.folder import DeskFolder
from linernotes.desk.limits import LONGEST_S, SIDECAR_BYTES, UPLOAD_BYTES
from linernotes.desk.schema import ClipRow
from linernotes.errors import LinernotesError, UsageError
from linernotes.records.seal import sha256_of

if TYPE_CHECKING:
    from linernotes.desk.desk import Desk


PIECE = 1 << 20
AT_ONCE = threading.Semaphore(2)  # files that are decoded
SEEDS = 2**63  # that the database can keep


@dataclass(frozen=True)
class Decoding:
    """What telling whether a file is sound may cost."""

    seconds: int = 60  # of computing
    megabytes: int = 3 << 10  # of address space: sound takes what it takes, and the interpreter the rest


@dataclass(frozen=True)
class Examined:
    """What was found in a file that is sound."""

    seconds: float
    rate_hz: int
    channels: int


def hash_of(file: BinaryIO) -> str:
    """SHA-256 of an opened file, from its beginning and back to there."""
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def examine(
    path: Path, longest_s: float = LONGEST_S, name: str = "", may_take: Decoding = Decoding()
) -> Examined:
    """Decodes a file in a process of its own.

    Args:
        name: what the file is called by whoever gave it.

    Raises:
        LinernotesError: it is no sound, damaged, too long, or takes too much memory or time to tell.
    """
    numbers = (f"{longest_s:g}", str(may_take.seconds), str(may_take.megabytes << 20))
    words = [sys.executable, "-m", "linernotes.desk.examining", str(path), *numbers]
    called = name or path.name
    too_much = (
        f"{called} cannot be decoded within {may_take.megabytes} MiB of memory and {may_take.seconds} s: "
        "export it again as FLAC or WAV, and drop that"
    )
    try:
        with AT_ONCE:
            # four times the time, since a decoder may wait without computing
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=4 * may_take.seconds, check=False
            )
    except subprocess.TimeoutExpired:
        raise LinernotesError(too_much) from None
    if done.returncode != 0 or not done.stdout:
        raise LinernotesError(too_much)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise LinernotesError(str(answer["error"]).replace(str(path), called))
    return Examined(**answer)


@contextmanager
def received(folder: DeskFolder, suffix: str) -> Iterator[Path]:
    """A path for an upload, which is gone at the end unless it was moved."""
    folder.incoming.mkdir(parents=True, exist_ok=True)
    path = folder.incoming / f"{secrets.token_hex(8)}{suffix}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def suffix_of(name: str) -> str:
    """The suffix of an upload's name, if it is one of sound."""
    suffix = Path(name.replace("\\", "/")).suffix.lower()
    if suffix not in SUFFIXES:
        raise LinernotesError(
            f"{plain_name(name)!r} is not called like sound: give a file that ends in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return suffix


def plain_name(name: str) -> str:
    """An upload's name without folders and control characters, as it is shown; no file is ever called by
    it.
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:120] or "clip"


@dataclass(frozen=True)
class Taken:
    """A clip that was dropped in."""

    clip_id: str
    new: bool
    job_id: int | None


class Given(Protocol):
    """A file as a request brings it."""

    filename: str | None
    file: BinaryIO


def take_upload(desk: Desk, sound: Given, sidecar: Given | None, prompt: str | None) -> Taken:
    """Files a clip and asks for its attribution; one that is there already is found and asked for nothing.

    Raises:
        LinernotesError: it is no sound, or too large, too long, or another clip's sidecar came with it.
    """
    with looked_at(desk, sound, sidecar, prompt) as enter, desk.database.writing() as session:
        return enter(session)


@contextmanager
def looked_at(
    desk: Desk, sound: Given, sidecar: Given | None, prompt: str | None
) -> Iterator[Callable[[Session], Taken]]:
    """Keeps a clip's file and looks at it: what enters it, together with whatever else that session enters.

    Raises:
        LinernotesError: as ``take_upload``.
    """
    called = plain_name(sound.filename or "")
    suffix = suffix_of(sound.filename or "")
    with received(desk.folder, suffix) as path, received(desk.folder, ".safetensors") as beside:
        _kept(sound, path, UPLOAD_BYTES, called)
        said: Said | None = None
        if sidecar is not None:
            _kept(sidecar, beside, SIDECAR_BYTES, "the sidecar")
            said = _header(beside, called)
            if prompt not in (None, said.prompt):
                raise UsageError(f"{called} was generated from {said.prompt!r}: leave out its prompt")
            prompt = said.prompt
        name = clip_id(sha256_of(path), prompt, said is not None)
        with desk.database.reading() as session:
            there = session.get(ClipRow, name) is not None
        if there:
            yield lambda session: Taken(name, False, None)
            return
        found = examine(path, name=called)
        file = _file_clip(desk, name, path, beside if said is not None else None)

        def enter(session: Session) -> Taken:
            if session.get(ClipRow, name) is not None:
                return Taken(name, False, None)
            row = ClipRow(
                id=name,
                name=called,
                prompt=prompt,
                file=file,
                seconds=found.seconds,
                origin="generated" if said else "dropped",
                seed=said.seed if said else None,
                model_hash=said.model_hash if said else None,
            )
            session.add(row)
            session.flush()
            job = queue.ask(session, Attribute(clip_id=name, method=desk.opened.method), name)
            return Taken(name, True, job.id)

        yield enter


def _kept(given: Given, path: Path, most: int, called: str) -> None:
    """Writes what was given, as far as it may go."""
    count = 0
    with path.open("wb") as file:
        while piece := given.file.read(PIECE):
            count += len(piece)
            if count > most:
                raise UsageError(f"{called} is larger than {most >> 20} MiB: cut it, and drop a part")
            file.write(piece)


def _file_clip(desk: Desk, name: str, path: Path, sidecar: Path | None) -> str:
    """Puts a clip into its folder, whole or not at all; what its file is called there."""
    place = desk.folder.clip(name)
    unfinished = path.with_suffix(".folder")
    unfinished.mkdir()
    try:
        path.replace(unfinished / f"clip{path.suffix}")
        if sidecar is not None:
            sidecar.replace(unfinished / f"clip{path.suffix}.safetensors")
        place.parent.mkdir(exist_ok=True)
        try:
            unfinished.replace(place)
        except OSError:
            if not place.is_dir():
                raise
            # somebody dropped the same one at the same time, or before the desk was ended
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return next(one.name for one in place.iterdir() if one.stem == "clip" and one.suffix in SUFFIXES)


class Said(BaseModel):
    """What a sidecar says of its clip."""

    prompt: Annotated[str, Field(max_length=500)]
    seed: Annotated[int, Field(ge=0, lt=SEEDS)]
    model_hash: Annotated[str, Field(max_length=100)]


def _header(path: Path, called: str) -> Said:
    """What a sidecar says of its clip; whether that is true is seen when the clip is attributed."""
    try:
        with safe_open(path, framework="numpy") as file:
            return Said.model_validate_json((file.metadata() or {}).get("header", "{}"))
    except (SafetensorError, ValidationError, OSError):
        raise LinernotesError(
            f"the sidecar of {called} cannot be read: drop the clip without it, with its prompt"
        ) from None
