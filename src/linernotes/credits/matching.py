"""Which track of a catalogue a row of a table of rights means: by identifier, file or ISRC."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from linernotes.catalog.identifiers import identifier
from linernotes.catalog.track import Track
from linernotes.errors import LinernotesError


class Matching:
    """The tracks of a catalogue, asked for by what a row calls them."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._ids = {track.track_id for track in tracks}
        self._exactly = {track.file_name: track.track_id for track in tracks}
        self._files = {track.track_id: _path(track.file_name) for track in tracks}
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for track_id, file in self._files.items():
            self._by_file[file].append(track_id)
        self._isrc = {track.track_id: _bare("isrc", track.isrc) for track in tracks}
        self._by_isrc = {
            isrc: track_id for track_id, isrc in sorted(self._isrc.items(), reverse=True) if isrc
        }
        self._works = {("work", track.work_id) for track in tracks if track.work_id}
        self._works |= {("iswc", _bare("iswc", track.iswc)) for track in tracks if track.iswc}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for track_id, file in self._files.items():
            self._by_name[PurePosixPath(file).name].append(track_id)

    def find(self, track: str, file_name: str, isrc: str) -> str | None:
        """The identifier of the track that is meant; None where it is not in the catalogue or none is named.

        A path may be longer or shorter than the catalogue's, as long as it fits one file only.

        Raises:
            LinernotesError: track and file are two tracks, the name fits several, or the ISRC is not the
                catalogue's.
        """
        found = {name: self._one(name) for name in (track, file_name) if name}
        meant = sorted({track_id for track_id in found.values() if track_id})
        if len(meant) > 1:
            raise LinernotesError(f"track {track!r} and file {file_name!r} are two tracks: correct one")
        known = self._isrc[meant[0]] if meant else ""
        if isrc and known and isrc != known:
            raise LinernotesError(
                f"track {meant[0]!r} has the ISRC {known} in the catalogue and {isrc} here: correct one"
            )
        return meant[0] if meant else self._by_isrc.get(isrc)

    def knows(self, kind: str, name: str) -> bool:
        """Whether the catalogue has a work of this ``work`` or ``iswc``."""
        return (kind, name) in self._works

    def _one(self, name: str) -> str | None:
        if name in self._ids:
            return name
        if name in self._exactly:
            return self._exactly[name]
        path = _path(name)
        alike = self._by_file.get(path) or [
            track_id
            for track_id in self._by_name.get(PurePosixPath(path).name, [])
            if path.endswith("/" + self._files[track_id]) or self._files[track_id].endswith("/" + path)
        ]
        if len(alike) > 1:
            raise LinernotesError(
                f"{name!r} could be {' or '.join(map(repr, sorted(alike)))}: write the track_id"
            )
        return alike[0] if alike else None


def _path(name: str) -> str:
    """A file's name as it is compared: any case, any kind of slash."""
    plain = unicodedata.normalize("NFC", name.strip().replace("\\", "/")).casefold()
    return unicodedata.normalize("NFC", plain).removeprefix("./")


def _bare(kind: str, text: str) -> str:
    try:
        return identifier(kind, text)
    except LinernotesError:  # said once, where works are grouped
        return ""
