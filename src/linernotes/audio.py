"""Reads, checks, resamples and writes sound. Sound is ``[channels, samples]`` float32 in -1..1 with a rate in Hz.

Decoders read truncated files silently short and damaged float files as NaN, so nothing they return is believed: what
the container announces is compared with what came out.
"""

from __future__ import annotations

import errno
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from mutagen import MutagenError
from mutagen.mp3 import MP3, BitrateMode, HeaderNotFoundError

from linernotes.artefacts import replacing
from linernotes.errors import LinernotesError, UsageError

SUFFIXES = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3"}
SILENCE_PEAK = 1e-4  # -80 dB of full scale: below the noise of a 14-bit recorder
MP3_SLACK_FRAMES = 4  # encoder delay and the first frame, which holds the header, may or may not be counted
MP3_FRAME_SAMPLES = 1152
MP3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MP3_KBPS_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES_HZ = (4000, 768000)
LONGEST_FRAMES = 1 << 40
BLOCK_FRAMES = 1 << 20
WRITTEN_FRAMES = 1 << 16
LOUDEST_PEAK = 16.0  # +24 dB of full scale: beyond, a float file holds other units
STREAMED_SIZE = 0xFFFFFFFF  # the data size a WAV has when its writer could not seek back


class AudioError(LinernotesError):
    """A file that cannot be used. ``reason`` is its class in one or two words."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path} is {reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Sound:
    """Samples ``[channels, n]`` float32 and their rate."""

    samples: np.ndarray
    rate_hz: int

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.rate_hz

    def converted(self, rate_hz: int, channels: int) -> Sound:
        """The same sound at another rate (soxr, very high quality) and with 1 or 2 channels."""
        samples = self.samples
        if samples.shape[0] != channels:
            mono = samples.mean(axis=0, keepdims=True)
            samples = np.repeat(mono, channels, axis=0)
        if self.rate_hz != rate_hz:
            samples = soxr.resample(samples.T, self.rate_hz, rate_hz, quality="VHQ").T
        return Sound(np.ascontiguousarray(samples, dtype=np.float32), rate_hz)


def read_sound(path: Path) -> Sound:
    """Reads and checks one file: WAV, FLAC, OGG Vorbis, Opus or MP3.

    Raises:
        AudioError: missing, empty, mislabelled, undecodable, truncated, NaN, silent, scaled wrongly.
    """
    _check_container(path)
    try:
        with soundfile.SoundFile(path) as file:
            announced, rate_hz = file.frames, file.samplerate
            if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
                raise AudioError(path, "damaged", f"its header says {rate_hz} Hz; export it again")
            if announced > LONGEST_FRAMES:  # a stream whose writer did not know its length
                announced = 0
            blocks = []
            while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block)
            samples = np.concatenate(blocks).T if blocks else np.zeros((1, 0), dtype=np.float32)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(path, "undecodable", f"{_brief(error)}; export it again") from None
    n = samples.shape[1]
    if n == 0:
        raise AudioError(path, "empty", "it holds no samples; export it again")
    if SUFFIXES[path.suffix.lower()] == "MP3":
        announced = max(announced, _mp3_samples(path) - MP3_SLACK_FRAMES * MP3_FRAME_SAMPLES)
    if n < announced:
        raise AudioError(
            path,
            "truncated",
            f"{n / rate_hz:.2f} s of {announced / rate_hz:.2f} s can be read; copy it again, or convert it to FLAC",
        )
    if not np.isfinite(samples).all():
        raise AudioError(path, "damaged", f"{int((~np.isfinite(samples)).sum())} samples are not numbers; export it again")
    peak = float(np.abs(samples).max())
    if peak < SILENCE_PEAK:
        raise AudioError(path, "silent", "no sample is louder than -80 dB; check the recording")
    if peak > LOUDEST_PEAK:
        raise AudioError(path, "scaled wrongly", f"its peak is {peak:.0f}, not 1; export it with samples from -1 to 1")
    return Sound(np.ascontiguousarray(samples), rate_hz)


def write_sound(path: Path, sound: Sound) -> None:
    """Writes 16-bit WAV or FLAC, or OGG Vorbis, by the suffix of ``path``; whole or not at all."""
    check_writable(path)
    with replacing(path) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", sound.rate_hz, len(sound.samples)) as file:
                for start in range(0, sound.samples.shape[1], WRITTEN_FRAMES):  # libsndfile's Vorbis dies of 2^21 at once
                    file.write(np.clip(sound.samples[:, start : start + WRITTEN_FRAMES], -1, 1).T)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            full = shutil.disk_usage(path.parent).free < sound.samples.nbytes
            raise OSError(errno.ENOSPC if full else errno.EIO, _brief(error), str(path)) from None


def check_writable(path: Path) -> None:
    """Refuses a name whose suffix is no format that is written."""
    if path.suffix.lower() not in (".wav", ".flac", ".ogg"):
        raise UsageError(f"{path} cannot be written: use a name that ends in .flac, .wav or .ogg")


def loudness_db(samples: np.ndarray, frame_samples: int) -> np.ndarray:
    """Root mean square of each frame in dB of full scale: ``[channels, T * frame_samples]`` -> ``[T]`` float32."""
    framed = samples.reshape(samples.shape[0], -1, frame_samples)
    power = np.einsum("cts,cts->t", framed, framed, dtype=np.float64) / (framed.shape[0] * frame_samples)
    return (10 * np.log10(power + 1e-12)).astype(np.float32)


def _check_container(path: Path) -> None:
    if not path.is_file():
        raise AudioError(path, "missing", "there is no such file; check the name")
    size = path.stat().st_size
    if size == 0:
        raise AudioError(path, "empty", "it has zero bytes; copy it again")
    expected = SUFFIXES.get(path.suffix.lower())
    if expected is None:
        raise AudioError(path, "unsupported", f"use one of {', '.join(SUFFIXES)}")
    with path.open("rb") as file:
        head = file.read(16)
        tagged = head[:3] == b"ID3"
        if tagged:  # most often an MP3's, but some put such a tag before other things
            file.seek(_tag_bytes(head))
            head = file.read(16)
        found = _container(head) or ("MP3" if tagged else None)
        if found is None:
            raise AudioError(path, "undecodable", "its content is not WAV, FLAC, OGG or MP3; export it again")
        if found != expected:
            raise AudioError(path, "mislabelled", f"its name says {expected}, its content is {found}; rename it")
        if found == "OGG" and not _ogg_ends(path, size):
            raise AudioError(path, "truncated", "the stream has no end; copy it again")
        if found == "WAV" and not _wav_complete(path, size):
            raise AudioError(path, "truncated", "it is shorter than its header says; copy it again")


def _container(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"fLaC":
        return "FLAC"
    if head[:4] == b"OggS":
        return "OGG"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "MP3"
    return None


def _tag_bytes(head: bytes) -> int:
    """Length of the ID3v2 tag that begins so: its size has seven bits a byte."""
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def _ogg_ends(path: Path, size: int) -> bool:
    """Whether the last page is whole and carries the end-of-stream flag (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 17)))
        tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return False
    flags, n_segments = tail[at + 5], tail[at + 26]
    lacing = tail[at + 27 : at + 27 + n_segments]
    return bool(flags & 4) and len(lacing) == n_segments and len(tail) >= at + 27 + n_segments + sum(lacing)


