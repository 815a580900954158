"""Runs a model on other weights without copying it: only the tensors that differ exist twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from linernotes.artefacts import hash_arrays

ChangedWeights = Mapping[str, Tensor]  # by parameter name in the denoiser; empty = the base weights


@contextmanager
def using_weights(module: nn.Module, changed: ChangedWeights) -> Iterator[None]:
    """Within the context, ``module`` has the ``changed`` tensors in the place of its own."""
    own = dict(module.named_parameters())
    kept = {name: own[name].data for name in changed}
    try:
        for name, tensor in changed.items():
            own[name].data = tensor
        yield
    finally:
        for name, tensor in kept.items():
            own[name].data = tensor


@contextmanager
def with_gradients(parameters: Collection[nn.Parameter]) -> Iterator[None]:
    """Within the context, these parameters take gradients."""
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def hash_weights(changed: ChangedWeights) -> str:
    """Identifies changed weights; the base weights hash to ``base``."""
    return (
        hash_arrays({name: tensor.detach().cpu().numpy() for name, tensor in changed.items()})
        if changed
        else "base"
    )


def all_finite(changed: ChangedWeights) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in changed.values())
