"""What a container says of itself: its kind, and the length it announces where such a number can be trusted.

Decoders read truncated and joined files silently short, so what is announced is compared with what came out.
Writers that could not seek back (pipes, recorders that crashed) leave sizes that mean nothing; these are not
believed.
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
XING_BYTES = 200  # of the first frame, in which such a header lies
OGG_BOS, OGG_EOS = 2, 4
OGG_SOUND = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")


@dataclass(frozen=True)
class Container:
    """What was found: its kind, where it begins behind foreign tags, and the samples it announces (0 = it
    does not).
    """

    kind: str
    offset: int
    samples: int
    links: tuple[tuple[int, int], ...] = ()  # first byte and end of each logical stream of a chained OGG
    hole: int = 0  # from which byte on something between an OGG's pages is no page; 0 = nowhere


def look_at(path: Path) -> Container:
    """Checks a file's outside.

    Raises:
        AudioError: missing, empty, a pointer, of no known or of another kind than its name says, cut or
            joined.
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
            raise AudioError(
                path, "a Git LFS pointer", "the recording itself was not fetched; run 'git lfs pull'"
            )
        if expected is None:
            raise AudioError(path, "unsupported", f"convert it to {READ_NAMES}")
        offset = _behind_tags(file)
        if offset >= size:
            raise AudioError(path, "empty", "it holds a tag and no sound; export it again")
        found = container_of(_at(file, offset, 16)) or ("MP3" if offset or expected == "MP3" else None)
        if found is None:
            raise AudioError(path, "undecodable", f"its content is not {READ_NAMES}; export it again")
        if found != expected:
            raise AudioError(
                path, "mislabelled", f"its name says {expected}, its content is {found}; rename it"
            )
        samples = 0
        if found == "WAV":
            _check_wav(path, file, offset, size)
        elif found == "OGG":
            return Container(found, offset, 0, *_ogg_links(path, file, offset))
        elif found in ("AIFF", "W64", "CAF"):
            _check_chunks(path, file, offset, size, found)
        elif found == "Matroska":
            _check_matroska(path, file, offset, size)
        elif found == "FLAC":
            samples = _flac_samples(file, offset)
        elif found == "MP3":
            samples = _mp3_samples(file, offset)
    return Container(found, offset, samples)


def _at(file: BinaryIO, at: int, n: int) -> bytes:
    file.seek(at)
    return file.read(n)


def _behind_tags(file: BinaryIO) -> int:
    """Where the content begins: ID3v2 tags before it are an MP3's by right, but some put them before other
    things.
    """
    at = 0
    while (head := _at(file, at, 10))[:3] == b"ID3" and len(head) == 10:
        at += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 0x10 else 0)
    while at and _at(file, at, 1) == b"\0":  # padding that the tag does not count
        at += 1
    return at


def _streamed(size: int) -> bool:
    """Whether a 32-bit size is one of those that writers leave who could not seek back (sox, arecord, ffmpeg,
    ...).
    """
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
            detail = (
                f"{size - at} bytes follow that its header does not count, as when files are joined; export "
                "it again"
            )
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


def _check_matroska(path: Path, file: BinaryIO, offset: int, size: int) -> None:
    """Whether the segment of a Matroska or WebM file lies inside the file (RFC 8794, section 4); streamed
    ones do not say.
    """
    at = offset + 4
    for name_bytes in (0, 4):  # the EBML header, then the segment
        at += name_bytes
        first = _at(file, at, 8).ljust(8, b"\0")
        width = 9 - first[0].bit_length()
        if width > 8:
            return
        length = int.from_bytes(first[:width], "big") & ((1 << 7 * width) - 1)
        unknown = length == (1 << 7 * width) - 1
        at += width + length
    if not unknown and at > size:
        raise AudioError(path, "truncated", "it is shorter than its header says; copy it again")


@dataclass(frozen=True)
class _Page:
    """One page of an OGG."""

    at: int
    size: int
    flags: int
    serial: int
    first: bytes
    whole: bool


def _ogg_pages(file: BinaryIO, at: int) -> Iterator[_Page]:
    """All pages (RFC 3533, section 6); what lies between them is skipped."""
    end = file.seek(0, 2)
    while len(head := _at(file, at, 27)) == 27 and head[:4] == b"OggS":
        lacing = file.read(head[26])
        first = file.read(8)
        size = 27 + head[26] + sum(lacing)
        serial = struct.unpack("<I", head[14:18])[0]
        yield _Page(at, size, head[5], serial, first, len(lacing) == head[26] and at + size <= end)
        at += size
        if at < end and _at(file, at, 4) != b"OggS":  # damaged, or the end of what is OGG
            ahead = _at(file, at, RESYNC_BYTES).find(b"OggS")
            at += ahead if ahead >= 0 else RESYNC_BYTES
    if len(head) > 4 and head[:4] == b"OggS":
        yield _Page(at, len(head), 0, -1, b"", False)


def _ogg_links(path: Path, file: BinaryIO, offset: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """Where the streams of sound lie that follow each other in one file (RFC 3533, section 4), each brought
    to its end; and where something between their pages is none.

    Raises:
        AudioError: one has no end.
    """
    open_streams: set[int] = set()
    starts: list[int] = []
    last_whole = begun = False
    hole, expected = 0, offset
    for page in _ogg_pages(file, offset):
        hole, expected = hole or (expected if page.at != expected else 0), page.at + page.size
        last_whole = page.whole
        if page.flags & OGG_BOS and page.first.startswith(tuple(magic[:8] for magic in OGG_SOUND)):
            if page.serial in open_streams:
                break
            if not begun:
                starts.append(page.at if starts else offset)
            open_streams.add(page.serial)
            begun = True
        if page.flags & OGG_EOS:
            open_streams.discard(page.serial)
            begun = bool(open_streams)
    if open_streams or not last_whole:
        raise AudioError(path, "truncated", "the stream has no end; copy it again")
    end = file.seek(0, 2)
    return tuple(zip(starts, [*starts[1:], end], strict=True)) or ((offset, end),), hole


def _flac_samples(file: BinaryIO, offset: int) -> int:
    info = _at(file, offset + 8, 18)
    return int.from_bytes(info[10:18], "big") & 0xFFFFFFFFF if len(info) == 18 else 0


def _mp3_samples(file: BinaryIO, offset: int) -> int:
    """Samples announced in the first frame; 0 without a header: an estimate from the size is not believed."""
    return xing_samples(_at(file, offset, XING_BYTES)) or 0


def xing_samples(frames: bytes) -> int | None:
    """Samples that a Xing, Info or VBRI header among these bytes announces (0 = it does not say); None if
    there is none.
    """
    for mark in (b"Xing", b"Info"):
        at = frames.find(mark)
        for begin in (at - 36, at - 21, at - 13):  # MPEG-1 stereo; mono, or MPEG-2 stereo; MPEG-2 mono
            if (
                begin >= 0
                and frames[begin] == 0xFF
                and frames[begin + 1] & 0xE0 == 0xE0
                and len(frames) >= at + 12
            ):
                flags, count = struct.unpack(">II", frames[at + 4 : at + 12])
                return int(count) * _frame_samples(frames[begin + 1]) if flags & 1 else 0
    if frames[36:40] == b"VBRI" and len(frames) >= 54:
        return int(struct.unpack(">I", frames[50:54])[0]) * _frame_samples(frames[1])
    return None


def _frame_samples(second_byte: int) -> int:
    return 1152 if second_byte >> 3 & 3 == 3 else 576
