"""Decodes recordings as a stream, so that memory does not grow with their length, and checks what comes out.

PyAV (FFmpeg) decodes. Nothing it returns is believed: lengths that the container announces, gaps in time,
frames that were refused, numbers that are none, silence and scale are looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import soxr

from linernotes.audio.container import Container, look_at, xing_samples
from linernotes.audio.mixing import Block, Blocks
from linernotes.audio.sound import SILENCE_PEAK, AudioError, Sound, require_reach, with_channels

RATES_HZ = (4000, 768000)
LOUDEST_PEAK = 16.0  # +24 dB of full scale: beyond, a float file holds other units
# a hole in the time stamps that says that frames were skipped; rounding of time stamps is far below
GAP_S = 0.01
SLACK_SAMPLES = {"MP3": 4 * 1152, "MP4": 3 * 2048}  # what encoders' delay and padding may take away
PADDING_BYTES = 64
# samples: a quarter of the longest window, by which time stamps may be off between windows
VORBIS_WINDOW = 2048
STAMPED = ("OGG", "FLAC", "MP4", "Matroska", "ASF")  # containers whose time stamps show lost frames
av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is said here, in one sentence


def read_sound(path: Path) -> Sound:
    """Reads and checks one file, at its own rate, with one or two channels.

    Raises:
        AudioError: missing, empty, mislabelled, undecodable, truncated, damaged, silent, scaled wrongly.
    """
    rate_hz, blocks = _decoded(path)
    found = list(_checked(path, rate_hz, blocks))
    return Sound(np.concatenate(found, axis=1), rate_hz)


def stream_sound(path: Path, rate_hz: int, channels: int) -> Iterator[Block]:
    """The same at another rate (soxr, very high quality) and with 1 or 2 channels, block by block.

    Raises:
        AudioError: as ``read_sound``; what is wrong may show only after most blocks have come.
    """
    own_hz, blocks = _decoded(path)
    resample = soxr.ResampleStream(own_hz, rate_hz, channels, quality="VHQ") if own_hz != rate_hz else None
    for block in _checked(path, own_hz, blocks):
        mixed = with_channels(block, channels)
        yield resample.resample_chunk(np.ascontiguousarray(mixed.T)).T if resample else mixed
    if resample:
        yield resample.resample_chunk(np.zeros((0, channels), dtype=np.float32), last=True).T


def read_part(path: Path, start_s: float, seconds: float) -> Sound:
    """Up to ``seconds`` of a recording from ``start_s`` on, at its own rate; the rest is neither kept nor
    checked.

    Raises:
        AudioError: it cannot be opened or decoded as far as that.
    """
    rate_hz, blocks = _decoded(path)
    first, last = round(start_s * rate_hz), round((start_s + seconds) * rate_hz)
    kept, at = [np.zeros((1, 0), dtype=np.float32)], 0
    for block in blocks:
        if at + block.shape[1] > first:
            kept.append(block[:, max(0, first - at) : last - at])
        at += block.shape[1]
        if at >= last:
            break
    return Sound(np.ascontiguousarray(np.concatenate(kept[1:] or kept, axis=1)), rate_hz)


def _checked(path: Path, rate_hz: int, blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks as they are, refused when they hold no usable sound."""
    n, peak = 0, 0.0
    for block in blocks:
        if not np.isfinite(block).all():
            at_s = (n + int(np.flatnonzero(~np.isfinite(block).all(axis=0))[0])) / rate_hz
            raise AudioError(
                path, "damaged", f"samples from {at_s:.2f} s on are not numbers; export it again"
            )
        n, peak = n + block.shape[1], max(peak, float(np.abs(block).max(initial=0.0)))
        if peak > LOUDEST_PEAK:
            raise AudioError(
                path, "scaled wrongly", f"its peak is {peak:.0f}, not 1; export it with samples from -1 to 1"
            )
        yield block
    if n == 0:
        raise AudioError(path, "empty", "it holds no samples; export it again")
    if peak < SILENCE_PEAK:
        raise AudioError(path, "silent", "no sample is louder than -80 dB; check the recording")


def _decoded(path: Path) -> tuple[int, Iterator[Block]]:
    """A recording's rate, and its sound in blocks of one or two channels."""
    container = look_at(path)
    try:
        rate_hz = _rate_of(path, container)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _undecodable(path, error) from None
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise AudioError(path, "damaged", f"its header says {rate_hz} Hz; export it again")
    return rate_hz, _blocks(path, container, rate_hz)


