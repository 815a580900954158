"""Whether a model can be asked at all: has it learned its tracks, does it know them better than tracks it
never saw, and could it have made this clip?
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from scipy.stats import t as student

from linernotes.artefacts import read_json, write_json
from linernotes.catalog.store import Catalogue
from linernotes.draws import Draws, random_for
from linernotes.losses import items_of
from linernotes.methods.contract import Prepared, Query, draw
from linernotes.models.contract import GeneratingModel, GenerativeModel, PredictingModel, device_of
from linernotes.models.workers import in_order

FITNESS = "fitness.json"
LOSS_DRAWS = 64  # for the loss of one clip
TRACK_DRAWS = 16  # for losses of many tracks
FRAMES_AT_ONCE = 1 << 12
TRACKS = 128  # of each kind
LEAST_DECOYS = 32  # fewer say nothing
OWN_CLIPS = 8  # clips that the model makes to compare one with
OWN_SEED = 7_000_001
STRANGER = 0.01  # a clip that only so few of the model's own would be further off than is not its own
GAP = 2.0  # standard errors by which tracks must be better known than decoys


@dataclass(frozen=True)
class Fitness:
    """What a model knows of the catalogue it was trained on."""

    # of its tracks, as a share of what predicting nothing costs; None: it predicts nothing
    loss: float | None
    gap: float | None  # decoys' loss over tracks' loss, less 1; None without enough decoys
    gap_error: float | None


def clip_loss(model: GenerativeModel, query: Query, draws: Draws) -> float:
    """The model's own loss of a clip, mean over draws and frames."""
    one, draws = query.items(model), draws.to(device_of(model))
    with torch.inference_mode():
        losses = [model.loss_bt(one.repeat(len(some)), some) for some in _parts(model, draws)]
        return float(torch.cat(losses).double().mean())


def _parts(model: GenerativeModel, draws: Draws) -> Iterator[Draws]:
    """As many draws at a time as have ``FRAMES_AT_ONCE``."""
    size = max(1, FRAMES_AT_ONCE // model.encoding.frames)
    return (draws[start : start + size] for start in range(0, len(draws), size))


def loss_draws(model: GenerativeModel, seed: int) -> Draws:
    """The draws that clips' losses are measured on."""
    return draw(model, LOSS_DRAWS, random_for("clip loss", seed))


def fitness_of(prepared: Prepared) -> Fitness:
    """Measured once for a model and a catalogue, and kept with what else is."""
    path = prepared.folder / FITNESS
    for known in (prepared.shipped and prepared.shipped / FITNESS, path):
        if known and known.exists():
            return Fitness(**read_json(known, "a model's fitness"))
    model, catalogue = prepared.model, prepared.catalogue
    draws = draw(model, TRACK_DRAWS, random_for("fitness", 0)).to(device_of(model))
    split = np.array([catalogue.tracks[track].split for track in catalogue.track_n])
    losses: dict[str, list[float]] = {"train": [], "decoy": []}
    nothing = []
    for kind, found in losses.items():
        rows = np.random.default_rng(0).permutation(np.flatnonzero(split == kind))[:TRACKS]
        for loss, of_nothing in in_order(model, rows, partial(_losses, catalogue=catalogue, draws=draws)):
            found.append(loss)
            nothing += [of_nothing] if kind == "train" and of_nothing is not None else []
    trained, decoys = np.array(losses["train"]), np.array(losses["decoy"])
    gap = error = None
    if len(decoys) >= LEAST_DECOYS:
        gap = float(decoys.mean() / trained.mean() - 1)
        error = float(
            np.sqrt(decoys.var(ddof=1) / len(decoys) + trained.var(ddof=1) / len(trained)) / trained.mean()
        )
    measured = Fitness(float(trained.mean() / np.mean(nothing)) if nothing else None, gap, error)
    write_json(path, asdict(measured))
    return measured


def _losses(
    worker: GenerativeModel, row: int, catalogue: Catalogue, draws: Draws
) -> tuple[float, float | None]:
    """The loss of a segment, and what predicting nothing costs; None of a model that predicts nothing."""
    one = items_of(worker, catalogue, np.array([row]))
    parts = [(one.repeat(len(some)), some) for some in _parts(worker, draws)]
    with torch.inference_mode():
        loss = float(torch.cat([worker.loss_bt(*part) for part in parts]).double().mean())
        if not isinstance(worker, PredictingModel):
            return loss, None
        nothing = torch.cat([worker.target(*part) for part in parts])
        return loss, float(nothing.double().square().mean())


def likely_own(model: GenerativeModel, first: Query, loss: float, draws: Draws) -> float | None:
    """The probability that a clip which the model made from this prompt has a loss as far above the others':
    Student's t of the logarithm of the losses, over clips made for the purpose.

    These are decoded and encoded again, as the clip was. None if the model does not generate here.

    Args:
        first: the clip's first window.
        loss: of the whole clip, on ``draws``.
    """
    if not isinstance(model, GeneratingModel):
        return None
    own = []
    for seed in range(OWN_CLIPS):
        latents = model.sample(first.prompt, first.seconds, OWN_SEED + seed)
        with torch.inference_mode():
            again = model.encode(model.decode(latents))[0].cpu()
        made = Query(first.name, again, first.prompt, first.text_ld, first.seconds, first.heard_t)
        own.append(math.log(clip_loss(model, made, draws)))
    spread = max(float(np.std(own, ddof=1)), 1e-6) * math.sqrt(1 + 1 / len(own))
    return float(student.sf((math.log(loss) - float(np.mean(own))) / spread, len(own) - 1))
