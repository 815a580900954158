"""Which files are sound: the suffixes that are read, with what must be inside, and those that are only known
by name.
"""

from __future__ import annotations

SUFFIXES = {
    ".wav": "WAV",
    ".wave": "WAV",
    ".bwf": "WAV",
    ".rf64": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".oga": "OGG",
    ".opus": "OGG",
    ".mp3": "MP3",
    ".mp2": "MP3",
    ".m4a": "MP4",
    ".m4b": "MP4",
    ".mp4": "MP4",
    ".alac": "MP4",
    ".aac": "AAC",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".aifc": "AIFF",
    ".caf": "CAF",
    ".w64": "W64",
    ".wma": "ASF",
    ".webm": "Matroska",
    ".mka": "Matroska",
    ".mkv": "Matroska",
    ".au": "AU",
    ".snd": "AU",
}
NAMED_SUFFIXES = frozenset(
    (
        ".ape",
        ".wv",
        ".mid",
        ".midi",
        ".dsf",
        ".dff",
        ".ra",
        ".rm",
        ".amr",
        ".shn",
        ".tta",
        ".mpc",
        ".aax",
        ".aa",
        ".mod",
        ".xm",
        ".it",
        ".s3m",
        ".voc",
        ".ac3",
        ".eac3",
        ".dts",
        ".3gp",
        ".gsm",
        ".spx",
        ".mov",
    )
)
READ_NAMES = "WAV, FLAC, OGG, Opus, MP3, M4A, AAC, AIFF, CAF, W64, WMA or WebM"


def container_of(head: bytes) -> str | None:
    """What a file is by its first 16 bytes; None if it is no sound that is read."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[4:8] == b"ftyp":
        return "MP4"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"  # ADTS: layer 0, which no MPEG audio has
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "MP3"
    starts = {
        b"fLaC": "FLAC",
        b"OggS": "OGG",
        b"caff": "CAF",
        b"riff": "W64",
        b".snd": "AU",
        b"\x1aE\xdf\xa3": "Matroska",
        b"0&\xb2u": "ASF",
    }
    return starts.get(head[:4])
