"""What turns segments and clips into vectors: fitted once, on a sample of a catalogue, and kept with the
index, so that segments that are added later become vectors of the same space.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, load_tensors, save_tensors
from linernotes.catalog.store import Catalogue
from linernotes.index.vectors import Vectors, in_bytes

KIND = "space of an index"
COLUMNS_AT_ONCE = 1 << 15  # of moments, which are long
LATENT_SAMPLE = 4096  # segments


@dataclass(frozen=True)
class Space:
    """The maps of both parts; tensors without numbers where there is no such part."""

    strongest_bfk: Tensor  # features -> whitened ones, the K of F that segments differ in most, in each band
    basis_rd: Tensor  # float16: R directions of moments, D = bands x C x K
    mean_c: Tensor  # of the latents
    spread_c: Tensor
    middle_l: Tensor  # of their second moments
    pairs_pl: Tensor  # P directions of second moments

    @property
    def hash(self) -> str:
        arrays = {name: tensor.numpy() for name, tensor in self._tensors().items()}
        return hash_arrays({**arrays, "basis_rd": self.basis_rd.half().numpy()})

    def _tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def save(self, path: Path, header: dict[str, Any]) -> None:
        save_tensors(path, self._tensors(), KIND, header)

    @classmethod
    def load(cls, path: Path) -> Space:
        """Reads a space.

        Raises:
            LinernotesError: missing or damaged.
        """
        return cls(**load_tensors(path, KIND)[0])

    def ready(self) -> Space:
        """The same, to be used many times: its directions take twice the memory, and half the time."""
        return replace(self, basis_rd=self.basis_rd.float())

    @property
    def asks_model(self) -> bool:
        """Whether vectors need passes through the model."""
        return bool(len(self.basis_rd))

    def moments(self, y_nd: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Moments ``[N, bands x C x K]`` as directions in bytes, and their lengths, 1 if none are kept."""
        if not self.asks_model:
            return np.zeros((len(y_nd), 0), dtype=np.int8), np.ones(len(y_nd), dtype=np.float32)
        y_nd = y_nd.float()
        return in_bytes(y_nd @ self.basis_rd.to(y_nd.dtype).T), y_nd.norm(dim=1).cpu().numpy()

    def latents(self, latents_nct: Tensor, codes: int = 0) -> np.ndarray:
        """Latents ``[N, C, T]`` as directions in bytes."""
        pairs_nl = second_moments(latents_nct, self.mean_c, self.spread_c, codes)
        return in_bytes((pairs_nl - self.middle_l) @ self.pairs_pl.T)

    def vectors(self, y_nd: Tensor, latents_nct: Tensor, codes: int = 0) -> Vectors:
        """Both parts."""
        moments_nr, length_n = self.moments(y_nd)
        return Vectors(moments_nr, self.latents(latents_nct, codes), length_n)


def code_shares(codes_nkt: Tensor, codes: int) -> Tensor:
    """How often each of a codebook's ``codes`` stands in the frames of a segment, ``[N, K x codes]``."""
    return torch.nn.functional.one_hot(codes_nkt.long(), codes).float().mean(dim=2).flatten(1)


def second_moments(latents_nct: Tensor, mean_c: Tensor, spread_c: Tensor, codes: int = 0) -> Tensor:
    """E[z z'] of standardised latents over frames, ``[N, C (C + 1) / 2]``; of codes how often each one
    stands, ``[N, C x codes]``.
    """
    if codes:
        return code_shares(latents_nct, codes)
    z_nct = (latents_nct - mean_c[:, None]) / spread_c[:, None]
    above = torch.triu_indices(z_nct.shape[1], z_nct.shape[1])
    return (z_nct @ z_nct.mT / z_nct.shape[2])[:, above[0], above[1]]


def fit_latents(catalogue: Catalogue, count: int) -> dict[str, Tensor]:
    """``mean_c``, ``spread_c``, ``middle_l`` and ``pairs_pl`` of a space: the ``count`` principal directions
    of second moments, from a sample of the training segments.
    """
    codes = catalogue.encoding.codes
    latents_nct = catalogue.latents(catalogue.sample(LATENT_SAMPLE))
    mean_c, spread_c = latents_nct.mean(dim=(0, 2)), latents_nct.std(dim=(0, 2)).clamp(min=1e-6)
    pairs_nl = second_moments(latents_nct, mean_c, spread_c, codes)
    middle_l = pairs_nl.mean(dim=0)
    pairs_pl = torch.linalg.svd((pairs_nl - middle_l).double(), full_matrices=False).Vh[:count].float()
    return {"mean_c": mean_c, "spread_c": spread_c, "middle_l": middle_l, "pairs_pl": pairs_pl.contiguous()}


def principal_directions(y_nd: Tensor, count: int) -> Tensor:
    """The ``count`` orthogonal directions ``[R, D]`` (float16) in which long rows ``[N, D]``, N << D, have
    most of their length; by their Gram matrix, a few columns at a time.
    """
    gram_nn = torch.zeros(len(y_nd), len(y_nd), dtype=torch.float64)
    parts = [slice(start, start + COLUMNS_AT_ONCE) for start in range(0, y_nd.shape[1], COLUMNS_AT_ONCE)]
    for part in parts:
        some = y_nd[:, part].float()
        gram_nn += (some @ some.T).double()
    values_n, vectors_nn = torch.linalg.eigh(gram_nn)
    kept = min(count, int((values_n > values_n[-1] * 1e-9).sum()))
    weights_rn = (vectors_nn[:, -kept:] / values_n[-kept:].sqrt()).flip(1).T.float()
    basis_rd = torch.empty(kept, y_nd.shape[1], dtype=torch.float16)
    for part in parts:
        basis_rd[:, part] = (weights_rn @ y_nd[:, part].float()).half()
    return basis_rd
