"""The model as the peers see it: a plain module from items with their draws to a loss each, over ordinary
data loaders.

Its linear layers can be replaced, by ones that show a hook all draws of an item at once or that project
gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from world import World

from linernotes.curvature.per_item import matrix_layers, with_ones
from linernotes.draws import Batch, Draws
from linernotes.models.checkpoints import read_checkpoints
from linernotes.models.stable_audio import StableAudio

Score = Callable[[], np.ndarray]  # one whole run: scores_qn [queries, items]


class ItemLosses(nn.Module):
    """Items with their draws -> each item's mean loss, ``[N]``: an ordinary model of ordinary items."""

    def __init__(self, model: StableAudio) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.network)
        self.around = copy.copy(model)
        self.around.network = self.network
        self.items = 0

    def forward(
        self, latents_nct: Tensor, tokens_nld: Tensor, summary_nld: Tensor, t_nk: Tensor, eps_nkct: Tensor
    ) -> Tensor:
        self.items, draws = t_nk.shape
        own = {"latents": latents_nct, "tokens": tokens_nld, "summary": summary_nld}
        items = Batch({name: x.repeat_interleave(draws, dim=0) for name, x in own.items()})
        loss_bt = self.around.loss_bt(items, Draws({"t": t_nk.flatten(), "eps": eps_nkct.flatten(0, 1)}))
        return loss_bt.view(self.items, -1).mean(dim=1)


class Folded(nn.Module):
    """A linear layer that is shown all draws of an item as one sequence.

    Libraries that hook layers take the first axis for the items; without this they would see each draw as an
    item.
    """

    def __init__(self, linear: nn.Linear, losses: ItemLosses) -> None:
        super().__init__()
        self.linear = linear
        self.losses = [losses]  # in a list, lest it become a submodule of its own submodule

    def forward(self, given: Tensor) -> Tensor:
        folded = given.reshape(self.losses[0].items, -1, given.shape[-1])
        return self.linear(folded).view(*given.shape[:-1], -1)


class Adapted(nn.Module):
    """A linear layer and a zero ``theta`` between two projections: its gradient is the projected gradient of
    the layer.
    """

    def __init__(self, linear: nn.Linear, in_ir: Tensor, out_or: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.theta = nn.Parameter(torch.zeros(out_or.shape[1], in_ir.shape[1]))
        self.register_buffer("in_ir", in_ir)
        self.register_buffer("out_or", out_or)

    def forward(self, given: Tensor) -> Tensor:
        return self.linear(given) + with_ones(self.linear, given) @ self.in_ir @ self.theta.T @ self.out_or.T


def as_items(
    world: World, settings: Any, replace: Callable[[str, nn.Linear, ItemLosses], nn.Module] | None = None
) -> ItemLosses:
    """The model as a plain module, its chosen linear layers replaced."""
    losses = ItemLosses(world.model)
    if replace:
        for name, layer in matrix_layers(losses.network, world.model.layers(settings.layers).keys()).items():
            losses.network.set_submodule(name, replace(name, layer, losses))
    return losses


def folded_names(losses: ItemLosses) -> list[str]:
    return [f"{name}.linear" for name, module in losses.named_modules() if isinstance(module, Folded)]


def loader(data: TensorDataset, size: int) -> DataLoader:
    return DataLoader(data, batch_size=size)


def checkpoints_of(world: World, losses: ItemLosses) -> list[tuple[dict[str, Tensor], float]]:
    """What TracIn adds up: the kept checkpoints with their learning rates."""
    own = losses.state_dict()
    plain = {name: name.removeprefix("network.").replace(".linear.", ".") for name in own}
    return [
        ({name: weights.get(plain[name], own[name].clone()) for name in own}, rate)
        for weights, rate in read_checkpoints(world.model_folder)
    ]
