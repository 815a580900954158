"""What a recording's C2PA manifest says of training: the Creator Assertions Working Group's training and data
mining assertion 1.1, and C2PA's own that came before it. Read where c2pa-python is installed, else nothing
is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from linernotes.audio import require_reach

FORMATS = {".flac": "audio/flac", ".wav": "audio/wav", ".mp3": "audio/mpeg", ".m4a": "audio/mp4"}
COLUMN, RESERVED = "training-mining", "notAllowed"  # of a track, where its manifest says so
ASSERTION = "cawg.training-mining"
TRAINING = ("ai_generative_training", "ai_training")
NAMED = 5  # recordings that a note names


def reserved(path: Path) -> bool:
    """Whether a recording's manifest says that no model may be trained on it; False where none can be read.

    A manifest says so for what was made from it as well, until a later one does. Nobody's signature is
    checked: that somebody put the sentence there is reason enough to name it.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or find_spec("c2pa") is None:
        return False
    from c2pa import C2paError, Reader  # an extra

    try:
        with path.open("rb") as file, Reader(kind, file) as reader:
            store = json.loads(reader.json())
    except (C2paError, OSError, ValueError) as error:
        require_reach(path, error)
        return False
    manifests = store.get("manifests", {})
    label, seen = store.get("active_manifest"), set[str]()
    while label in manifests and label not in seen:
        seen.add(label)
        if uses := list(_uses(manifests[label])):
            return RESERVED in uses
        parents = (i for i in manifests[label].get("ingredients", ()) if i.get("relationship") == "parentOf")
        label = next((parent.get("active_manifest") for parent in parents), None)
    return False


def _uses(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What one manifest says of training: allowed, notAllowed or constrained."""
    for assertion in manifest.get("assertions", ()):
        for prefix in ("cawg", "c2pa"):
            if str(assertion.get("label", "")).partition("__")[0] == f"{prefix}.training-mining":
                entries = assertion["data"].get("entries", {})
                found = (entries.get(f"{prefix}.{name}", {}).get("use") for name in TRAINING)
                yield from (use for use in found if use)


def said_of(names: list[str]) -> str:
    """The note on recordings that are reserved."""
    more = len(names) - NAMED
    listed = ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
    who = "1 recording says" if len(names) == 1 else f"{len(names)} recordings say"
    return f"{who} in a C2PA manifest that no model may be trained on it ({ASSERTION}: {RESERVED}): {listed}"
