"""What all models have in common that are trained by squared error on a path from a latent to noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from linernotes.draws import Batch, Draws, Levels
from linernotes.models.contract import PredictingModel
from linernotes.models.encoding import Encoding
from linernotes.models.objectives import Objective


def draw_times(
    objective: Objective,
    encoding: Encoding,
    count: int,
    generator: torch.Generator,
    levels: Levels,
    order: Tensor | None,
) -> Draws:
    """Times in (0, 1), one in each part of the levels that training drew equally often, and white noise."""
    t_k = objective.times(count, generator, levels)
    return Draws({"t": t_k if order is None else t_k[order], "eps": white_noise(encoding, count, generator)})


def white_noise(encoding: Encoding, count: int, generator: torch.Generator) -> Tensor:
    """Noise of the size of latents, ``[count, C, T]``."""
    return torch.randn(count, encoding.latent_channels, encoding.frames, generator=generator)


def squared_loss_bt(model: PredictingModel, items: Batch, draws: Draws) -> Tensor:
    """The squared error of the prediction, mean over channels, ``[B, T]``."""
    return (model.prediction(items, draws) - model.target(items, draws)).square().mean(dim=1)


def sampled_error_b(prediction_bct: Tensor, noise_bct: Tensor) -> Tensor:
    """The squared error's curvature in D numbers of output is 2 / D: targets lie around the output in white
    noise, whose gradient at the output is sqrt(2 / D) times white noise.
    """
    direction_bct = noise_bct * math.sqrt(2 / noise_bct[0].numel())
    return (prediction_bct * direction_bct).sum(dim=(1, 2))
