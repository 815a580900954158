"""Draws: the randomness of an item loss, fixed. Two sets of weights are only ever compared on the same
draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from scipy.linalg import block_diag, helmert
from torch import Tensor

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.errors import UsageError

Levels = tuple[float, float]  # a part of the noise levels, of which 0 is none and 1 is the noisiest
EVERY_LEVEL: Levels = (0.0, 1.0)
Band = tuple[int, int]  # (b, n): the b-th of n equal parts of the noise levels
WHOLE: Band = (0, 1)


@dataclass(frozen=True)
class Batch:
    """Named tensors whose first axis is the batch. What they are is the business of the model that made
    them.
    """

    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: slice | Tensor) -> Self:
        return type(self)({name: tensor[index] for name, tensor in self.tensors.items()})

    def repeat(self, times: int) -> Self:
        """The whole batch ``times`` times over, one copy after the other."""
        return type(self)({n: t.repeat(times, *(1,) * (t.ndim - 1)) for n, t in self.tensors.items()})

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return type(self)({name: tensor.to(device) for name, tensor in self.tensors.items()})


@dataclass(frozen=True)
class Draws(Batch):
    """K draws, in order of their noise level where there are such: all that an item loss owes to chance."""

    @cached_property
    def hash(self) -> str:
        """Identifies the draws, to the last bit."""
        return hash_arrays({name: tensor.cpu().numpy() for name, tensor in self.tensors.items()})

    def bands(self, count: int) -> list[Draws]:
        """``count`` parts of neighbouring noise levels.

        Raises:
            UsageError: they would not be equal.
        """
        if len(self) == 1 < count:
            raise UsageError("one draw cannot be divided into noise bands: leave out --noise-bands")
        if len(self) % count:
            raise UsageError(
                f"{count} noise bands do not divide {len(self)} draws: give a multiple of {count} as --draws"
            )
        size = len(self) // count
        return [self[b * size : (b + 1) * size] for b in range(count)]

    def of_all(self, k: int, items: int) -> Draws:
        """The ``k``-th draw, for each of so many items."""
        return Draws({n: t[k : k + 1].expand(items, *(-1,) * (t.ndim - 1)) for n, t in self.tensors.items()})


def levels_of(band: Band) -> Levels:
    """The noise levels of a band."""
    return band[0] / band[1], (band[0] + 1) / band[1]


def random_for(purpose: str, seed: int, number: int = 0) -> torch.Generator:
    """A source of random numbers of its own for each purpose, seed and number (of a step, of a chunk)."""
    return torch.Generator().manual_seed(int(hash_json([purpose, seed, number])[:15], 16))


def stratified_times(draws: int, generator: torch.Generator, levels: Levels = EVERY_LEVEL) -> Tensor:
    """``draws`` times, one in each equal part of the ``levels`` in (0, 1), in increasing order."""
    low, high = levels
    return (torch.arange(draws) + torch.rand(draws, generator=generator)) / draws * (high - low) + low


def noise_contrasts(count: int) -> np.ndarray:
    """What the mean over ``count`` draws owes to chance, ``[R, count]``: times the draws' values it gives
    deviations whose squares sum to an estimate of that mean's variance, had other noise been drawn.

    Draws lie one in each part of the noise levels, so neighbours alone are compared, in pairs (three where
    one is over): what differs between levels is no chance, and what differs between neighbours makes the
    estimate too large rather than too small (collapsed strata; Cochran 1977, section 5A.12). R is 0 for a
    single draw, which says nothing.
    """
    if count < 2:
        return np.zeros((0, count))
    sizes = [2] * (count // 2)
    sizes[-1] += count % 2
    return block_diag(*(helmert(size) * np.sqrt(size / (size - 1)) for size in sizes)) / count


def no_draws(count: int) -> Draws:
    """Draws of a model whose loss owes nothing to chance."""
    return Draws({"none": torch.zeros(count, 0)})
