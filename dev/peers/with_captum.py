"""captum's side: TracIn. The library is imported only in the process that runs it."""

from __future__ import annotations

import torch
from plain import Folded, Score, as_items, checkpoints_of, folded_names, loader
from torch import nn
from torch.utils.data import TensorDataset
from world import World

from linernotes.settings.methods import TracinSettings


def captum_tracin(world: World, settings: TracinSettings) -> Score:
    from captum.influence import TracInCP

    losses = as_items(world, settings, lambda _name, layer, whole: Folded(layer, whole))
    losses.requires_grad_(False)
    checkpoints = checkpoints_of(world, losses)

    def load(model: nn.Module, number: int) -> float:
        model.load_state_dict(checkpoints[number][0])
        return checkpoints[number][1]

    # captum takes the last tensor of a row for its label
    def with_label(data: TensorDataset) -> TensorDataset:
        return TensorDataset(*data.tensors, torch.zeros(len(data)))

    items, queries = with_label(world.items(settings)), with_label(world.gradient_queries(settings))
    tracin = TracInCP(
        losses,
        loader(items, settings.batch_size // settings.draws),
        range(len(checkpoints)),
        load,
        loss_fn=nn.L1Loss(reduction="sum"),  # of a loss and a label of zero: the loss
        layers=folded_names(losses),
        sample_wise_grads_per_batch=True,
    )
    return lambda: tracin.influence(loader(queries, 1)).double().numpy()
