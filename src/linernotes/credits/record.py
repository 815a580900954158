"""The credits of one clip: who holds which part of it, what nobody can be named for, and all that the figures
rest on.

    FOLDER/credits.json    this record, sealed
           credits.csv     the same for spreadsheets: one line a party, work and right, then the remainder
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from linernotes.artefacts import replacing, write_json
from linernotes.credits.entries import GROUPS, Right
from linernotes.credits.shares import PARTS, Rule
from linernotes.errors import LinernotesError
from linernotes.records.reading import parsed, read_content
from linernotes.records.seal import require_whole, sealed, sha256_of, unsealed
from linernotes.version import __version__

RECORD, TABLE = "credits.json", "credits.csv"
SCHEMA_VERSION = 2
REMEDY = "credit the clip anew with 'linernotes credits'"
Kind = Literal["paid", "unknown", "withheld"]
KINDS: dict[str, str] = {
    "paid": "paid to its party",
    "unknown": "unknown parties",
    "withheld": "below the smallest share paid",
    "not told apart": "tracks that cannot be told apart",
    "base model": "the base model of an adapter, whose own tracks are not asked",
}
LineKind = Literal["paid", "unknown", "withheld", "not told apart", "base model"]
Parts = Annotated[int, Field(ge=0, le=PARTS * 10**9)]  # of a thousand million clips at most
LEFT_OVER: tuple[LineKind, ...] = ("not told apart", "base model")  # what no line of a track is about


class Frozen(BaseModel):
    """A part of a record: nothing is added to it or changed in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(Frozen):
    """One party's share in one right of one recording or work. ``parts`` of 1e9 count, ``share`` says the
    same for readers.
    """

    kind: Kind
    right: Right
    recording: (
        str  # track that speaks for it: of several copies or versions the one with the strongest effect
    )
    title: str
    artist: str
    isrc: str
    work: str
    iswc: str
    tracks: list[str]  # all named tracks that are this recording or versions of this work, counted once
    party: str  # empty: unknown
    role: str
    ipi: str
    isni: str
    groups: dict[str, str]  # artist, label, collection
    split: str  # the party's part of the recording or work, an exact fraction
    parts: Parts
    share: float
    low: float  # 90 % interval
    high: float


class RightTotal(Frozen):
    """What the lines of one right come to. Paid parts and those of the remainder sum to exactly 1e9."""

    right: Right
    whole: float  # expected effect of all training tracks together, copies counted once
    paid: Parts
    remainder: dict[str, Parts]  # in parts, by why nobody is paid
    total: Parts
    remainder_share: float


class PartyTotal(Frozen):
    """What one party, or one group of parties' tracks, gets in one right."""

    right: Right
    of: str  # party, artist, label or collection
    name: str
    parts: Parts
    share: float
    low: float
    high: float


class Contribution(Frozen):
    """What the attribution says of one track, before anything is shared."""

    track_id: str
    title: str
    rank: int
    split: str
    score: float  # signed: higher = removing the track would hurt the clip more
    score_error: float | None = None  # standard error, had other noise been drawn
    expected: float | None
    low: float | None
    high: float | None
    named: bool
    best_segment: dict[str, float]  # start_s and end_s of the segment with the highest score
    spans: list[dict[str, float]]  # aligned seconds of clip and track, for methods that know where


class Estimator(Frozen):
    """What the scores were computed by."""

    method: str
    settings: dict[str, Any]
    gather: str | None = None  # of tracks of several segments (``Attribution.gather``)
    orientation: str
    seed: int
    device: str
    torch: str
    linernotes: str


class Validation(Frozen):
    """What the effects were calibrated on."""

    calibration: str
    calibration_hash: str
    lent: bool
    named: int
    expected_false: float  # of the named tracks


class Normalisation(Frozen):
    """That weights and residual sum to 1, in whole parts, by right."""

    unit: int = PARTS
    total_effect: float
    weights: dict[Right, Parts]  # of named tracks, their parties known or not
    residual: dict[Right, Parts]  # of what cannot be told apart, and of the base model of an adapter
    sum: dict[Right, Parts]


