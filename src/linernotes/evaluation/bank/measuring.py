"""What became of a model that was trained again: its losses of clips and segments, and its clips made
anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from linernotes.audio import Sound
from linernotes.catalog.store import Catalogue
from linernotes.descriptors import chroma_correlation, level_distance_db
from linernotes.draws import Draws
from linernotes.evaluation.bank.setting import ITEM_DRAWS, Remakable, Setting, remakable
from linernotes.losses import items_of
from linernotes.methods.similarity import latent_statistics
from linernotes.models.contract import GenerativeModel, PredictingModel, device_of

DISTANCES = ("level (dB)", "chroma", "latent")


@dataclass(frozen=True)
class References:
    """What retrained models are held against."""

    catalogue: Catalogue
    sounds: list[Sound]  # of the heard queries
    prediction_qkct: list[Tensor | None]  # of the model that generated the queries


def references_of(setting: Setting) -> References:
    """The catalogue, and what the model itself makes of the clips."""
    model = remakable(setting.model)
    drawn = setting.drawn(model)
    latents = torch.from_numpy(setting.latents_qct)
    heard = [q for q, query in enumerate(setting.queries) if query.heard]
    sounds = [decoded(model, latents[q : q + 1]) for q in heard]
    predictions = [query_pass(model, setting, q, drawn)[1] for q in range(len(setting.queries))]
    return References(Catalogue(setting.catalogue), sounds, predictions)


def measure(setting: Setting, references: References, model: Remakable) -> dict[str, Tensor]:
    """Losses of every query and every segment under a retrained model, and what became of the heard queries
    made again.
    """
    drawn = setting.drawn(model)
    losses, changes = [], []
    for q, reference_kct in enumerate(references.prediction_qkct):
        loss_k, prediction_kct = query_pass(model, setting, q, drawn)
        losses.append(loss_k)
        changes.append(change_of(prediction_kct, reference_kct, loss_k))
    clips, distances = [], []
    codes = model.encoding.codes
    heard = [query for query in setting.queries if query.heard]
    for query, sound in zip(heard, references.sounds, strict=True):
        latents = model.sample(query.prompt, query.seconds, query.seed).cpu()
        clips.append(latents[0])
        original = torch.from_numpy(setting.latents_qct[setting.queries.index(query)])[None]
        distances.append(clip_distances(sound, decoded(model, latents), original, latents, codes))
    few = setting.drawn(model, ITEM_DRAWS)
    return {
        "loss_qk": torch.stack(losses),
        "change_qk": torch.stack(changes),
        "item_loss_n": item_losses(model, references.catalogue, few),
        "clip_hct": torch.stack(clips).half() if clips else torch.zeros(0),
        "contrast": torch.stack(clips).float().std(correction=0) if clips else torch.tensor(torch.nan),
        "distance_hd": torch.tensor(distances).reshape(len(heard), len(DISTANCES)),
    }


def query_pass(
    model: GenerativeModel, setting: Setting, q: int, draws: Draws
) -> tuple[Tensor, Tensor | None]:
    """Loss of each draw ``[K]`` and prediction ``[K, C, T]`` for one query; no prediction of a model that
    predicts no target.
    """
    query, latents_1ct = setting.queries[q], torch.from_numpy(setting.latents_qct[q : q + 1])
    draws = draws.to(device_of(model))
    with torch.inference_mode():
        one = model.items(latents_1ct, model.embed_text([query.prompt]), torch.tensor([query.seconds]))
        items = one.repeat(len(draws))
        if not isinstance(model, PredictingModel):
            return model.loss_bt(items, draws).mean(dim=1).cpu().clone(), None
        prediction = model.prediction(items, draws)
        loss_k = (prediction - model.target(items, draws)).square().mean(dim=(1, 2))
    return loss_k.cpu().clone(), prediction.cpu().clone()


def change_of(prediction_kct: Tensor | None, reference_kct: Tensor | None, loss_k: Tensor) -> Tensor:
    """Mean squared change of a prediction on each draw ``[K]``; nan where nothing is predicted."""
    if prediction_kct is None or reference_kct is None:
        return torch.full_like(loss_k, torch.nan)
    return (prediction_kct - reference_kct).square().mean(dim=(1, 2))


def item_losses(model: GenerativeModel, catalogue: Catalogue, draws: Draws) -> Tensor:
    """Mean loss of every segment over a few draws ``[N]``."""
    losses = []
    draws = draws.to(device_of(model))
    for start in range(0, len(catalogue), 64):
        items = items_of(model, catalogue, np.arange(start, min(start + 64, len(catalogue))))
        with torch.inference_mode():
            every = (draws.of_all(k, len(items)) for k in range(len(draws)))
            per_draw = [model.loss_bt(items, each).mean(dim=1) for each in every]
        losses.append(torch.stack(per_draw).mean(dim=0).cpu())
    return torch.cat(losses)


def decoded(model: GenerativeModel, latents_1ct: Tensor) -> Sound:
    """Latents as sound."""
    return Sound(model.decode(latents_1ct)[0].cpu().numpy(), model.encoding.rate_hz)


def clip_distances(
    one: Sound, other: Sound, one_1ct: Tensor, other_1ct: Tensor, codes: int = 0
) -> list[float]:
    """How far a clip moved, by ``DISTANCES``: level in bands over time (RMS, dB), 1 - correlation of chroma,
    1 - cosine of the latents' mean and deviation (of codes, of how often each stands).
    """
    a, b = latent_statistics(one_1ct.cpu(), codes), latent_statistics(other_1ct.cpu(), codes)
    latent = 1 - float(torch.nn.functional.cosine_similarity(a, b).item())
    return [level_distance_db(one, other), 1 - chroma_correlation(one, other), latent]
