"""Attribution by exact gradient products: <direction(query), grad L(item)>, no projection, no full item
gradient kept.

Grad-dot and grad-cos (Charpiat et al. 2019), TracIn over the checkpoints a training kept (Pruthi et al. 2020,
eq. 5), influence with EK-FAC (Grosse et al. 2023, eq. 13), and representer points as the gradient product of
the output layer (Yeh et al. 2018, thm 3.1: a product of features times a product of output gradients).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from linernotes.artefacts import hash_files
from linernotes.curvature.ekfac import precondition_ekfac
from linernotes.draws import WHOLE, Band, Draws
from linernotes.methods.contract import Passes, Prepared, Query, Scores, Work, draws_together, weight_bytes
from linernotes.methods.fitted import ekfac_of, ekfac_units, factor_bytes
from linernotes.methods.items import gradient_products
from linernotes.methods.query_gradient import Gradient, query_draws, query_gradient
from linernotes.models.checkpoints import checkpoint_files, read_checkpoints
from linernotes.models.contract import device_of
from linernotes.models.weights import ChangedWeights, using_weights
from linernotes.settings.methods import (
    EkfacSettings,
    GradCosSettings,
    ProductSettings,
    RepresenterSettings,
    TracinSettings,
)


def score_grad_dot(
    prepared: Prepared, queries: list[Query], settings: ProductSettings, folder: Path
) -> Scores:
    """<grad L(q), grad L(z_n)>."""
    return Scores(*_products(prepared, queries, settings, folder))


def score_grad_cos(
    prepared: Prepared, queries: list[Query], settings: GradCosSettings, folder: Path
) -> Scores:
    """The same, divided by both lengths."""
    return Scores(*_products(prepared, queries, settings, folder, cosine=True))


def score_representer(
    prepared: Prepared, queries: list[Query], settings: RepresenterSettings, folder: Path
) -> Scores:
    """The gradient product of the output layer W: sum over positions s, t of (f_s' f_t)(d_s' d_t), f
    features, d dL/d(W f).
    """
    return score_grad_dot(prepared, queries, settings, folder)


def score_tracin(prepared: Prepared, queries: list[Query], settings: TracinSettings, folder: Path) -> Scores:
    """sum over the kept checkpoints c of lr_c <grad L_c(q), grad L_c(z_n)>; a model that kept none has its
    final weights only.

    The final weights stand where the learning rate has come down to nothing, so beside checkpoints they count
    for nothing. Prompt and duration are embedded by the final model throughout: checkpoints hold the
    denoiser.
    """
    where = prepared.model_folder
    kept = read_checkpoints(where) if where and checkpoint_files(where) else [({}, 1.0)]
    total: np.ndarray | float = 0.0
    for i, (weights, rate) in enumerate(kept):
        device = device_of(prepared.model)
        at = {name: tensor.to(device) for name, tensor in weights.items()}
        scores_qn, draws = _products(prepared, queries, settings, folder / f"checkpoint-{i}", at=at)
        total = total + rate * scores_qn
    return Scores(np.asarray(total), draws)


def checkpoints_hash(prepared: Prepared, _settings: TracinSettings) -> str:
    """Hash of the checkpoints that the training kept; empty if there are none."""
    folder = prepared.model_folder
    return hash_files(kept, folder) if folder and (kept := checkpoint_files(folder)) else ""


def score_ekfac(prepared: Prepared, queries: list[Query], settings: EkfacSettings, folder: Path) -> Scores:
    """<(F + lambda)^-1 grad L(q), grad L(z_n)> over the linear layers."""
    factors = ekfac_of(prepared, settings, settings.layers)
    module = prepared.model.network

    def turned(gradient: Gradient) -> Gradient:
        return precondition_ekfac(module, gradient, factors, settings.damping)

    return Scores(*_products(prepared, queries, settings, folder, turned))


def _products(
    prepared: Prepared,
    queries: list[Query],
    settings: ProductSettings,
    folder: Path,
    turned: Callable[[Gradient], Gradient] = lambda gradient: gradient,
    at: ChangedWeights | None = None,
    cosine: bool = False,
) -> tuple[np.ndarray, Draws]:
    """``scores_qn`` and the draws of the items: in each band of noise levels the products of the queries'
    gradients, ``turned``, with the segments', their mean over bands weighted by draws; or cosines.
    """
    draws = prepared.draws(settings.draws, settings.seed)
    total = np.zeros((len(queries), len(prepared.rows)))
    for band, part in enumerate(draws.bands(settings.noise_bands)):
        gradients = [
            gradient_of_query(prepared, query, settings, at, (band, settings.noise_bands))
            for query in queries
        ]
        directions = [turned(gradient) for gradient in gradients]
        place = folder / f"band-{band}"
        dots_qn, squares_n = gradient_products(
            prepared, part, settings.batch_size, directions, at or {}, place
        )
        if cosine:
            lengths_q = np.array(
                [sum(float(g.double().square().sum()) for g in d.values()) ** 0.5 for d in directions]
            )
            dots_qn = dots_qn / np.maximum(lengths_q[:, None] * np.sqrt(squares_n), 1e-30)
        total += len(part) / len(draws) * dots_qn
    return total, draws


def gradient_of_query(
    prepared: Prepared,
    query: Query,
    settings: ProductSettings,
    at: ChangedWeights | None = None,
    band: Band = WHOLE,
) -> Gradient:
    """The query's gradient with respect to the chosen layers, at the base weights or ``at`` others."""
    weights = {name: (at or {}).get(name, p) for name, p in prepared.model.layers(settings.layers).items()}
    others = {name: tensor for name, tensor in (at or {}).items() if name not in weights}
    draws, on_draws = (
        query_draws(prepared.model, settings, band),
        prepared.progress(f"gradient of the clip ({query.name})"),
    )
    with using_weights(prepared.model.network, others):
        return query_gradient(
            prepared.model, query, weights, draws, settings.mask_silence, settings.batch_size, on_draws
        )


def passes_of_products(prepared: Prepared, settings: ProductSettings, _queries: int = 1) -> Passes:
    """Gradients of a segment's draws in a band together."""
    together = max(1, draws_together(prepared, settings) // settings.bands)
    return Passes("backward", settings.layers, formed=True, together=together)


def work_of_products(prepared: Prepared, settings: ProductSettings, _query: Query, times: int = 1) -> Work:
    """One pass of item gradients for all queries of a run; ``times`` over."""
    unit = "output product" if settings.layers == "output" else "product"
    passes = times * len(prepared.rows) * settings.draws
    memory = 2 * weight_bytes(prepared, settings.layers)
    return Work(
        {}, {unit: passes}, {"gradient": times * settings.gradient_draws}, memory_bytes_per_query=memory
    )


def work_of_tracin(prepared: Prepared, settings: TracinSettings, query: Query) -> Work:
    """The same for every checkpoint."""
    kept = checkpoint_files(prepared.model_folder) if prepared.model_folder else []
    return work_of_products(prepared, settings, query, max(1, len(kept)))


def work_of_ekfac(prepared: Prepared, settings: EkfacSettings, query: Query) -> Work:
    """Once: EK-FAC."""
    factors = factor_bytes(prepared, settings.layers)
    work = work_of_products(prepared, settings, query)
    return replace(work, once=ekfac_units(prepared, settings), disk_bytes=factors, memory_bytes=4 * factors)
