"""The gradient of a query's loss, over many draws and the frames that are heard."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from linernotes.draws import WHOLE, Band, Draws, levels_of, random_for
from linernotes.errors import LinernotesError
from linernotes.methods.contract import Query, draw
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.models.weights import ChangedWeights, using_weights, with_gradients
from linernotes.models.workers import in_order
from linernotes.settings.methods import ProductSettings, UnlearningSettings

Gradient = dict[str, Tensor]  # by parameter name
LEAST_PIECES = 8


def query_draws(
    model: GenerativeModel,
    settings: UnlearningSettings | ProductSettings,
    band: Band = WHOLE,
    number: int = 0,
) -> Draws:
    """The query's draws in a band of noise levels: the band's share of them, and other ones in each of
    ``number`` steps.
    """
    name = "unlearning" if band == WHOLE else f"unlearning, band {band[0]} of {band[1]}"
    return draw(
        model,
        max(1, settings.gradient_draws // band[1]),
        random_for(name, settings.seed, number),
        levels_of(band),
    )


def query_gradient(
    model: GenerativeModel,
    query: Query,
    changed: ChangedWeights,
    draws: Draws,
    mask_silence: bool,
    batch_size: int,
    on_draws: Callable[[int, int], None] | None = None,
) -> Gradient:
    """Gradient of the query's loss with respect to the ``changed`` weights, mean over draws and heard
    frames.
    """
    device = device_of(model)
    weight_t = heard_weights(query, mask_silence).to(device)
    item = query.items(model)
    # few draws are a few pieces all the same, for cores to share; as many on every machine, so that the sum
    # is the same
    size = min(batch_size, math.ceil(len(draws) / LEAST_PIECES)) if device.type == "cpu" else batch_size
    jobs = (draws[start : start + size].to(device) for start in range(0, len(draws), size))

    def gradient_of(worker: GenerativeModel, some: Draws) -> tuple[Gradient, int]:
        parameters = {name: p for name, p in worker.network.named_parameters() if name in changed}
        with using_weights(worker.network, changed), with_gradients(list(parameters.values())):
            loss_bt = worker.loss_bt(item.repeat(len(some)), some)
            gradients = torch.autograd.grad(
                (loss_bt * weight_t).sum() / len(draws), list(parameters.values())
            )
        return dict(zip(parameters, gradients, strict=True)), len(some)

    total = {name: torch.zeros_like(p) for name, p in changed.items()}
    done = 0
    for gradients, count in in_order(model, jobs, gradient_of):
        for name, gradient in gradients.items():
            total[name] += gradient
        done += count
        if on_draws:
            on_draws(done, len(draws))
    return total


def heard_weights(query: Query, mask_silence: bool) -> Tensor:
    """How much each frame of the query counts, ``[T]``, summing to 1.

    Raises:
        LinernotesError: silence is masked, and there is nothing else.
    """
    frames_t = query.heard_t if mask_silence else torch.ones_like(query.heard_t)
    if not bool(frames_t.any()):
        raise LinernotesError(
            f"{query.name} is silent throughout: give a clip with sound in it, or --no-mask-silence"
        )
    return frames_t / frames_t.sum()
