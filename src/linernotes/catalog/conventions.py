"""What people's folders say without a table: files of words beside a recording, and folders named after
splits.

Beside ``clip.wav``: ``clip.txt`` or ``clip.json`` with a prompt (stable-audio-tools), ``clip.json`` with
title, artist and description (audiocraft), ``clip_prompt.txt`` and ``clip_lyrics.txt`` (ACE-Step). Folders
``train`` and ``test`` side by side are those of Hugging Face's audiofolder.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from linernotes.audio import require_reach
from linernotes.catalog.columns import TRACKS, plain, present, split_of
from linernotes.catalog.delimited import decode_text
from linernotes.catalog.tables import flat
from linernotes.catalog.track import Flaw
from linernotes.errors import LinernotesError

LONGEST_TEXT_BYTES = 1 << 16  # beyond, it is a book and no caption
VERSE = re.compile(
    r"^\s*\[(verse|chorus|intro|outro|bridge|hook|pre-chorus|inst)[^\]]*\]", re.IGNORECASE | re.MULTILINE
)
WORD_FILES = {
    "_prompt.txt": "caption",
    ".caption.txt": "caption",
    "_lyrics.txt": "lyrics",
    ".lyrics.txt": "lyrics",
}


class Sidecars:
    """The files of words of one folder, asked for by the recording beside which they stand."""

    def __init__(self, folder: Path, names: set[str]) -> None:
        self.folder = folder
        self.names = {name for name in names if name.lower().endswith((".txt", ".json"))}
        self.by_case = {name.casefold(): name for name in sorted(self.names, reverse=True)}

    def of(self, recording: str, known: set[str], other_stems: set[str]) -> dict[str, str] | Flaw:
        """What stands beside a recording, or what is wrong with it; ``known`` are fields its row has filled.

        A file is no sidecar if another recording has its whole name as a stem (``a_prompt.wav`` beside
        ``a.wav``).
        """
        stem = str(PurePosixPath(recording).with_suffix(""))
        values: dict[str, str] = {}
        try:
            for name in (f"{stem}.json", f"{recording}.json"):
                if found := self.by_case.get(name.casefold()):
                    values |= self._json(found)
            for ending, meaning in WORD_FILES.items():
                found = self.by_case.get((stem + ending).casefold())
                if found and found.removesuffix(PurePosixPath(found).suffix) not in other_stems:
                    values.setdefault(meaning, self._text(found))
            if found := self.by_case.get(f"{stem}.txt".casefold()):
                text = self._text(found)
                taken = known | values.keys()
                meaning = "lyrics" if VERSE.search(text) else "text" if "caption" in taken else "caption"
                values.setdefault(meaning, text)
        except (LinernotesError, OSError) as error:
            require_reach(getattr(error, "filename", None) or recording, error)
            return "unreadable sidecar", f"{error}"
        return {key: value for key, value in values.items() if value}

    def _text(self, name: str) -> str:
        path = self.folder / name
        if path.stat().st_size > LONGEST_TEXT_BYTES:
            raise LinernotesError(f"{name} is too long for a caption: shorten it, or rename it")
        return present(decode_text(path.read_bytes(), name))

    def _json(self, name: str) -> dict[str, str]:
        try:
            record = json.loads(decode_text((self.folder / name).read_bytes(), name))
        except (json.JSONDecodeError, RecursionError) as error:
            raise LinernotesError(
                f"{name} cannot be read as JSON ({error}): correct it, or rename it"
            ) from None
        return _in_our_words(flat(record)) if isinstance(record, dict) else {}


def _in_our_words(record: dict[str, str]) -> dict[str, str]:
    """A sidecar's fields by our names. Of two that mean the same the first in our order is taken, others keep
    their name.
    """
    order = {name: i for i, name in enumerate(TRACKS.meaning_of)}
    values: dict[str, str] = {}
    rest: dict[str, str] = {}
    for key in sorted(record, key=lambda k: order.get(plain(k), len(order))):
        meaning = TRACKS.meaning_of.get(plain(key)) or TRACKS.weak_meaning_of.get(plain(key))
        value = present(record[key])
        if meaning == "file_name" or not value:
            continue
        if meaning and meaning not in values:
            values[meaning] = value
        else:
            rest.setdefault(key.strip(), value)
    return {**{k: v for k, v in rest.items() if k not in values}, **values}


def held_out_folders(names: set[str]) -> set[str]:
    """Folders such as ``test`` and ``validation`` that stand beside one called ``train``."""
    children: dict[str, set[str]] = defaultdict(set)
    for folder in {parent for name in names for parent in PurePosixPath(name).parents if parent.name}:
        children[str(folder.parent)].add(str(folder))
    return {
        folder
        for siblings in children.values()
        if any(split_of(PurePosixPath(sibling).name) == "train" for sibling in siblings)
        for folder in siblings
        if split_of(PurePosixPath(folder).name) == "decoy"
    }


def lies_in(name: str, folders: set[str]) -> str | None:
    """The folder of ``folders`` in which a file lies, None if it lies in none."""
    return next((str(parent) for parent in PurePosixPath(name).parents if str(parent) in folders), None)
