"""Trains a small pipeline's denoiser and conditioning projection: latents, text, durations -> a model folder.

AdamW with warm-up and cosine decay, an exponential moving average of the weights, and dropout of the
conditioning for classifier-free guidance. What a step draws depends on the seed and the step's number alone,
so a killed run that is started again ends in the same weights as one that was never stopped.
"""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from linernotes.artefacts import (
    hash_arrays,
    hash_json,
    load_tensors,
    replace_folder,
    save_tensors,
    write_json,
)
from linernotes.errors import LinernotesError, UsageError
from linernotes.models.adapted import ADAPTER
from linernotes.models.checkpoints import KEPT, write_checkpoint
from linernotes.models.contract import TrainableModel, device_of
from linernotes.models.folder import TRAINING
from linernotes.models.starts import open_trainable
from linernotes.settings.training import TrainingSettings

WARM_UP_STEPS = 200
SAVED_EVERY = 250  # steps
SAVED_EVERY_S = 60.0  # or so many seconds, whichever comes first: what a killed run loses
LONGEST_GRADIENT = 1.0
STATE = "training checkpoint"


def train(
    template: Path,
    folder: Path,
    latents_nct: Tensor,
    text_nld: Tensor,
    seconds_n: Tensor,
    settings: TrainingSettings,
    on_step: Callable[[int, int, float], None] | None = None,
    catalogue: str = "",
    track_n: np.ndarray | None = None,
) -> None:
    """Trains the pipeline in ``template`` on segments and writes the trained pipeline to ``folder``.

    A run in progress lives in ``folder`` + ``.partial``; calling again with the same arguments goes on from
    what it last saved.

    Args:
        on_step: ``on_step(done, total, loss)`` reports progress.
        catalogue: hash of what the segments come from, for the model's record.
        track_n: which track each segment is of, where tracks are drawn; each segment is one if None.

    Raises:
        UsageError: tracks are drawn evenly, and ``track_n`` is not given.
        LinernotesError: nothing to train on, another run's partial state is there, or the loss is no longer
            finite.
    """
    if not len(latents_nct):
        raise LinernotesError("the catalogue holds no training segments: add tracks whose split is 'train'")
    if settings.drawn == "tracks" and track_n is None:
        raise UsageError("whose segments they are is not known: draw segments evenly, or give track_n")
    work = folder.with_name(folder.name + ".partial")
    data = {"latents": latents_nct.numpy(), "text": text_nld.numpy(), "seconds": seconds_n.numpy()}
    model = open_trainable(template)
    made_from = {
        "settings": hash_json({**settings.model_dump(include={"seed", "checkpoints"}), **settings.recipe()}),
        "data": hash_arrays(data),
        "start": model.weights_hash,
    }
    weight_n = None
    if settings.drawn == "tracks" and track_n is not None:
        made_from["tracks"] = hash_arrays({"tracks": track_n})
        weight_n = evenly_by_track(track_n)
    device = device_of(model)
    segments = Segments(latents_nct.to(device), text_nld.to(device), seconds_n.to(device), weight_n)
    run = _Run(model, settings)
    state = work / "checkpoint.safetensors"
    run.resume(state, made_from)
    if not run.done:
        # of a run that was stopped before it could say which it was
        shutil.rmtree(work / KEPT, ignore_errors=True)

    kept_at = {
        round((i + 1) * settings.steps / (settings.checkpoints + 1)) for i in range(settings.checkpoints)
    }
    saved_at = time.monotonic()
    while run.done < settings.steps:
        loss = run.step(segments)
        if not math.isfinite(loss):
            raise LinernotesError(
                f"the loss at step {run.done} is {loss}: train with a smaller --learning-rate, after "
                f"removing {work}"
            )
        if run.done in kept_at:
            write_checkpoint(work, run.done, run.denoiser(), run.learning_rate)
        if on_step:
            on_step(run.done, settings.steps, loss)
        due = run.done % SAVED_EVERY == 0 or time.monotonic() - saved_at > SAVED_EVERY_S
        if due and run.done < settings.steps:
            run.save(state, made_from)
            saved_at = time.monotonic()

    run.finish()
    record = {**made_from, "segments": len(latents_nct), "settings": settings.model_dump()}
    record |= {"catalogue": catalogue} if catalogue else {}
    _write_trained(template, work / "model", model, run.losses, record)
    replace_folder(work / "model", folder)
    shutil.rmtree(work)


@dataclass(frozen=True)
class Segments:
    """What is trained on, on the model's device."""

    latents_nct: Tensor
    text_nld: Tensor
    seconds_n: Tensor
    weight_n: Tensor | None = None  # how often each is drawn, in proportion; each as often if None


