"""Which tracks of a catalogue are one recording, and which recordings are versions of one work, so that each
is counted once.

One recording: the same ISRC, or marked as each other's duplicate. One work: one recording, the same work or
ISWC, or any other relation that the catalogue names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from linernotes.catalog.identifiers import identifier
from linernotes.catalog.track import Track
from linernotes.errors import LinernotesError

RELATION, RELATED_TO = (
    "relation",
    "related_to",
)  # columns by which a catalogue says what a track is to another
SAME_RECORDING = "duplicate"

Link = tuple[str, str]  # a kind of name (isrc, iswc, work, track) and the name


@dataclass(frozen=True)
class Works:
    """By a track's identifier: its recording and its work, each called by its first track's identifier."""

    recording: Mapping[str, str]
    work: Mapping[str, str]
    isrc: Mapping[str, str]  # of a recording
    iswc: Mapping[str, str]  # of a work
    work_name: Mapping[str, str]  # of a work, as the catalogue or the table of rights calls it
    by_link: Mapping[Link, str]  # a track for every name that is known
    notes: list[str] = field(default_factory=list)


def group_works(tracks: Sequence[Track], links: Iterable[tuple[str, Link]] = ()) -> Works:
    """Groups the tracks of a catalogue. The order of the tracks does not matter.

    Args:
        links: what a table of rights says beyond the catalogue: a track's identifier, and the ISRC, ISWC or
            work that it has.
    """
    ids = {track.track_id for track in tracks}
    recordings, works, notes = _Sets(), _Sets(), []
    names: list[tuple[str, Link]] = [link for link in links if link[0] in ids]
    for track in tracks:
        recordings.add(track.track_id)
        for kind, value in (("isrc", track.isrc), ("iswc", track.iswc), ("work", track.work_id)):
            try:
                bare = value if kind == "work" else identifier(kind, value)
            except LinernotesError as error:
                notes.append(f"track {track.track_id} of the catalogue: {error}")
                continue
            names += [(track.track_id, (kind, bare))] if bare else []
        relative = track.extra.get(RELATED_TO, "")
        if relative in ids:
            same = track.extra.get(RELATION) == SAME_RECORDING
            (recordings if same else works).join(track.track_id, relative)
    for track_id, link in names:
        (recordings if link[0] == "isrc" else works).join(track_id, link)
    recording = recordings.names(ids)
    for track_id, first in recording.items():
        works.join(track_id, first)
    work = works.names(ids)
    isrc, iswc, work_name = dict[str, str](), dict[str, str](), dict[str, str]()
    for track_id, (kind, value) in sorted(names, reverse=True):  # of several names the first one stays
        owner = recording[track_id] if kind == "isrc" else work[track_id]
        {"isrc": isrc, "iswc": iswc, "work": work_name}[kind][owner] = value
    by_link = {link: track_id for track_id, link in sorted(names, reverse=True)}
    return Works(recording, work, isrc, iswc, work_name, by_link, sorted(notes))


class _Sets:
    """Disjoint sets (union-find) of tracks and of the names that hold them together."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def add(self, one: object) -> object:
        self._parent.setdefault(one, one)
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def join(self, one: object, other: object) -> None:
        self._parent[self.add(one)] = self.add(other)

    def names(self, ids: Iterable[str]) -> dict[str, str]:
        """By track, the first track of its set."""
        first: dict[object, str] = {}
        for track_id in sorted(ids):
            first.setdefault(self.add(track_id), track_id)
        return {track_id: first[self.add(track_id)] for track_id in sorted(ids)}
