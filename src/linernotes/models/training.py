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
from collections.abc import Callable, Iterator
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
from linernotes.models.adapted import ADAPTER, write_new_adapter, write_untrained_adapter
from linernotes.models.adapter_folder import is_adapter, read_base
from linernotes.models.contract import POWERS, ObjectiveModel, TrainableModel, device_of
from linernotes.models.folder import TRAINING
from linernotes.models.opening import family_of, open_model
from linernotes.settings.training import NewModelSettings, TrainingSettings

WARM_UP_STEPS = 200
CHECKPOINT_EVERY = 250  # steps
CHECKPOINT_EVERY_S = 60.0  # or so many seconds, whichever comes first: what a killed run loses
LONGEST_GRADIENT = 1.0
KEPT = "checkpoints"
CHECKPOINT = "denoiser of a training checkpoint"


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
    its last checkpoint.

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
    run = {
        "settings": hash_json({**settings.model_dump(include={"seed", "checkpoints"}), **settings.recipe()}),
        "data": hash_arrays(data),
        "start": model.weights_hash,
    }
    if settings.drawn == "tracks" and track_n is not None:
        run["tracks"] = hash_arrays({"tracks": track_n})
    checkpoint = work / "checkpoint.safetensors"
    parts = model.trained_parts()
    parameters = _moved(model, parts)
    weight_n = evenly_by_track(track_n) if settings.drawn == "tracks" and track_n is not None else None
    own = next(name for name, part in parts.items() if part is model.network) + "."
    device = device_of(model)
    latents_nct, text_nld, seconds_n = (x.to(device) for x in (latents_nct, text_nld, seconds_n))
    average = {name: p.detach().clone() for name, p in parameters.items()}
    optimiser = torch.optim.AdamW(
        parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    done, losses = _resume(checkpoint, run, parameters, average, optimiser)
    if not done:
        # of a run that was stopped before it could say which it was
        shutil.rmtree(work / KEPT, ignore_errors=True)

    kept_at = {
        round((i + 1) * settings.steps / (settings.checkpoints + 1)) for i in range(settings.checkpoints)
    }
    parts.train()
    kept_since = time.monotonic()
    for step in range(done, settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings.steps)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        loss = _loss(model, latents_nct, text_nld, seconds_n, weight_n, settings, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters.values(), LONGEST_GRADIENT)
        optimiser.step()
        # a young average forgets faster, or it would remember the random start
        decay = min(settings.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise LinernotesError(
                f"the loss at step {step + 1} is {losses[-1]}: train with a smaller --learning-rate, after "
                f"removing {work}"
            )
        if step + 1 in kept_at:
            rate = optimiser.param_groups[0]["lr"]
            kept = {n.removeprefix(own): p for n, p in average.items() if n.startswith(own)}
            save_tensors(
                work / KEPT / f"step-{step + 1:08d}.safetensors",
                kept,
                CHECKPOINT,
                {"learning_rate": rate, "step": step + 1},
            )
        if on_step:
            on_step(step + 1, settings.steps, losses[-1])
        due = (step + 1) % CHECKPOINT_EVERY == 0 or time.monotonic() - kept_since > CHECKPOINT_EVERY_S
        if due and step + 1 < settings.steps:
            _checkpoint(checkpoint, run, step + 1, losses, parameters, average, optimiser)
            kept_since = time.monotonic()

    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    record = {**run, "segments": len(latents_nct), "settings": settings.model_dump()}
    record |= {"catalogue": catalogue} if catalogue else {}
    _write_trained(template, work / "model", model, losses, record)
    replace_folder(work / "model", folder)
    shutil.rmtree(work)


def open_trainable(folder: Path) -> TrainableModel:
    """The model in a folder, to be trained or trained anew.

    Raises:
        LinernotesError: it cannot be trained here.
    """
    model = open_model(folder)
    if not isinstance(model, TrainableModel):
        raise LinernotesError(f"{model.name} lacks {POWERS[TrainableModel]}: train it where it was made")
    return model


def write_untrained_copy(model: Path, folder: Path, seed: int) -> None:
    """The model in ``model`` with new random weights in the parts that are trained; an adapter as it was
    before its training.
    """
    if is_adapter(model):
        write_untrained_adapter(open_model(Path(read_base(model).folder)), model, folder, seed)
    else:
        family_of(model).write_untrained(model, folder, seed)


def write_start(model: Path, folder: Path, chosen: NewModelSettings, seed: int, name: str = "") -> None:
    """What training starts from: the model in ``model`` untrained, or an adapter to it that changes nothing.

    Args:
        name: what people call the model; its folder's if empty.

    Raises:
        UsageError: models of this family have no objective to choose, or the adapter's rank is too high.
    """
    if chosen.adapter:
        if chosen.objective:
            raise UsageError(
                "an adapter keeps the objective of the model it changes: leave out --objective, or --adapter"
            )
        opened = open_trainable(model)
        opened.name = name or opened.name
        write_new_adapter(opened, model, folder, chosen.rank, chosen.adapter == "dora", seed)
        return
    write_untrained_copy(model, folder, seed)
    if chosen.objective:
        family = family_of(model)
        if is_adapter(model) or not issubclass(family, ObjectiveModel):
            raise UsageError(
                f"{model.name} has no objective to choose from: leave out --objective, or give another --init"
            )
        family.write_objective(folder, chosen.objective)


def _moved(model: TrainableModel, parts: nn.ModuleDict) -> dict[str, nn.Parameter]:
    """The parameters that training moves, ready for it: of an adapted model the adapter's."""
    only = {id(p) for p in model.layers(ADAPTER).values()} if ADAPTER in model.layer_kinds else None
    moved = {n: p for n, p in parts.named_parameters() if only is None or id(p) in only}
    for parameter in moved.values():
        parameter.requires_grad_(True)
    return moved


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints that the training of the model in ``folder`` kept, in order."""
    return sorted((folder / KEPT).glob("step-*.safetensors"))


def read_checkpoints(folder: Path) -> Iterator[tuple[dict[str, Tensor], float]]:
    """The denoiser's averaged weights at the checkpoints a training kept, by parameter name, with the
    learning rates there; one after the other.
    """
    for path in checkpoint_files(folder):
        tensors, header = load_tensors(path, CHECKPOINT)
        yield tensors, float(header["learning_rate"])


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
    model: TrainableModel,
    latents_nct: Tensor,
    text_nld: Tensor,
    seconds_n: Tensor,
    weight_n: Tensor | None,
    settings: TrainingSettings,
    generator: torch.Generator,
) -> Tensor:
    """The mean loss of one random batch. Noise levels are stratified: still uniform, with less variance."""
    size, device = settings.batch_size, latents_nct.device
    rows = rows_drawn(size, len(latents_nct), weight_n, generator).to(device)
    draws = model.draw(size, generator).to(device)
    unconditional_b = torch.rand(size, generator=generator) < settings.drop_condition
    items = model.training_items(latents_nct[rows], text_nld[rows], seconds_n[rows], unconditional_b)
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


def _checkpoint(
    path: Path,
    run: dict[str, str],
    step: int,
    losses: list[float],
    parameters: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    tensors = {"losses": torch.tensor(losses, dtype=torch.float64)}
    for name, parameter in parameters.items():
        state = optimiser.state[parameter]
        tensors |= {f"weights/{name}": parameter, f"average/{name}": average[name]}
        tensors |= {f"first/{name}": state["exp_avg"], f"second/{name}": state["exp_avg_sq"]}
    save_tensors(path, tensors, "training checkpoint", {**run, "step": step})


def _resume(
    path: Path,
    run: dict[str, str],
    parameters: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> tuple[int, list[float]]:
    if not path.exists():
        return 0, []
    try:
        tensors, header = load_tensors(path, "training checkpoint", run)
    except LinernotesError as error:
        raise LinernotesError(f"{error}; to start anew, remove {path.parent}") from None
    step = int(header["step"])
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weights/{name}"])
            average[name].copy_(tensors[f"average/{name}"])
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": tensors[f"first/{name}"].to(parameter.device),
                "exp_avg_sq": tensors[f"second/{name}"].to(parameter.device),
            }
    return step, tensors["losses"].tolist()
