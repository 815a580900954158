"""Vectors made up in the likeness of an index's, so that a search can be measured on more of them than there
are segments.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from linernotes.errors import LinernotesError
from linernotes.index.store import Index, write_codes, write_index
from linernotes.index.vectors import Vectors, directions, in_bytes

NOISE = 0.5  # of a made-up direction: moments then have neighbours as near as real ones (dev/LOG.md)
NOISES, REAL_ROWS = 1 << 14, 1 << 15
ROWS_AT_ONCE = 1 << 10


class Likeness:
    """Vectors made up in the likeness of an index's: one of its own, drawn evenly, turned by noise that is
    spread over the directions as they are (a smoothed bootstrap; Silverman & Young 1987).
    """

    def __init__(self, index: Index, seed: int = 0) -> None:
        self._draw = np.random.default_rng([seed, NOISES])
        rows = np.linspace(0, len(index) - 1, min(REAL_ROWS, len(index))).astype(int)
        real = index.take(np.unique(rows))
        self._length_n = real.length_n
        self._parts = [self._part(part_nd) for part_nd in (real.moments_nr, real.latents_np)]

    def _part(self, bytes_nd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Directions, and noise of length 1 on average."""
        rows_nd = directions(bytes_nd)
        noise_md = self._draw.standard_normal((NOISES, rows_nd.shape[1]), dtype=np.float32)
        noise_md *= rows_nd.std(axis=0)
        noise_md /= max(1e-9, float(np.sqrt((noise_md**2).sum(axis=1).mean())))
        return np.sqrt(1 - NOISE**2) * rows_nd, NOISE * noise_md

    def drawn(self, count: int) -> Vectors:
        """So many more."""
        rows = self._draw.integers(len(self._length_n), size=count)
        noises = self._draw.integers(NOISES, size=count)
        found = [
            in_bytes(torch.from_numpy(rows_nd[rows] + noise_md[noises]))
            if rows_nd.shape[1]
            else np.zeros((count, 0), np.int8)
            for rows_nd, noise_md in self._parts
        ]
        return Vectors(found[0], found[1], self._length_n[rows])


def make_up(index: Index, count: int, path: Path) -> Index:
    """An index of ``count`` vectors in the likeness of another's, with codes whatever its size.

    Raises:
        LinernotesError: there is no room for it.
    """
    path.mkdir(parents=True)
    need, free = int(1.3 * count * index.bytes_each), shutil.disk_usage(path).free
    if need > free:
        raise LinernotesError(
            f"{count} vectors take {need / 1e9:.1f} GB and {path} has {free / 1e9:.1f} GB free: set TMPDIR "
            "to a folder on a disk with more room"
        )
    likeness = Likeness(index)

    def batches() -> Iterator[tuple[Vectors, np.ndarray]]:
        for start in range(0, count, ROWS_AT_ONCE):
            vectors = likeness.drawn(min(ROWS_AT_ONCE, count - start))
            yield vectors, np.arange(start, start + len(vectors))

    about = ("model", "catalogue", "fitted_on", "settings", "recall")
    write_index(path, {name: index.record[name] for name in about}, index.space, batches())
    write_codes(path)
    return Index(path)
