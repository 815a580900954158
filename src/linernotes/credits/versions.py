"""Rights beside a catalogue: a catalogue never changes and rights do, so each checked table is kept as a
version of its own, under its hash, and credits name the one they were made with.

    CATALOGUE.rights/0001-HASH.parquet    the rows as they were understood; the highest number holds
"""

from __future__ import annotations

import re
from pathlib import Path

from linernotes.artefacts import held, write_parquet
from linernotes.credits.rights import Rights
from linernotes.errors import LinernotesError

VERSION = re.compile(r"(\d{4,})-([0-9a-f]{16})\.parquet")


def rights_folder(catalogue: Path) -> Path:
    """Where the rights of a catalogue are kept: beside it, since it is immutable."""
    return catalogue.with_name(catalogue.name + ".rights")


def record_rights(rights: Rights, catalogue: Path, catalogue_hash: str) -> Path:
    """Keeps rights as the newest version; nothing is written where the newest says the same."""
    folder = rights_folder(catalogue)
    with held(folder):
        versions = _versions(folder)
        if versions and versions[-1][1] == rights.hash:
            return versions[-1][2]
        path = folder / f"{versions[-1][0] + 1 if versions else 1:04d}-{rights.hash}.parquet"
        about = {"kind": "rights", "hash": rights.hash, "catalogue": catalogue_hash, "source": rights.source}
        write_parquet(path, rights.rows, about)
        return path


def newest_rights(catalogue: Path) -> Path | None:
    """The version that holds; None if no rights were ever recorded."""
    versions = _versions(rights_folder(catalogue))
    return versions[-1][2] if versions else None


def find_version(catalogue: Path, rights_hash: str) -> Path | None:
    """The newest version with this hash."""
    found = [path for _, known, path in _versions(rights_folder(catalogue)) if known == rights_hash]
    return found[-1] if found else None


def require_version(path: Path, rights: Rights) -> None:
    """Refuses a recorded version whose rows are no longer those it is named after."""
    name = VERSION.fullmatch(path.name)
    if name and name[2] != rights.hash:
        raise LinernotesError(
            f"{path} was changed after it was written: record the table again with 'linernotes catalog "
            "rights'"
        )


def _versions(folder: Path) -> list[tuple[int, str, Path]]:
    if not folder.is_dir():
        return []
    found = [(VERSION.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(name[1]), name[2], path) for name, path in found if name)
