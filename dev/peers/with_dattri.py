"""dattri's sides: TRAK with linernotes' projections and with its own, and TracIn. The library is imported
only in the process that runs it. Where the projections differ, TRAK on whole gradients says which of the two
comes nearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import Adapted, ItemLosses, Score, as_items, checkpoints_of, loader
from torch import Tensor
from torch.func import functional_call
from world import World

from linernotes.curvature.per_item import item_loss_b, matrix_layers
from linernotes.curvature.projection import Projection, draw_projection, projected_gradients
from linernotes.draws import random_for
from linernotes.losses import items_of
from linernotes.methods import projected
from linernotes.methods.items import whole_items
from linernotes.settings.methods import TracinSettings, TrakSettings

DATTRI_ITEMS = 48  # in a batch of dattri's: 4 take less memory but up to five times as long, 96 more of both


def dattri_task(losses: ItemLosses, checkpoints: list[dict[str, Tensor]]) -> Any:
    from dattri.task import AttributionTask

    def item_loss(parameters: dict[str, Tensor], item: Sequence[Tensor]) -> Tensor:
        return functional_call(losses, parameters, tuple(x[None] for x in item))[0]

    return AttributionTask(item_loss, losses, checkpoints)


def dattri_trak(
    losses: ItemLosses, world: World, settings: TrakSettings, projector: dict[str, Any], ridge: float
) -> Score:
    """dattri divides gradients by the root of the number of parameters; ``ridge`` counts before that."""
    from dattri.algorithm.trak import TRAKAttributor

    items = world.items(settings)
    queries = world.queries_with(
        world.model.draw(settings.gradient_draws, random_for("projected query", settings.seed))
    )
    parameters = sum(p.numel() for p in losses.parameters() if p.requires_grad)

    def run() -> np.ndarray:
        attributor = TRAKAttributor(
            dattri_task(losses, [losses.state_dict()]),
            correct_probability_func=lambda _parameters, item: 0.0 * item[3].sum(),  # Q = 1: not a classifier
            projector_kwargs=projector,
            regularization=ridge / parameters,
        )
        attributor.cache(loader(items, DATTRI_ITEMS))
        with torch.no_grad():
            return attributor.attribute(loader(queries, world.extent.queries)).T.double().numpy()

    return run


def dattri_trak_same(world: World, settings: TrakSettings) -> Score:
    """With linernotes' projections, built into the model as adapters, and dattri's own left out."""
    projection = own_projection(world, settings)
    losses = as_items(
        world,
        settings,
        lambda name, layer, _: Adapted(layer, projection.in_ir[name], projection.out_or[name]),
    )
    for name, parameter in losses.named_parameters():
        parameter.requires_grad_(name.endswith(".theta"))
    return dattri_trak(
        losses, world, settings, {"proj_type": "identity"}, ridge_of(world, settings, projection)
    )


def dattri_trak_own(world: World, settings: TrakSettings) -> Score:
    """With dattri's own dense projection of the same layers' gradients, to as many dimensions."""
    losses = as_items(world, settings)
    names = {
        f"network.{n}" for n in matrix_layers(losses.network, world.model.layers(settings.layers).keys())
    }
    for name, parameter in losses.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[0] in names)
    projection = own_projection(world, settings)
    projector = {"proj_type": "normal", "proj_dim": projection.dimensions}
    return dattri_trak(losses, world, settings, projector, ridge_of(world, settings, projection))


def own_projection(world: World, settings: TrakSettings) -> Projection:
    return draw_projection(
        world.model.network, world.model.layers(settings.layers), settings.projection, settings.seed
    )


def ridge_of(world: World, settings: TrakSettings, projection: Projection) -> float:
    """The damping that linernotes uses, as a number: a multiple of the Gram matrix's mean eigenvalue."""
    phi_np = features(world, settings, projection)
    return settings.damping * float(phi_np.square().sum()) / projection.dimensions


def features(world: World, settings: TrakSettings, projection: Projection) -> Tensor:
    bank = world.prepared(Path()).draws(settings.draws, settings.seed)
    pairs = whole_items(
        world.model,
        items_of(world.model, world.catalogue, np.arange(world.extent.items)),
        bank,
        settings.batch_size,
    )
    parts = [
        projected_gradients(world.model, projection, item_loss_b, settings.draws, *some)[0] for some in pairs
    ]
    return torch.cat(parts).double()


def trak_unprojected(world: World, settings: TrakSettings) -> np.ndarray:
    """TRAK on whole gradients with the same ridge: phi(q)' Phi' (Phi Phi' + lambda)^-1, of the items'
    size.
    """
    layers = matrix_layers(world.model.network, world.model.layers(settings.layers).keys())
    whole = Projection(
        {name: torch.eye(layer.in_features + (layer.bias is not None)) for name, layer in layers.items()},
        {name: torch.eye(layer.out_features) for name, layer in layers.items()},
        rank=0,
    )
    prepared = world.prepared(Path())
    many = world.model.draw(settings.gradient_draws, random_for("projected query", settings.seed))
    phi_qp = torch.cat(
        [projected._query_features(prepared, q, whole, item_loss_b, many) for q in world.queries]
    ).double()
    phi_np = features(world, settings, whole)
    gram_nn = phi_np @ phi_np.T
    gram_nn.diagonal().add_(ridge_of(world, settings, own_projection(world, settings)))
    return torch.linalg.solve(gram_nn, phi_np @ phi_qp.T).T.numpy()


def dattri_tracin(world: World, settings: TracinSettings) -> Score:
    from dattri.algorithm.tracin import TracInAttributor

    losses = as_items(world, settings)
    chosen = world.model.layers(settings.layers).keys()
    for name, parameter in losses.named_parameters():
        parameter.requires_grad_(name.removeprefix("network.") in chosen)
    checkpoints = checkpoints_of(world, losses)
    items, queries = world.items(settings), world.gradient_queries(settings)

    def run() -> np.ndarray:
        attributor = TracInAttributor(
            dattri_task(losses, [weights for weights, _ in checkpoints]),
            weight_list=torch.tensor([rate for _, rate in checkpoints]),
            normalized_grad=False,
            projector_kwargs={"proj_type": "identity"},  # given none, it projects to 512 dimensions
        )
        # dattri differentiates all queries anew for every batch of items
        return (
            attributor.attribute(loader(items, DATTRI_ITEMS), loader(queries, world.extent.queries))
            .T.double()
            .numpy()
        )

    return run
