"""Attribution by unlearning: make a copy of the model forget the query, and see which training items it
loses.

AbU: Wang et al. 2024 (2406.09408) for images, Choi et al. 2025 (2506.18312) for music. AbU+: Wang et al. 2025
(2511.10721). Forward-INF: Ko et al. 2024 (2402.08922). Only the tensors that change are copied, never the
model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from linernotes.curvature.diagonal import precondition
from linernotes.curvature.ekfac import precondition_ekfac
from linernotes.draws import WHOLE, Band
from linernotes.errors import LinernotesError
from linernotes.methods.contract import Passes, Prepared, Progress, Query, Scores, Work, weight_bytes
from linernotes.methods.fitted import ekfac_of, ekfac_units, factor_bytes, fisher_of
from linernotes.methods.query_gradient import Gradient, query_draws, query_gradient
from linernotes.methods.rescoring import passes_of_rescoring, rescore, rescoring_work
from linernotes.models.contract import GenerativeModel
from linernotes.models.weights import ChangedWeights, all_finite
from linernotes.settings.methods import AbuEkfacSettings, AbuSettings, ForwardInfSettings


def score_abu(prepared: Prepared, queries: list[Query], settings: AbuSettings, folder: Path) -> Scores:
    """Rise of the item loss after theta' = theta + (a / N) (F + lambda)^-1 grad L(query)  (Wang et al. 2024,
    eq. 6).
    """
    fisher = fisher_of(prepared, settings.fisher_draws, settings.seed, settings.batch_size)
    scale = settings.step_size / prepared.n_training

    def step(gradient: Gradient) -> Gradient:
        return {name: scale * g for name, g in precondition(gradient, fisher, settings.damping).items()}

    return _score_steps(prepared, queries, settings, settings.steps, step, folder)


def score_abu_ekfac(
    prepared: Prepared, queries: list[Query], settings: AbuEkfacSettings, folder: Path
) -> Scores:
    """The same with EK-FAC in the place of the diagonal F (Wang et al. 2025): only linear layers move."""
    factors = ekfac_of(prepared, settings, settings.layers)
    scale = settings.step_size / prepared.n_training

    def step(gradient: Gradient) -> Gradient:
        solved = precondition_ekfac(prepared.model.network, gradient, factors, settings.damping)
        return {name: scale * g for name, g in solved.items()}

    return _score_steps(prepared, queries, settings, settings.steps, step, folder)


def score_forward_inf(
    prepared: Prepared, queries: list[Query], settings: ForwardInfSettings, folder: Path
) -> Scores:
    """Fall of the item loss after theta' = theta - eta grad L(query)  (Ko et al. 2024, alg. 1)."""

    def step(gradient: Gradient) -> Gradient:
        return {name: -settings.step_size * g for name, g in gradient.items()}

    return _score_steps(prepared, queries, settings, 1, step, folder, sign=-1)


def _score_steps(
    prepared: Prepared,
    queries: list[Query],
    settings: AbuSettings | ForwardInfSettings,
    steps: int,
    step: Callable[[Gradient], Gradient],
    folder: Path,
    sign: int = 1,
) -> Scores:
    def changed(some: Sequence[Query], band: Band) -> Gradient:
        return take_steps(prepared.model, some, settings, steps, step, prepared.on_progress, band)

    draws = prepared.draws(settings.draws, settings.seed)
    return rescore(prepared, queries, changed, settings, draws, folder, sign, settings.noise_bands)


def take_steps(
    model: GenerativeModel,
    queries: Sequence[Query],
    settings: AbuSettings | ForwardInfSettings,
    steps: int,
    step: Callable[[Gradient], Gradient],
    on_progress: Progress | None = None,
    band: Band = WHOLE,
) -> Gradient:
    """The weights after ``steps`` steps, by parameter name; each step takes ``step`` of a fresh gradient of
    the queries' mean loss at the weights so far.

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
            f"unlearning {queries[0].name} left weights that are not finite: use a smaller --step-size or "
            "more --damping"
        )
    return weights


def queries_gradient(
    model: GenerativeModel,
    queries: Sequence[Query],
    changed: ChangedWeights,
    settings: AbuSettings | ForwardInfSettings,
    number: int = 0,
    on_progress: Progress | None = None,
    band: Band = WHOLE,
) -> Gradient:
    """The mean of the queries' gradients; ``number`` counts the steps, each of which has draws of its own."""
    total: Gradient = {}
    for query in queries:
        what = f"gradient of the clip ({query.name})"
        on_draws = partial(on_progress, what) if on_progress else None
        draws = query_draws(model, settings, band, number)
        gradient = query_gradient(
            model, query, changed, draws, settings.mask_silence, settings.batch_size, on_draws
        )
        for name, g in gradient.items():
            total[name] = total[name] + g / len(queries) if name in total else g / len(queries)
    return total


def passes_of_abu(prepared: Prepared, settings: AbuSettings, queries: int = 1) -> Passes:
    """The diagonal Fisher is of all layers, whichever are unlearned in."""
    return replace(passes_of_rescoring(prepared, settings, queries), layers="all")


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
