"""What is in a catalogue, and what is not, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from linernotes.catalog.track import Reject, Track
from linernotes.report.table import Table, text


def tracks_table(tracks: Sequence[Track], first: int) -> Table:
    """The ``first`` of the tracks; a note says how many more there are."""
    columns = [
        text("track_id", "track"),
        text("title", "title"),
        text("artist", "artist"),
        text("split", "split"),
    ]
    more = len(tracks) - first
    notes = [f"... and {more} more (--json lists all)"] if more > 0 else []
    return Table("tracks", columns, [vars(track) for track in tracks[:first]], notes=notes)


def rejects_table(rejects: Sequence[Reject]) -> Table:
    """What is not in a catalogue, and what to do about it."""
    columns = [text("file_name", "file"), text("reason", "reason"), text("detail", "what to do")]
    return Table("rejected", columns, [vars(reject) for reject in rejects])
