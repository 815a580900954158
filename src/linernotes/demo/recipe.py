"""Decides what stands in the built-in catalogue: tunes -> 2,048 training tracks and 320 decoys, each with an
instrument and a tempo drawn independently of the tune. The same on every machine: it depends on the packages
and ``SEED`` alone.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from linernotes.demo.tunes import COLLECTIONS, Note, Tune, read_chorales, read_notes, read_tunes

SEED = 2506
TRAINING_TRACKS = 2048
DECOYS = 320

# General MIDI programs (0-based), chosen to be told apart by ear.
INSTRUMENTS = {
    "piano": 0,
    "harpsichord": 6,
    "vibraphone": 11,
    "xylophone": 13,
    "church organ": 19,
    "accordion": 21,
    "guitar": 24,
    "violin": 40,
    "trumpet": 56,
    "clarinet": 71,
    "flute": 73,
    "banjo": 105,
}
TEMPOS = {"slow": 84, "steady": 100, "lively": 116, "fast": 132}  # quarter notes a minute

# Two tunes are versions of one work when this share of the shorter one's melodic turns stands in the other,
# or the smaller share when their titles agree as well. A turn is a run of TURN successive intervals:
# transposition drops out.
TURN = 6
SAME_WORK_SHARE = 0.4
SAME_WORK_SHARE_WITH_TITLE = 0.15


@dataclass(frozen=True)
class DemoTrack:
    """One track of the built-in catalogue: a tune, and how it is played."""

    track_id: str
    tune: Tune
    work_id: str
    instrument: str
    tempo: str
    split: str

    @property
    def caption(self) -> str:
        return caption_of(self.tune, self.instrument, self.tempo)

    def row(self) -> dict[str, str | None]:
        """The track as a row of an audiofolder's ``metadata.csv``."""
        tune = self.tune
        return {
            "track_id": self.track_id,
            "title": tune.title,
            "artist": tune.composer or f"Traditional ({COLLECTIONS[tune.collection]})",
            "album": COLLECTIONS[tune.collection],
            "transcriber": tune.transcriber,
            "work_id": self.work_id,
            "key": tune.key,
            "metre": tune.metre,
            "rhythm": tune.rhythm,
            "instrument": self.instrument,
            "tempo": self.tempo,
            "licence": "see docs/catalogue.md",
            "source": f"{tune.collection}/{tune.source}",
            "caption": self.caption,
            "split": self.split,
        }


def caption_of(tune: Tune, instrument: str, tempo: str) -> str:
    """What is said of a tune and how it is played, and learned from."""
    return f"{_article(tune.rhythm)} in {tune.key} for {instrument}, {tempo}, {tune.metre} time"


def identifier_of(tune: Tune) -> str:
    """A tune's identifier: its collection, and where it stands there."""
    source = re.sub(r"\.(abc|mxl)", "", tune.source).replace("#", "-")
    return f"{tune.collection}-{source}".lower()


def plan_catalogue() -> list[DemoTrack]:
    """All tracks of the built-in catalogue, training tracks first, each part in the order of their ids.

    Decoys are drawn as whole works, so that no version of a decoy's tune is ever trained on.
    """
    tunes, notes = _usable_tunes()
    works = group_works([t.title for t in tunes], [[n.pitch for n in melody_of(ns)] for ns in notes])
    order = sorted(range(len(tunes)), key=lambda i: identifier_of(tunes[i]))
    members: dict[int, list[int]] = defaultdict(list)
    for i in order:
        members[works[i]].append(i)
    shuffled = list(members.values())
    random.Random(SEED).shuffle(shuffled)

    decoys: list[int] = []
    training: list[int] = []
    for group in shuffled:
        if len(decoys) + len(group) <= DECOYS:
            decoys += group
        elif len(training) + len(group) <= TRAINING_TRACKS:
            training += group
    if len(training) != TRAINING_TRACKS or len(decoys) != DECOYS:
        raise RuntimeError(
            f"the music21 corpus yields {len(training)} + {len(decoys)} tracks: install music21 10.5.1"
        )
    return [
        _play(tunes[i], f"work-{identifier_of(tunes[members[works[i]][0]])}", split)
        for split, chosen in (("train", training), ("decoy", decoys))
        for i in sorted(chosen, key=lambda i: identifier_of(tunes[i]))
    ]


def group_works(titles: Sequence[str], melodies: Sequence[Sequence[int]]) -> list[int]:
    """Puts versions of one work together: for each tune the index of the first tune of its work.

    Args:
        titles: one a tune; compared without case, accents, articles and punctuation.
        melodies: MIDI pitches of each tune's melody, in order.
    """
    turns = [_turns(melody) for melody in melodies]
    where: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, own in enumerate(turns):
        for turn in own:
            where[turn].append(i)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for found in where.values():
        # a turn that stands in very many tunes (a scale) says nothing about any two of them
        if len(found) <= 40:
            for a_index, a in enumerate(found):
                for b in found[a_index + 1 :]:
                    shared[a, b] += 1
    work = list(range(len(titles)))
    plain = [_plain(title) for title in titles]
    for (a, b), count in sorted(shared.items()):
        bar = SAME_WORK_SHARE_WITH_TITLE if plain[a] and plain[a] == plain[b] else SAME_WORK_SHARE
        if count >= bar * min(len(turns[a]), len(turns[b])):
            first, second = sorted((work[a], work[b]))
            work = [first if w == second else w for w in work] if first != second else work
    return work


def _usable_tunes() -> tuple[list[Tune], list[list[Note]]]:
    tunes = [t for c in COLLECTIONS for t in (read_chorales() if c == "bach" else read_tunes(c))]
    notes = [read_notes(t.collection, t.source) for t in tunes]
    usable = [i for i in range(len(tunes)) if len(notes[i]) >= 16]
    return [tunes[i] for i in usable], [notes[i] for i in usable]


def melody_of(notes: Sequence[Note]) -> list[Note]:
    """The highest note at each moment."""
    highest = {note.start: note for note in notes}  # notes come sorted by start, then pitch
    return list(highest.values())


def _turns(pitches: Sequence[int]) -> set[tuple[int, ...]]:
    steps = [b - a for a, b in pairwise(pitches)]
    return {tuple(steps[i : i + TURN]) for i in range(len(steps) - TURN + 1)}


def _plain(title: str) -> str:
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z ]", "", re.sub(r"\(.*?\)", "", ascii_title)).split()
    return " ".join(w for w in words if w not in {"the", "a", "an", "of"})


def _play(tune: Tune, work_id: str, split: str) -> DemoTrack:
    draw = random.Random(f"{SEED}:{identifier_of(tune)}")
    instrument = draw.choice(list(INSTRUMENTS))
    tempo = draw.choice(list(TEMPOS))
    return DemoTrack(identifier_of(tune), tune, work_id, instrument, tempo, split)


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