def _undecodable(path: Path, error: Exception) -> AudioError:
    if not isinstance(error, av.error.FFmpegError):  # whose numbers are its own
        require_reach(path, error)
    return AudioError(path, "undecodable", f"{_brief(error)}; export it again")


def _rate_of(path: Path, container: Container) -> int:
    with _Opened(path, *_links(container)[0]) as opened:
        return int(opened.streams.audio[0].rate)


def _links(container: Container) -> tuple[tuple[int, int | None], ...]:
    """The parts of a file that are decoded one after the other; FFmpeg stumbles where chained streams
    differ.
    """
    return container.links or ((container.offset, None),)


class _Opened:
    """A recording opened by PyAV, from where its content begins to ``end``, or to its end."""

    def __init__(self, path: Path, start: int, end: int | None) -> None:
        self.path, self.start, self.end = path, start, end

    def __enter__(self) -> Any:
        self.file: BinaryIO = self.path.open("rb")
        try:
            part = self.start or (self.end is not None and self.end < self.path.stat().st_size)
            source = _Part(self.file, self.start, self.end) if part else self.file
            self.opened = av.open(source, metadata_errors="replace")
            if not self.opened.streams.audio:
                raise ValueError("it holds no sound")
        except BaseException:
            self.file.close()
            raise
        return self.opened

    def __exit__(self, *_: object) -> None:
        self.opened.close()
        self.file.close()


class _Part:
    """A part of a file: without tags that a decoder stumbles over, or one of several recordings in it."""

    def __init__(self, file: BinaryIO, start: int, end: int | None) -> None:
        self._file, self._start = file, start
        self._end = file.seek(0, 2) if end is None else end
        file.seek(start)

    def read(self, n: int = -1) -> bytes:
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if n < 0 else min(n, left))

    def seek(self, to: int, whence: int = 0) -> int:
        base = (self._start, self._file.tell(), self._end)[whence]
        return self._file.seek(base + to) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start


def _blocks(path: Path, container: Container, rate_hz: int) -> Iterator[Block]:
    """Decodes; parts of a joined recording that have another rate are resampled to the first one's."""
    parts, n, seen_s, announced = Blocks(rate_hz), 0, 0.0, 0
    for start, end in _links(container):
        link = _Link(path, container, seen_s)
        try:
            with _Opened(path, start, end) as opened:
                stream = opened.streams.audio[0]
                announced = _announced(stream, container, rate_hz)
                for packet in opened.demux(stream):
                    for frame in link.decoded(packet):
                        block = parts.add(frame)
                        n += block.shape[1]
                        if block.shape[1]:
                            yield block
        except av.error.FFmpegError:
            raise _damaged(path, link.seen_s) from None
        except (OSError, ValueError) as error:
            raise _undecodable(path, error) from None
        link.close()
        seen_s = link.seen_s
    block = parts.end()
    n += block.shape[1]
    if block.shape[1]:
        yield block
    if container.hole:
        detail = (
            f"something that is no part of it begins at byte {container.hole}; copy it again, or export it "
            "anew"
        )
        raise AudioError(path, "damaged", detail)
    if n < announced - SLACK_SAMPLES.get(container.kind, 0):
        raise _truncated(path, n / rate_hz, announced / rate_hz)


