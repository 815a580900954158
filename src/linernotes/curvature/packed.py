"""A curvature in a quarter of its size, for the one that the package ships: correlations in 16 bits, half of
them, since it is symmetric, and the diagonal.

A correlation is off by at most 2^-16, so the matrix is by far less than its damping.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linernotes.artefacts import load_tensors, save_tensors

KIND = "curvature of the read-out, packed"
STEPS = (1 << 15) - 1


def save_packed(path: Path, curvature_bff: Tensor, header: dict[str, Any]) -> None:
    """Writes symmetric matrices ``[bands, F, F]`` with positive diagonals."""
    diagonal_bf = curvature_bff.diagonal(dim1=1, dim2=2).double()
    scale_bf = diagonal_bf.sqrt()
    correlation_bff = curvature_bff.double() / scale_bf[:, :, None] / scale_bf[:, None, :]
    width = curvature_bff.shape[1]
    below = torch.tril_indices(width, width, offset=-1)
    packed = (correlation_bff[:, below[0], below[1]] * STEPS).round().to(torch.int16)
    save_tensors(path, {"diagonal": diagonal_bf.float(), "correlations": packed}, KIND, header)


def load_packed(path: Path, header: dict[str, Any]) -> Tensor:
    """Reads them again.

    Raises:
        LinernotesError: missing, damaged, or made from something else than ``header`` says.
    """
    tensors = load_tensors(path, KIND, header)[0]
    diagonal_bf = tensors["diagonal"].double()
    bands, width = diagonal_bf.shape
    below = torch.tril_indices(width, width, offset=-1)
    half_bff = torch.zeros(bands, width, width, dtype=torch.float64)
    half_bff[:, below[0], below[1]] = tensors["correlations"].double() / STEPS
    scale_bf = diagonal_bf.sqrt()
    whole_bff = (half_bff + half_bff.mT + torch.eye(width)) * scale_bf[:, :, None] * scale_bf[:, None, :]
    return whole_bff.float()
