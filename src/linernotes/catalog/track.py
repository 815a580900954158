"""What a folder's listing comes to: a ``Track`` for each recording that is taken, a ``Reject`` for each that
is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "decoy"]
Flaw = tuple[str, str]  # why something is not taken: in a word or two, and in a sentence with the remedy

RECORDING_SECONDS = "recording_seconds"  # a further column


@dataclass(frozen=True)
class Track:
    """One recording of the catalogue. ``extra`` holds the metadata columns linernotes has no use for
    itself.
    """

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
    split: Split = "train"
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether the model was trained on it; else it is a decoy."""
        return self.split == "train"

    @property
    def recording_s(self) -> float:
        """How long the recording is that it is part of, as whoever cut it says; 0 if nobody does."""
        try:
            said = float(self.extra.get(RECORDING_SECONDS, 0))
        except ValueError:
            return 0.0
        return said if 0 < said < math.inf else 0.0

    @property
    def details(self) -> dict[str, str]:
        """What there is to say beside title and artist, by label: of further columns those whose value the
        caption lacks.
        """
        known = {
            "album": self.album,
            "caption": self.caption,
            "licence": self.licence,
            "ISRC": self.isrc,
            "ISWC": self.iswc,
        }
        further = {
            name: value
            for name, value in self.extra.items()
            if value not in self.caption and name != RECORDING_SECONDS
        }
        return {label: text for label, text in (known | further).items() if text}


@dataclass(frozen=True)
class Reject:
    """A file or row that is not in the catalogue, and why: ``reason`` in a word or two, ``detail`` in a
    sentence.
    """

    file_name: str
    reason: str
    detail: str


def sayable(text: str) -> bool:
    """Whether a text is one: file names may be any bytes, and JSON may hold halves of characters."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def printable(name: str) -> str:
    """A file name that may hold bytes that are no text, so that it can be printed."""
    return name.encode("utf-8", "backslashreplace").decode()
