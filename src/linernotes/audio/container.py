"""What a container says of itself: its kind, and the length it announces where such a number can be trusted.

Decoders read truncated and joined files silently short, so what is announced is compared with what came out. Writers that
could not seek back (pipes, recorders that crashed) leave sizes that mean nothing; these are not believed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from linernotes.audio.formats import READ_NAMES, SUFFIXES, container_of
from linernotes.audio.sound import AudioError

LFS = b"version https://git-lfs"
JOINED_BYTES = 4096  # what may stand uncounted behind the sound of a WAV: some writers leave a little rubbish
RESYNC_BYTES = 1 << 17  # two of the longest pages
OGG_BOS, OGG_EOS = 2, 4
OGG_SOUND = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")


@dataclass(frozen=True)
class Container:
    """What was found: its kind, where it begins behind foreign tags, and the samples it announces (0 = it does not)."""

    kind: str
    offset: int
    samples: int


def look_at(path: Path) -> Container:
    """Checks a file's outside.

    Raises:
        AudioError: missing, empty, a pointer, of no known or of another kind than its name says, cut or joined.
    """
    if path.is_dir():
        raise AudioError(path, "a folder", "give a sound file")
    if not path.is_file():
        raise AudioError(path, "missing", "there is no such file; check the name")
    size = path.stat().st_size
    if size == 0:
        raise AudioError(path, "empty", "it has zero bytes; copy it again")
    expected = SUFFIXES.get(path.suffix.lower())
    with path.open("rb") as file:
        head = file.read(64)
        if head.startswith(LFS):
            raise AudioError(path, "a Git LFS pointer", "the recording itself was not fetched; run 'git lfs pull'")
        if expected is None:
            raise AudioError(path, "unsupported", f"convert it to {READ_NAMES}")
        offset = _behind_tags(file)
        found = container_of(_at(file, offset, 16)) or ("MP3" if offset or expected == "MP3" else None)
        if found is None:
            raise AudioError(path, "undecodable", f"its content is not {READ_NAMES}; export it again")
        if found != expected:
            raise AudioError(path, "mislabelled", f"its name says {expected}, its content is {found}; rename it")
        samples = 0
        if found == "WAV":
            _check_wav(path, file, offset, size)
        elif found == "OGG":
            _check_ogg(path, file, offset)
        elif found in ("AIFF", "W64", "CAF"):
            _check_chunks(path, file, offset, size, found)
        elif found == "FLAC":
            samples = _flac_samples(file, offset)
        elif found == "MP3":
            samples = _mp3_samples(file, offset)
    return Container(found, offset, samples)


def _at(file: BinaryIO, at: int, n: int) -> bytes:
    file.seek(at)
    return file.read(n)


def _behind_tags(file: BinaryIO) -> int:
    """Where the content begins: ID3v2 tags before it are an MP3's by right, but some put them before other things."""
    at = 0
    while (head := _at(file, at, 10))[:3] == b"ID3" and len(head) == 10:
        at += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 0x10 else 0)
    while at and _at(file, at, 1) == b"\0":  # padding that the tag does not count
        at += 1
    return at


def _streamed(size: int) -> bool:
    """Whether a 32-bit size is one of those that writers leave who could not seek back (sox, arecord, ffmpeg, ...)."""
    return size == 0 or 0x7FFFEF00 <= size <= 0x80000100 or size >= 0xFFFFFF00


def _check_wav(path: Path, file: BinaryIO, offset: int, size: int) -> None:
    """Whether the data chunk of a RIFF, RIFX or RF64 file lies inside the file, and is all of its sound."""
    magic = _at(file, offset, 4)
    order = ">" if magic == b"RIFX" else "<"
    wide, at, rest = 0, offset + 12, None
    while len(header := _at(file, at, 8)) == 8:
        name, length = struct.unpack(order + "4sI", header)
        if name == b"ds64":
            wide = struct.unpack("<Q", _at(file, at + 16, 8).ljust(8, b"\0"))[0]
        if name == b"data":
            if magic in (b"RF64", b"BW64") and length == 0xFFFFFFFF and wide:
                length = wide
            elif _streamed(length):
                return
            if at + 8 + length > size:
                raise AudioError(path, "truncated", "it is shorter than its header says; copy it again")
            rest = at + 8 + length
            break
        at += 8 + length + length % 2
    if rest is None:
        raise AudioError(path, "truncated", "it holds no data; copy it again")
    _check_joined(path, file, rest, size, order)


