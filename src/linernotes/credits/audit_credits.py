"""Audits credits from their files: seal, sums, identifiers, and whether attribution, rights and catalogue at
hand give the same lines again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from linernotes.attribution.result import Attribution
from linernotes.catalog.rights_table import read_rights_table
from linernotes.catalog.store import Catalogue
from linernotes.credits.checks import (
    Check,
    at_hand,
    check_catalogue,
    check_files,
    check_identifiers,
    check_seal,
    checked,
    identified,
)
from linernotes.credits.crediting import calibrated, party_totals, share_out
from linernotes.credits.record import KINDS, REMEDY, SCHEMA_VERSION, Credits, Frozen, left_over
from linernotes.credits.rights import FROM_CATALOGUE, Rights, read_rights, rights_of_catalogue
from linernotes.credits.shares import PARTS
from linernotes.credits.splits import read_share
from linernotes.credits.versions import find_version
from linernotes.errors import LinernotesError
from linernotes.records.reading import require_record
from linernotes.records.seal import sha256_of


def audit_credits(path: Path, content: Mapping[str, Any]) -> Iterator[Check]:
    """All checks of a ``credits.json``."""
    require_record(path, content, "credits", SCHEMA_VERSION, REMEDY)
    read = Credits.parse(path, content)
    yield Check("schema", "holds", f"credits, version {read.schema_version}")
    yield check_seal(content)
    yield checked("sums", credit_sums(read), "each right sums to exactly 1")
    yield check_identifiers(identified(read.lines))
    yield from check_files(path, content)
    yield from check_catalogue(read.sources.catalogue, read.hashes.catalogue)
    yield from _from_sources(path, read)


def credit_sums(read: Credits) -> Iterator[str]:
    """The places at which the figures of credits contradict each other."""
    for i, line in enumerate(read.lines):
        if line.share != line.parts / PARTS or not 0 <= line.low <= line.share <= line.high <= 1:
            yield f"lines[{i}]: share {line.share} [{line.low}, {line.high}] of {line.parts} parts"
    for i, total in enumerate(read.rights):
        of_right = [line for line in read.lines if line.right == total.right]
        sums = {kind: sum(line.parts for line in of_right if line.kind == kind) for kind in KINDS}
        rest = {KINDS[kind]: parts for kind, parts in left_over(total)}
        told = {KINDS[kind]: parts for kind, parts in sums.items() if kind in ("unknown", "withheld")}
        if (total.paid, total.remainder) != (sums["paid"], {**rest, **told}):
            yield f"rights[{i}]: the {total.right} lines come to {sums['paid']} paid, not {total.paid}"
        found = sum(line.parts for line in of_right) + sum(rest.values())
        if not found == total.total == PARTS:
            yield f"rights[{i}]: {total.right} sums to {found}, not {PARTS}"
    if list(party_totals(read.lines)) != read.parties:
        yield "parties: they are not the sums of the lines"


def _from_sources(path: Path, read: Credits) -> Iterator[Check]:
    """Whether attribution and rights at hand are those that were credited, and give the same lines."""
    what = "lines follow from attribution and rights"
    source = at_hand(read.sources.attribution, path, read.hashes.attribution_sha256)
    if source is None:
        yield Check("the attribution at hand", "not checked", f"{read.sources.attribution} is not there")
        yield Check(what, "not checked", "the attribution is not at hand")
        return
    if sha256_of(source) != read.hashes.attribution_sha256:
        yield Check("the attribution at hand", "fails", f"{source} is not what was credited: it was changed")
        return
    yield Check("the attribution at hand", "holds", str(source))
    try:
        rights = _rights(path, read)
    except LinernotesError as error:
        yield Check(what, "not checked", str(error))
        return
    if rights.hash != read.hashes.rights:
        yield Check("the rights at hand", "fails", f"{read.sources.rights} is not what was credited")
        return
    yield Check("the rights at hand", "holds", read.sources.rights)
    try:
        attribution = Attribution.load(source)
        verdict, named = calibrated(source, attribution)
        smallest = read_share(read.smallest_share)
        again = share_out(attribution, verdict, named, rights, read.rule, smallest)
    except LinernotesError as error:
        yield Check(what, "fails", str(error))
        return
    yield checked(
        what,
        [
            *differences("lines", again.lines, read.lines),
            *differences("rights", again.rights, read.rights),
            *_other_contributions(attribution, read),
        ],
    )


def differences(name: str, again: Sequence[Frozen], kept: Sequence[Frozen]) -> Iterator[str]:
    """Where entries that were computed again are not those that stand in a record."""
    if len(again) != len(kept):
        yield f"{name}: {len(kept)} stand there, {len(again)} follow"
    for i, (a, b) in enumerate(zip(again, kept, strict=False)):
        for key, value in a.model_dump().items():
            if getattr(b, key) != value:
                yield f"{name}[{i}].{key}: {getattr(b, key)!r} here, {value!r} follows"


def _other_contributions(attribution: Attribution, read: Credits) -> Iterator[str]:
    """Where what is said of a track is not what the attribution says."""
    if len(attribution.tracks) != len(read.contributions):
        yield f"contributions: {len(read.contributions)} stand there, {len(attribution.tracks)} follow"
    for i, (track, kept) in enumerate(zip(attribution.tracks, read.contributions, strict=False)):
        effect = track.effect.expected if track.effect else None
        if (track.track_id, track.score, effect) != (kept.track_id, kept.score, kept.expected):
            yield f"contributions[{i}]: {kept.track_id!r} is not as the attribution has it"


def _rights(path: Path, read: Credits) -> Rights:
    """The rights that were credited with, from the files at hand."""
    catalogue = Catalogue(Path(read.sources.catalogue))
    if read.sources.rights == FROM_CATALOGUE:
        return rights_of_catalogue(catalogue.tracks)
    given = Path(read.sources.rights)
    place = given if given.exists() else find_version(catalogue.path, read.hashes.rights)
    if place is None:
        raise LinernotesError(f"{read.sources.rights} is not there")
    return read_rights(read_rights_table(place), catalogue.tracks)
