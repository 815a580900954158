"""What of a clip is the adapter's, and what the base model's: measured by the clip's loss, since the base
model is at hand, and the tracks it was trained on are not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from linernotes.attribution.fitness import clip_loss, loss_draws
from linernotes.attribution.query import Clip
from linernotes.attribution.result import AdapterPart
from linernotes.draws import Draws
from linernotes.methods.contract import Query
from linernotes.models.adapted import carried, without_adapter
from linernotes.models.contract import GenerativeModel, PredictingModel, device_of
from linernotes.models.weights import using_weights


def adapter_part(clip: Clip, model: GenerativeModel) -> AdapterPart | None:
    """The clip's loss with the adapter, without it, and of predicting nothing, all on the same draws; None
    for a model without an adapter.
    """
    found = carried(model)
    if found is None:
        return None
    draws = loss_draws(model, 0)

    def mean(measure: Callable[[Query], float]) -> float:
        seconds = [window.seconds for window in clip.windows]
        return float(np.average([measure(window) for window in clip.windows], weights=seconds))

    adapted = mean(lambda window: clip_loss(model, window, draws))
    with using_weights(model.network, without_adapter(model)):
        base = mean(lambda window: clip_loss(model, window, draws))
    nothing = None
    if isinstance(model, PredictingModel):
        predicting = model
        nothing = mean(lambda window: _nothing(predicting, window, draws))
    return AdapterPart(
        base=found.base.name,
        base_hash=found.base.weights_hash,
        loss=adapted,
        base_loss=base,
        nothing=nothing,
        share=share_of(adapted, base, nothing),
    )


def _nothing(model: PredictingModel, window: Query, draws: Draws) -> float:
    """The clip's loss if the model predicted 0."""
    draws = draws.to(device_of(model))
    with torch.inference_mode():
        return float(model.target(window.items(model, len(draws)), draws).double().square().mean())


def share_of(adapted: float, base: float, nothing: float | None) -> float | None:
    """The adapter's share of what the adapted model saves (``AdapterPart``), from the clip's losses; None
    where it saves nothing.
    """
    if nothing is None or nothing <= adapted:
        return None
    return min(1.0, max(0.0, (base - adapted) / (nothing - adapted)))


def said_of(part: AdapterPart, name: str) -> str:
    """The same in one sentence."""
    losses = f"its loss is {part.loss:.3g} with it and {part.base_loss:.3g} without"
    if part.share is None:
        return (
            f"The adapter {name} changes the model {part.base}: of this clip {losses}. Tracks share in the "
            "adapter's part alone, and the base model's own training tracks are not asked."
        )
    return (
        f"Of what the model knows of this clip, {part.share:.0%} came with the adapter {name} ({losses}, and "
        f"{part.nothing:.3g} knowing nothing). Tracks share in that part alone; the rest is of the base "
        f"model {part.base}, whose own training tracks are not asked."
    )
