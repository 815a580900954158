"""Adapters: low-rank changes of some linear layers of a model whose own weights stay as they are.

LoRA (Hu et al. 2021, 2106.09685, eq. 3): y = W x + s B A x. DoRA (Liu et al. 2024, 2402.09353, eq. 5): the
rows of W + s B A are brought to the lengths m, y = m (W + s B A) x / |W + s B A|, and the lengths that they
have are taken as given when gradients are formed (sec. 4.3 there). With an XS core (Balazy et al. 2024,
2405.17604) s B C A stands for s B A, and C alone was trained.

Layers are linear, or convolutions of width 1, which are the same at every position. A and B are
``nn.Linear`` of their own inside the layer that they change, each called once in a pass, so that
item gradients and curvature see them as they see any layer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.draws import random_for

DOWN, UP, CORE, LENGTHS = "lora_A", "lora_B", "lora_core", "lora_magnitude_vector"


class Scale(nn.Module):
    """Multiplies each feature by a weight of its own."""

    def __init__(self, weight_o: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_o)

    def forward(self, given: Tensor) -> Tensor:
        return self.weight * given


@dataclass(frozen=True)
class LowRank:
    """The change of one layer."""

    down_ri: Tensor  # A
    up_or: Tensor  # B
    scale: float  # s
    lengths_o: Tensor | None = None  # m, for DoRA
    core_rr: Tensor | None = None  # C, where A and B were not trained

    @property
    def change_oi(self) -> Tensor:
        """s B A, or s B C A."""
        down_ri = self.down_ri if self.core_rr is None else self.core_rr @ self.down_ri
        return self.scale * (self.up_or @ down_ri)

    def to(self, device: torch.device) -> LowRank:
        """The same on a device."""
        parts = {
            "down_ri": self.down_ri,
            "up_or": self.up_or,
            "lengths_o": self.lengths_o,
            "core_rr": self.core_rr,
        }
        placed: dict[str, Any] = {n: t if t is None else t.to(device) for n, t in parts.items()}
        return replace(self, **placed)

    def merged(self, weight: Tensor) -> Tensor:
        """The weight of the layer that does by itself what layer and change do together."""
        moved_oi = weight.flatten(1) + self.change_oi
        if self.lengths_o is not None:
            moved_oi = (self.lengths_o / row_lengths(moved_oi))[:, None] * moved_oi
        return moved_oi.reshape(weight.shape)


Adapter = dict[str, LowRank]  # by the name of the layer in the network


def row_lengths(weight_oi: Tensor) -> Tensor:
    """The lengths of a matrix's rows, ``[out]``."""
    return weight_oi.norm(dim=1)


def new_adapter(layers: Mapping[str, nn.Linear], rank: int, dora: bool, seed: int) -> Adapter:
    """An adapter that changes nothing yet: B is 0, A random by the seed and the layer's name, s is 1."""
    adapter = {}
    for name, layer in layers.items():
        weight_oi = layer.weight.detach()
        bound = 1 / math.sqrt(weight_oi.shape[1])  # as nn.Linear's own, and PEFT's
        drawn_ri = torch.rand(rank, weight_oi.shape[1], generator=random_for(f"adapter {name}", seed))
        adapter[name] = LowRank(
            down_ri=((2 * drawn_ri - 1) * bound).to(weight_oi.device),
            up_or=torch.zeros(len(weight_oi), rank, device=weight_oi.device),
            scale=1.0,
            lengths_o=row_lengths(weight_oi) if dora else None,
        )
    return adapter


def attach(network: nn.Module, adapter: Adapter) -> None:
    """Puts an adapter into the layers of a network, which must fit; their own names and weights stay."""
    for name, low in adapter.items():
        layer: Any = network.get_submodule(name)
        layer.add_module(DOWN, _linear(low.down_ri))
        if low.core_rr is not None:
            layer.add_module(CORE, _linear(low.core_rr))
        layer.add_module(UP, _linear(low.up_or))
        if low.lengths_o is not None:
            layer.add_module(LENGTHS, Scale(low.lengths_o.clone()))
        layer.lora_scale = low.scale
        layer.register_forward_hook(_adapted)
    network.requires_grad_(False)


def detached(network: nn.Module, names: Collection[str]) -> Adapter:
    """The adapter that these layers of a network carry now."""
    found = {}
    for name in names:
        layer: Any = network.get_submodule(name)
        parts = {n: part.weight.detach() for n, part in layer.named_children()}
        found[name] = LowRank(parts[DOWN], parts[UP], layer.lora_scale, parts.get(LENGTHS), parts.get(CORE))
    return found


def trained_names(adapter: Adapter) -> list[str]:
    """The parameters of an adapter that its training moves, by their names in the network."""
    names = []
    for name, low in adapter.items():
        parts = [DOWN, UP] if low.core_rr is None else [CORE]
        parts += [LENGTHS] if low.lengths_o is not None else []
        names += [f"{name}.{part}.weight" for part in parts]
    return names


def hash_adapter(adapter: Adapter) -> str:
    """Identifies an adapter by what it does, however its file is laid out."""
    tensors: dict[str, np.ndarray] = {}
    for name, low in adapter.items():
        parts = {DOWN: low.down_ri, UP: low.up_or, CORE: low.core_rr, LENGTHS: low.lengths_o}
        tensors |= {f"{name}.{part}": t.cpu().numpy() for part, t in parts.items() if t is not None}
    return hash_json([hash_arrays(tensors), {name: low.scale for name, low in adapter.items()}])


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.clone())
    return layer


def _adapted(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """A forward hook: what the layer returns with its adapter.

    Written as a sum to the layer's own output, so that an adapter that changes nothing changes no bit.
    """
    parts = dict(layer.named_children())
    if isinstance(layer, nn.Conv1d):
        return _changed(layer, parts, inputs[0].transpose(1, 2), output.transpose(1, 2)).transpose(1, 2)
    return _changed(layer, parts, inputs[0], output)


def _changed(layer: Any, parts: dict[str, Any], given: Tensor, output: Tensor) -> Tensor:
    """The same, features last."""
    low = parts[DOWN](given)
    if CORE in parts:
        low = parts[CORE](low)
    change: Tensor = layer.lora_scale * parts[UP](low)
    if LENGTHS not in parts:
        return output + change
    with torch.no_grad():
        down, core = parts[DOWN].weight, parts.get(CORE)
        carried = LowRank(down, parts[UP].weight, layer.lora_scale, core_rr=core.weight if core else None)
        lengths_o = row_lengths(layer.weight.flatten(1) + carried.change_oi)
    own = output if layer.bias is None else output - layer.bias
    direction = (own + change) / lengths_o
    return output + change + (parts[LENGTHS](direction) - lengths_o * direction)
