"""Codes: what a large index is looked through by. Half a byte stands for every four numbers of a vector, so
that ten million fit in a gigabyte or two; what they put first is held against the vectors themselves.

Product quantisation with codebooks of sixteen, looked up in registers (André, Kermarrec & Le Scouarnec 2015),
by FAISS (Douze et al. 2024). All codes are gone through: dev/LOG.md has what cells would save.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from linernotes.artefacts import load_tensors, save_tensors
from linernotes.errors import LinernotesError
from linernotes.index.vectors import LATENTS_WEIGHT, Vectors, directions

KIND = "codes of an index"
NUMBERS_A_CODE = 4
BITS = 4
TRAINED_ON = 1 << 15  # vectors
ROWS_AT_ONCE = 1 << 9


class Codes:
    """Codes of N vectors, in their order, all of them in memory."""

    def __init__(self, scanned: Any) -> None:
        self._scanned = scanned

    @classmethod
    def of(cls, sample: Vectors, blocks: Iterable[Vectors]) -> Codes:
        """Codes of all vectors in ``blocks``; codebooks are fitted on a ``sample`` of them.

        Raises:
            LinernotesError: FAISS is not installed.
        """
        faiss = require_faiss()
        first_nd = _rows(sample)
        width = first_nd.shape[1]
        scanned = faiss.IndexPQFastScan(width, width // NUMBERS_A_CODE, BITS, faiss.METRIC_INNER_PRODUCT)
        scanned.train(first_nd)
        for block in blocks:
            for start in range(0, len(block), ROWS_AT_ONCE):
                scanned.add(_rows(block[start : start + ROWS_AT_ONCE]))
        return cls(scanned)

    def __len__(self) -> int:
        return int(self._scanned.ntotal)

    def first(self, asked: Vectors, count: int) -> list[np.ndarray]:
        """The ``count`` vectors that resemble each of the ``asked`` most by their codes: places, in order."""
        moments_qr, latents_qp = directions(asked.moments_nr), directions(asked.latents_np)
        if moments_qr.shape[1]:
            latents_qp = LATENTS_WEIGHT * latents_qp
        asked_qd = _padded(np.concatenate([moments_qr, latents_qp], axis=1))
        _, places_qk = self._scanned.search(asked_qd, min(count, len(self)))
        return [np.unique(places_k[places_k >= 0]) for places_k in places_qk]

    def save(self, path: Path, header: dict[str, Any]) -> None:
        """Writes them."""
        scanned = torch.from_numpy(require_faiss().serialize_index(self._scanned))
        save_tensors(path, {"scanned": scanned}, KIND, header)

    @classmethod
    def load(cls, path: Path, header: dict[str, Any]) -> Codes:
        """Reads them.

        Raises:
            LinernotesError: FAISS is not installed, or the file is damaged or was made from something else.
        """
        faiss = require_faiss()
        scanned = load_tensors(path, KIND, header)[0]["scanned"].numpy()
        try:
            return cls(faiss.deserialize_index(scanned))
        except RuntimeError:
            raise LinernotesError(
                f"{path} is damaged, or of a newer FAISS: remove it, and run 'linernotes index build' again"
            ) from None


def require_faiss() -> Any:
    """FAISS.

    Raises:
        LinernotesError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise LinernotesError(
            "an index of so many segments is looked through by FAISS, which is not installed: pip install "
            "faiss-cpu"
        ) from None
    return faiss


def _rows(vectors: Vectors) -> np.ndarray:
    """Vectors whose inner product with an asked one's is their resemblance, ``[N, D]`` float32."""
    parts = [directions(vectors.moments_nr), directions(vectors.latents_np)]
    rows_nd = np.concatenate(parts, axis=1)
    if vectors.moments_nr.shape[1]:
        rows_nd *= vectors.length_n[:, None]
    return _padded(rows_nd)


def _padded(rows_nd: np.ndarray) -> np.ndarray:
    """With numbers that are nothing behind, as many as make whole codes."""
    return np.pad(rows_nd, ((0, 0), (0, -rows_nd.shape[1] % NUMBERS_A_CODE)))
