"""What a judge is given of a case that ran, and what judges ask of it: what went in, how long it lasts, what
was said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXACT_S = 0.01  # resampling rounds to a sample
PADDED_S = 0.15  # lossy coders pad both ends; a remainder below one latent frame (93 ms) is cut
LOUDNESS_DB = 3.0  # tones of several pitches differ by 1 dB or so, the fault looked for is 9.5 dB
EARLY_S = 15.0  # "before the work is done": reading arguments and importing, on a slow machine
PEAK_MIB = 1024.0
PADDED = {".mp3", ".opus", ".oga", ".ogg"}
SOUND = {*PADDED, ".wav", ".flac"}
NOT_FROM_MODEL = re.compile(r"not known (to (come|be|stem)|whether)|unknown (origin|maker)", re.IGNORECASE)


@dataclass(frozen=True)
class Ran:
    """A command that was run: ``root`` is the folder of all cases, ``catalogues`` what is in ``root/out``."""

    name: str
    root: Path
    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_mib: float
    catalogues: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def said(self) -> str:
        """All that was printed, as one line."""
        return " ".join((self.stdout + " " + self.stderr).split())

    @property
    def built(self) -> dict[str, Any]:
        return self.catalogues.get(f"{self.name}.catalogue", {})

    @property
    def tracks(self) -> dict[str, dict[str, Any]]:
        return {track["file_name"]: track for track in self.built.get("tracks", [])}

    @property
    def rejects(self) -> dict[str, str]:
        """What is said of each file or row that is not in the catalogue."""
        return {r["file_name"]: f"{r['reason']}: {r['detail']}" for r in self.built.get("rejects", [])}


Judge = Callable[[Ran], list[str]]


# ------------------------------------------------------------------------------------------------ tools


def last_line(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing on stderr"


def refused(ran: Ran, *words: str) -> bool:
    """Whether it failed with a sentence that has one of these words, and left no catalogue."""
    return ran.code != 0 and not ran.built and any(word.lower() in ran.stderr.lower() for word in words)


def passed(ran: Ran) -> list[str]:
    return [] if ran.code == 0 else [f"exit code {ran.code}: {last_line(ran.stderr)}"]


def unbroken(ran: Ran) -> list[str]:
    bad = ("Traceback", "unexpected ", "No such file", "Directory not empty", "KeyError")
    return [f"stderr says {word!r}" for word in bad if word in ran.stderr]


def exactly(ran: Ran, *names: str) -> list[str]:
    """The tracks of the catalogue are these and no others."""
    if not ran.built:
        return [*passed(ran), "there is no catalogue"]
    if "error" in ran.built:
        return [f"the catalogue cannot be opened: {ran.built['error']}"]
    lost = [name for name in names if name not in ran.tracks]
    missing = [f"{name} is no track ({ran.rejects.get(name, 'not named')})" for name in lost]
    return missing + [f"{name} is a track" for name in ran.tracks if name not in names] + passed(ran)


def fields(ran: Ran, name: str, **right: str) -> list[str]:
    """What the catalogue says of a track."""
    track = ran.tracks.get(name, {})
    wrong = [key for key, value in right.items() if track.get(key) != value]
    return [f"{key} of {name} is {track.get(key)!r}" for key in wrong]


def none_rejected(ran: Ran) -> list[str]:
    return [f"{name} is rejected ({why})" for name, why in ran.rejects.items()]


def lasts(ran: Ran, seconds: float, *names: str, tolerance: float | None = None) -> list[str]:
    faults = []
    for name in names:
        allowed = tolerance or (PADDED_S if Path(name).suffix.lower() in PADDED else EXACT_S)
        found = ran.tracks.get(name, {}).get("seconds")
        if found is not None and abs(found - seconds) > allowed:
            faults.append(f"{name} has {found:.2f} s, not {seconds:g} s")
    return faults


def rejected(ran: Ran, names: Iterable[str], *words: str) -> list[str]:
    """Each of these is a reject that has one of the words in its reason or sentence."""
    faults = []
    for name in names:
        told = ran.rejects.get(name)
        if told is None:
            faults.append(f"{name} is {'a track' if name in ran.tracks else 'not named'}")
        elif not any(word.lower() in told.lower() for word in words):
            faults.append(f"of {name} it says '{told}'")
    return faults


def sounds(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SOUND)


def all_whole(ran: Ran) -> list[str]:
    """Every sound file of the folder is a track of three seconds, nothing is rejected."""
    names = sounds(ran.folder)
    return exactly(ran, *names) + lasts(ran, 3.0, *names) + none_rejected(ran)


def attributions(folder: Path) -> dict[str, dict[str, Any]]:
    """The records in and below a folder, by the file that each is about."""
    records = [json.loads(path.read_text()) for path in sorted(folder.rglob("attribution.json"))]
    return {str(record["query"]["file"]): record for record in records}


def texts(value: object) -> list[str]:
    """All keys and texts in a JSON value."""
    if isinstance(value, dict):
        return [text for key, part in value.items() for text in (key, *texts(part))]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []
