"""Audits a statement from its files: seal, line ids, sums of every clip, identifiers, and whether the credits
at hand give the same lines again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from linernotes.credits.checks import (
    Check,
    at_hand,
    check_files,
    check_identifiers,
    check_seal,
    checked,
    identified,
)
from linernotes.credits.entries import RIGHTS
from linernotes.credits.record import Credits
from linernotes.credits.shares import PARTS
from linernotes.credits.statement import Source, build_statement, line_id, party_amounts, statement_totals
from linernotes.credits.statement_record import Statement, read_statement
from linernotes.errors import LinernotesError
from linernotes.records.seal import sha256_of

FOLLOWING = ("clips", "totals", "parties", "rule", "smallest_share", "estimator", "named", "expected_false")


def audit_statement(path: Path, content: Mapping[str, Any]) -> Iterator[Check]:
    """All checks of a ``statement.json``."""
    read, _ = read_statement(path)
    yield Check("schema", "holds", f"statement, version {read.schema_version}")
    yield check_seal(content)
    yield checked("line ids follow from the lines", _other_ids(read))
    yield checked(
        "sums", _statement_sums(read), f"each right of each of {len(read.clips)} clips sums to exactly 1"
    )
    yield check_identifiers(identified(read.lines))
    yield from check_files(path, content)
    yield from _from_credits(path, read)


def _other_ids(read: Statement) -> Iterator[str]:
    for i, line in enumerate(read.lines):
        if line_id(line, read.period, read.reporter) != line.line_id:
            yield f"lines[{i}] ({line.party or line.kind}, {line.right}, {line.title or 'no recording'})"
    if len({line.line_id for line in read.lines}) < len(read.lines):
        yield "lines: an id stands twice"


def _statement_sums(read: Statement) -> Iterator[str]:
    parts: dict[tuple[str, str], int] = {(entry.clip, right): 0 for entry in read.clips for right in RIGHTS}
    for i, line in enumerate(read.lines):
        if sum(each.parts for each in line.sources) != line.parts or line.clips != line.parts / PARTS:
            yield f"lines[{i}]: its clips do not come to {line.parts} parts"
        for each in line.sources:
            place = (each.clip, line.right)
            if place not in parts:
                yield f"lines[{i}]: the clip {each.clip} is not in the statement"
            parts[place] = parts.get(place, 0) + each.parts
    yield from (
        f"clip {clip}: {right} sums to {found}, not {PARTS}"
        for (clip, right), found in parts.items()
        if found != PARTS
    )
    named = sum(entry.named for entry in read.clips), math.fsum(entry.expected_false for entry in read.clips)
    if named != (read.named, read.expected_false):
        yield "named, expected_false: they are not the sums of the clips"
    models = [entry.model_hash for entry in read.clips]
    if statement_totals(read.lines, models) != read.totals:
        yield "totals: they are not the sums of the lines"
    if party_amounts(read.lines) != read.parties:
        yield "parties: they are not the sums of the lines"


def _from_credits(path: Path, read: Statement) -> Iterator[Check]:
    """Whether the credits at hand are those that were summed up, and give the same statement."""
    sources, missing, changed = [], [], []
    what, follows = "the credits at hand", "lines follow from the credits"
    for entry in read.clips:
        place = at_hand(entry.credits_file, path, entry.credits_sha256)
        if place is None:
            missing.append(entry.credits_file)
        elif sha256_of(place) != entry.credits_sha256:
            changed.append(str(place))
        else:
            try:
                sources.append(Source(entry.credits_file, entry.credits_sha256, Credits.load(place)))
            except LinernotesError as error:
                changed.append(f"{place} ({error})")
    if changed:
        yield checked(what, [f"{place} is not what was summed up" for place in changed])
    elif missing:
        yield Check(what, "not checked", f"{len(missing)} are not there, the first is {missing[0]}")
    else:
        yield Check(what, "holds", f"{len(sources)} files")
        try:
            again = build_statement(sources, read.period, read.reporter, read.computed_at)
        except LinernotesError as error:
            yield Check(follows, "fails", str(error))
            return
        same = {line.line_id: line for line in again.lines}
        yield checked(
            follows,
            [f"lines[{i}]" for i, line in enumerate(read.lines) if same.get(line.line_id) != line]
            + ([] if len(same) == len(read.lines) else [f"lines: {len(same)} follow"])
            + [name for name in FOLLOWING if getattr(again, name) != getattr(read, name)],
        )
