"""What a recording says of itself: title, artist, album, ISRC and year from its tags. A broken tag says
nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mutagen
from mutagen.id3 import ID3

from linernotes.audio import require_reach
from linernotes.catalog.columns import present
from linernotes.catalog.track import sayable

# one line a field; its names in ID3, Vorbis and APE comments, MP4 and WMA, the better ones first
KEYS = {
    "title": ("TIT2", "title", "\xa9nam", "Title"),
    "artist": ("TPE1", "artist", "\xa9ART", "Artist", "Author"),
    "album": ("TALB", "album", "\xa9alb", "Album", "WM/AlbumTitle"),
    "isrc": ("TSRC", "isrc", "ISRC", "----:com.apple.iTunes:ISRC", "WM/ISRC"),
    "year": ("TDRC", "TYER", "date", "year", "\xa9day", "Year", "WM/Year"),
}
INFO_KEYS = {
    b"INAM": "title",
    b"IART": "artist",
    b"IPRD": "album",
    b"ICRD": "year",
}  # its ISRC means "source"
INFO_BYTES = 1 << 20


def read_tags(path: Path) -> dict[str, str]:
    """The fields a recording's own tags fill; empty ones are left out."""
    found = _info(path)
    tags = _tags(path)
    for meaning, keys in KEYS.items():
        texts = [text for key in keys if (text := _text(tags, key))]
        if texts:
            found[meaning] = texts[0]
    year = re.search(r"\d{4}", found.pop("year", ""))
    return found | ({"year": year[0]} if year else {})


def _tags(path: Path) -> Any:
    readers: list[Callable[[], Any]] = [lambda: mutagen.File(path).tags]
    readers.append(lambda: ID3(path))  # type: ignore[no-untyped-call]  # a stream mutagen cannot follow may have tags
    for read in readers:
        try:
            tags = read()
        except Exception as error:  # mutagen lets errors of many kinds through; no tag is worth a recording
            require_reach(path, error)
            continue
        if tags is not None:
            return tags
    return {}


def _text(tags: Any, key: str) -> str:
    try:
        value = tags[key]
    except (KeyError, ValueError, TypeError):
        return ""
    values = getattr(value, "text", value)
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        values = [values]
    return "; ".join(word for value in values if (word := _word(value)))


def _word(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    word = present(str(value).replace("\0", ""))
    return word if sayable(word) else ""


def _info(path: Path) -> dict[str, str]:
    """The INFO list of a RIFF WAVE file, which mutagen does not read."""
    found: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            if file.read(12)[:4] != b"RIFF":
                return found
            while len(head := file.read(8)) == 8:
                name, size = struct.unpack("<4sI", head)
                after = file.tell() + size + size % 2
                if name == b"LIST" and size <= INFO_BYTES and file.read(4) == b"INFO":
                    found |= _info_fields(file.read(size - 4))
                file.seek(after)
    except (OSError, struct.error) as error:
        require_reach(path, error)
    return found


def _info_fields(body: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at + 8 <= len(body):
        name, size = struct.unpack_from("<4sI", body, at)
        raw = body[at + 8 : at + 8 + size].split(b"\0")[0]
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        if name in INFO_KEYS and present(text):
            found[INFO_KEYS[name]] = present(text)
        at += 8 + size + size % 2
    return found
