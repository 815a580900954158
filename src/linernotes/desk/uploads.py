"""Clips that are dropped in: taken in pieces and never larger than allowed, looked at in a process of its
own, with limits of memory and time, and filed under a hash of what they are.
"""

from __future__ import annotations

import hashlib
import json
import resource
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from safetensors import SafetensorError, safe_open

from linernotes.artefacts import hash_json
from linernotes.audio.formats import SUFFIXES
from linernotes.desk import queue
from linernotes.desk.asks import Attribute
from linernotes.desk.folder import DeskFolder
from linernotes.desk.limits import LONGEST_S, SIDECAR_BYTES, UPLOAD_BYTES
from linernotes.desk.schema import ClipRow
from linernotes.errors import LinernotesError, UsageError

if TYPE_CHECKING:
    from linernotes.desk.desk import Desk


DECODING_S = 60  # of computing
DECODING_BYTES = 3 << 30  # of address space, of which sound takes what it takes and the interpreter the rest
PIECE = 1 << 20
AT_ONCE = threading.Semaphore(2)  # files that are decoded


@dataclass(frozen=True)
class Examined:
    """What was found in a file that is sound."""

    seconds: float
    rate_hz: int
    channels: int


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clip_id(content: str, prompt: str | None) -> str:
    """The name of a clip: the same sound, given with the same prompt, is the same clip."""
    return hash_json([content, prompt])


def examine(path: Path, longest_s: float = LONGEST_S, name: str = "") -> Examined:
    """Decodes a file in a process of its own.

    Args:
        name: what the file is called by whoever gave it.

    Raises:
        LinernotesError: it is no sound, damaged, too long, or takes too much memory or time to tell.
    """
    words = [sys.executable, "-m", "linernotes.desk.examining", str(path), f"{longest_s:g}"]
    called = name or path.name
    try:
        with AT_ONCE:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=4 * DECODING_S,
                preexec_fn=_limited,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise LinernotesError(
            f"{called} takes too long to decode: export it again as FLAC or WAV, and drop that"
        ) from None
    if done.returncode != 0:
        raise LinernotesError(
            f"{called} cannot be decoded within {DECODING_BYTES >> 30} GiB of memory and {DECODING_S} s: "
            "export it again as FLAC or WAV, and drop that"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise LinernotesError(str(answer["error"]).replace(str(path), called))
    return Examined(**answer)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (DECODING_S, DECODING_S))
    resource.setrlimit(resource.RLIMIT_AS, (DECODING_BYTES, DECODING_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


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
    called = plain_name(sound.filename or "")
    suffix = suffix_of(called)
    with received(desk.folder, suffix) as path, received(desk.folder, ".safetensors") as beside:
        _kept(sound, path, UPLOAD_BYTES, called)
        origin, seed, model_hash = "dropped", None, None
        if sidecar is not None:
            _kept(sidecar, beside, SIDECAR_BYTES, "the sidecar")
            header = _header(beside, called)
            if prompt not in (None, header["prompt"]):
                raise UsageError(f"{called} was generated from {header['prompt']!r}: leave out its prompt")
            prompt, origin = str(header["prompt"]), "generated"
            seed, model_hash = int(header["seed"]), str(header["model_hash"])
        name = clip_id(file_hash(path), prompt)
        with desk.database.reading() as session:
            if session.get(ClipRow, name) is not None:
                return Taken(name, False, None)
        found = examine(path, name=called)
        _file_clip(desk, name, path, beside if sidecar is not None else None)
    with desk.database.writing() as session:
        if session.get(ClipRow, name) is not None:
            return Taken(name, False, None)
        row = ClipRow(
            id=name,
            name=called,
            prompt=prompt,
            file=f"clip{suffix}",
            seconds=found.seconds,
            origin=origin,
            seed=seed,
            model_hash=model_hash,
        )
        session.add(row)
        session.flush()
        ask = Attribute(clip_id=name, method=desk.opened.method)
        job = queue.ask(session, "attribute", ask.model_dump(), f"attribute {ask.key}", name)
        return Taken(name, True, job.id)


def _kept(given: Given, path: Path, most: int, called: str) -> None:
    """Writes what was given, as far as it may go."""
    count = 0
    with path.open("wb") as file:
        while piece := given.file.read(PIECE):
            count += len(piece)
            if count > most:
                raise UsageError(f"{called} is larger than {most >> 20} MiB: cut it, and drop a part")
            file.write(piece)


def _file_clip(desk: Desk, name: str, path: Path, sidecar: Path | None) -> None:
    """Puts a clip into its folder, whole or not at all."""
    place = desk.folder.clip(name)
    unfinished = path.with_suffix(".folder")
    unfinished.mkdir()
    try:
        path.replace(unfinished / f"clip{path.suffix}")
        if sidecar is not None:
            sidecar.replace(unfinished / f"clip{path.suffix}.safetensors")
        place.parent.mkdir(exist_ok=True)
        with suppress(OSError):  # somebody dropped the same one at the same time
            unfinished.replace(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _header(path: Path, called: str) -> dict[str, Any]:
    """What a sidecar says of its clip; whether that is true is seen when the clip is attributed."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
        return {name: header[name] for name in ("prompt", "seed", "model_hash")}
    except (SafetensorError, ValueError, KeyError, OSError):
        raise LinernotesError(
            f"the sidecar of {called} cannot be read: drop the clip without it, with its prompt"
        ) from None
