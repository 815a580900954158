"""A statement as tab-separated text under the cell names of DDEX's Digital Sales Reporting, so that a royalty
system can map it: a HEAD record, one ROYL record a line, a FOOT record that counts them.

The names are DDEX's, the records are not: ROYL is no record type of theirs, and nothing here claims to be
compliant.
"""

from __future__ import annotations

from pathlib import Path

from linernotes.artefacts import replacing
from linernotes.credits.shares import PARTS
from linernotes.credits.statement_record import Statement, StatementLine

HEAD = (
    "RecordType",
    "MessageId",
    "MessageCreatedDateTime",
    "UsageStartDate",
    "UsageEndDate",
    "SenderName",
)
LINE = (
    "RecordType",
    "LineId",
    "RightsType",
    "DspResourceId",
    "ISRC",
    "ResourceTitle",
    "DisplayArtistName",
    "DspWorkId",
    "ISWC",
    "RightsControllerName",
    "RightsControllerRole",
    "RightsControllerIpiNameNumber",
    "RightsControllerIsni",
    "Usages",
    "UsageShare",
    "Comment",
)
FOOT = ("RecordType", "NumberOfLinesInFile", "NumberOfRoyaltyRecords", "TotalUsageShare")
RIGHTS_TYPES = {"recording": "SoundRecording", "composition": "MusicalWork"}
DIGITS = len(str(PARTS)) - 1


def write_tsv(path: Path, statement: Statement) -> None:
    """Writes the export, whole or not at all. Lines that begin with ``#`` name the cells of those below."""
    head = (
        "HEAD",
        statement.statement_id,
        statement.computed_at,
        statement.period_start,
        statement.period_end,
        statement.reporter or "",
    )
    total = sum(line.parts for line in statement.lines)
    body = [_line(line) for line in statement.lines]
    # comments are lines of the file and no records; HEAD and FOOT are both
    foot = ("FOOT", str(len(body) + 5), str(len(body)), decimal(total))
    named = [("#" + names[0], *names[1:]) for names in (HEAD, LINE, FOOT)]
    records = [named[0], head, named[1], *body, named[2], foot]
    with replacing(path) as temporary:
        text = "".join("\t".join(map(_cell, record)) + "\n" for record in records)
        temporary.write_text(text, encoding="utf-8", newline="\n")


def decimal(parts: int) -> str:
    """Parts of 1e9 as clips, exactly: ``0.250000000``."""
    return f"{parts // PARTS}.{parts % PARTS:0{DIGITS}d}"


def _line(line: StatementLine) -> tuple[str, ...]:
    return (
        "ROYL",
        line.line_id,
        RIGHTS_TYPES[line.right],
        line.recording,
        line.isrc,
        line.title,
        line.artist,
        line.work,
        line.iswc,
        line.party,
        line.role,
        line.ipi,
        line.isni,
        str(line.usages),
        decimal(line.parts),
        line.kind,
    )


def _cell(text: str) -> str:
    """A cell that ends neither its record nor its column."""
    return " ".join(text.split())
