"""One attribution put to the test: train again without the tracks it names first, and without as many random
ones, and make the clip again from the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from linernotes.artefacts import hash_arrays
from linernotes.attribution.result import Attribution, TrackScore
from linernotes.audio import Sound
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.measuring import DISTANCES, decoded, query_pass
from linernotes.evaluation.bank.retraining import read_retrain, run_retrains
from linernotes.evaluation.bank.setting import BankQuery, Retrain, Setting, remakable
from linernotes.evaluation.bank.store import recipe_of
from linernotes.jobs.executor import Executor
from linernotes.methods.contract import Progress
from linernotes.models.contract import GenerativeModel

DRAWS = 64
FIRST, RANDOM = "first", "random"
VERIFY_SEED = 31


@dataclass(frozen=True)
class Remade:
    """The clip as a model makes it that never saw some tracks."""

    arm: str  # first or random
    seed: int
    left_out: list[str]  # track ids
    loss: float  # of the original clip under this model
    distances: dict[str, float]  # to the original clip
    sound: Sound


@dataclass(frozen=True)
class Verification:
    """The original clip, its loss under the model that made it, and the clip remade."""

    sound: Sound
    loss: float
    left_out: int
    remade: list[Remade]

    def mean_loss(self, arm: str) -> float:
        return float(np.mean([r.loss for r in self.remade if r.arm == arm]))

    def mean_distance(self, arm: str, distance: str) -> float:
        return float(np.mean([r.distances[distance] for r in self.remade if r.arm == arm]))


def generated_query(path: Path, read: Attribution, model: GenerativeModel, catalogue: Catalogue) -> BankQuery:
    """The clip of the attribution at ``path``, as the model made it.

    Raises:
        LinernotesError: the attribution is of another model or catalogue, or of a clip that no model
            generated.
    """
    if read.model_hash != model.weights_hash:
        raise LinernotesError(
            f"{path} was made with the model {read.model}, not with {model.name}: give that one with --model"
        )
    if read.catalogue_hash != catalogue.hash:
        raise LinernotesError(
            f"{path} was made with another catalogue than {catalogue.path}: give that one with --catalog"
        )
    made, query = read.query.generated, read.query
    if made is None:
        raise LinernotesError(
            f"{path} is not of one clip that the model generated, so it cannot be made again"
        )
    return BankQuery(
        name=query.name,
        prompt=query.prompt,
        seconds=query.seconds,
        seed=int(made["seed"]),
        kind="clip",
        split="reporting",
        heard=True,
    )


def first_tracks(path: Path, read: Attribution, k: int) -> list[TrackScore]:
    """The first ``k`` training tracks of the attribution at ``path``, or all of a smaller catalogue.

    Raises:
        UsageError: its record holds fewer.
    """
    first = read.first_trained(k)
    if len(first) < min(k, read.training_tracks):
        raise UsageError(f"--k {k} is too many: {path} names the first {len(first)} training tracks")
    return first


def verify_clip(
    model_folder: Path,
    catalogue: Path,
    query: BankQuery,
    first: list[str],
    repeats: int,
    folder: Path,
    on_progress: Progress | None = None,
    executor: Executor | None = None,
) -> Verification:
    """Trains 2 x ``repeats`` models and makes the clip again under each; a killed run goes on.

    Args:
        query: the clip, as the model in ``model_folder`` generated it.
        first: ids of the training tracks that are left out.

    Raises:
        UsageError: none, or too many tracks are to be left out.
        LinernotesError: a track is not in the catalogue, or the model does not say how it was trained.
    """
    opened = Catalogue(catalogue)
    trained = [track.track_id for track in opened.tracks if track.trained]
    place = {name: i for i, name in enumerate(trained)}
    if missing := [name for name in first if name not in place]:
        raise LinernotesError(
            f"{missing[0]} is no training track of {catalogue}: give the catalogue of the attribution"
        )
    if not 1 <= len(first) <= len(trained) // 2:
        raise UsageError(
            f"{len(first)} of {len(trained)} tracks cannot be left out: choose --k from 1 to "
            f"{len(trained) // 2}"
        )
    model = remakable(model_folder)
    latents = model.sample(query.prompt, query.seconds, query.seed).cpu()
    setting = Setting(
        model=model_folder,
        catalogue=catalogue,
        training=recipe_of(model_folder),
        queries=[replace(query, heard=True)],
        latents_qct=latents.numpy(),
        draws=DRAWS,
        noise_seed=VERIFY_SEED,
    )
    arms = []
    for i in range(repeats):
        draw = np.random.default_rng([VERIFY_SEED, abs(query.seed), i]).permutation(len(trained))[
            : len(first)
        ]
        for arm, left_out in ((FIRST, [place[name] for name in first]), (RANDOM, draw.tolist())):
            present = np.ones(len(trained), dtype=bool)
            present[left_out] = False
            code = hash_arrays({"present": present})[:8]
            arms.append(Retrain(f"{arm}-{i}-{code}", arm, present, VERIFY_SEED + 2 * i + (arm == RANDOM)))
    run_retrains(setting, arms, folder, on_progress, executor)

    def cut(sound: Sound) -> Sound:
        return Sound(sound.samples[:, : round(query.seconds * sound.rate_hz)], sound.rate_hz)

    header = setting.header()
    remade = []
    for retrain in arms:
        found, _ = read_retrain(folder, retrain, header)
        distances = dict(zip(DISTANCES, found["distance_hd"][0].tolist(), strict=True))
        absent = [trained[i] for i in np.flatnonzero(~retrain.present_n)]
        sound = cut(decoded(model, found["clip_hct"].float()))
        remade.append(
            Remade(
                arm=retrain.kind,
                seed=retrain.seed,
                left_out=absent,
                loss=float(found["loss_qk"].mean()),
                distances=distances,
                sound=sound,
            )
        )
    with torch.inference_mode():
        loss = float(query_pass(model, setting, 0, setting.drawn(model))[0].mean())
    return Verification(cut(decoded(model, latents)), loss, len(first), remade)
