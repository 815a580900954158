"""Reads, checks, resamples and writes sound. Sound is ``[channels, samples]`` float32 in -1..1 with a rate in
Hz.
"""

from linernotes.audio.formats import NAMED_SUFFIXES, SUFFIXES
from linernotes.audio.mixing import Block
from linernotes.audio.reading import read_part, read_sound, stream_sound
from linernotes.audio.sound import SILENCE_PEAK, AudioError, Sound, loudness_db, require_reach
from linernotes.audio.writing import write_sound

__all__ = [
    "NAMED_SUFFIXES",
    "SILENCE_PEAK",
    "SUFFIXES",
    "AudioError",
    "Block",
    "Sound",
    "loudness_db",
    "read_part",
    "read_sound",
    "require_reach",
    "stream_sound",
    "write_sound",
]
