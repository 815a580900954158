"""Puts credits to the test for whoever does not trust them: trains the model again on random halves of its
catalogue, by its own recipe, and holds each clip's loss under them against what its named tracks are said to
do.

A half lacks some of a clip's named tracks, and the sum of their expected effects is by how much the clip's
loss should be higher. Nothing of the bank that calibrated the effects is used.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

from linernotes.artefacts import hash_json
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.retraining import at_once, read_retrain, run_retrains
from linernotes.evaluation.bank.setting import ITEM_DRAWS, BankQuery, Setting
from linernotes.evaluation.bank.store import LEAST_MODELS, plan_retrains, recipe_of
from linernotes.evaluation.intervals import Interval, Resamples, bootstrap_correlations, interval
from linernotes.jobs.executor import Executor
from linernotes.methods.contract import Progress, Query
from linernotes.models.starts import write_untrained_copy
from linernotes.models.training import train

DRAWS = 64
SEED = 41_000  # of halves, training and noise: others than any bank's own
SHUFFLES = 1999
CHANCE = 0.05
LONGEST_S = 24 * 3600.0
TIMED_STEPS = 4
FORWARD = 1 / 3  # of a training step, a pass forward


@dataclass(frozen=True)
class Claim:
    """What an attribution says of a clip."""

    name: str
    prompt: str
    windows: list[Query]
    effects: dict[str, float]  # expected effects of the named tracks, by their identifiers
    loss: float  # of the clip under the model, which effects are shares of


@dataclass(frozen=True)
class Challenge:
    """What became of claims under models that were trained again."""

    halves: int
    clips: int
    correlation: Interval  # of ranks, over halves, mean of the clips
    if_right: float  # what it would be if every named track did just what is expected of it
    chance: float  # the share of shuffled halves that agree as well

    @property
    def borne_out(self) -> bool | None:
        """Whether retraining bears the claims out; None if it cannot be told. It does not if even the upper
        end of the interval is less than half of what the claims come to.
        """
        if self.halves < LEAST_MODELS:
            return None
        if self.correlation.low > 0 and self.chance <= CHANCE:
            return True
        return False if self.correlation.high < self.if_right / 2 else None

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        models = f"{self.halves} models trained again on random halves"
        clips = f"{self.clips} clip{'s' if self.clips > 1 else ''}"
        found = (
            f"{clips}; rank correlation of loss and what named tracks are said to do {self.correlation}, "
            f"{self.if_right:.2f} if they did just that, p = {self.chance:.2g}"
        )
        if self.borne_out:
            return f"{models} bear the named tracks out ({found})"
        if self.borne_out is False:
            return f"{models} do not bear the named tracks out ({found})"
        return f"{models} cannot tell ({found}): retrain more halves, or audit the credits of more clips"


@dataclass(frozen=True)
class Forecast:
    """What a challenge will take, measured on a few steps of training."""

    halves: int
    seconds: float  # all of it, several at once
    at_once: int

    @property
    def sentence(self) -> str:
        """In words."""
        minutes = self.seconds / 60
        how_long = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{max(1, round(minutes))} minutes"
        return (
            f"Training {self.halves} models again, {self.at_once} at once, will take about {how_long}; "
            "a stopped run goes on."
        )

    def require_short(self) -> None:
        """Refuses what would take longer than anyone waits for.

        Raises:
            LinernotesError: says how long.
        """
        if self.seconds > LONGEST_S:
            raise LinernotesError(
                f"training {self.halves} models again would take {self.seconds / 3600:.0f} hours here: ask "
                "for fewer halves, or build a bank on more machines with 'linernotes bank build'"
            )


def forecast(model: Path, catalogue: Path, halves: int, clips: int) -> Forecast:
    """Times a few steps of the model's own training, as one of several at once.

    Raises:
        LinernotesError: the model does not say how it was trained, or cannot be trained here.
    """
    opened, recipe = Catalogue(catalogue), recipe_of(model)
    rows = opened.training_rows[: recipe.batch_size]
    few = opened.batch(rows)
    settings = recipe.model_copy(update={"steps": TIMED_STEPS + 1, "checkpoints": 0})
    at: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="linernotes-forecast-") as work:
            write_untrained_copy(model, Path(work) / "untrained", SEED)
            train(
                Path(work) / "untrained",
                Path(work) / "model",
                few.latents_nct,
                few.text_nld,
                few.seconds_n,
                settings,
                track_n=opened.track_n[rows],
                on_step=lambda *_: at.append(time.perf_counter()),
            )
    finally:
        torch.set_num_threads(threads)
    step_s = (at[-1] - at[0]) / TIMED_STEPS
    passes = len(opened) * ITEM_DRAWS + clips * DRAWS
    one_s = step_s * (recipe.steps + FORWARD * passes / recipe.batch_size)
    together = min(at_once(), halves)
    return Forecast(halves, one_s * -(-halves // together), together)


def challenge_claims(
    claims: Sequence[Claim],
    model: Path,
    catalogue: Path,
    halves: int,
    folder: Path,
    on_progress: Progress | None = None,
    executor: Executor | None = None,
) -> Challenge:
    """Trains ``halves`` models again and judges claims by them. What is trained is kept below ``folder``, so
    that a stopped run goes on, and further halves can be asked for.

    Raises:
        LinernotesError: no claim names a track, one that is named is not in the catalogue, or the model does
            not say how it was trained.
    """
    claims = [claim for claim in claims if claim.effects]
    if not claims:
        raise LinernotesError("no track is named in any clip, so that nothing is claimed")
    trained = [track.track_id for track in Catalogue(catalogue).tracks if track.trained]
    place = {name: n for n, name in enumerate(trained)}
    effect_qn = np.zeros((len(claims), len(trained)))
    for effect_n, claim in zip(effect_qn, claims, strict=True):
        for name, expected in claim.effects.items():
            if name not in place:
                raise LinernotesError(f"{name} is no training track of {catalogue}: give its own catalogue")
            effect_n[place[name]] = expected
    windows = [(claim, window) for claim in claims for window in claim.windows]
    setting = Setting(
        model=model,
        catalogue=catalogue,
        training=recipe_of(model),
        queries=[
            BankQuery(
                name=f"{claim.name}-{i}",
                prompt=claim.prompt,
                seconds=window.seconds,
                seed=0,
                kind="clip",
                split="reporting",
                heard=False,
            )
            for i, (claim, window) in enumerate(windows)
        ],
        latents_qct=np.stack([window.latents_ct.numpy() for _, window in windows]),
        draws=DRAWS,
        noise_seed=SEED,
    )
    retrains = plan_retrains(len(trained), halves, again=0, full=0, seed=SEED)
    header = setting.header()
    kept = folder / f"challenge-{hash_json(header)}"
    run_retrains(setting, retrains, kept, on_progress, executor)
    loss_hw = np.stack([read_retrain(kept, r, header)[0]["loss_qk"].mean(dim=1).numpy() for r in retrains])
    seconds_w = np.array([window.seconds for _, window in windows])
    of_claim = [np.array([own is claim for own, _ in windows]) for claim in claims]
    loss_hq = np.stack([loss_hw[:, own] @ seconds_w[own] / seconds_w[own].sum() for own in of_claim], axis=1)
    loss_q = np.array([claim.loss for claim in claims])
    return judge_claims(effect_qn, np.stack([r.present_n for r in retrains]), loss_hq / loss_q)


def judge_claims(effect_qn: np.ndarray, present_hn: np.ndarray, loss_hq: np.ndarray) -> Challenge:
    """Holds losses of Q clips under H models against the effects of the tracks that each model lacks.

    Args:
        effect_qn: expected effects as shares of a clip's loss, 0 of tracks that are not named.
        present_hn: which training tracks each model saw.
        loss_hq: the clips' losses, as shares of their losses under the model itself.
    """
    expected_qh, loss_qh = effect_qn @ ~present_hn.T, loss_hq.T.astype(np.float64)
    spread_q = np.maximum(loss_qh.std(axis=1), 1e-12)
    if_right = float(np.minimum(expected_qh.std(axis=1) / spread_q, 1).mean())
    ranks = (rankdata(expected_qh, axis=1), rankdata(loss_qh, axis=1))
    clips, halves = expected_qh.shape
    (value,), (drawn,) = bootstrap_correlations([ranks], Resamples.draw(halves, clips))
    order_sh = np.random.default_rng(SEED).random((SHUFFLES, halves)).argsort()
    shuffled_s = np.einsum("qh,qsh->s", _standard(ranks[0]), _standard(ranks[1])[:, order_sh]) / clips
    chance = float((1 + (shuffled_s >= value - 1e-12).sum()) / (1 + SHUFFLES))
    return Challenge(halves, clips, interval(value, drawn), if_right, chance)


def _standard(x_qh: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1, or 0 where they are constant: their products are correlations."""
    apart_qh = x_qh - x_qh.mean(axis=1, keepdims=True)
    return apart_qh / np.maximum(np.sqrt(np.square(apart_qh).sum(axis=1, keepdims=True)), 1e-12)
