"""What a folder must be to be opened as a catalogue, looked at without anything heavy, so that a wrong path
is refused at once.
"""

from __future__ import annotations

from pathlib import Path

from linernotes.errors import LinernotesError
from linernotes.settings.paths import require_there

RECORD = "catalogue.json"


def check_catalogue(folder: Path) -> None:
    """Refuses what is no folder of a catalogue.

    Raises:
        LinernotesError: nothing there, a file, or a folder without the record.
    """
    require_there(folder, f"there is no catalogue at {folder}: build one with 'linernotes catalog build'")
    if not folder.is_dir():
        raise LinernotesError(f"{folder} is a file, not a catalogue: give the folder that holds {RECORD}")
    record = folder / RECORD
    require_there(record, f"{record} is missing, so {folder} is not a catalogue: check the path")
