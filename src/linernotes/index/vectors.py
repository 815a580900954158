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
ROWS_AT_ONCE = 1 << 9  # as numbers of four bytes they stay in the processor's cache


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


def in_bytes(x_nd: Tensor) -> np.ndarray:
    """Directions in bytes: each row times what makes its largest number ``LARGEST``; its length is lost."""
    largest_n1 = x_nd.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (x_nd * (LARGEST / largest_n1)).round().to(torch.int8).cpu().numpy()


def resemblance(query: Vectors, vectors: Vectors, at_once: int = ROWS_AT_ONCE) -> np.ndarray:
    """How much each of N segments is expected to have done to each of Q clips, up to a factor a clip,
    ``[Q, N]`` float32: the length of its moment times the cosine of the moments, and that of the latents
    weighed less; the latter alone where there are no moments.
    """
    moments_qr, latents_qp = directions(query.moments_nr), directions(query.latents_np)
    found_qn = np.empty((len(query), len(vectors)), dtype=np.float32)
    for start in range(0, len(vectors), at_once):
        part = slice(start, start + at_once)
        some = vectors[part]
        found_qn[:, part] = _cosines(latents_qp, some.latents_np)
        if some.moments_nr.shape[1]:
            found_qn[:, part] *= LATENTS_WEIGHT
            found_qn[:, part] += _cosines(moments_qr, some.moments_nr)
            found_qn[:, part] *= some.length_n
    return found_qn


def directions(bytes_nd: np.ndarray) -> np.ndarray:
    """Bytes -> rows of length 1."""
    rows_nd, length_n = _numbers(bytes_nd)
    return rows_nd / length_n[:, None]


def _cosines(asked_qd: np.ndarray, bytes_nd: np.ndarray) -> np.ndarray:
    rows_nd, length_n = _numbers(bytes_nd)
    return (rows_nd @ asked_qd.T).T / length_n


def _numbers(bytes_nd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of bytes as numbers, and their lengths, of one that is nothing 1."""
    rows_nd = bytes_nd.astype(np.float32)
    return rows_nd, np.maximum(np.sqrt(np.einsum("nd,nd->n", rows_nd, rows_nd)), 1.0)
