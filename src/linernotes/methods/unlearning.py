"""Attribution by unlearning: make a copy of the model forget the query, and see which training items it loses.

AbU: Wang et al. 2024 (2406.09408) for images, Choi et al. 2025 (2506.18312) for music. AbU+: Wang et al. 2025 (2511.10721).
Forward-INF: Ko et al. 2024 (2402.08922). Only the tensors that change are copied, never the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from linernotes.artefacts import hash_json
from linernotes.curvature.diagonal import FITTED, fit_diagonal_fisher, precondition
from linernotes.curvature.ekfac import Ekfac, fit_ekfac, precondition_ekfac
from linernotes.curvature.per_item import linear_layers
from linernotes.errors import LinernotesError
from linernotes.methods.contract import TENSOR_BYTES, Prepared, Progress, Query, Scores, Work, weight_bytes
from linernotes.methods.rescoring import rescore, rescoring_work
from linernotes.models.contract import GenerativeModel
from linernotes.models.weights import ChangedWeights, all_finite, using_weights, with_gradients
from linernotes.models.workers import in_order
from linernotes.noise import EVERY_LEVEL, Band, random_for, stratified_times
from linernotes.settings.methods import (
    AbuEkfacSettings,
    AbuSettings,
    EkfacSettings,
    ForwardInfSettings,
    LayerKind,
    ProductSettings,
    UnlearningSettings,
)

Gradient = dict[str, Tensor]


def score_abu(prepared: Prepared, queries: list[Query], settings: AbuSettings, folder: Path) -> Scores:
    """Rise of the item loss after theta' = theta + (a / N) (F + lambda)^-1 grad L(query)  (Wang et al. 2024, eq. 6)."""
    fisher = fisher_of(prepared, settings.fisher_draws, settings.seed, settings.batch_size)
    scale = settings.step_size / prepared.n_training

    def step(gradient: Gradient) -> Gradient:
        return {name: scale * g for name, g in precondition(gradient, fisher, settings.damping).items()}

    return _score_steps(prepared, queries, settings, settings.steps, step, folder)


def score_abu_ekfac(prepared: Prepared, queries: list[Query], settings: AbuEkfacSettings, folder: Path) -> Scores:
    """The same with EK-FAC in the place of the diagonal F (Wang et al. 2025): only linear layers move."""
    factors = ekfac_of(prepared, settings, settings.layers)
    scale = settings.step_size / prepared.n_training

    def step(gradient: Gradient) -> Gradient:
        solved = precondition_ekfac(prepared.model.denoiser, gradient, factors, settings.damping)
        return {name: scale * g for name, g in solved.items()}

    return _score_steps(prepared, queries, settings, settings.steps, step, folder)


def score_forward_inf(prepared: Prepared, queries: list[Query], settings: ForwardInfSettings, folder: Path) -> Scores:
    """Fall of the item loss after theta' = theta - eta grad L(query)  (Ko et al. 2024, alg. 1)."""

    def step(gradient: Gradient) -> Gradient:
        return {name: -settings.step_size * g for name, g in gradient.items()}

    return _score_steps(prepared, queries, settings, 1, step, folder, sign=-1)


def _score_steps(
    prepared: Prepared, queries: list[Query], settings: AbuSettings | ForwardInfSettings, steps: int,
    step: Callable[[Gradient], Gradient], folder: Path, sign: int = 1,
) -> Scores:  # fmt: skip
    def changed(some: Sequence[Query], band: Band) -> Gradient:
        return take_steps(prepared.model, some, settings, steps, step, prepared.on_progress, band)

    bank = prepared.bank(settings.draws, settings.seed)
    return rescore(prepared, queries, changed, settings, bank, folder, sign, settings.noise_bands)


def take_steps(
    model: GenerativeModel,
    queries: Sequence[Query],
    settings: AbuSettings | ForwardInfSettings,
    steps: int,
    step: Callable[[Gradient], Gradient],
    on_progress: Progress | None = None,
    band: Band = EVERY_LEVEL,
) -> Gradient:
    """The weights after ``steps`` steps, by parameter name; each step takes ``step`` of a fresh gradient of the queries' mean
    loss at the weights so far.

    Raises:
        LinernotesError: every frame of a query is silent, or the weights are no longer finite.
    """
    weights = {name: p.detach().clone() for name, p in model.layers(settings.layers).items()}
    for number in range(steps):
        gradient = queries_gradient(model, queries, weights, settings, number, on_progress, band)
        for name, change in step(gradient).items():
            weights[name] = weights[name] + change
    if not all_finite(weights):
        raise LinernotesError(
            f"unlearning {queries[0].name} left weights that are not finite: use a smaller --step-size or more --damping"
        )
    return weights


def queries_gradient(
    model: GenerativeModel, queries: Sequence[Query], changed: ChangedWeights, settings: AbuSettings | ForwardInfSettings,
    number: int = 0, on_progress: Progress | None = None, band: Band = EVERY_LEVEL,
) -> Gradient:  # fmt: skip
    """The mean of the queries' gradients; ``number`` counts the steps, each of which has draws of its own."""
    total: Gradient = {}
    for query in queries:
        generator = random_for(noise_name(band), settings.seed, number)
        told = (
            (lambda done, n, name=query.name: on_progress(f"gradient of the clip ({name})", done, n)) if on_progress else None
        )
        gradient = query_gradient(
            model, query, changed, draws_in(settings, band), settings.mask_silence, generator, settings.batch_size, told, band
        )
        for name, g in gradient.items():
            total[name] = total[name] + g / len(queries) if name in total else g / len(queries)
    return total


def noise_name(band: Band) -> str:
    """What the query's draws are for: every band has draws of its own."""
    return "unlearning" if band == EVERY_LEVEL else f"unlearning, band {band[0]} of {band[1]}"