def _check_joined(path: Path, file: BinaryIO, at: int, size: int, order: str) -> None:
    """Refuses a WAV behind whose counted sound more follows that is no chunk: files joined byte by byte."""
    while at + 8 <= size:
        ahead = _at(file, at, 9)
        if ahead[0] == 0 and ahead[1:5].isalnum():  # the pad byte of an odd chunk
            at += 1
            continue
        name, length = struct.unpack(order + "4sI", ahead[:8])
        joined = name in (b"RIFF", b"RIFX", b"RF64")
        known = all(32 <= letter < 127 for letter in name) and at + 8 + length <= size + 1
        if joined or (not known and size - at > JOINED_BYTES and any(_at(file, at, JOINED_BYTES))):
            detail = f"{size - at} bytes follow that its header does not count, as when files are joined; export it again"
            raise AudioError(path, "longer than its header says", detail)
        if not known:
            return
        at += 8 + length


def _check_chunks(path: Path, file: BinaryIO, offset: int, size: int, kind: str) -> None:
    """Whether every chunk of an AIFF, CAF or W64 file lies inside the file."""
    at = offset + {"AIFF": 12, "CAF": 8, "W64": 40}[kind]
    head = {"AIFF": 8, "CAF": 12, "W64": 24}[kind]
    while len(header := _at(file, at, head)) == head:
        if header[:4] in (b"FORM", b"riff", b"caff"):
            detail = "another recording follows in the same file, as when files are joined; export it again"
            raise AudioError(path, "longer than its header says", detail)
        if kind == "AIFF":
            length = struct.unpack(">I", header[4:8])[0]
            if _streamed(length):
                return
            end = at + 8 + length
            follows = end + length % 2
        elif kind == "CAF":
            length = struct.unpack(">q", header[4:12])[0]
            if length < 0:  # up to the end of the file
                return
            end = follows = at + 12 + length
        else:
            length = struct.unpack("<Q", header[16:24])[0]  # its own header included
            if length < 24 or length >= 1 << 62:
                return
            end, follows = at + length, at + -(-length // 8) * 8
        if end > size:
            raise AudioError(path, "truncated", "it is shorter than its header says; copy it again")
        at = follows


def _ogg_pages(file: BinaryIO, at: int) -> Iterator[tuple[int, int, bytes, bool]]:
    """Flags, serial number, first bytes and wholeness of every page (RFC 3533, section 6)."""
    end = file.seek(0, 2)
    while len(head := _at(file, at, 27)) == 27 and head[:4] == b"OggS":
        lacing = file.read(head[26])
        first = file.read(8)
        following = at + 27 + head[26] + sum(lacing)
        yield head[5], struct.unpack("<I", head[14:18])[0], first, len(lacing) == head[26] and following <= end
        if following < end and _at(file, following, 4) != b"OggS":  # damaged: the decoder will say where
            ahead = _at(file, following, RESYNC_BYTES).find(b"OggS")
            following += ahead if ahead >= 0 else RESYNC_BYTES
        at = following
    if len(head) > 4 and head[:4] == b"OggS":
        yield 0, -1, b"", False


def _check_ogg(path: Path, file: BinaryIO, offset: int) -> None:
    """Whether every logical stream of sound, joined ones too, is brought to its end."""
    open_streams: set[int] = set()
    last_whole = True
    for flags, serial, first, whole in _ogg_pages(file, offset):
        last_whole = whole
        if flags & OGG_BOS and first.startswith(tuple(magic[:8] for magic in OGG_SOUND)):
            if serial in open_streams:
                break
            open_streams.add(serial)
        if flags & OGG_EOS:
            open_streams.discard(serial)
    if open_streams or not last_whole:
        raise AudioError(path, "truncated", "the stream has no end; copy it again")


def _flac_samples(file: BinaryIO, offset: int) -> int:
    info = _at(file, offset + 8, 18)
    return int.from_bytes(info[10:18], "big") & 0xFFFFFFFFF if len(info) == 18 else 0


def _mp3_samples(file: BinaryIO, offset: int) -> int:
    """Samples announced in a Xing, Info or VBRI header; 0 without one: an estimate from the size is not believed."""
    frame = _at(file, offset, 200)
    if len(frame) < 60 or frame[0] != 0xFF:
        return 0
    per_frame = 1152 if frame[1] >> 3 & 3 == 3 else 576
    for mark in (b"Xing", b"Info"):
        at = frame.find(mark)
        if at > 0 and len(frame) >= at + 12:
            flags, frames = struct.unpack(">II", frame[at + 4 : at + 12])
            return int(frames) * per_frame if flags & 1 else 0
    if frame[36:40] == b"VBRI":
        return int(struct.unpack(">I", frame[50:54])[0]) * per_frame
    return 0
