"""Files that verbs about clips are given, refused at once where they are none: what reads them brings torch,
which takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from linernotes.errors import LinernotesError
from linernotes.settings.paths import require_file, require_there

RECORDS = ("attribution.json", "credits.json")


def check_clips(clips: Sequence[Path]) -> None:
    """Refuses clips that are not there, or are folders."""
    for clip in clips:
        if clip.is_dir():
            raise LinernotesError(f"{clip} is a folder: give a sound file")
        require_there(clip, f"{clip} is missing: there is no such file; check the name")


def check_attribution(path: Path) -> None:
    """Refuses what is neither an ``attribution.json`` nor a folder that holds one."""
    require_file(path / "attribution.json" if path.is_dir() else path, "the attribution.json of a clip")
    if not path.is_dir() and path.suffix.lower() != ".json":
        raise LinernotesError(
            f"{path} is no attribution.json: give the folder that 'linernotes attribute' wrote, or that file "
            "in it"
        )


def clips_in(places: Sequence[Path]) -> list[Path]:
    """What people give, with the folders of clips in the place of a folder of these. All that were attributed
    or credited are meant, so that none is left out because it lacks what is asked for.
    """
    found: list[Path] = []
    for place in places:
        within = {each.parent for name in RECORDS for each in place.glob(f"*/{name}")}
        here = any((place / name).exists() for name in RECORDS)
        found += sorted(within) if within and not here else [place]
    return found
