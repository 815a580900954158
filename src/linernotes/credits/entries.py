"""Rows of a table of rights -> entries: what a row is about, who holds how much of it, its identifiers
checked. A row that is not understood is a flaw that names it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from linernotes.catalog.identifiers import identifier
from linernotes.catalog.tables import Row
from linernotes.credits.matching import Matching
from linernotes.credits.parties import UNKNOWN, party_name
from linernotes.credits.splits import read_shares
from linernotes.credits.works import Link
from linernotes.errors import LinernotesError

Right = Literal["recording", "composition"]
RIGHTS: tuple[Right, ...] = get_args(Right)
RIGHT_WORDS: dict[Right, set[str]] = {
    "recording": {"recording", "sound recording", "master", "master recording", "phonogram", "neighbouring"},
    "composition": {"composition", "publishing", "musical work", "work", "song", "authors", "author"},
}
GROUPS = ("artist", "label", "collection")
SUBJECTS = ("track", "isrc", "work", "iswc")  # what a row is about: the first of these that it has
LABEL = {"track": "track", "isrc": "ISRC", "work": "work", "iswc": "ISWC"}


@dataclass(frozen=True, order=True)
class Holding:
    """One party's part of one recording or work in one right."""

    party: str  # empty: nobody is known
    role: str
    split: Fraction
    ipi: str = ""
    isni: str = ""
    groups: tuple[tuple[str, str], ...] = ()  # artist, label, collection, where given


@dataclass(frozen=True)
class Entry:
    """A row as it was understood. ``subject`` is what it names, ``track_id`` a track of the catalogue it
    means.
    """

    where: str
    subject: Link
    track_id: str | None
    right: Right
    holding: Holding
    share: Fraction | None
    values: dict[str, str]


def read_entries(rows: Sequence[Row], matching: Matching) -> tuple[list[Entry], list[str]]:
    """All rows that are understood, and a sentence for each that is not."""
    flaws: list[str] = []
    entries = []
    for row, share in zip(rows, _shares(rows, flaws), strict=True):
        try:
            entries.append(_entry(row, share, matching))
        except LinernotesError as error:
            flaws.append(f"{row.where}: {error}")
    return entries, [*flaws, *_two_numbers(entries)]


def _shares(rows: Sequence[Row], flaws: list[str]) -> list[Fraction | None]:
    texts = []
    for row in rows:
        try:
            read_shares([row.values.get("share", "")])
            texts.append(row.values.get("share", ""))
        except LinernotesError as error:
            flaws.append(f"{row.where}: {error}")
            texts.append("")
    return read_shares(texts)


def _entry(row: Row, share: Fraction | None, matching: Matching) -> Entry:
    """A row, understood.

    Raises:
        LinernotesError: it has a flaw.
    """
    values = {kind: identifier(kind, row.values.get(kind, "")) for kind in ("isrc", "iswc", "ipi", "isni")}
    right = _right(row.values.get("right", ""))
    given = row.values.get("party", "")
    if not given:
        raise LinernotesError(f"the {right} right has no party: name one, or write 'unknown' if nobody knows")
    track, file_name, work = (row.values.get(name, "") for name in ("track", "file_name", "work"))
    found = matching.find(track, file_name, values["isrc"])
    values |= {
        "track": found or track or file_name,
        "work": work,
        "party": party_name(given) or "unknown",
        "role": row.values.get("role", ""),
        "share": "" if share is None else str(share) if share.denominator > 1 else f"{share}/1",
        "right": right,
        **{group: row.values.get(group, "") for group in GROUPS},
    }
    kinds = [kind for kind in SUBJECTS if values[kind]]
    known = [kind for kind in ("work", "iswc") if matching.knows(kind, values[kind])]
    kind = known[0] if right == "composition" and known and not found else next(iter(kinds), None)
    if kind is None:
        raise LinernotesError("it names neither a track nor a work: fill in track, work, ISRC or ISWC")
    if right == "recording" and kind in ("work", "iswc"):
        raise LinernotesError(
            f"it gives the recording right of the work {values[kind]!r}, and a work has many recordings: "
            "name the track, or write composition"
        )
    groups = tuple((group, values[group]) for group in GROUPS if values[group])
    holding = Holding(party_name(given), values["role"], Fraction(0), values["ipi"], values["isni"], groups)
    return Entry(row.where, (kind, values[kind]), found, right, holding, share, values)


def _right(word: str) -> Right:
    plain = re.sub(r"[\s_\-]+", " ", word.casefold()).strip().removesuffix(" right").removesuffix(" rights")
    for right, words in RIGHT_WORDS.items():
        if plain in words:
            return right
    raise LinernotesError(f"right is {word!r}: write recording or composition")


def _two_numbers(entries: Sequence[Entry]) -> list[str]:
    """Names that stand with two different IPI or ISNI numbers: two people, or a mistake."""
    flaws = []
    for kind in ("ipi", "isni"):
        seen: dict[str, tuple[str, str]] = {}
        for entry in entries:
            number, name = getattr(entry.holding, kind), entry.holding.party
            if not number or name == UNKNOWN:
                continue
            first, where = seen.setdefault(name, (number, entry.where))
            if first != number:
                flaws.append(
                    f"{entry.where}: {name!r} has the {kind.upper()} {number} here and {first} in {where}: "
                    "correct one, or write the names of two people so that they differ"
                )
    return flaws
