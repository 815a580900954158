"""Cells: the short passages of a clip whose pairs with a track's are looked at."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from linernotes.methods.contract import TENSOR_BYTES
from linernotes.models.contract import GenerativeModel, ReadoutModel

CELL_S = 0.1  # a cell is at least so long
CELLS_BYTES = 1 << 30  # of one window's cells; of a model of full size longer ones are taken
KEPT_BYTES = 350_000_000  # of all windows' cells, if they are kept: four of the built-in model's


def cell_frames(model: GenerativeModel, bands: int) -> int:
    """How many frames a cell has."""
    encoding = model.encoding
    most = max(1, CELLS_BYTES // cell_bytes(model, bands))
    wanted = round(CELL_S * encoding.rate_hz / encoding.frame_samples)
    return max(1, wanted, math.ceil(encoding.frames / most))


def cell_bytes(model: GenerativeModel, bands: int) -> int:
    """Bytes of what one cell of a clip contributes, in all bands."""
    assert isinstance(model, ReadoutModel)
    layer: Any = model.network.get_submodule(model.readout().layer)
    features = layer.in_features + (layer.bias is not None)
    return TENSOR_BYTES * bands * model.encoding.latent_channels * int(features)


def may_be_kept(model: GenerativeModel, bands: int, windows: int) -> bool:
    """Whether there is room to keep what all cells of so many windows contribute."""
    cells = math.ceil(model.encoding.frames / cell_frames(model, bands))
    return windows * cells * cell_bytes(model, bands) <= KEPT_BYTES


def in_cells(residual_btc: Tensor, given_btf: Tensor, size: int) -> Tensor:
    """Sums of r phi' over the batch and the frames of each cell, ``[cells, C, F (+ 1)]``; the last may be
    shorter.
    """
    starts = range(0, residual_btc.shape[1], size)
    parts = ((residual_btc[:, at : at + size], given_btf[:, at : at + size]) for at in starts)
    return torch.stack([r.flatten(0, 1).T @ phi.flatten(0, 1) for r, phi in parts])
