"""Paths that people give: refused in one sentence where nothing is, something else is, or something must not
be. Looks at names only, so that a mistyped one costs no wait.
"""

from __future__ import annotations

import os
from pathlib import Path

from linernotes.errors import LinernotesError, UsageError

WRITTEN_SUFFIXES = (".wav", ".flac", ".ogg")


def require_there(path: Path, sentence: str) -> None:
    """Refuses with ``sentence`` a path at which nothing is.

    Raises:
        LinernotesError: that, or the path cannot even be looked at.
    """
    try:
        found = path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise LinernotesError(f"{path} cannot be looked at ({error.strerror}): check the path") from None
    if not found:
        raise LinernotesError(sentence)


def require_file(path: Path, what: str) -> None:
    """Refuses what is no file; ``what`` says what it should be."""
    require_there(path, f"{path} is missing, and should be {what}: check the path")
    if path.is_dir():
        raise LinernotesError(f"{path} is a folder: give {what}")


def require_recordings(folder: Path) -> None:
    """Refuses a source of recordings that is no folder."""
    require_there(folder, f"there is no folder {folder}: check the path")
    if not folder.is_dir():
        raise LinernotesError(
            f"{folder} is not a folder: give the folder that holds the recordings and their metadata.csv"
        )


def require_new(path: Path, empty_will_do: bool = False) -> None:
    """Refuses to write over anything; ``empty_will_do`` lets an empty folder be filled."""
    if path.exists() and not (empty_will_do and path.is_dir() and not any(path.iterdir())):
        raise LinernotesError(f"{path} exists already: choose another name or remove it")


def require_folder(folder: Path) -> None:
    """Refuses a place for results of which a part is a file."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise LinernotesError(
            f"{there} is a file, so nothing can be written into {folder}: give another --out"
        )
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        raise LinernotesError(
            f"{there} may not be written to, so nothing can be kept in {folder}: give another --out"
        )


def require_sound_name(path: Path) -> None:
    """Refuses a name for a clip whose suffix is no format that is written."""
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise UsageError(f"{path} cannot be written: use a name that ends in .flac, .wav or .ogg")
