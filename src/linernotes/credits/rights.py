"""Rights: a table that people bring, held against a catalogue -> who holds which part of every recording and
work.

Without a table the catalogue's own artists hold the recordings, and nobody is known to hold a composition.
Nothing is guessed: a flaw is a sentence that names its row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

from linernotes.artefacts import hash_json
from linernotes.catalog.rights_table import RightsTable
from linernotes.catalog.tables import Row
from linernotes.catalog.track import Track
from linernotes.credits.identifiers import identifier
from linernotes.credits.matching import Matching
from linernotes.credits.parties import UNKNOWN, party_name, spellings
from linernotes.credits.splits import read_shares, whole_splits
from linernotes.credits.works import Link, Works, group_works
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
FROM_CATALOGUE = "the catalogue's own artists"


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
class Rights:
    """Who holds what of a catalogue."""

    works: Works
    holdings: Mapping[Right, Mapping[str, tuple[Holding, ...]]]  # by recording; by work
    source: str  # the table's name, or in words
    hash: str  # of the rows, whatever their order
    rows: list[dict[str, str]]  # the table again, as it was understood
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Examined:
    """What a table of rights came to: rights, unless it has flaws."""

    rights: Rights | None
    flaws: list[str]


@dataclass(frozen=True)
class _Entry:
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


def read_rights(table: RightsTable, tracks: Sequence[Track]) -> Rights:
    """A table of rights, held against the tracks of a catalogue.

    Raises:
        LinernotesError: it has a flaw; the sentence names the first.
    """
    examined = examine_rights(table, tracks)
    if examined.rights is None:
        more = f" (and {len(examined.flaws) - 1} more flaws)" if len(examined.flaws) > 1 else ""
        raise LinernotesError(f"{table.path}: {examined.flaws[0]}{more}")
    return examined.rights


def examine_rights(table: RightsTable, tracks: Sequence[Track]) -> Examined:
    """The same, with all flaws rather than the first."""
    flaws: list[str] = []
    matching = Matching(tracks)
    entries = []
    shares = _shares(table.rows, flaws)
    for row, share in zip(table.rows, shares, strict=True):
        try:
            entries.append(_entry(row, share, matching))
        except LinernotesError as error:
            flaws.append(f"{row.where}: {error}")
    flaws += _two_numbers(entries)
    if flaws:  # sums without the flawed rows would only be called wrong too
        return Examined(None, flaws)
    links = [
        (e.track_id, (kind, e.values[kind]))
        for e in entries
        for kind in ("isrc", "iswc", "work")
        if e.track_id and e.values[kind]
    ]
    works = group_works(tracks, links)
    notes = list(works.notes)
    holdings, flaws = _holdings(entries, works, notes)
    if not flaws and not any(holdings.values()):
        flaws.append(
            f"none of its {len(entries)} rows names a track or work of the catalogue (the first is "
            f"{entries[0].subject[1]!r}): write track_id, file name, ISRC, work_id or ISWC as the catalogue "
            "has "
            "them"
        )
    if flaws:
        return Examined(None, flaws)
    strangers = sorted({e.subject[1] for e in entries if _owner(e, works) is None})
    if strangers:
        notes.append(
            f"{len(strangers)} tracks or works of the table are not in the catalogue, the first is "
            f"{strangers[0]!r}"
        )
    notes += _uncovered(tracks, works, holdings)
    notes += spellings((e.holding.party, e.holding.ipi, e.holding.isni) for e in entries)
    if table.unknown:
        notes.append(f"columns that are not used: {', '.join(table.unknown)}")
    rows = sorted((e.values for e in entries), key=lambda row: sorted(row.items()))
    return Examined(Rights(works, holdings, str(table.path), hash_json(rows), rows, notes), [])


def rights_of_catalogue(tracks: Sequence[Track]) -> Rights:
    """Rights as far as the catalogue's own metadata says them: its artists hold the recordings, nobody is
    known for compositions.
    """
    works = group_works(tracks)
    notes = list(works.notes)
    recordings: dict[str, tuple[Holding, ...]] = {}
    for track in sorted(tracks, key=lambda t: t.track_id):
        owner, party = works.recording[track.track_id], party_name(track.artist)
        groups = (("artist", party), *((("collection", track.album),) if track.album else ()))
        holding = Holding(party, "artist", Fraction(1), groups=groups if party else ())
        kept = recordings.setdefault(owner, (holding,))[0]
        if kept.party != party:
            notes.append(
                f"tracks {owner} and {track.track_id} are one recording, by {kept.party!r} and by {party!r}: "
                "the first is taken; a table of rights can say otherwise"
            )
    rows = [{"track": owner, "party": held[0].party} for owner, held in sorted(recordings.items())]
    notes += spellings((held[0].party, "", "") for held in recordings.values())
    holdings: dict[Right, dict[str, tuple[Holding, ...]]] = {"recording": recordings, "composition": {}}
    return Rights(works, holdings, FROM_CATALOGUE, hash_json(rows), rows, notes)


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


def _entry(row: Row, share: Fraction | None, matching: Matching) -> _Entry:
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
    kind = next((kind for kind in SUBJECTS if values[kind]), None)
    if kind is None:
        raise LinernotesError("it names neither a track nor a work: fill in track, work, ISRC or ISWC")
    if right == "recording" and kind in ("work", "iswc"):
        raise LinernotesError(
            f"it gives the recording right of the work {values[kind]!r}, and a work has many recordings: "
            "name "
            "the track, or write composition"
        )
    groups = tuple((group, values[group]) for group in GROUPS if values[group])
    holding = Holding(party_name(given), values["role"], Fraction(0), values["ipi"], values["isni"], groups)
    return _Entry(row.where, (kind, values[kind]), found, right, holding, share, values)


def _right(word: str) -> Right:
    plain = re.sub(r"[\s_\-]+", " ", word.casefold()).strip().removesuffix(" right").removesuffix(" rights")
    for right, words in RIGHT_WORDS.items():
        if plain in words:
            return right
    raise LinernotesError(f"right is {word!r}: write recording or composition")


def _holdings(
    entries: Sequence[_Entry], works: Works, notes: list[str]
) -> tuple[dict[Right, dict[str, tuple[Holding, ...]]], list[str]]:
    """By right and by recording or work what its parties hold; and what is wrong with their shares."""
    by_subject: dict[tuple[Right, Link], list[_Entry]] = defaultdict(list)
    for entry in entries:
        by_subject[entry.right, entry.subject].append(entry)
    flaws: list[str] = []
    kept: dict[tuple[Right, str], tuple[str, tuple[Holding, ...]]] = {}
    for (right, subject), members in sorted(by_subject.items(), key=lambda item: item[0]):
        about = f"{right} right of {LABEL[subject[0]]} {subject[1]!r}"
        try:
            splits, note = whole_splits([member.share for member in members], about)
        except LinernotesError as error:
            flaws.append(f"{members[0].where}: {error}")
            continue
        notes += [note] if note else []
        owner = _owner(members[0], works)
        if owner is None:
            continue
        held = _summed(members, splits)
        first, other = kept.setdefault((right, owner), (about, held))
        if other != held:
            flaws.append(
                f"{members[0].where}: the {about} and the {first} are of one {right}, and their parties "
                "differ: "
                "correct one"
            )
    holdings: dict[Right, dict[str, tuple[Holding, ...]]] = {right: {} for right in RIGHTS}
    for (right, owner), (_, held) in kept.items():
        holdings[right][owner] = held
    return holdings, flaws


def _summed(members: Sequence[_Entry], splits: Sequence[Fraction]) -> tuple[Holding, ...]:
    """What each party holds in each role; several rows of one party in one role are added up."""
    sums: dict[Holding, Fraction] = defaultdict(Fraction)
    for member, split in zip(members, splits, strict=True):
        sums[member.holding] += split
    return tuple(
        sorted(Holding(h.party, h.role, split, h.ipi, h.isni, h.groups) for h, split in sums.items())
    )


def _owner(entry: _Entry, works: Works) -> str | None:
    """The recording or work of the catalogue that a row is about, None if it is not in there."""
    track_id = entry.track_id
    for kind in ("isrc", "work", "iswc"):
        if track_id is None and entry.values[kind] and not entry.values["track"]:
            track_id = works.by_link.get((kind, entry.values[kind]))
    if track_id is None:
        return None
    return (works.recording if entry.right == "recording" else works.work)[track_id]


def _two_numbers(entries: Sequence[_Entry]) -> list[str]:
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


def _uncovered(
    tracks: Sequence[Track], works: Works, holdings: Mapping[Right, Mapping[str, tuple[Holding, ...]]]
) -> list[str]:
    """How many training tracks have no party in each right."""
    trained = [track.track_id for track in tracks if track.split == "train"]
    notes = []
    for right, owners in (("recording", works.recording), ("composition", works.work)):
        missing = [t for t in trained if owners[t] not in holdings[right]]  # type: ignore[index]
        if missing:
            notes.append(
                f"{len(missing)} of {len(trained)} training tracks have no row for the {right} right, the "
                "first "
                f"is {missing[0]!r}: their parties are unknown"
            )
    return notes
