"""From an attribution to people: rights, credits, statements, keys, audits. No model is loaded for any of
them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from linernotes.artefacts import held, read_json
from linernotes.attribution.result import Attribution, record_at
from linernotes.catalog.rights_table import read_rights_table
from linernotes.catalog.store import Catalogue
from linernotes.credits import signing
from linernotes.credits.audit import attributions_behind, audit_record, audited_file
from linernotes.credits.audit_credits import credit_sums
from linernotes.credits.checks import Check, Outcome, attempted
from linernotes.credits.clip import credit_clip
from linernotes.credits.crediting import calibrated
from linernotes.credits.manifest import require_clip, write_manifest
from linernotes.credits.record import RECORD, REMEDY, Credits, credits_at
from linernotes.credits.rights import Rights, examine_rights, read_rights, rights_of_catalogue
from linernotes.credits.shares import Rule
from linernotes.credits.splits import read_share
from linernotes.credits.statement import Source, build_statement, period_days
from linernotes.credits.statement_files import save_statement
from linernotes.credits.statement_record import Statement
from linernotes.credits.versions import newest_rights, record_rights, require_version
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import CALIBRATIONS, SHIPPED
from linernotes.errors import LinernotesError, UsageError
from linernotes.records.seal import require_whole, sha256_of
from linernotes.settings.engine import RetrainEngineSettings

if TYPE_CHECKING:
    from linernotes.methods.contract import Progress


@dataclass(frozen=True)
class CheckedRights:
    """What a table of rights came to. ``recorded`` is where it is kept; None if it has flaws, or the
    catalogue is one that came with the package.
    """

    rights: Rights | None
    flaws: list[str]
    recorded: Path | None


def check_rights(catalogue: str | Path, table: str | Path | None = None) -> CheckedRights:
    """Holds a table of rights against a catalogue and, if it has no flaws, keeps it beside the catalogue as
    the version that holds from now on.

    Args:
        table: the version that holds now if None; it is looked at and not kept again.

    Raises:
        LinernotesError: the table cannot be read, or None is given and none was ever kept.
    """
    opened = open_catalogue(catalogue)
    kept = None if table else newest_rights(opened.path)
    if table is None and kept is None:
        raise LinernotesError(f"no rights are kept beside {opened.path}: give a table of them, rights.csv")
    examined = examine_rights(read_rights_table(Path(table) if table else Path(str(kept))), opened.tracks)
    if table and examined.rights and str(catalogue) not in SHIPPED:
        kept = record_rights(examined.rights, opened.path, opened.hash)
    return CheckedRights(examined.rights, examined.flaws, kept)


def credit(
    attribution: str | Path,
    out: str | Path | None = None,
    rights: str | Path | None = None,
    rule: Rule = "proportion",
    smallest_share: float | str = 0,
    catalogue: str | Path | None = None,
    reporter: str | None = None,
    supersedes: str | Path | None = None,
    c2pa: str | Path | None = None,
    key: str | Path | None = None,
) -> Credits:
    """Says whose a clip is, from its calibrated attribution, and writes ``credits.json`` and ``credits.csv``;
    the very same, if they are there already, are kept.

    Args:
        attribution: an ``attribution.json``, or its folder.
        out: a folder; the attribution's if None.
        rights: a table of rights; if None the one kept beside the catalogue, else its own artists.
        rule: how named tracks share: ``proportion`` to expected effect, or ``equal``.
        smallest_share: what is paid at least, of 1 (``0.001``) or in percent (``"0.1 %"``).
        catalogue: the attribution's own if None.
        reporter: who vouches for the credits.
        supersedes: an earlier ``credits.json`` of the same clip that these replace.
        c2pa: the clip; a copy of it with a C2PA manifest is written beside the credits (``NAME.c2pa.flac``).
        key: the private key of ``new_key`` that the manifest is signed with; its certificates lie beside it
            as ``KEY.crt``, or it certifies itself.

    Raises:
        LinernotesError: the attribution is not calibrated or was edited, another catalogue, flawed rights, or
            credits exist already.
    """
    path = record_at(attribution)
    read = Attribution.load(path)
    require_whole(path, read_json(path, "an attribution"), "attribute the clip anew, into another folder")
    calibrated(path, read)
    if c2pa is not None:
        if key is None:
            raise UsageError("a C2PA manifest is signed: give a private key with --key")
        require_clip(Path(c2pa), read, Path(key))
    smallest = read_share(str(smallest_share))
    opened = open_catalogue(catalogue or read.sources.catalogue)
    credits = credit_clip(
        path, read, opened, _rights(rights, opened), rule, smallest, reporter, _superseded(supersedes, read)
    )
    folder = Path(out) if out else path.parent
    with held(folder / RECORD):
        record, there = folder / RECORD, (folder / RECORD).exists()
        if there and not _same(Credits.load(record), credits):
            raise LinernotesError(f"{record} exists already: give another folder with --out, or remove it")
        if not there:
            credits.save(folder)
        if c2pa is not None and key is not None:
            clip = Path(c2pa)
            copy = folder / f"{clip.stem}.c2pa{clip.suffix}"
            try:
                write_manifest(clip, credits, sha256_of(record), Path(key), copy)
            except BaseException:  # nothing half-written stays, so that the same command can be run again
                if not there:
                    record.unlink()
                    record.with_suffix(".csv").unlink()
                raise
    return Credits.load(record)


def _same(one: Credits, other: Credits) -> bool:
    """Whether two credits say the same, whenever they were made."""
    when = {"computed_at"}
    return one.model_dump(exclude=when) == other.model_dump(exclude=when)


def write_statement(
    credits: Sequence[str | Path],
    period: str,
    out: str | Path,
    key: str | Path | None = None,
    reporter: str | None = None,
) -> Statement:
    """Sums up the credits of many clips for a period, and writes ``statement.json``, ``.csv`` and ``.tsv``.

    Args:
        credits: ``credits.json`` files, or their folders.
        period: ``2026-11``, ``2026-Q4`` or ``2026``.
        key: a private key of ``new_key``; the statement is signed with it.
        reporter: who vouches for it; the credits' own, if they agree, where None.

    Raises:
        LinernotesError: credits that were changed, of one clip twice, or of different rules or methods.
    """
    period_days(period)
    folder = Path(out)
    private = signing.load_private_key(Path(key)) if key else None
    if not credits:
        raise UsageError("no credits are given: name the credits.json of at least one clip")
    sources = [_source(credits_at(each), folder) for each in credits]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    statement = build_statement(sources, period, reporter, now)
    with held(folder / "statement.json"):
        save_statement(statement, folder, private)
    return statement


def new_key(path: str | Path) -> Path:
    """Makes a pair of Ed25519 keys: the private one at ``path``, for nobody else to read; the public one,
    whose path is returned, for those who check.
    """
    return signing.new_key(Path(path))


def audit(
    path: str | Path,
    key: str | Path | None = None,
    recompute: float = 0.0,
    on_progress: Progress | None = None,
    challenge: int = 0,
    engine: RetrainEngineSettings | None = None,
) -> list[Check]:
    """Checks an ``attribution.json``, ``credits.json`` or ``statement.json``: schema, seal, sums,
    identifiers, signature, and whether what it names is at hand and gives the same figures again.

    Args:
        key: the public key of whoever must have signed it.
        recompute: the share of the segments that are scored again where an attribution is at hand, drawn at
            random; none if 0. Credits and statements lead to their attributions.
        challenge: how many models are trained again on random halves of the catalogue, to see whether the
            named tracks predict what becomes of the clips; none if 0. ``forecast_challenge`` says how long
            it takes.

    Raises:
        LinernotesError: it cannot be read, or is no such record.
    """
    record = audited_file(Path(path))
    at_hand = sorted(CALIBRATIONS.glob("*.json"))
    checks = audit_record(record, Path(key) if key else None, at_hand)
    for attribution in attributions_behind(record) if recompute else []:
        checks.append(
            attempted(
                f"scores of {attribution.parent.name} computed again",
                partial(_scored_again, attribution, recompute, on_progress),
            )
        )
    if challenge:
        checks.append(_challenged(record, challenge, checks, on_progress, engine))
    return checks


def _challenged(
    record: Path,
    halves: int,
    checks: Sequence[Check],
    on_progress: Progress | None,
    engine: RetrainEngineSettings | None,
) -> Check:
    """Whether retraining bears a record out; a record that fails already is not worth the trouble."""
    from linernotes.api.challenging import challenge

    what = "named tracks predict retraining"
    if any(check.outcome == "fails" for check in checks):
        return Check(what, "not checked", "another check fails")
    try:
        found = challenge(record, halves, on_progress, engine)
    except LinernotesError as error:
        return Check(what, "not checked", str(error))
    outcome: Outcome = "not checked" if found.borne_out is None else "holds" if found.borne_out else "fails"
    return Check(what, outcome, found.sentence)


def _scored_again(attribution: Path, share: float, on_progress: Progress | None) -> str:
    from linernotes.api.attributing import replay  # brings torch, which nothing else here needs

    found = replay(attribution, share=share, on_progress=on_progress)
    if not found.same:
        raise LinernotesError(found.sentence)
    return found.sentence


def _rights(table: str | Path | None, catalogue: Catalogue) -> Rights:
    """The rights that hold for a catalogue: those given, those kept beside it, or its own artists."""
    kept = newest_rights(catalogue.path)
    if table is None and kept is None:
        return rights_of_catalogue(catalogue.tracks)
    path = Path(table) if table else Path(str(kept))
    rights = read_rights(read_rights_table(path), catalogue.tracks)
    require_version(path, rights)
    return rights


def _superseded(earlier: str | Path | None, read: Attribution) -> str | None:
    if earlier is None:
        return None
    path = credits_at(earlier)
    ours = {read.query.content_hash, *(file.sound_hash for file in read.sources.clips)}
    if not ours & Credits.load(path).hashes.of_clip:
        raise LinernotesError(f"{path} holds the credits of another clip: give those of {read.query.name}")
    return sha256_of(path)


def _source(path: Path, folder: Path) -> Source:
    """Credits, with the name under which they are found from the statement's folder."""
    credits = Credits.load(path)
    if places := list(credit_sums(credits)):
        raise LinernotesError(f"{path} does not add up ({places[0]}): {REMEDY}")
    try:
        name = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        name = str(path.resolve())
    return Source(name, sha256_of(path), credits, str(path))
