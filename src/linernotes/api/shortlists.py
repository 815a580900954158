"""What an open workspace takes shortlists from, for which methods, how long they are, and how many other
tracks are audited.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from linernotes.attribution.result import FIRST_TRACKS
from linernotes.attribution.shortlisting import LEAST_AUDITED, takes_shortlists
from linernotes.errors import UsageError
from linernotes.index.store import Index
from linernotes.methods.contract import Prepared
from linernotes.settings.methods import DEFAULT_METHOD


@dataclass(frozen=True)
class Shortlists:
    """An index, or none, and what was asked for."""

    index: Index | None = None
    given: bool = False  # the index, by whoever asks; else it is the shipped one
    tracks: int | None = None  # asked for; as many as the index says if None
    audited: int | None = None  # asked for
    declined: bool = False  # an index that is there

    def of(self, prepared: Prepared, method: str) -> Prepared:
        """``prepared``, which has none, with what ``method`` takes shortlists from: nothing, if it takes
        none, or was not tried with it and nobody asks for a shortlist.
        """
        if not self._serves(method):
            return prepared
        return replace(prepared, index=self.index, listed=self.tracks, audited=self.audited)

    def _serves(self, method: str) -> bool:
        if self.given or self.tracks is not None or self.audited is not None:
            return takes_shortlists(method)
        return self.index is not None and self.index.recall.method == method

    def words(self, method: str) -> list[str]:
        """How the same is asked for on the command line."""
        if not self._serves(method):
            return ["--exhaustive"] if self.declined and method == DEFAULT_METHOD else []
        words = ["--index", str(self.index.path)] if self.given and self.index else []
        words += ["--shortlist", str(self.tracks)] if self.tracks is not None else []
        words += ["--audit", str(self.audited)] if self.audited is not None else []
        return words


def require_asked(
    index: str | Path | None, exhaustive: bool, tracks: int | None, audited: int | None, ready: bool
) -> None:
    """Refuses what cannot be meant.

    Args:
        ready: the catalogue has an index of its own.

    Raises:
        UsageError: a shortlist and none are asked for, one that comes from nowhere or shows less than there
            is room for, or too small an audit.
    """
    asked = {"--index": index, "--shortlist": tracks, "--audit": audited}
    flags = [flag for flag, value in asked.items() if value is not None]
    if exhaustive and flags:
        raise UsageError(f"{flags[0]} takes a shortlist and --exhaustive does not: leave out one of them")
    if flags and index is None and not ready:
        raise UsageError(f"{flags[0]} takes its tracks from an index: give one with --index")
    if audited is not None and audited < LEAST_AUDITED:
        raise UsageError(
            f"--audit {audited} is fewer than {LEAST_AUDITED} tracks, and so few bound nothing: ask for as "
            "many at least"
        )
    if tracks is not None and tracks < FIRST_TRACKS:
        raise UsageError(
            f"--shortlist {tracks} is fewer than the {FIRST_TRACKS} tracks that a report shows: ask for as "
            "many at least"
        )
