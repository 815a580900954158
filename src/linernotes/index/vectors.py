"""Vectors: what a segment, or a clip, is in an index, in a byte a number.

Two parts, each a direction. *Moments* are what the read-out learns from a segment: the whitened mean of
r phi' over its frames (``methods.readout``), of which the score is, to first order, an inner product, on the
directions that catalogue's segments differ in most. *Latents* are the second moments of its latents, a
likeness that costs no pass through the model. Either alone misses what the other finds (dev/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LATENTS_WEIGHT = 0.3  # of the latents' cosine beside the moments'; 0.1 to 0.5 lose at most 0.02 (dev/LOG.md)
LARGEST = 127  # of a byte


@dataclass(frozen=True)
class Vectors:
    """Vectors of N things. Either part may have no numbers."""

    moments_nr: np.ndarray  # int8
    latents_np: np.ndarray  # int8
    length_n: np.ndarray  # float32: of the moment before it became a direction

    def __len__(self) -> int:
        return len(self.length_n)

    def __getitem__(self, rows: slice | np.ndarray) -> Vectors:
        return Vectors(self.moments_nr[rows], self.latents_np[rows], self.length_n[rows])

    @property
    def bytes_each(self) -> int:
        """Bytes of one vector."""
        return self.moments_nr.shape[1] + self.latents_np.shape[1] + self.length_n.itemsize


def in_bytes(x_nd: Tensor) -> np.ndarray:
    """Directions in bytes: each row times what makes its largest number ``LARGEST``; its length is lost."""
    largest_n1 = x_nd.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (x_nd * (LARGEST / largest_n1)).round().to(torch.int8).cpu().numpy()


def resemblance(query: Vectors, vectors: Vectors, at_once: int = 1 << 16) -> np.ndarray:
    """How much each of N segments is expected to have done to each of Q clips, up to a factor a clip,
    ``[Q, N]`` float32: the length of its moment times the cosine of the moments, and that of the latents
    weighed less; the latter alone where there are no moments.
    """
    own = [_directions(part) for part in (query.moments_nr, query.latents_np)]
    found = np.empty((len(query), len(vectors)), dtype=np.float32)
    for start in range(0, len(vectors), at_once):
        some = vectors[start : start + at_once]
        latents_qn = own[1] @ _directions(some.latents_np).T
        if not some.moments_nr.shape[1]:
            found[:, start : start + at_once] = latents_qn
            continue
        moments_qn = own[0] @ _directions(some.moments_nr).T
        found[:, start : start + at_once] = some.length_n * (moments_qn + LATENTS_WEIGHT * latents_qn)
    return found


def _directions(bytes_nd: np.ndarray) -> np.ndarray:
    """Bytes -> rows of length 1."""
    rows = bytes_nd.astype(np.float32)
    if rows.shape[1]:
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    return rows