def draws_in(settings: UnlearningSettings | ProductSettings, band: Band) -> int:
    """How many of the query's draws a band gets: its share."""
    return max(1, settings.gradient_draws // band[1])


def query_gradient(
    model: GenerativeModel,
    query: Query,
    changed: ChangedWeights,
    draws: int,
    mask_silence: bool,
    generator: torch.Generator,
    batch_size: int,
    on_draws: Callable[[int, int], None] | None = None,
    band: Band = EVERY_LEVEL,
) -> Gradient:
    """Gradient of the query's loss with respect to the ``changed`` weights, mean over draws (of a band) and heard frames."""
    device = next(model.denoiser.parameters()).device
    weight_t = heard_weights(query, mask_silence).to(device)
    condition = model.condition(query.text_ld[None], torch.tensor([query.seconds]))
    times = stratified_times(draws, generator, band)
    shape = query.latents_ct.shape
    size = min(batch_size, math.ceil(draws / torch.get_num_threads()))  # few draws: some for every core
    jobs = ((t_b, torch.randn(len(t_b), *shape, generator=generator)) for t_b in torch.split(times, size))

    def gradient_of(worker: GenerativeModel, job: tuple[Tensor, Tensor]) -> tuple[Gradient, int]:
        t_b, eps_bct = (x.to(device) for x in job)
        parameters = {name: p for name, p in worker.denoiser.named_parameters() if name in changed}
        with using_weights(worker.denoiser, changed), with_gradients(list(parameters.values())):
            latents_bct = query.latents_ct.to(device).expand(len(t_b), -1, -1)
            loss_bt = worker.loss_bt(latents_bct, condition.repeat(len(t_b)), t_b, eps_bct)
            gradients = torch.autograd.grad((loss_bt * weight_t).sum() / draws, list(parameters.values()))
        return dict(zip(parameters, gradients, strict=True)), len(t_b)

    total = {name: torch.zeros_like(p) for name, p in changed.items()}
    done = 0
    for gradients, count in in_order(model, jobs, gradient_of):
        for name, gradient in gradients.items():
            total[name] += gradient
        done += count
        if on_draws:
            on_draws(done, draws)
    return total


def heard_weights(query: Query, mask_silence: bool) -> Tensor:
    """How much each frame of the query counts, ``[T]``, summing to 1.

    Raises:
        LinernotesError: silence is masked, and there is nothing else.
    """
    frames_t = query.heard_t if mask_silence else torch.ones_like(query.heard_t)
    if not bool(frames_t.any()):
        raise LinernotesError(f"{query.name} is silent throughout: give a clip with sound in it, or --no-mask-silence")
    return frames_t / frames_t.sum()


def fisher_of(prepared: Prepared, draws: int, seed: int, batch_size: int) -> Gradient:
    """The diagonal Fisher of the model and catalogue, from the prepared folder or fitted now."""
    path = prepared.folder / f"fisher-{hash_json({'draws': draws, 'seed': seed, 'layers': FITTED})}.safetensors"
    told = prepared.told("Fisher (once per model)")
    return fit_diagonal_fisher(prepared.model, prepared.catalogue, draws, seed, path, batch_size, told)


def ekfac_of(prepared: Prepared, settings: AbuEkfacSettings | EkfacSettings, layers: LayerKind) -> Ekfac:
    """EK-FAC of the model and catalogue, from the prepared folder or fitted now."""
    made_from = {"layers": layers, "fisher": settings.fisher, "draws": settings.fisher_draws, "seed": settings.seed}
    return fit_ekfac(
        prepared.model, prepared.catalogue, layers, settings.fisher, settings.fisher_draws, settings.seed,
        prepared.folder / f"ekfac-{hash_json(made_from)}", settings.batch_size, prepared.told("EK-FAC (once per model)"),
    )  # fmt: skip


def work_of_abu(prepared: Prepared, settings: AbuSettings, _query: Query) -> Work:
    """Once: the diagonal Fisher."""
    work = rescoring_work(prepared, settings, {"gradient": settings.steps * settings.gradient_draws})
    fisher = weight_bytes(prepared, "all")
    once = {**work.once, "square": prepared.n_training * settings.fisher_draws}
    return replace(work, once=once, disk_bytes=work.disk_bytes + fisher, memory_bytes=4 * fisher)


def work_of_abu_ekfac(prepared: Prepared, settings: AbuEkfacSettings, _query: Query) -> Work:
    """Once: EK-FAC."""
    work = rescoring_work(prepared, settings, {"gradient": settings.steps * settings.gradient_draws})
    factors = factor_bytes(prepared, settings.layers)
    once = {**work.once, **ekfac_units(prepared, settings)}
    return replace(work, once=once, disk_bytes=work.disk_bytes + factors, memory_bytes=4 * factors)


def work_of_forward_inf(prepared: Prepared, settings: ForwardInfSettings, _query: Query) -> Work:
    """Nothing once but the base losses."""
    return rescoring_work(prepared, settings, {"gradient": settings.gradient_draws})


def ekfac_units(prepared: Prepared, settings: AbuEkfacSettings | EkfacSettings) -> dict[str, float]:
    """The two passes over the training segments that EK-FAC is fitted in."""
    passes = prepared.n_training * settings.fisher_draws
    return {"covariance": passes, "value": passes}


def factor_bytes(prepared: Prepared, layers: LayerKind) -> int:
    """Bytes of EK-FAC's two bases and its values, over all linear layers of a kind."""
    linears = linear_layers(prepared.model.denoiser, prepared.model.layers(layers).keys())
    sides = [(layer.in_features + (layer.bias is not None), layer.out_features) for layer in linears.values()]
    return TENSOR_BYTES * sum(i * i + o * o + i * o for i, o in sides)
