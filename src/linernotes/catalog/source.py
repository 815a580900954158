"""Reads a folder in the audiofolder convention (audio files and ``metadata.csv`` or ``metadata.jsonl``) -> rows and rejects.

Every row and every file is accounted for: it becomes a ``Row``, or a ``Reject`` that says why not.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from linernotes.artefacts import hash_json
from linernotes.audio import SUFFIXES
from linernotes.errors import LinernotesError

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
OTHER_SOUND = {".m4a", ".aac", ".aif", ".aiff", ".wma", ".ape", ".wv", ".caf", ".au", ".mp4", ".m4b", ".alac"}
SPLITS = ("train", "decoy")


@dataclass(frozen=True)
class Track:
    """One recording of the catalogue. ``extra`` holds the metadata columns linernotes has no use for itself."""

    track_id: str
    file_name: str
    title: str
    artist: str = ""
    album: str = ""
    isrc: str = ""
    iswc: str = ""
    licence: str = ""
    source: str = ""
    work_id: str = ""
    caption: str = ""
    split: str = "train"
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reject:
    """A file or row that is not in the catalogue, and why: ``reason`` in a word or two, ``detail`` in a sentence."""

    file_name: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Source:
    """A folder of recordings as it was listed: tracks whose file exists, in the order of their rows, and rejects."""

    folder: Path
    tracks: list[Track]
    rejects: list[Reject]

    @property
    def hash(self) -> str:
        """Changes when a row, or the size or time of a file, changes."""
        stats = [(self.folder / track.file_name).stat() for track in self.tracks]
        rows = [[t.__dict__, s.st_size, s.st_mtime_ns] for t, s in zip(self.tracks, stats, strict=True)]
        return hash_json([str(self.folder.resolve()), rows, [r.__dict__ for r in self.rejects]])


def read_source(folder: Path) -> Source:
    """Lists ``folder``. Without a metadata file every audio file is a track, titled by its name.

    Raises:
        LinernotesError: no such folder, unreadable metadata, no ``file_name`` column, or no audio at all.
    """
    if not folder.is_dir():
        raise LinernotesError(f"{folder} is not a folder: give the folder that holds the recordings and their metadata.csv")
    present = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    listed = [p.relative_to(folder).as_posix() for p in present if p.suffix.lower() in SUFFIXES]
    files = {name for name in listed if _sayable(name)}
    file_in_form = {unicodedata.normalize("NFC", name): name for name in files}  # a name can be spelled in two ways
    rows = _metadata(folder)
    if rows is None:
        rows = [{"file_name": name} for name in sorted(files)]
    tracks: list[Track] = []
    rejects: list[Reject] = []
    named: set[str] = set()
    identifiers: set[str] = set()
    for number, row in enumerate(rows, start=1):
        given = row.get("file_name") or ""
        given = given if given in files else given.strip()
        name = PurePosixPath(given).as_posix() if given else ""
        name = file_in_form.get(unicodedata.normalize("NFC", name), name)
        problem = _problem(name, row, named, files, folder)
        named.add(name)
        if problem:
            rejects.append(Reject(_told(name) or f"(row {number})", *problem))
            continue
        track = _track(name, row)
        if track.track_id in identifiers:
            rejects.append(
                Reject(name, "duplicate id", f"track_id {track.track_id!r} stands in an earlier row; give each its own")
            )
            continue
        identifiers.add(track.track_id)
        tracks.append(track)
    for name in listed:
        if not _sayable(name):
            rejects.append(Reject(_told(name), "unreadable name", "its name is not UTF-8; rename it"))
    for name in sorted(files - named):
        rejects.append(Reject(name, "no row", "the metadata has no row for this file; add one or remove the file"))
    for path in present:
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in OTHER_SOUND and name not in named:
            rejects.append(Reject(_told(name), "unsupported", f"use one of {', '.join(SUFFIXES)}"))
    if not tracks:
        raise LinernotesError(
            f"{folder} yields no track ({len(rejects)} rejected{': ' + rejects[0].detail if rejects else ''}): "
            f"put {', '.join(SUFFIXES)} files there, named in metadata.csv"
        )
    return Source(folder, tracks, rejects)


def _metadata(folder: Path) -> list[dict[str, str]] | None:
    found = [folder / name for name in METADATA_NAMES if (folder / name).exists()]
    if not found:
        return None
    if len(found) > 1:
        raise LinernotesError(f"{folder} has both {' and '.join(METADATA_NAMES)}: remove one")
    path = found[0]
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows = [
                {k: v for k, v in row.items() if k and v is not None} for row in csv.DictReader(io.StringIO(text, newline=""))
            ]
        else:
            rows = [_flat(json.loads(line)) for line in text.split("\n") if line.strip()]
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error, AttributeError) as error:
        raise LinernotesError(f"{path} cannot be read ({error}): save it as UTF-8 {path.suffix[1:].upper()}") from None
    if not rows or not any("file_name" in row for row in rows):
        raise LinernotesError(f"{path} has no rows with a file_name: add that column, with paths relative to {folder}")
    return rows


def _flat(row: dict[str, object]) -> dict[str, str]:
    return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in row.items() if v is not None}


def _problem(name: str, row: dict[str, str], named: set[str], files: set[str], folder: Path) -> tuple[str, str] | None:
    if not all(map(_sayable, [*row, *row.values()])):
        return "unreadable text", "the row holds characters that are no text; write it anew"
    if not name:
        return "no file name", "the row names no file; fill in file_name"
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return "outside", "file_name leads out of the folder; move the file inside"
    if name in named:
        return "duplicate row", "an earlier row names the same file; remove one"
    if name not in files:
        try:
            there = (folder / name).is_file()
        except (OSError, ValueError):  # no file can have this name
            there = False
        if there and PurePosixPath(name).suffix.lower() not in SUFFIXES:
            return "unsupported", f"use one of {', '.join(SUFFIXES)}"
        if not there:
            return "missing", "the row names a file that is not there; add the file or remove the row"
    split = (row.get("split") or "train").strip()
    if split not in SPLITS:
        return "unknown split", f"split is {split!r}; use {' or '.join(SPLITS)}"
    return None


def _sayable(text: str) -> bool:
    """Whether a text is one: file names may be any bytes, and JSON may hold halves of characters."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _told(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _track(name: str, row: dict[str, str]) -> Track:
    values = {k: v.strip() for k, v in row.items() if v and v.strip()}
    if "license" in values:
        values.setdefault("licence", values.pop("license"))
    known = {k: values.pop(k) for k in list(values) if k in Track.__dataclass_fields__ and k != "extra"}
    known["file_name"] = name
    known.setdefault("track_id", str(PurePosixPath(name).with_suffix("")))
    known.setdefault("title", PurePosixPath(name).stem)
    return Track(**known, extra=dict(sorted(values.items())))  # type: ignore[arg-type]
