"""Plays tracks of the built-in catalogue: notes, instrument, tempo -> sound, through a General MIDI
soundfont.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from linernotes.catalog.track import Track
from linernotes.demo.recipe import INSTRUMENTS, TEMPOS
from linernotes.demo.tunes import TICKS_PER_QUARTER, Note, read_notes

PEAK = 0.7
FADE_S = 0.02
LEAD_S = 0.03  # silence before the first note, so that its attack is inside the first frame
TAIL_S = 0.5  # after the last note of a tune that is played whole


@dataclass(frozen=True)
class Playing:
    """How a tune is played differently from what its text says."""

    transpose: int = 0  # semitones
    stretch: float = 1.0  # how many times as long
    # a player's own timing, articulation and dynamics, drawn by this seed; 0 = as written
    performance: int = 0


def playing_of(track: Track) -> Playing | None:
    """How a planted track is played; None for one that is played as written."""
    extra = track.extra
    if not {"transpose", "stretch", "performance"} & extra.keys():
        return None
    return Playing(
        int(extra.get("transpose", 0)), float(extra.get("stretch", 1)), int(extra.get("performance", 0))
    )


def whole_seconds(source: str, tempo: str) -> float:
    """How long a tune takes as written, from the silence before its first note to the end of its last one's
    sound.
    """
    return seconds_of(read_notes(*source.split("/", 1)), TEMPOS[tempo])


def seconds_of(notes: Sequence[Note], quarters_per_minute: float) -> float:
    """How long these notes take, with the silence before and the sound after them."""
    quarters = (max(n.start + n.length for n in notes) - min(n.start for n in notes)) / TICKS_PER_QUARTER
    return LEAD_S + quarters * 60 / quarters_per_minute + TAIL_S


def render_track(
    source: str, instrument: str, tempo: str, n_samples: int, rate_hz: int, playing: Playing | None = None
) -> np.ndarray:
    """One track as it stands in the catalogue: mono ``[1, n_samples]`` float32, peak ``PEAK``.

    Args:
        source: ``collection/file`` or ``collection/file#index``, the ``source`` column of the catalogue.
        instrument: a name of ``INSTRUMENTS``.
        tempo: a name of ``TEMPOS``.
        n_samples: length; a longer tune is cut with a short fade.
        rate_hz: sampling rate.
        playing: played as written if None.
    """
    collection, item = source.split("/", 1)
    notes, quarters_per_minute = read_notes(collection, item), float(TEMPOS[tempo])
    if playing:
        notes = [replace(note, pitch=note.pitch + playing.transpose) for note in notes]
        quarters_per_minute /= playing.stretch
        notes = perform(notes, quarters_per_minute, playing.performance) if playing.performance else notes
    return render_notes(notes, INSTRUMENTS[instrument], quarters_per_minute, n_samples, rate_hz)


def perform(notes: Sequence[Note], quarters_per_minute: float, seed: int) -> list[Note]:
    """Another performance of the same notes: onsets that stray by some 15 ms, shorter notes, loud and soft
    ones.
    """
    draw = random.Random(seed)
    ticks_per_s = quarters_per_minute / 60 * TICKS_PER_QUARTER
    played = [
        replace(
            note,
            start=max(0, round(note.start + draw.gauss(0, 0.015) * ticks_per_s)),
            length=max(1, round(note.length * draw.uniform(0.6, 1.0))),
            velocity=draw.randint(60, 115),
        )
        for note in notes
    ]
    return sorted(played, key=lambda note: (note.start, note.pitch))


def render_notes(
    notes: Sequence[Note], program: int, quarters_per_minute: float, n_samples: int, rate_hz: int
) -> np.ndarray:
    """Notes played by a General MIDI ``program`` -> mono ``[1, n_samples]`` float32, peak ``PEAK``."""
    import symusic

    first = min(note.start for note in notes)
    lead = round(LEAD_S * quarters_per_minute / 60 * TICKS_PER_QUARTER)
    horizon = n_samples / rate_hz * quarters_per_minute / 60 * TICKS_PER_QUARTER
    score = symusic.Score(TICKS_PER_QUARTER)
    score.tempos.append(symusic.Tempo(0, qpm=quarters_per_minute))
    track = symusic.Track("", program, False)
    for note in notes:
        start = note.start - first + lead
        if start < horizon:
            track.notes.append(symusic.Note(start, note.length, note.pitch, note.velocity))
    score.tracks.append(track)
    sound = np.asarray(_synthesizer(rate_hz).render(score, stereo=False), dtype=np.float32)[0]
    sound = np.pad(sound[:n_samples], (0, max(0, n_samples - sound.size)))
    fade = round(FADE_S * rate_hz)
    sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return (sound * (PEAK / max(float(np.abs(sound).max()), 1e-6)))[None].astype(np.float32)


@cache
def _synthesizer(rate_hz: int) -> Any:
    import symusic

    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the built-in catalogue is played with the soundfont of pretty_midi: pip install pretty_midi"
        )
    return symusic.Synthesizer(str(Path(spec.origin).parent / "TimGM6mb.sf2"), rate_hz, 0)
