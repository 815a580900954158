"""Hashes of large weights, computed once and kept: a gigabyte takes seconds, each time a model is opened."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from linernotes.artefacts import hash_json, write_json
from linernotes.errors import LinernotesError
from linernotes.settings.places import cache_folder

LARGE_BYTES = 1 << 26  # what is smaller is hashed each time
SETTLED_S = 2.0  # a file may change once more within the tick of its clock, unseen by its times


def kept_hashes(paths: Sequence[Path], what: str, compute: Callable[[], dict[str, str]]) -> dict[str, str]:
    """``compute()``, or what it gave before for the same files.

    Files count as the same while path, size, inode and the times of the last change of their content and of
    their record stand: a copy over them, or a change that sets its time back, moves the last one.
    """
    stats = [(path.resolve(), path.stat()) for path in sorted(paths)]
    if sum(stat.st_size for _, stat in stats) < LARGE_BYTES:
        return compute()
    latest = max(max(stat.st_mtime, stat.st_ctime) for _, stat in stats)
    key: list[Any] = [what]
    key += [[str(p), s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns] for p, s in stats]
    try:
        place = cache_folder() / "hashes" / f"{hash_json(key)}.json"
    except LinernotesError:  # nowhere to keep it
        return compute()
    if place.exists():
        try:
            return dict(json.loads(place.read_text(encoding="utf-8")))
        except ValueError:  # damaged: anew
            pass
    hashes = compute()
    if time.time() - latest > SETTLED_S:
        write_json(place, hashes)
    return hashes
