"""Cuts a recording into segments as it is decoded: blocks of sound -> a few whole segments at a time,
whatever its length.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from linernotes.audio import SILENCE_PEAK, AudioError, loudness_db, require_reach, stream_sound
from linernotes.catalog.track import Reject, Track
from linernotes.models.encoding import Encoding

SAMPLES_AT_ONCE = 1 << 19  # handed on, and encoded, together
WAITING = 3  # such handfuls of one recording that may wait to be encoded


@dataclass(frozen=True)
class CutSound:
    """Segments ``[n, channels, S]``, padded with zeros at the end of the track, and how much of each is
    content.
    """

    samples_ncs: np.ndarray
    seconds_n: np.ndarray
    start_s_n: np.ndarray
    loudness_nt: np.ndarray  # -inf where there is only padding


@dataclass(frozen=True)
class Finished:
    """A recording came to its end, whole: the hash of its sound."""

    content_hash: str


Cut = CutSound | Finished | Reject | BaseException


def cut_blocks(
    blocks: Iterable[np.ndarray], encoding: Encoding, at_once: int | None = None
) -> Iterator[CutSound]:
    """Cuts sound that comes in blocks ``[channels, n]`` at the encoding's rate into segments; what remains is
    padded.

    A remainder shorter than one latent frame is dropped, unless it is all there is.

    Args:
        at_once: segments in one ``CutSound``.
    """
    size = encoding.frames * encoding.frame_samples
    at_once = at_once or max(1, SAMPLES_AT_ONCE // size)
    waiting: list[np.ndarray] = []
    held = cut = 0
    for block in blocks:
        waiting.append(block)
        held += block.shape[1]
        while held >= at_once * size:
            joined = np.concatenate(waiting, axis=1)
            yield _segments(joined[:, : at_once * size], cut, encoding)
            cut, held = cut + at_once, held - at_once * size
            waiting = [joined[:, at_once * size :]]
    rest = np.concatenate(waiting, axis=1) if waiting else np.zeros((encoding.channels, 0), dtype=np.float32)
    whole, over = divmod(held, size)
    if over < encoding.frame_samples and cut + whole:
        rest = rest[:, : whole * size]
    if rest.shape[1]:
        yield _segments(rest, cut, encoding)


def _segments(samples_cs: np.ndarray, before: int, encoding: Encoding) -> CutSound:
    size = encoding.frames * encoding.frame_samples
    n = samples_cs.shape[1]
    starts = np.arange(0, n, size)
    padded = np.zeros((samples_cs.shape[0], len(starts) * size), dtype=np.float32)
    padded[:, :n] = samples_cs
    lengths = np.minimum(size, n - starts)
    loudness_nt = loudness_db(padded, encoding.frame_samples).reshape(len(starts), encoding.frames)
    content_frames = np.ceil(lengths / encoding.frame_samples)
    loudness_nt[np.arange(encoding.frames)[None] >= content_frames[:, None]] = -np.inf
    return CutSound(
        samples_ncs=padded.reshape(samples_cs.shape[0], len(starts), size).transpose(1, 0, 2),
        seconds_n=lengths / encoding.rate_hz,
        start_s_n=(starts + before * size) / encoding.rate_hz,
        loudness_nt=loudness_nt,
    )


class Recordings(Protocol):
    """Where the sound of tracks comes from. Picklable: workers take it along."""

    @property
    def paths(self) -> Sequence[Path]:
        """What workers need to reach."""

    def size(self, track: Track) -> int | None:
        """A number that changes when the recording does; None if it is not there."""

    def blocks(self, track: Track, encoding: Encoding) -> Iterable[np.ndarray]:
        """Its sound ``[channels, n]`` at the encoding's rate, one block after the other.

        Raises:
            AudioError: it cannot be used.
        """


@dataclass(frozen=True)
class Files:
    """Recordings that are files in a folder, by the tracks' file names."""

    folder: Path

    @property
    def paths(self) -> Sequence[Path]:
        return [self.folder]

    def size(self, track: Track) -> int | None:
        path = self.folder / track.file_name
        return path.stat().st_size if path.exists() else None

    def blocks(self, track: Track, encoding: Encoding) -> Iterable[np.ndarray]:
        return stream_sound(self.folder / track.file_name, encoding.rate_hz, encoding.channels)


def decode_track(
    recordings: Recordings, track: Track, encoding: Encoding
) -> Iterator[CutSound | Finished | Reject]:
    """The segments of one recording, then ``Finished``; or, whenever something is wrong with it, a ``Reject``
    at the end.

    Raises:
        LinernotesError: it cannot be read now, whatever is in it.
    """
    digest, n, peak = hashlib.sha256(), 0, 0.0
    try:
        for cut in cut_blocks(recordings.blocks(track, encoding), encoding):
            digest.update(cut.samples_ncs.tobytes())
            n += round(float(cut.seconds_n.sum()) * encoding.rate_hz)
            peak = max(peak, float(np.abs(cut.samples_ncs).max(initial=0.0)))
            yield cut
    except AudioError as error:
        yield Reject(track.file_name, error.reason, error.detail)
        return
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        require_reach(track.file_name, error)
        yield Reject(track.file_name, "unreadable", f"{type(error).__name__}: {error}; check the file")
        return
    if peak < SILENCE_PEAK:
        detail = "its channels cancel out when they are mixed; check the recording"
        yield Reject(track.file_name, "silent", detail)
    elif n < encoding.frame_samples:
        least = encoding.frame_samples / encoding.rate_hz
        detail = f"{n / encoding.rate_hz:.3f} s is less than one latent frame of {least:.3f} s"
        yield Reject(track.file_name, "too short", detail)
    else:
        digest.update(str(n).encode())  # padding is no content
        yield Finished(digest.hexdigest())


class Decoding:
    """One recording being decoded in a thread of its own, which waits while too much of it lies unused."""

    def __init__(
        self, recordings: Recordings, track: Track, encoding: Encoding, stop: threading.Event
    ) -> None:
        self._parts: queue.Queue[Cut] = queue.Queue(WAITING)
        self._stop = stop
        self._thread = threading.Thread(target=self._run, args=(recordings, track, encoding), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits until nothing is decoded any more, once ``stop`` is set."""
        self._thread.join()

    def _run(self, recordings: Recordings, track: Track, encoding: Encoding) -> None:
        try:
            for part in decode_track(recordings, track, encoding):
                if not self._put(part):
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, part: Cut) -> bool:
        while not self._stop.is_set():
            try:
                self._parts.put(part, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[CutSound | Finished | Reject]:
        """Its parts, up to and with the last."""
        while True:
            part = self._parts.get()
            if isinstance(part, BaseException):
                raise part
            yield part
            if not isinstance(part, CutSound):
                return
