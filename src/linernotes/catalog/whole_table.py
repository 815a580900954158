"""Tables that are taken whole or not at all: every row of them counts, so that one which is not understood
refuses the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from linernotes.catalog.columns import Vocabulary, meanings, plain, present
from linernotes.catalog.tables import Row, read_raw
from linernotes.catalog.track import printable, sayable
from linernotes.errors import LinernotesError


@dataclass(frozen=True)
class WholeTable:
    """Rows by our words, and the columns that linernotes has no word for."""

    path: Path
    rows: list[Row]
    unknown: list[str]


def read_whole_table(
    path: Path, vocabulary: Vocabulary, about: str, needed: Mapping[str, str], remedy: str, example: str
) -> WholeTable:
    """The rows of a table in any format that is read.

    Args:
        about: what the columns of which one must be there do, for the sentence: "names tracks or works".
        needed: columns that must be there, with the remedy where one is not.
        remedy: for a table without rows; ``example`` is a name that a table might have.

    Raises:
        LinernotesError: it cannot be read, a needed column is missing or stands twice, a row has too many or
            too few fields, or there is no row.
    """
    where = printable(str(path))
    columns, raw = read_raw(path, where, vocabulary, example)
    meaning = meanings(columns, where, vocabulary)
    shown = ", ".join(columns) or "none"
    if not vocabulary.about & set(meaning.values()):
        raise LinernotesError(
            f"{where} has no column that {about} (its columns: {shown}): {vocabulary.remedy}"
        )
    for name, addition in needed.items():
        if name not in meaning.values():
            raise LinernotesError(f"{where} has no column {name} (its columns: {shown}): {addition}")
    if not raw:
        raise LinernotesError(f"{where} has no rows: {remedy}")
    rows = []
    for place, values, flaw in raw:
        if flaw:
            raise LinernotesError(f"{where}: {flaw[1] if place in flaw[1] else f'{place}: {flaw[1]}'}")
        if not all(map(sayable, values.values())):
            raise LinernotesError(f"{where}: {place} holds characters that are no text; write it anew")
        rows.append(Row(place, {meaning[c]: present(v) for c, v in values.items() if c in meaning}))
    unknown = [c.strip() for c in columns if meaning[c] not in vocabulary.meanings and plain(c)]
    return WholeTable(path, rows, unknown)
