"""A record's seal: a hash of each of its parts and each of its lines, so that a change is found and its place
is named.

The seal guards against accidents and edits by hand; only a signature (``signing``) guards against someone who
seals anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linernotes.artefacts import hash_json
from linernotes.errors import LinernotesError

SEAL, FILES = "seal", "files"
BLOCK_BYTES = 1 << 22


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its seal: by name of a part its hash, for lists one an entry."""
    return {**record, SEAL: _hashes(record)}


def unsealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says: without its seal, and without the hashes of the tables beside it."""
    return {name: value for name, value in record.items() if name not in (SEAL, FILES)}


def changes(record: Mapping[str, Any]) -> list[str]:
    """The places at which a record is not what its seal says: ``query``, ``lines[3]``; empty if it is
    whole.
    """
    seal = record.get(SEAL)
    if not isinstance(seal, dict):
        return ["it has no seal"]
    places = []
    now = _hashes(record)
    for name in dict.fromkeys([*now, *seal]):
        was, found = seal.get(name), now.get(name)
        if isinstance(was, list) and isinstance(found, list):
            places += [f"{name}[{i}]" for i, (a, b) in enumerate(zip(was, found, strict=False)) if a != b]
            if len(was) != len(found):
                places.append(f"{name}: {len(found)} entries of {len(was)}")
        elif was != found:
            places.append(name)
    return places


def require_whole(path: Path, record: Mapping[str, Any], remedy: str) -> None:
    """Refuses a record that was changed after it was written.

    Raises:
        LinernotesError: it was; the sentence names the places.
    """
    if not isinstance(record.get(SEAL), dict):
        raise LinernotesError(f"{path} has no seal, so that nobody can tell whether it was changed: {remedy}")
    if places := changes(record):
        raise LinernotesError(
            f"{path} was changed after it was written, at {', '.join(places[:5])}: {remedy}"
        )


def canonical(record: Any) -> bytes:
    """JSON as it is hashed and signed: sorted keys, no spaces, UTF-8."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, all 64 digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _hashes(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [hash_json(entry) for entry in value] if isinstance(value, list) else hash_json(value)
        for name, value in record.items()
        if name != SEAL
    }
