"""A statement on disk: its record, sealed, and the same as tables for spreadsheets and royalty systems.

FOLDER/statement.json        this record
       statement.csv         one line a party, right, recording or work; remainder lines too
       statement.tsv         the same under DDEX's field names, with a footer that counts records
       statement.sig.json    a signature, if there is a key
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from linernotes.credits.entries import Right
from linernotes.credits.record import Frozen, LineKind, Parts
from linernotes.credits.shares import PARTS, Rule
from linernotes.records.reading import parsed, read_content
from linernotes.records.seal import unsealed
from linernotes.version import __version__

RECORD, TABLE, EXPORT = "statement.json", "statement.csv", "statement.tsv"
SCHEMA_VERSION = 2
REMEDY = "draw the statement up anew with 'linernotes statement'"


class ClipEntry(Frozen):
    """One clip of the period, and the credits that its shares are taken from."""

    clip: str  # content hash
    name: str
    file: str
    credits_file: str
    credits_sha256: str
    attribution_sha256: str
    model_hash: str
    catalogue_hash: str
    rights_hash: str
    calibration_hash: str
    named: int  # tracks
    expected_false: float  # of these


class FromClip(Frozen):
    """What one clip gives to a line."""

    clip: str
    credits_sha256: str
    parts: Parts


class StatementLine(Frozen):
    """One party's part in one right of one recording or work, over all clips of one model."""

    line_id: str
    kind: LineKind
    right: Right
    model_hash: str
    catalogue_hash: str
    recording: str
    title: str
    artist: str
    isrc: str
    work: str
    iswc: str
    party: str
    role: str
    ipi: str
    isni: str
    parts: Parts  # of 1e9 a clip
    clips: float  # the same in clips
    low: float
    high: float
    usages: int  # clips that it comes from
    sources: list[FromClip]


class StatementTotal(Frozen):
    """One right over all clips of one model: parts paid and not paid sum to 1e9 a clip."""

    right: Right
    model_hash: str
    clips: int
    paid: Parts
    remainder: dict[str, Parts]
    total: Parts


class PartyAmount(Frozen):
    """What one party is paid in one right, over all models; in parts of 1e9 a clip and in clips."""

    right: Right
    party: str
    ipi: str
    isni: str
    parts: Parts
    clips: float


class Statement(Frozen):
    """What ``statement.json`` holds."""

    kind: Literal["statement"] = "statement"
    schema_version: int = SCHEMA_VERSION
    linernotes: str = __version__
    statement_id: str
    computed_at: str
    period: str
    period_start: str
    period_end: str
    reporter: str | None
    rule: Rule
    smallest_share: str
    estimator: dict[str, Any]
    unit: int = PARTS
    named: int  # tracks, over all clips
    expected_false: float  # of these
    notes: list[str]
    clips: list[ClipEntry]
    totals: list[StatementTotal]
    parties: list[PartyAmount]
    lines: list[StatementLine]

    @classmethod
    def parse(cls, path: Path, content: Mapping[str, Any]) -> Statement:
        """The record in what a ``statement.json`` holds.

        Raises:
            LinernotesError: it is none.
        """
        return parsed(cls, path, unsealed(content), REMEDY)

    def rows(self) -> list[dict[str, Any]]:
        """The lines of ``statement.csv``; ``sources`` are the clips with their parts."""
        found = []
        for line in self.lines:
            row = line.model_dump(exclude={"sources"})
            row["party"] = line.party or ("unknown" if line.kind == "unknown" else line.kind)
            row["sources"] = " ".join(f"{each.clip}:{each.parts}" for each in line.sources)
            found.append(row)
        return found


def read_statement(path: Path) -> tuple[Statement, dict[str, Any]]:
    """A ``statement.json`` as a record and as it stands there. Whether it is whole is for ``audit`` to say.

    Raises:
        LinernotesError: missing, damaged, or of another schema version.
    """
    content = read_content(path, "statement", SCHEMA_VERSION, REMEDY)
    return Statement.parse(path, content), content
