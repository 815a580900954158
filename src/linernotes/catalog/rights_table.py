"""Finds and reads the table of rights that people bring (``rights.csv`` and its kin), with the tolerance and
the sentences of any other table: rows by our words, and nothing understood yet of what they say.

A table of rights that is not understood stops what it was wanted for: read as nothing, it pays nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from linernotes.catalog.columns import MEANINGS, Vocabulary
from linernotes.catalog.tables import READ_SUFFIXES, RESERVED, SHEETS
from linernotes.catalog.track import printable
from linernotes.catalog.whole_table import WholeTable, read_whole_table
from linernotes.errors import LinernotesError

EXAMPLE = "rights.csv"
RIGHTS = Vocabulary(
    meanings={
        "track": "track track_id trackid recording recording_id",
        "file_name": MEANINGS["file_name"],
        "work": "work work_id workid composition_id musical_work",
        "party": "party party_name rightsholder rights_holder right_holder rightholder holder owner payee",
        "role": "role roles capacity",
        "share": "share shares split splits percentage percent share_percent share_% share_(%) ownership",
        "right": "right rights right_type rights_type",
        "isrc": MEANINGS["isrc"],
        "iswc": MEANINGS["iswc"],
        "ipi": "ipi ipi_name ipi_number ipi_name_number ipi_no cae cae_ipi ipi_cae",
        "isni": "isni isni_code",
        "artist": "artist artists artist_name performer",
        "label": "label label_name imprint",
        "collection": "collection group album catalogue catalog",
    },
    weak={"party": "name", "work": "composition song"},
    about=frozenset({"track", "file_name", "work", "isrc", "iswc"}),
    example='{"track": ..., "party": ..., "right": ..., "share": ...}',
    remedy="add a column track (its track_id or file) or work, and party, right and share",
    many_lines=False,
)
NEEDED = {
    "party": "add a column party, with 'unknown' where nobody knows",
    "right": "add a column right, with recording or composition in each row",
}


def find_rights(folder: Path, names: Sequence[str] | None = None) -> Path | None:
    """The table of rights at the top of a folder of recordings, None if there is none.

    Args:
        names: the files below ``folder``, with ``/``, as ``list_folder`` gives them; those at its top if
            None.

    Raises:
        LinernotesError: there are several, or it lies in a subfolder or in a format that is not read.
    """
    listed = names if names is not None else [path.name for path in folder.iterdir() if path.is_file()]
    found = [name for name in sorted(listed) if _is_rights(name)]
    if not found:
        return None
    if len(found) > 1:
        raise LinernotesError(
            f"{folder} has several tables of rights ({', '.join(map(printable, found))}): put all rows "
            "into one"
        )
    if "/" in found[0]:
        raise LinernotesError(
            f"{folder / found[0]} lies in a subfolder, where no rights are looked for: move it to {folder}"
        )
    return folder / found[0]


def read_rights_table(path: Path) -> WholeTable:
    """The rows of a table of rights.

    Raises:
        LinernotesError: it cannot be read, a needed column is missing or stands twice, a row has too many or
            too few fields, or there is no row.
    """
    remedy = "name the parties in it, or remove it"
    return read_whole_table(path, RIGHTS, "names tracks or works", NEEDED, remedy, EXAMPLE)


def _is_rights(name: str) -> bool:
    path = PurePosixPath(name)
    packed = path.suffix.lower() == ".gz"
    inner = path.with_suffix("") if packed else path
    return inner.stem.casefold() == RESERVED and inner.suffix.lower() in READ_SUFFIXES | SHEETS
