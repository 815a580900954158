"""Rights: a table that people bring, held against a catalogue -> who holds which part of every recording and
work.

Without a table the catalogue's own artists hold the recordings, and nobody is known to hold a composition.
Nothing is guessed: a flaw is a sentence that names its row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction

from linernotes.artefacts import hash_json
from linernotes.catalog.track import Track
from linernotes.catalog.whole_table import WholeTable
from linernotes.credits.entries import LABEL, RIGHTS, Entry, Holding, Right, read_entries
from linernotes.credits.matching import Matching
from linernotes.credits.parties import party_name, spellings
from linernotes.credits.splits import whole_splits
from linernotes.credits.works import Link, Works, group_works
from linernotes.errors import LinernotesError

FROM_CATALOGUE = "the catalogue's own artists"
MOST_STRANGERS = 5  # that a note names


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


def read_rights(table: WholeTable, tracks: Sequence[Track]) -> Rights:
    """A table of rights, held against the tracks of a catalogue.

    Raises:
        LinernotesError: it has a flaw; the sentence names the first.
    """
    examined = examine_rights(table, tracks)
    if examined.rights is None:
        more = f" (and {len(examined.flaws) - 1} more flaws)" if len(examined.flaws) > 1 else ""
        raise LinernotesError(f"{table.path}: {examined.flaws[0]}{more}")
    return examined.rights


def examine_rights(table: WholeTable, tracks: Sequence[Track]) -> Examined:
    """The same, with all flaws rather than the first."""
    entries, flaws = read_entries(table.rows, Matching(tracks))
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
            "has them"
        )
    if flaws:
        return Examined(None, flaws)
    strangers = sorted({e.subject[1] for e in entries if _owner(e, works) is None})
    if strangers:
        notes.append(
            "not in the catalogue, so that these rows say nothing: "
            + ", ".join(_with_nearest(name, tracks) for name in strangers[:MOST_STRANGERS])
            + (f" and {len(strangers) - MOST_STRANGERS} more" if len(strangers) > MOST_STRANGERS else "")
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


def _holdings(
    entries: Sequence[Entry], works: Works, notes: list[str]
) -> tuple[dict[Right, dict[str, tuple[Holding, ...]]], list[str]]:
    """By right and by recording or work what its parties hold; and what is wrong with their shares."""
    by_subject: dict[tuple[Right, Link], list[Entry]] = defaultdict(list)
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
        if _parts(other) != _parts(held):
            flaws.append(
                f"{members[0].where}: the {about} and the {first} are of one {right}, and their parties "
                "differ: correct one"
            )
        elif other != held:
            kept[right, owner] = first, _merged(other, held)
            if any(len(groups) > 1 for groups in _groups([*other, *held]).values()):
                notes.append(
                    f"the {about} and the {first} are of one {right} under different labels, artists or "
                    "collections: sums for these leave it out"
                )
    holdings: dict[Right, dict[str, tuple[Holding, ...]]] = {right: {} for right in RIGHTS}
    for (right, owner), (_, held) in kept.items():
        holdings[right][owner] = held
    return holdings, flaws


def _merged(one: Sequence[Holding], other: Sequence[Holding]) -> tuple[Holding, ...]:
    """What is said twice of the same parties: numbers and groups that stand in one, or are alike in both."""
    ipi = {h.party: h.ipi for h in (*one, *other) if h.ipi}
    isni = {h.party: h.isni for h in (*one, *other) if h.isni}
    groups = _groups([*one, *other])
    return tuple(
        sorted(
            Holding(
                party=party,
                role=role,
                split=split,
                ipi=ipi.get(party, ""),
                isni=isni.get(party, ""),
                groups=next(iter(groups[party, role])) if len(groups[party, role]) == 1 else (),
            )
            for (party, role), split in _parts(one).items()
        )
    )


def _groups(held: Sequence[Holding]) -> dict[tuple[str, str], set[tuple[tuple[str, str], ...]]]:
    """By party and role, all that it is grouped by: artist, label and collection."""
    found: dict[tuple[str, str], set[tuple[tuple[str, str], ...]]] = defaultdict(set)
    for holding in held:
        found[holding.party, holding.role] |= {holding.groups} if holding.groups else set()
    return found


def _parts(held: Sequence[Holding]) -> dict[tuple[str, str], Fraction]:
    """What each party holds in each role, whichever album or label it is grouped by."""
    sums: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for holding in held:
        sums[holding.party, holding.role] += holding.split
    return sums


def _summed(members: Sequence[Entry], splits: Sequence[Fraction]) -> tuple[Holding, ...]:
    """What each party holds in each role; several rows of one party in one role are added up."""
    sums: dict[Holding, Fraction] = defaultdict(Fraction)
    for member, split in zip(members, splits, strict=True):
        sums[member.holding] += split
    return tuple(
        sorted(Holding(h.party, h.role, split, h.ipi, h.isni, h.groups) for h, split in sums.items())
    )


def _owner(entry: Entry, works: Works) -> str | None:
    """The recording or work of the catalogue that a row is about, None if it is not in there."""
    track_id = entry.track_id or works.by_link.get(entry.subject)
    if track_id is None:
        return None
    return (works.recording if entry.right == "recording" else works.work)[track_id]


def _uncovered(
    tracks: Sequence[Track], works: Works, holdings: Mapping[Right, Mapping[str, tuple[Holding, ...]]]
) -> list[str]:
    """How many training tracks have no party in each right."""
    trained = [track.track_id for track in tracks if track.trained]
    notes = []
    for right, owners in (("recording", works.recording), ("composition", works.work)):
        missing = [t for t in trained if owners[t] not in holdings[right]]  # type: ignore[index]
        if missing:
            notes.append(
                f"{len(missing)} of {len(trained)} training tracks have no row for the {right} right, the "
                f"first is {missing[0]!r}: their parties are unknown"
            )
    return notes


def _with_nearest(name: str, tracks: Sequence[Track]) -> str:
    """What a table calls a track that the catalogue does not have, with the name that may have been meant."""
    known = [known for track in tracks for known in (track.track_id, track.file_name) if known]
    nearest = get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{name!r} (is {nearest[0]!r} meant?)" if nearest else repr(name)
