"""Reads the tunes the built-in catalogue is made of: ABC collections and Bach chorales of the music21 wheel
-> ``Tune``.

Nothing of them is kept in this repository: the text is read where pip put it, cleaned of fingerings and
remarks, and turned into notes by symusic's ``abc2midi`` (tunes) or music21 (chorales). A tune that does not
parse cleanly is left out.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICKS_PER_QUARTER = 480

COLLECTIONS = {
    "ryansMammoth": "Ryan's Mammoth Collection",
    "oneills1850": "O'Neill's Music of Ireland",
    "airdsAirs": "Aird's Airs",
    "bach": "Bach, four-part chorales",
}

_KEY = re.compile(
    r"^\s*([A-G])\s*([#b]?)\s*(m(?!aj|ix)|min\w*|maj\w*|dor\w*|mix\w*|phr\w*|lyd\w*|aeo\w*)?", re.I
)
_MODES = {
    "m": "minor",
    "min": "minor",
    "aeo": "minor",
    "dor": "dorian",
    "mix": "mixolydian",
    "phr": "phrygian",
    "lyd": "lydian",
}
_KEPT_FIELDS = ("X:", "T:", "M:", "L:", "K:")


@dataclass(frozen=True)
class Tune:
    """One tune as its collection has it. ``source`` is ``file`` or ``file#index``, inside the collection's
    folder.
    """

    collection: str
    source: str
    title: str
    composer: str | None
    transcriber: str | None
    key: str
    metre: str
    rhythm: str


@dataclass(frozen=True)
class Note:
    """One note: ``start`` and ``length`` in ticks (``TICKS_PER_QUARTER`` to the quarter), ``pitch`` in MIDI
    numbers.
    """

    start: int
    length: int
    pitch: int
    velocity: int = 90


def corpus_folder() -> Path:
    """Where the music21 wheel keeps its corpus, found without importing music21 (which takes seconds)."""
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the built-in catalogue is read from the music21 package: pip install music21"
        )
    return Path(spec.origin).parent / "corpus"


def read_tunes(collection: str) -> Iterator[Tune]:
    """All tunes of an ABC collection that have a title, a key and a metre, in file order."""
    for path in sorted((corpus_folder() / collection).glob("*.abc")):
        for index, text in enumerate(_split(path.read_text(encoding="latin-1"))):
            title, key, metre = _field(text, "T"), _key(_field(text, "K")), _metre(_field(text, "M"))
            if title and key and metre:
                yield Tune(
                    collection=collection,
                    source=f"{path.name}#{index}",
                    title=_tidy_title(title),
                    composer=_person(_field(text, "C")),
                    transcriber=_person(_field(text, "Z")),
                    key=key,
                    metre=metre,
                    rhythm=_rhythm(_field(text, "R"), title, metre),
                )


def read_chorales() -> Iterator[Tune]:
    """Bach's chorales, one per MusicXML file of the corpus that has four parts."""
    for path in sorted((corpus_folder() / "bach").glob("bwv*.mxl")):
        score = _chorale(path)
        if len(score.parts) != 4:
            continue
        key = score.analyze("key")
        signature = next(iter(score.recurse().getElementsByClass("TimeSignature")), None)
        metadata = score.metadata
        title = (metadata.title or metadata.movementName or "") if metadata else ""
        title = re.sub(r"\.(mxl|xml|krn)$", "", title).strip()
        number = "BWV " + path.stem.removeprefix("bwv")
        yield Tune(
            collection="bach",
            source=path.name,
            title=f"{title} ({number})" if title and not title.lower().startswith("bwv") else number,
            composer="J. S. Bach",
            transcriber=None,
            key=f"{key.tonic.name.replace('-', ' flat').replace('#', ' sharp')} {key.mode}",
            metre=signature.ratioString if signature is not None else "4/4",
            rhythm="chorale",
        )


def read_notes(collection: str, source: str) -> list[Note]:
    """The notes of one tune. Empty when its text does not parse without an error: such a tune is not used."""
    if collection == "bach":
        return _chorale_notes(corpus_folder() / "bach" / source)
    name, index = source.split("#")
    texts = _split((corpus_folder() / collection / name).read_text(encoding="latin-1"))
    return _abc_notes(texts[int(index)])


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"(?m)^(?=X:)", text) if part.startswith("X:")]


