"""Decodes recordings as a stream, so that memory does not grow with their length, and checks what comes out.

PyAV (FFmpeg) decodes. Nothing it returns is believed: lengths that the container announces, gaps in time, frames that were
refused, numbers that are none, silence and scale are looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import soxr

from linernotes.audio.container import Container, look_at
from linernotes.audio.sound import SILENCE_PEAK, AudioError, Sound, with_channels

Block = np.ndarray  # [channels, n] float32

RATES_HZ = (4000, 768000)
BLOCK_SAMPLES = 1 << 18
LOUDEST_PEAK = 16.0  # +24 dB of full scale: beyond, a float file holds other units
GAP_S = 0.01  # a hole in the time stamps that says that frames were skipped; rounding of time stamps is far below
SLACK_SAMPLES = {"MP3": 4 * 1152, "MP4": 3 * 2048}  # what encoders' delay and padding may take away
STAMPED = ("OGG", "FLAC", "MP4", "Matroska", "ASF")  # containers whose time stamps show lost frames
SCALE = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}
# how loud each loudspeaker's channel is in the left and the right of two (ITU-R BS.775)
PLACES = {
    "FL": (1.0, 0.0), "FR": (0.0, 1.0), "FC": (0.7071, 0.7071), "LFE": (0.0, 0.0), "BL": (0.7071, 0.0),
    "BR": (0.0, 0.7071), "SL": (0.7071, 0.0), "SR": (0.0, 0.7071), "BC": (0.5, 0.5), "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0), "DL": (1.0, 0.0), "DR": (0.0, 1.0),
}  # fmt: skip

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
    """Up to ``seconds`` of a recording from ``start_s`` on, at its own rate; the rest is neither kept nor checked.

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
            raise AudioError(path, "damaged", f"samples from {at_s:.2f} s on are not numbers; export it again")
        n, peak = n + block.shape[1], max(peak, float(np.abs(block).max(initial=0.0)))
        if peak > LOUDEST_PEAK:
            raise AudioError(path, "scaled wrongly", f"its peak is {peak:.0f}, not 1; export it with samples from -1 to 1")
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
        raise AudioError(path, "undecodable", f"{_brief(error)}; export it again") from None
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise AudioError(path, "damaged", f"its header says {rate_hz} Hz; export it again")
    return rate_hz, _blocks(path, container, rate_hz)


def _rate_of(path: Path, container: Container) -> int:
    with _Opened(path, container.offset) as opened:
        return int(opened.streams.audio[0].rate)


class _Opened:
    """A recording opened by PyAV, from where its content begins."""

    def __init__(self, path: Path, offset: int) -> None:
        self.path, self.offset = path, offset

    def __enter__(self) -> Any:
        self.file: BinaryIO = self.path.open("rb")
        try:
            self.opened = av.open(_Behind(self.file, self.offset) if self.offset else self.file, metadata_errors="replace")
            if not self.opened.streams.audio:
                raise ValueError("it holds no sound")
        except BaseException:
            self.file.close()
            raise
        return self.opened

    def __exit__(self, *_: object) -> None:
        self.opened.close()
        self.file.close()


class _Behind:
    """A file without its first bytes: tags that a decoder stumbles over, or pictures of many megabytes."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file, self._offset = file, offset
        file.seek(offset)

    def read(self, n: int = -1) -> bytes:
        return self._file.read(n)

    def seek(self, to: int, whence: int = 0) -> int:
        return self._file.seek(to + self._offset if whence == 0 else to, whence) - self._offset

    def tell(self) -> int:
        return self._file.tell() - self._offset


def _blocks(path: Path, container: Container, rate_hz: int) -> Iterator[Block]:
    """Decodes; parts of a joined stream that have another rate are resampled to the first one's."""
    parts, n, cut, refused_s, expected_s = _Parts(rate_hz), 0, False, -1.0, None
    seen_s = 0.0  # decoded so far, whether handed on or still gathered
    with _Opened(path, container.offset) as opened:
        stream = opened.streams.audio[0]
        announced = container.samples or _announced(stream, container, rate_hz)
        for packet in opened.demux(stream):
            tagged = container.kind == "MP3" and any(mark in bytes(packet) for mark in (b"ID3", b"TAG", b"APETAGEX"))
            if packet.size:
                cut = container.kind == "MP3" and not tagged and _mp3_cut(bytes(packet))
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                refused_s = refused_s if refused_s >= 0 or tagged else seen_s
                continue
            for frame in frames:
                if refused_s >= 0:  # more follows, so it is not merely the end that is missing
                    raise _damaged(path, refused_s)
                if container.kind in STAMPED and frame.pts is not None:
                    if expected_s is not None and _lost(container, frame.time - expected_s):
                        raise _damaged(path, seen_s)
                    expected_s = frame.time + frame.samples / frame.sample_rate
                seen_s += frame.samples / frame.sample_rate
                block = parts.add(frame)
                n += block.shape[1]
                if block.shape[1]:
                    yield block
        block = parts.end()
        n += block.shape[1]
        if block.shape[1]:
            yield block
    if refused_s >= 0 or cut or n < announced - SLACK_SAMPLES.get(container.kind, 0):
        whole = f" of {announced / rate_hz:.2f} s" if announced > n else ""
        raise AudioError(path, "truncated", f"{n / rate_hz:.2f} s{whole} can be read; copy it again, or export it anew")


