"""MUCS: bounded mirrored ascent with a retain batch (Serra et al. 2026, 2605.17938).

AdamW on L(retain batch) - w min(L(query), L_null) until L(query) >= s L_null, where L_null is the loss of an
untrained network of the same architecture: ascent has an end, and what the query shares with nothing else is
held in place.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from linernotes.draws import EVERY_LEVEL, random_for
from linernotes.losses import items_of
from linernotes.methods.contract import Passes, Prepared, Query, Scores, Work, draw
from linernotes.methods.query_gradient import heard_weights
from linernotes.methods.rescoring import rescore, rescoring_work
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.models.weights import with_gradients
from linernotes.models.workers import twin
from linernotes.settings.methods import MucsSettings

NULL_DRAWS = 64
PILOT_RETAIN = 16


def score_mucs(prepared: Prepared, queries: list[Query], settings: MucsSettings, folder: Path) -> Scores:
    """Scores of all segments on draws from the noisiest part of the schedule, the same for every item and
    both models.
    """
    levels = (1 - settings.noisiest, 1.0) if prepared.model.random else EVERY_LEVEL
    draws = prepared.draws(settings.draws, settings.seed, levels)
    return rescore(
        prepared, queries, lambda some, _band: ascend(prepared, some, settings)[0], settings, draws, folder
    )


def ascend(
    prepared: Prepared, queries: Sequence[Query], settings: MucsSettings
) -> tuple[dict[str, Tensor], int]:
    """The weights after the bounded ascent on the mean loss of ``queries``, by parameter name, and the steps
    it took.
    """
    worker = twin(prepared.model)
    names = worker.layers(settings.layers).keys()
    weights = {
        n: nn.Parameter(p.detach().clone()) for n, p in worker.network.named_parameters() if n in names
    }
    for name, weight in weights.items():  # the worker's own parameters, over memory of their own
        _put(worker.network, name, weight)
    null = _mean_loss(untrained_twin(prepared.model, settings.seed), queries, settings, NULL_DRAWS, number=-1)
    limit = float(null)
    optimiser = torch.optim.AdamW(weights.values(), lr=settings.learning_rate)
    report = prepared.progress(f"unlearning ({queries[0].name})")
    steps = 0
    for step in range(settings.max_steps):
        with with_gradients(list(weights.values())):
            forgotten = _mean_loss(worker, queries, settings, settings.gradient_draws, step)
            if stops(forgotten.item(), limit, settings.stop_at):
                break
            kept = _retain_loss(worker, prepared, settings, step)
            loss = kept - settings.forget_weight * forgotten.clamp(max=limit)
            gradients = torch.autograd.grad(loss, list(weights.values()))
        for weight, gradient in zip(weights.values(), gradients, strict=True):
            weight.grad = gradient
        optimiser.step()
        steps = step + 1
        if report:
            report(steps, settings.max_steps)
    if report:
        report(settings.max_steps, settings.max_steps)
    return {name: weight.detach() for name, weight in weights.items()}, steps


def stops(query_loss: float, null_loss: float, stop_at: float) -> bool:
    """Whether the query is forgotten: its loss has reached that share of an untrained network's."""
    return query_loss >= stop_at * null_loss


def untrained_twin(model: GenerativeModel, seed: int) -> GenerativeModel:
    """The same architecture with new random weights."""
    other = copy.copy(model)
    other.network = copy.deepcopy(model.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in other.network.modules():
            if callable(getattr(layer, "reset_parameters", None)):
                layer.reset_parameters()  # type: ignore[operator]
    return other


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, short = name.rpartition(".")
    setattr(module.get_submodule(owner), short, parameter)


def _mean_loss(
    model: GenerativeModel, queries: Sequence[Query], settings: MucsSettings, draws: int, number: int
) -> Tensor:
    device = device_of(model)
    generator = random_for("MUCS query", settings.seed, number)
    total = torch.zeros((), device=device)
    for query in queries:
        some = draw(model, draws, generator).to(device)
        loss_bt = model.loss_bt(query.items(model, len(some)), some)
        total = total + (loss_bt @ heard_weights(query, settings.mask_silence).to(device)).mean() / len(
            queries
        )
    return total


def _retain_loss(model: GenerativeModel, prepared: Prepared, settings: MucsSettings, step: int) -> Tensor:
    device = device_of(model)
    generator = random_for("MUCS retain", settings.seed, step)
    size = min(settings.retain_batch, prepared.n_training)
    chosen = prepared.catalogue.training_rows[
        torch.randperm(prepared.n_training, generator=generator)[:size].numpy()
    ]
    draws = model.draw(size, generator).to(device)
    return model.loss_bt(items_of(model, prepared.catalogue, chosen), draws).mean()


def passes_of_mucs(prepared: Prepared, settings: MucsSettings, queries: int = 1) -> Passes:
    """A step's gradient is of all draws of its clips and of the retain batch at once."""
    clips = queries if settings.one_set else 1
    draws = settings.gradient_draws if prepared.model.random else 1
    return Passes(
        "backward",
        settings.layers,
        formed=True,
        together=clips * draws + min(settings.retain_batch, prepared.n_training),
        alone=True,
        fewer="--gradient-draws or a smaller --retain-batch",
    )


def work_of_mucs(prepared: Prepared, settings: MucsSettings, query: Query) -> Work:
    """How far it is to the bound is found out by going there with a small retain batch; it hardly depends on
    its size.
    """
    pilot = settings.model_copy(update={"retain_batch": min(PILOT_RETAIN, settings.retain_batch)})
    _, taken = ascend(prepared, [query], pilot)
    # one step of full size, for the memory it holds
    ascend(prepared, [query], settings.model_copy(update={"max_steps": 1}))
    steps = {"gradient": taken * (min(settings.retain_batch, prepared.n_training) + settings.gradient_draws)}
    work = rescoring_work(prepared, settings, steps)
    return replace(work, memory_bytes_per_query=2 * work.memory_bytes_per_query)
