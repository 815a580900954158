"""Audits a record from its files alone: an attribution, credits or a statement -> checks, each of which
holds, fails with its place, or could not be made here with the reason.

Whatever needs a model (scores computed again) is added to these in ``api.crediting``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from linernotes.artefacts import read_json
from linernotes.attribution.result import RECORD as ATTRIBUTION
from linernotes.credits.audit_attribution import audit_attribution, check_effects
from linernotes.credits.audit_credits import audit_credits
from linernotes.credits.audit_statement import audit_statement
from linernotes.credits.checks import Check, at_hand, attempted
from linernotes.credits.record import RECORD as CREDITS
from linernotes.credits.record import Credits
from linernotes.credits.signing import check_signature, load_public_key, signature_path
from linernotes.credits.statement_record import RECORD as STATEMENT
from linernotes.credits.statement_record import Statement
from linernotes.errors import LinernotesError

RECORDS = {"attribution": ATTRIBUTION, "credits": CREDITS, "statement": STATEMENT}
AUDITS: dict[str, Callable[[Path, Mapping[str, Any]], Iterator[Check]]] = {
    "attribution": audit_attribution,
    "credits": audit_credits,
    "statement": audit_statement,
}


def audited_file(path: Path) -> Path:
    """The record that is meant: the file itself, or the only one in a folder.

    Raises:
        LinernotesError: a folder that holds none, or several.
    """
    if not path.is_dir():
        return path
    found = [path / name for name in RECORDS.values() if (path / name).exists()]
    if len(found) != 1:
        there = " and ".join(each.name for each in found) or "no record"
        raise LinernotesError(f"{path} holds {there}: give the file that is to be audited")
    return found[0]


def attributions_behind(path: Path) -> list[Path]:
    """The attributions that a record rests on, as far as they are at hand: itself, or those that its credits
    were shared out from.

    Raises:
        LinernotesError: the file cannot be read, or is no such record.
    """
    kind, content = _record(path)
    if kind == "attribution":
        return [path]
    if kind == "credits":
        read = Credits.parse(path, content)
        found = at_hand(read.sources.attribution, path, read.hashes.attribution_sha256)
        return [found] if found else []
    clips = Statement.parse(path, content).clips
    credits = [at_hand(entry.credits_file, path, entry.credits_sha256) for entry in clips]
    return [attribution for each in credits if each for attribution in attributions_behind(each)]


def audit_record(path: Path, key: Path | None = None, calibrations: Iterable[Path] = ()) -> list[Check]:
    """All checks that need no model.

    Args:
        path: an ``attribution.json``, ``credits.json`` or ``statement.json``.
        key: the public key that must have signed it.
        calibrations: those that are at hand, for what attributions make of their scores.

    Raises:
        LinernotesError: the file cannot be read, or is no such record.
    """
    kind, content = _record(path)
    effects = [check_effects(path, calibrations)] if kind == "attribution" else []
    return [*AUDITS[kind](path, content), *effects, *_signature(path, content, key)]


def _record(path: Path) -> tuple[str, dict[str, Any]]:
    """The kind of a record, and what it holds."""
    content = read_json(path, "a record")
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in AUDITS:
        raise LinernotesError(f"{path} is none of {', '.join(RECORDS.values())}: check the path")
    return kind, content


def _signature(path: Path, content: Mapping[str, Any], key: Path | None) -> Iterator[Check]:
    public = load_public_key(key) if key else None
    if signature_path(path).exists():
        yield attempted("signature", lambda: check_signature(path, content, public))
    elif public is not None:
        yield Check(
            "signature", "fails", f"{signature_path(path)} is not there, so nobody signed {path.name}"
        )
    elif content["kind"] == "statement":
        yield Check("signature", "not checked", "it is not signed")
