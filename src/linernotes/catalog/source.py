"""Reads a folder of recordings and what is said of them (tables, sidecars, tags) -> tracks and rejects.

Every row and every file is accounted for: it becomes a ``Track``, or a ``Reject`` that says why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from linernotes.audio import NAMED_SUFFIXES, SUFFIXES
from linernotes.catalog.columns import DECOY_WORDS, TRAIN_WORDS, split_of
from linernotes.catalog.conventions import Sidecars, held_out_folders, lies_in
from linernotes.catalog.identifiers import LABELS, malformed
from linernotes.catalog.listing import head_flaw, is_sound, list_folder
from linernotes.catalog.paths import Places
from linernotes.catalog.pre_encoded import WORDS, holds_latents, read_latents_folder
from linernotes.catalog.reservations import COLUMN, RESERVED, reserved, said_of
from linernotes.catalog.tables import Row, Table, read_tables
from linernotes.catalog.tags import read_tags
from linernotes.catalog.track import Flaw, Reject, Split, Track, printable, sayable
from linernotes.errors import LinernotesError
from linernotes.settings.paths import require_recordings

__all__ = ["Reject", "Source", "Track", "read_source"]

OWN_FIELDS = set(Track.__dataclass_fields__) - {"file_name", "extra"}


@dataclass(frozen=True)
class Source:
    """A folder of recordings as it was listed: tracks whose file exists, in the order of their rows, and
    rejects.

    ``notes`` are sentences to be shown once: what was taken for what.
    """

    folder: Path
    tracks: list[Track]
    rejects: list[Reject]
    notes: list[str] = field(default_factory=list)
    latents: dict[str, list[str]] = field(default_factory=dict)  # files by track, of a folder of latents

    def content_of(self, track: Track) -> list[Any]:
        """What a track's sound, or its latents, come from: changes when a file's name, size or time does."""
        names = self.latents.get(track.file_name)
        if names is None:
            return _stated(self.folder / track.file_name)
        files = [self.folder / name for name in names]
        return [_stated(file) for path in files for file in (path, path.with_suffix(WORDS))]


def _stated(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def identifier_notes(tracks: Sequence[Track]) -> list[str]:
    """A sentence for each kind of identifier that some tracks have in no form of it: they are kept as they
    are, and no table of rights, credits or audit will take them for one.
    """
    found = []
    for kind in ("isrc", "iswc"):
        wrong = [track for track in tracks if malformed(kind, getattr(track, kind))]
        if wrong:
            found.append(
                f"{len(wrong)} of {len(tracks)} tracks have an {LABELS[kind]} that is none and is kept as it "
                f"is, the first {printable(wrong[0].file_name)} ({printable(getattr(wrong[0], kind))!r}): "
                "correct it, or leave it empty"
            )
    return found


def read_source(folder: Path) -> Source:
    """Lists ``folder``. Without a table every recording is a track, described by its sidecars or tags. A
    folder of latents in place of recordings is read as such.

    Raises:
        LinernotesError: no such folder, a table that is not understood, or no track at all.
    """
    require_recordings(folder)
    listing = list_folder(folder)
    if holds_latents(listing):
        found = read_latents_folder(listing)
        if not found.tracks:
            raise LinernotesError(
                f"{folder} yields no track ({len(found.rejects)} rejected: {found.rejects[0].detail}): put a "
                ".json beside each .npy"
            )
        rejects = listing.rejects + found.rejects
        return Source(folder, found.tracks, rejects, found.notes, found.files)
    tables, notes = read_tables(listing)
    reading = _Reading(Places(listing), list(listing.rejects), notes)
    for table in tables:
        reading.take_table(table)
    named = {name for name, _, _ in reading.rows} | reading.rejected
    for name in listing.names:
        reading.take_file(name, named, bool(tables))
    for name in sorted(listing.broken - reading.rejected):
        detail = "it is a link to nothing; restore what it leads to, or remove it"
        reading.rejects.append(Reject(printable(name), "broken link", detail))
    tracks = reading.tracks()
    rejects = reading.rejects
    if not tracks and not rejects:
        raise LinernotesError(f"{folder} holds no recording: put {', '.join(SUFFIXES)} files there")
    if not tracks:
        raise LinernotesError(
            f"{folder} yields no track ({len(rejects)} rejected, the first, {rejects[0].file_name}: "
            f"{rejects[0].detail}): mend these, or put other recordings there"
        )
    notes = reading.notes + reading.split_notes() + identifier_notes(tracks)
    return Source(folder, tracks, rejects, notes + ([said_of(reading.reserved)] if reading.reserved else []))


class _Reading:
    """Rows by the file they describe, as they are gathered from tables and files, and what is rejected on the
    way.
    """

    def __init__(self, places: Places, rejects: list[Reject], notes: list[str]) -> None:
        self.places = places
        self.folder = places.listing.folder
        self.rejects = rejects
        self.notes = notes
        self.rows: list[tuple[str, dict[str, str], str]] = []  # file, values, folder of the table
        self.rejected: set[str] = set()
        self.held_out = held_out_folders(places.names)
        self.held_out_used: set[str] = set()
        self.words: set[str] = set()
        self.taken: set[str] = set()
        self.unsaid = 0
        self.reserved: list[str] = []

    def take_table(self, table: Table) -> None:
        """Every row goes to the file it means; the first row of a file counts."""
        for number, row in enumerate(table.rows, start=1):
            flaw = self._take_row(row, table)
            if flaw:
                reason, detail = flaw
                given = row.values.get("file_name", "").strip()
                found = self.places.find(given, table.folder) if sayable(given) else given
                name = found if isinstance(found, str) else PurePosixPath(given).as_posix() if given else ""
                self.rejected.add(name)
                if row.where not in detail:
                    detail = f"{detail} ({row.where})"
                self.rejects.append(Reject(printable(name) or f"(row {number})", reason, detail))
        if table.unknown:
            self.notes.append(
                f"{table.name}: columns kept without being used: {', '.join(map(printable, table.unknown))}"
            )

    def _take_row(self, row: Row, table: Table) -> Flaw | None:
        if not all(map(sayable, [*row.values, *row.values.values()])):
            return "unreadable text", "the row holds characters that are no text; write it anew"
        found = self.places.find(row.values.get("file_name", ""), table.folder)
        if row.flaw or not isinstance(found, str):
            return row.flaw or (found if not isinstance(found, str) else None)
        if found in self.taken:
            return "duplicate row", "an earlier row names the same file; remove one"
        self.taken.add(found)
        if PurePosixPath(found).suffix.lower() not in SUFFIXES:
            return "unsupported", f"use one of {', '.join(SUFFIXES)}"
        flaw = head_flaw(self.folder / found) or _split_flaw(row.values.get("split", ""))
        if not flaw:
            self.rows.append((found, row.values, table.name))
        return flaw

    def take_file(self, name: str, named: set[str], has_tables: bool) -> None:
        """A file that no table names: a track of its own where there is no table, else a reject."""
        suffix = PurePosixPath(name).suffix.lower()
        if name in named or (suffix not in SUFFIXES and suffix not in NAMED_SUFFIXES):
            return
        flaw: Flaw | None = None
        if not sayable(name):
            flaw = "unreadable name", "its name is not UTF-8; rename it"
        elif suffix in NAMED_SUFFIXES:
            flaw = "unsupported", f"use one of {', '.join(SUFFIXES)}"
        else:
            flaw = head_flaw(self.folder / name)
            if not flaw and has_tables:
                flaw = "no row", "the metadata has no row for this file; add one or remove the file"
        if flaw:
            self.rejects.append(Reject(printable(name), *flaw))
        else:
            self.rows.append((name, {}, name))

    def _split(self, name: str, words: Sequence[str | None], near: str) -> Split:
        """``train`` or ``decoy``: what the first of its own words says that is not empty, else the folder in
        which it or its table lies.
        """
        word = next((word for word in words if word), None)
        if word is None:
            inside = lies_in(name, self.held_out) or lies_in(near, self.held_out)
            self.held_out_used |= {inside} if inside else set()
            self.unsaid += not inside and "" in words
            return "decoy" if inside else "train"
        if word.casefold() not in TRAIN_WORDS | DECOY_WORDS:
            self.words.add(word)
        return split_of(word) or "train"

    def tracks(self) -> list[Track]:
        """The tracks of all rows, completed from sidecars and tags, each with an identifier of its own."""
        sidecars = Sidecars(self.folder, self.places.names)
        stems = {str(PurePosixPath(n).with_suffix("")) for n in self.places.names if is_sound(n)}
        complete: list[tuple[str, dict[str, str]]] = []
        for name, row, near in self.rows:
            values = {key: value for key, value in row.items() if value and key != "file_name"}
            beside = sidecars.of(name, set(values), stems)
            if isinstance(beside, tuple):
                self.rejects.append(Reject(name, *beside))
                continue
            if flaw := _split_flaw(beside.get("split", "")):
                self.rejects.append(Reject(name, *flaw))
                continue
            split = self._split(name, (row.get("split"), beside.get("split")), near)
            values = beside | values | {"split": split}
            if "title" not in values and "artist" not in values:
                values = read_tags(self.folder / name) | values
            if reserved(self.folder / name):
                values[COLUMN] = RESERVED
                self.reserved.append(name)
            complete.append((name, values))
        return self._identified(complete)

    def _identified(self, rows: list[tuple[str, dict[str, str]]]) -> list[Track]:
        """Identifiers that a table gives must differ; those we make up give way (``take``, then
        ``take.flac``).
        """
        given = {values["track_id"] for _, values in rows if "track_id" in values}
        used: set[str] = set()
        tracks = []
        for name, values in rows:
            track_id = values.get("track_id") or _own_id(name, given | used)
            if track_id in used:
                detail = f"track_id {track_id!r} stands in an earlier row; give each its own"
                self.rejects.append(Reject(name, "duplicate id", detail))
                continue
            used.add(track_id)
            tracks.append(_track(name, track_id, values))
        return tracks

    def split_notes(self) -> list[str]:
        """What split words and folders were taken for."""
        notes = []
        if self.words:
            words = ", ".join(sorted(map(repr, self.words)))
            notes.append(f"recordings whose split is {words} are decoys: the model was not trained on them")
        if self.held_out_used:
            folders = ", ".join(sorted(map(printable, self.held_out_used)))
            notes.append(f"recordings in {folders} are decoys, since a folder of training tracks lies beside")
        if self.unsaid:
            notes.append(f"rows whose split is empty ({self.unsaid}) are training tracks")
        return notes


def _split_flaw(word: str) -> Flaw | None:
    known = not word or split_of(word)
    return None if known else ("unknown split", f"split is {word!r}; use train or decoy")


def _own_id(name: str, used: set[str]) -> str:
    identifier = str(PurePosixPath(name).with_suffix(""))
    if identifier in used:
        identifier = name
    while identifier in used:
        identifier += "'"
    return identifier


def _track(name: str, track_id: str, values: dict[str, str]) -> Track:
    known = {key: value for key, value in values.items() if key in OWN_FIELDS and key != "track_id"}
    extra = {key: value for key, value in sorted(values.items()) if key not in OWN_FIELDS}
    known.setdefault("title", PurePosixPath(name).stem)
    return Track(track_id=track_id, file_name=name, extra=extra, **known)  # type: ignore[arg-type]
