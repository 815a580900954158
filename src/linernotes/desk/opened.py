"""What a desk works with: model, catalogue, index, as they were named when it was opened."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

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
    drawn: str = "segments"
    method: str = DEFAULT_METHOD
    cache: Path | None = None