def _lost(container: Container, step_s: float) -> bool:
    """Whether a step in the time stamps says that frames were lost. Where streams were joined, time begins again, or goes on
    a hair late.
    """
    return step_s > (3 * GAP_S if container.kind == "OGG" else GAP_S)


def _announced(stream: Any, container: Container, rate_hz: int) -> int:
    """The length in a table of contents, which files of these kinds cannot be written without."""
    if container.kind not in ("MP4", "ASF", "Matroska", "AU") or not stream.duration:
        return 0
    seconds = float(stream.duration * stream.time_base)
    return 0 if seconds > 1e6 else round(seconds * rate_hz * (0.98 if container.kind in ("ASF", "Matroska") else 1))


class _Parts:
    """Turns decoded frames into blocks ``[1 or 2, n]`` float32 at one rate; small frames are gathered."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz, self.channels, self.own_hz = rate_hz, 0, rate_hz
        self.resample: Any = None
        self.waiting: list[np.ndarray] = []

    def add(self, frame: Any) -> Block:
        samples = _two(_floats(frame), [channel.name for channel in frame.layout.channels])
        self.channels = self.channels or samples.shape[0]
        samples = with_channels(samples, self.channels)
        if frame.sample_rate != self.own_hz:
            self._flush()
            self.own_hz = frame.sample_rate
            if self.own_hz != self.rate_hz:
                self.resample = soxr.ResampleStream(self.own_hz, self.rate_hz, self.channels, quality="VHQ")
        self.waiting.append(self.resample.resample_chunk(np.ascontiguousarray(samples.T)).T if self.resample else samples)
        return self._taken() if sum(b.shape[1] for b in self.waiting) >= BLOCK_SAMPLES else self._nothing()

    def end(self) -> Block:
        self._flush()
        return self._taken()

    def _flush(self) -> None:
        if self.resample:
            self.waiting.append(self.resample.resample_chunk(np.zeros((0, self.channels), np.float32), last=True).T)
            self.resample = None

    def _taken(self) -> Block:
        block = np.concatenate(self.waiting, axis=1) if self.waiting else self._nothing()
        self.waiting = []
        return block

    def _nothing(self) -> Block:
        return np.zeros((max(1, self.channels), 0), dtype=np.float32)


def _floats(frame: Any) -> np.ndarray:
    """``[channels, n]`` float32; integers scaled to -1..1."""
    name = frame.format.name.removesuffix("p") if frame.format.is_planar else frame.format.name
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if name in SCALE:
        shifted = values.astype(np.float64) - (128.0 if name == "u8" else 0.0)
        return (shifted / SCALE[name]).astype(np.float32)
    return values.astype(np.float32)


def _two(samples_cn: np.ndarray, names: list[str]) -> np.ndarray:
    """At most two channels: those of loudspeakers are placed, channels that nobody named are averaged."""
    if len(samples_cn) <= 2:
        return samples_cn
    if not all(name in PLACES for name in names):
        return samples_cn.mean(axis=0, keepdims=True)
    places = np.array([PLACES[name] for name in names], dtype=np.float32)
    return places.T @ samples_cn


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


def _damaged(path: Path, at_s: float) -> AudioError:
    return AudioError(path, "damaged", f"it cannot be decoded at {at_s:.2f} s; copy it again, or export it anew")


def _brief(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split(": '")[0].rstrip(". ") or type(error).__name__