class _Run:
    """A training under way: what it moves, and how far it has come."""

    def __init__(self, model: TrainableModel, settings: TrainingSettings) -> None:
        self.model, self.settings = model, settings
        self.losses: list[float] = []  # of every step
        self._parts = model.trained_parts()
        self._parameters = _moved(model, self._parts)
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._optimiser = torch.optim.AdamW(
            self._parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._parts.train()

    @property
    def done(self) -> int:
        """Steps."""
        return len(self.losses)

    @property
    def learning_rate(self) -> float:
        """That of the last step."""
        return float(self._optimiser.param_groups[0]["lr"])

    def step(self, segments: Segments) -> float:
        """One step, and the loss before it."""
        settings, step = self.settings, self.done
        for group in self._optimiser.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings.steps)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        loss = _loss(self.model, segments, settings, generator)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters.values(), LONGEST_GRADIENT)
        self._optimiser.step()
        # a young average forgets faster, or it would remember the random start
        decay = min(settings.ema, (1 + step) / (10 + step))
        now = [parameter.detach() for parameter in self._parameters.values()]
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), now, 1 - decay)
        self.losses.append(loss.item())
        return self.losses[-1]

    def denoiser(self) -> dict[str, Tensor]:
        """The averaged weights of the network, by their names in it."""
        own = next(name for name, part in self._parts.items() if part is self.model.network) + "."
        return {n.removeprefix(own): p for n, p in self._average.items() if n.startswith(own)}

    def finish(self) -> None:
        """Puts the averaged weights into the model."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._average[name])

    def save(self, path: Path, made_from: dict[str, str]) -> None:
        """Writes all that a killed run needs to go on."""
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for name, parameter in self._parameters.items():
            state = self._optimiser.state[parameter]
            tensors |= {f"weights/{name}": parameter, f"average/{name}": self._average[name]}
            tensors |= {f"first/{name}": state["exp_avg"], f"second/{name}": state["exp_avg_sq"]}
        save_tensors(path, tensors, STATE, made_from)

    def resume(self, path: Path, made_from: dict[str, str]) -> None:
        """Goes on from what a killed run has written, if there is any.

        Raises:
            LinernotesError: it is another run's.
        """
        if not path.exists():
            return
        try:
            tensors, _ = load_tensors(path, STATE, made_from)
        except LinernotesError as error:
            raise LinernotesError(f"{error}; to start anew, remove {path.parent}") from None
        self.losses = tensors["losses"].tolist()
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"weights/{name}"])
                self._average[name].copy_(tensors[f"average/{name}"])
                self._optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.done)),
                    "exp_avg": tensors[f"first/{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"second/{name}"].to(parameter.device),
                }


def _moved(model: TrainableModel, parts: nn.ModuleDict) -> dict[str, nn.Parameter]:
    """The parameters that training moves, ready for it: of an adapted model the adapter's."""
    only = {id(p) for p in model.layers(ADAPTER).values()} if ADAPTER in model.layer_kinds else None
    moved = {n: p for n, p in parts.named_parameters() if only is None or id(p) in only}
    for parameter in moved.values():
        parameter.requires_grad_(True)
    return moved


def _write_trained(
    template: Path, built: Path, model: TrainableModel, losses: list[float], record: dict[str, Any]
) -> None:
    """The trained pipeline, from the template's other parts and the trained ones, with its loss curve and
    record.
    """
    shutil.rmtree(built, ignore_errors=True)
    shutil.copytree(template, built, ignore=shutil.ignore_patterns(*model.trained_parts(), KEPT))
    model.save_parts(built)
    if (built.parent / KEPT).exists():
        shutil.copytree(built.parent / KEPT, built / KEPT)
    with (built / "training_loss.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss"])
        writer.writerows((i + 1, f"{loss:.6f}") for i, loss in enumerate(losses))
    write_json(built / TRAINING, record)


def _loss(
    model: TrainableModel, segments: Segments, settings: TrainingSettings, generator: torch.Generator
) -> Tensor:
    """The mean loss of one random batch. Noise levels are stratified: still uniform, with less variance."""
    size, latents_nct = settings.batch_size, segments.latents_nct
    device = latents_nct.device
    rows = rows_drawn(size, len(latents_nct), segments.weight_n, generator).to(device)
    draws = model.draw(size, generator).to(device)
    unconditional_b = torch.rand(size, generator=generator) < settings.drop_condition
    items = model.training_items(
        latents_nct[rows], segments.text_nld[rows], segments.seconds_n[rows], unconditional_b
    )
    return model.loss_bt(items, draws).mean()


def rows_drawn(size: int, count: int, weight_n: Tensor | None, generator: torch.Generator) -> Tensor:
    """Which of ``count`` segments a batch has: any, each as often, or as often as ``weight_n`` says."""
    if weight_n is None:
        return torch.randint(count, (size,), generator=generator)
    return torch.multinomial(weight_n, size, replacement=True, generator=generator)


def evenly_by_track(track_n: np.ndarray) -> Tensor:
    """Weights of segments with which tracks, whatever their length, are drawn evenly."""
    _, place_n, count_t = np.unique(track_n, return_inverse=True, return_counts=True)
    return torch.from_numpy(1.0 / count_t[place_n])


def _rate(step: int, steps: int) -> float:
    warm_up = min(WARM_UP_STEPS, max(1, steps // 10))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
