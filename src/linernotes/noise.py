"""The noise bank: K fixed draws (t_k, eps_k). Two sets of weights are only ever compared on the same bank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, hash_json, load_tensors, save_tensors
from linernotes.errors import UsageError


@dataclass(frozen=True)
class NoiseBank:
    """Times ``t_k`` in (0, 1) and noise ``eps_kct``, shared by every item; made from ``seed``."""

    t_k: Tensor
    eps_kct: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.t_k)

    @cached_property
    def hash(self) -> str:
        return hash_arrays({"t": self.t_k.numpy(), "eps": self.eps_kct.numpy()})

    def bands(self, count: int) -> list[NoiseBank]:
        """The bank cut into ``count`` banks of neighbouring noise levels; as it is for 1.

        Raises:
            UsageError: the bands would not be equal parts.
        """
        if len(self) % count:
            raise UsageError(f"{count} noise bands do not divide {len(self)} draws: give a multiple of {count} as --draws")
        cuts = np.array_split(np.arange(len(self)), count)
        return [NoiseBank(self.t_k[torch.from_numpy(k)], self.eps_kct[torch.from_numpy(k)], self.seed) for k in cuts]

    def save(self, path: Path) -> None:
        save_tensors(path, {"t_k": self.t_k, "eps_kct": self.eps_kct}, "noise bank", {"seed": self.seed, "noise": self.hash})

    @classmethod
    def load(cls, path: Path) -> NoiseBank:
        tensors, header = load_tensors(path, "noise bank")
        return cls(tensors["t_k"], tensors["eps_kct"], header["seed"])


Band = tuple[int, int]  # (b, n): the b-th of n equal parts of the noise levels
EVERY_LEVEL: Band = (0, 1)


def draw_bank(draws: int, channels: int, frames: int, seed: int, noisiest: float = 1.0) -> NoiseBank:
    """A bank of ``draws`` draws. Times are stratified: one uniform draw in each of ``draws`` equal parts of (0, 1), or of
    its ``noisiest`` share.
    """
    generator = random_for("noise bank", seed)
    t_k = stratified_times(draws, generator) * noisiest + (1 - noisiest)
    return NoiseBank(t_k, torch.randn(draws, channels, frames, generator=generator), seed)


def random_for(purpose: str, seed: int, number: int = 0) -> torch.Generator:
    """A source of random numbers of its own for each purpose, seed and number (of a step, of a chunk)."""
    return torch.Generator().manual_seed(int(hash_json([purpose, seed, number])[:15], 16))


def stratified_times(draws: int, generator: torch.Generator, band: Band = EVERY_LEVEL) -> Tensor:
    """``draws`` times, one in each equal part of (0, 1), or of one band of it, in increasing order."""
    return ((torch.arange(draws) + torch.rand(draws, generator=generator)) / draws + band[0]) / band[1]
