"""Generates by following a model's path from noise down to a latent."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from linernotes.models.contract import OnStep
from linernotes.models.objectives import Objective


def descend(
    predict: Callable[[Tensor, Tensor], Tensor],
    start_bct: Tensor,
    objective: Objective,
    steps: int,
    fresh: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents ``[B, C, T]`` from noise: at each time the prediction says which latent and which noise there
    would be, and these are mixed for the next time. On a flow's path that is Euler's method, on the cosine
    path DDIM (Song et al. 2021, eq. 12 without noise).

    Args:
        predict: (noisy latents ``[B, C, T]``, times ``[B]``) -> what the network predicts.
        fresh: draws new noise at each step in place of the predicted one, as models distilled to a few steps
            want it; None keeps the predicted one.
    """
    schedule = objective.schedule(steps).to(start_bct.device)
    noisy_bct = start_bct
    with torch.inference_mode():
        for done, (t, after) in enumerate(pairwise(schedule), start=1):
            t_b, after_b = t.expand(len(start_bct)), after.expand(len(start_bct))
            clean_bct, eps_bct = objective.ends(noisy_bct, predict(noisy_bct, t_b), t_b)
            if fresh is not None:
                eps_bct = torch.randn(start_bct.shape, generator=fresh).to(start_bct)
            noisy_bct = objective.noised(clean_bct, eps_bct, after_b)
            if on_step:
                on_step(done, steps)
    return noisy_bct.clone()
