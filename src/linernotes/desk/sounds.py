"""Tracks of the catalogue as browsers play them: MP3 with the outline of a waveform, made by a process of its
own the first time that somebody listens, kept in the desk's folder.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from linernotes.artefacts import hash_json, replacing
from linernotes.desk.folder import DeskFolder
from linernotes.errors import LinernotesError
from linernotes.jobs.processes import end_with_parent

PEAKS = 1200  # of a waveform, however long
PREPARING_S = 120
GONE = "the recording of {} is no longer where the catalogue found it: put it back"


class Sounds:
    """Prepares sounds, one at a time."""

    def __init__(self, folder: DeskFolder) -> None:
        self._folder = folder
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def of_track(self, catalogue: Path, catalogue_hash: str, place: int) -> tuple[Path, Path]:
        """A track's sound, and its outline.

        Raises:
            LinernotesError: the recording has gone or cannot be decoded.
        """
        name = hash_json([catalogue_hash, place])
        sound, peaks = self._folder.sounds / f"{name}.mp3", self._folder.sounds / f"{name}.json"
        if not (sound.exists() and peaks.exists()):
            with self._lock:
                if not (sound.exists() and peaks.exists()):
                    self._prepare(catalogue, place, sound, peaks)
        return sound, peaks

    def warm(self) -> None:
        """Starts the process, so that whoever listens first waits less."""
        with self._lock:
            self._ready().submit(imported)

    def _ready(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)
        return self._pool

    def _prepare(self, catalogue: Path, place: int, sound: Path, peaks: Path) -> None:
        try:
            why = self._ready().submit(prepare, catalogue, place, sound, peaks).result()
        except BrokenProcessPool:
            self.close()
            why = "this recording cannot be decoded: its decoder gave up"
        if why:
            raise LinernotesError(why)

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.shutdown(wait=False, cancel_futures=True)


def imported() -> None:
    """Imports what takes time."""
    import linernotes.demo.sounds
    import linernotes.report.pictures  # noqa: F401


def prepare(catalogue: Path, place: int, sound: Path, peaks: Path) -> str:
    """Writes a track's sound and outline; why it cannot, if it cannot. A decoder that hangs ends its
    process.
    """
    signal.alarm(PREPARING_S)
    try:
        return _write(catalogue, place, sound, peaks)
    finally:
        signal.alarm(0)


def _write(catalogue: Path, place: int, sound: Path, peaks: Path) -> str:
    from linernotes.catalog.store import Catalogue
    from linernotes.demo.sounds import track_sound
    from linernotes.report.pictures import player_mp3

    opened = Catalogue(catalogue)
    track = opened.tracks[place]
    seconds = float(opened.seconds_t[place])
    try:
        found = track_sound(opened, track, 0.0, seconds)
    except LinernotesError as error:
        return str(error)
    if found is None:
        return GONE.format(track.title or track.track_id)
    with replacing(sound) as temporary:
        temporary.write_bytes(player_mp3(found).content)
    outline = {"seconds": found.seconds, "peaks": outline_of(found.samples)}
    with replacing(peaks) as temporary:
        temporary.write_text(json.dumps(outline), encoding="utf-8")
    return ""


def outline_of(samples_cn: np.ndarray) -> list[float]:
    """The highest sample of each of at most ``PEAKS`` stretches, 0 to 1."""
    level_n = np.abs(samples_cn).max(axis=0)
    count = min(PEAKS, len(level_n))
    edges = np.linspace(0, len(level_n), count + 1).astype(int)[:-1]
    return [round(float(value), 3) for value in np.minimum(np.maximum.reduceat(level_n, edges), 1)]