def _wav_complete(path: Path, size: int) -> bool:
    """Whether the data chunk of a RIFF file lies inside the file."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return True  # 64-bit and big-endian relatives: libsndfile's own length check stands
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name == b"data":
                return length == STREAMED_SIZE or file.tell() + length <= size
            file.seek(length + length % 2, 1)
    return False


def _mp3_samples(path: Path) -> int:
    """Samples an MP3 announces in its Xing, Info or VBRI header; without one, those of the frames that are there."""
    try:
        info = MP3(path).info
    except (HeaderNotFoundError, MutagenError):
        return 0
    if info.bitrate_mode != BitrateMode.UNKNOWN:
        return int(info.length * info.sample_rate)
    return _mp3_frame_samples(path)


def _mp3_frame_samples(path: Path) -> int:
    """Walks the frame headers of an MPEG audio stream of layer III (ISO 11172-3, 2.4.2.3).

    Raises:
        AudioError: the last frame is cut off.
    """
    data = path.read_bytes()
    at = 0
    if data[:3] == b"ID3":
        at = _tag_bytes(data)
    total = 0
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xE0 == 0xE0:
        version, bitrate, rate = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
        if version == 1 or rate == 3 or not 0 < bitrate < 15:
            break
        first = version == 3
        kbps = (MP3_KBPS if first else MP3_KBPS_LOW)[bitrate - 1]
        rate_hz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
        samples = 1152 if first else 576
        at += samples // 8 * kbps * 1000 // rate_hz + (data[at + 2] >> 1 & 1)
        total += samples
    if at > len(data):
        raise AudioError(path, "truncated", "its last frame is cut off; copy it again")
    return total


def _brief(error: Exception) -> str:
    return str(error).split(": ", 1)[-1].rstrip(". ") or type(error).__name__