class _Link:
    """One logical stream being decoded: refused packets, steps in time and frames that are missing are seen
    here.
    """

    def __init__(self, path: Path, container: Container, seen_s: float) -> None:
        self.path, self.kind = path, container.kind
        self.announced, self.samples, self.rate_hz = container.samples, 0, 0
        self.seen_s = seen_s  # decoded so far of the whole file
        self.refused_s = -1.0
        self.zero_s: float | None = None  # the first frame's time stamp
        self.off_since_s = -1.0  # since when time stamps and samples disagree
        self.cut = False

    def decoded(self, packet: Any) -> Iterator[Any]:
        """The frames of a packet.

        Raises:
            AudioError: frames were lost or refused before these.
        """
        content = bytes(packet) if self.kind == "MP3" else b""
        if content:
            self._look(content)
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            if self.refused_s < 0 and not _no_frame(content):
                self.refused_s = self.seen_s
            return
        for frame in frames:
            if self.refused_s >= 0:  # more follows, so it is not merely the end that is missing
                raise _damaged(self.path, self.refused_s)
            if self.kind in STAMPED and frame.pts is not None:
                self._check_time(frame)
            self.seen_s += frame.samples / frame.sample_rate
            self.samples, self.rate_hz = self.samples + frame.samples, frame.sample_rate
            yield frame

    def _check_time(self, frame: Any) -> None:
        """Compares a frame's time stamp with what was decoded before it. Vorbis is off by up to half a
        window, for a while: what stays off has lost frames.
        """
        self.zero_s = frame.time if self.zero_s is None else self.zero_s
        off_s = frame.time - self.zero_s - self.samples / frame.sample_rate
        if self.kind == "FLAC" and off_s < -GAP_S:  # joined: time begins again
            self.close()
            self.announced, self.samples, self.zero_s = 0, 0, frame.time
        elif abs(off_s) < GAP_S / 10:
            self.off_since_s = -1.0
        elif abs(off_s) > (VORBIS_WINDOW / frame.sample_rate if self.kind == "OGG" else GAP_S):
            raise _damaged(self.path, self.seen_s if self.off_since_s < 0 else self.off_since_s)
        elif self.off_since_s < 0:
            self.off_since_s = self.seen_s

    def _look(self, content: bytes) -> None:
        """An MP3's packet: is it cut, and does another recording begin with it?"""
        self.cut = not _no_frame(content) and _mp3_cut(content)
        announced = xing_samples(content)
        if announced is not None and self.samples:
            self.close()
            self.announced, self.samples = announced, 0

    def close(self) -> None:
        """Refuses a stream that did not come to its end.

        Raises:
            AudioError: it is truncated, or some of its frames are lost.
        """
        if self.kind == "OGG" and self.off_since_s >= 0:
            raise _damaged(self.path, self.off_since_s)
        short = self.samples < self.announced - SLACK_SAMPLES.get(self.kind, 0)
        if self.refused_s >= 0 or self.cut or short:
            raise _truncated(self.path, self.seen_s, self.announced / (self.rate_hz or 1) if short else 0.0)


def _announced(stream: Any, container: Container, rate_hz: int) -> int:
    """The length in a table of contents, which files of these kinds cannot be written without."""
    if container.kind not in ("MP4", "ASF", "Matroska", "AU") or not stream.duration:
        return 0
    seconds = float(stream.duration * stream.time_base)
    return (
        0
        if seconds > 1e6
        else round(seconds * rate_hz * (0.98 if container.kind in ("ASF", "Matroska") else 1))
    )


def _mp3_cut(packet: bytes) -> bool:
    """Whether a frame of an MPEG audio stream is shorter than its header says (ISO 11172-3, 2.4.2.3)."""
    if len(packet) < 4 or packet[0] != 0xFF or packet[1] & 0xE6 != 0xE2:  # layer III only
        return False
    version, bitrate, rate = packet[1] >> 3 & 3, packet[2] >> 4, packet[2] >> 2 & 3
    if version == 1 or rate == 3 or not 0 < bitrate < 15:
        return False
    first = version == 3
    low = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    kbps = ((32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320) if first else low)[bitrate - 1]
    rate_hz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return len(packet) < (144 if first else 72) * kbps * 1000 // rate_hz + (packet[2] >> 1 & 1)


def _no_frame(content: bytes) -> bool:
    """Whether what an MP3's parser took for a frame is a tag, or the zeros that some writers leave at the
    end.
    """
    padded = len(content) - len(content.rstrip(b"\0")) >= PADDING_BYTES
    return padded or any(mark in content for mark in (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN"))


def _truncated(path: Path, seconds: float, announced_s: float) -> AudioError:
    whole = f" of {announced_s:.2f} s" if announced_s > seconds else ""
    return AudioError(
        path, "truncated", f"{seconds:.2f} s{whole} can be read; copy it again, or export it anew"
    )


def _damaged(path: Path, at_s: float) -> AudioError:
    return AudioError(
        path, "damaged", f"it cannot be decoded at {at_s:.2f} s; copy it again, or export it anew"
    )


def _brief(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split(": '")[0].rstrip(". ") or type(error).__name__