def _field(text: str, letter: str) -> str:
    match = re.search(rf"(?m)^{letter}:(.*)$", text)
    return match.group(1).strip() if match else ""


def _key(text: str) -> str:
    match = _KEY.match(text)
    if not match:
        return ""
    accidental = {"#": " sharp", "b": " flat", "": ""}[match.group(2)]
    mode = (match.group(3) or "").lower()
    name = "minor" if mode == "m" else _MODES.get(mode[:3], "major")
    return f"{match.group(1).upper()}{accidental} {name}"


def _metre(text: str) -> str:
    text = {"C": "4/4", "C|": "2/2"}.get(text.strip(), text.strip())
    return text if re.fullmatch(r"\d+/\d+", text) else ""


def _rhythm(field: str, title: str, metre: str) -> str:
    known = (
        "reel",
        "hornpipe",
        "strathspey",
        "waltz",
        "march",
        "polka",
        "slip jig",
        "jig",
        "clog",
        "fling",
        "air",
        "minuet",
        "quickstep",
    )
    named = field.lower().replace("slipjig", "slip jig") or title.lower().replace("quick step", "quickstep")
    for name in known:
        if re.search(rf"\b{name}\b", named):
            return name
    return {"6/8": "jig", "9/8": "slip jig", "3/4": "waltz", "3/8": "waltz"}.get(metre, "air")


def _tidy_title(title: str) -> str:
    title = re.sub(
        r"\s*-+\s*(reel|jig|hornpipe|strathspey|clog|slip ?jig|double jig)\.?$", "", title.strip(), flags=re.I
    )
    title = title.strip(" .,\"'")
    return (
        title.title().replace("'S", "'s").replace("'D", "'d").replace("'Ll", "'ll")
        if title.isupper()
        else title
    )


def _person(text: str) -> str | None:
    text = re.sub(r"(?i)contributed|transcribed|\bby\b|\b\d{8,}\b|\"", " ", text)
    names = [
        word
        for word in text.replace("*", ",").split()
        if "@" not in word and ":" not in word and "www." not in word
    ]
    words = " ".join(names).split(",")[0].strip(" .,")
    return words.title() if words.isupper() else (words or None)


def _abc_notes(text: str) -> list[Note]:
    lines = [
        line
        for line in text.splitlines()
        if line.startswith(_KEPT_FIELDS) or not re.match(r"[A-Za-z]:|%|\s*$", line)
    ]
    plain = re.sub(r'"[^"\n]*"', "", "\n".join(lines)) + "\n"
    import symusic  # sets SYMUSIC_ABC2MIDI to the converter it carries

    with tempfile.TemporaryDirectory() as folder:
        abc, mid = Path(folder, "tune.abc"), Path(folder, "tune.mid")
        abc.write_text(plain, encoding="latin-1")
        done = subprocess.run(
            [os.environ["SYMUSIC_ABC2MIDI"], str(abc), "-o", str(mid), "-NGRA", "-NGUI"],
            capture_output=True,
            check=False,
        )
        if b"Error" in done.stdout or not mid.exists():
            return []
        score = symusic.Score(str(mid))
    scale = TICKS_PER_QUARTER / score.ticks_per_quarter
    notes = [
        Note(round(n.time * scale), max(1, round(n.duration * scale)), n.pitch)
        for track in score.tracks
        for n in track.notes
    ]
    return sorted(notes, key=lambda n: (n.start, n.pitch))


def _chorale(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from music21 import converter

        return converter.parse(path)


def _chorale_notes(path: Path) -> list[Note]:
    notes = []
    for element in _chorale(path).stripTies().flatten().notes:
        for pitch in element.pitches:
            start, length = float(element.offset), float(element.quarterLength)
            if length > 0:
                notes.append(
                    Note(round(start * TICKS_PER_QUARTER), round(length * TICKS_PER_QUARTER), pitch.midi)
                )
    return sorted(set(notes), key=lambda n: (n.start, n.pitch, n.length))
