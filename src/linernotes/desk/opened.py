"""What a desk works with: model, catalogue, index, as they were named when it was opened; and whether what
lies at a catalogue's place is still what was opened there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from linernotes.catalog.folder import RECORD
from linernotes.demo.places import BUILTIN
from linernotes.settings.methods import DEFAULT_METHOD


class Opened(BaseModel):
    """The parts of a desk that lie outside its folder; handed to its worker as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    model: str = BUILTIN
    catalogue: str = BUILTIN
    index: str | None = None
    calibration: str | None = None
    drawn: Literal["segments", "tracks"] | None = None
    method: str = DEFAULT_METHOD
    cache: Path | None = None


def stamp_of(catalogue: Path) -> tuple[int, int] | None:
    """What changes when a catalogue is built anew at the same place; None if nothing is there any more."""
    try:
        there = (catalogue / RECORD).stat()
    except OSError:
        return None
    return there.st_ino, there.st_mtime_ns