class Hashes(Frozen):
    """What the credits were made from; ``sha256`` are of files, the others as their own records have them."""

    clip: str
    sounds: list[str] = []  # of the clip's samples, whatever is said of it; empty in older credits
    model: str
    catalogue: str
    draws: str
    calibration: str
    rights: str
    attribution_sha256: str
    scores_sha256: str | None

    @property
    def of_clip(self) -> set[str]:
        """What says that a clip is this one: the same sound with another prompt is the same clip."""
        return {self.clip, *self.sounds}


class Places(Frozen):
    """Where all that lay; ``rights`` may be in words."""

    attribution: str
    catalogue: str
    rights: str


class Credits(Frozen):
    """What ``credits.json`` holds."""

    kind: Literal["credits"] = "credits"
    schema_version: int = SCHEMA_VERSION
    linernotes: str = __version__
    computed_at: str
    supersedes: str | None  # SHA-256 of the credits.json that this one replaces
    reporter: str | None
    query: dict[str, Any]
    model: str
    catalogue: str
    verdict: str
    rule: Rule
    rule_is_for: str
    smallest_share: str
    estimator: Estimator
    validation: Validation
    normalisation: Normalisation
    hashes: Hashes
    sources: Places
    notes: list[str]
    rights: list[RightTotal]
    parties: list[PartyTotal]
    lines: list[Line]
    contributions: list[Contribution]

    def save(self, folder: Path) -> Path:
        """Writes ``credits.csv`` and then ``credits.json`` into ``folder``.

        Raises:
            LinernotesError: there are credits already.
        """
        path = folder / RECORD
        if path.exists():
            raise LinernotesError(f"{path} exists already: give another folder with --out, or remove it")
        write_csv(folder / TABLE, rows(self))
        record = {**self.model_dump(mode="json"), "files": {TABLE: sha256_of(folder / TABLE)}}
        write_json(path, sealed(record))
        return path

    @classmethod
    def load(cls, path: Path) -> Credits:
        """Reads a ``credits.json``.

        Raises:
            LinernotesError: missing, damaged, changed, or of another schema version.
        """
        content = read_content(path, "credits", SCHEMA_VERSION, REMEDY)
        require_whole(path, content, REMEDY)
        return cls.parse(path, content)

    @classmethod
    def parse(cls, path: Path, content: Mapping[str, Any]) -> Credits:
        """The record in what a ``credits.json`` holds."""
        return parsed(cls, path, unsealed(content), REMEDY)


def credits_at(path: str | Path) -> Path:
    """A ``credits.json``, given by its path or its folder."""
    return Path(path) / RECORD if Path(path).is_dir() else Path(path)


def rows(credits: Credits) -> list[dict[str, Any]]:
    """The lines of ``credits.csv``, all with the same columns; the parts of each right sum to 1e9."""
    empty = dict.fromkeys([*Line.model_fields, *(f"group_{group}" for group in GROUPS)], "")
    del empty["groups"]
    found = []
    for line in credits.lines:
        row = line.model_dump(exclude={"tracks", "groups"})
        row |= {"party": line.party or "unknown", "tracks": " ".join(line.tracks)}
        found.append(row | {f"group_{group}": line.groups.get(group, "") for group in GROUPS})
    for right in credits.rights:
        for kind, parts in left_over(right):
            found.append(
                {
                    **empty,
                    "kind": kind,
                    "right": right.right,
                    "party": KINDS[kind],
                    "parts": parts,
                    "share": parts / PARTS,
                }
            )
    return found


def left_over(right: RightTotal) -> list[tuple[LineKind, int]]:
    """The parts that no line of a track is about, by kind; of the base model only where there is one."""
    return [(kind, right.remainder[KINDS[kind]]) for kind in LEFT_OVER if KINDS[kind] in right.remainder]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], separator: str = ",") -> None:
    """A table as text, whole or not at all; columns in the order in which rows first have them."""
    columns = dict.fromkeys(name for row in rows for name in row)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), delimiter=separator, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
