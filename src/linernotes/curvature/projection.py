"""Item gradients projected on both sides of each linear layer: a few thousand numbers an item instead of
millions.

LoGra (Choe et al. 2024, 2405.13954, sec. 3.1): with fixed random P_in [in, r] and P_out [out, r], an item's
gradient sum_t g_t a_t' of a layer becomes sum_t (P_out' g_t)(P_in' a_t)', [r, r]; the full gradient is never
formed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from linernotes.curvature.per_item import (
    Measured,
    matrix_layers,
    observe_items,
    per_item,
    sides,
    with_ones,
)
from linernotes.draws import Batch, Draws, random_for
from linernotes.errors import LinernotesError
from linernotes.models.contract import GenerativeModel


@dataclass(frozen=True)
class Projection:
    """Gaussian projections ``in_ir`` and ``out_or`` for each linear layer, by its name; inner products are
    kept on average.
    """

    in_ir: dict[str, Tensor]
    out_or: dict[str, Tensor]
    rank: int

    @property
    def dimensions(self) -> int:
        return len(self.in_ir) * self.rank**2


def draw_projection(module: nn.Module, names: Iterable[str], rank: int, seed: int) -> Projection:
    """Projections of the linear layers whose weight is among ``names``; each layer's depends on ``seed`` and
    its name alone.

    Raises:
        LinernotesError: there is no linear layer among them.
    """
    layers = matrix_layers(module, set(names))
    if not layers:
        raise LinernotesError("there is no linear layer among these: choose other --layers")
    drawn_sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, layer in layers.items():
        for side, n, which in zip(drawn_sides, sides(layer), ("in", "out"), strict=True):
            drawn = torch.randn(n, rank, generator=random_for(f"projection {which} {name}", seed))
            side[name] = (drawn / rank**0.5).to(layer.weight.device)
    return Projection(*drawn_sides, rank)


def projected_gradients(
    model: GenerativeModel, projection: Projection, measured: Measured, each: int, items: Batch, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Projected gradients of the mean of ``measured`` over the passes of an item, ``each`` in number and one
    after the other, and ``measured_b`` itself.

    Returns:
        ``gradient_ip`` [B / each, P] and ``measured_b`` [B].
    """
    blocks: dict[str, Tensor] = {}

    def see(name: str, layer: nn.Module, given: Tensor, gradient: Tensor) -> None:
        a_itr = per_item(with_ones(layer, given) @ projection.in_ir[name], each)
        g_itr = per_item(gradient @ projection.out_or[name], each)
        blocks[name] = torch.bmm(g_itr.transpose(1, 2), a_itr).flatten(1) / each

    names = [f"{name}.weight" for name in projection.in_ir]
    measured_b = observe_items(model, names, see, measured, items, draws)
    return torch.cat([blocks[name] for name in projection.in_ir], dim=1), measured_b
