"""Attribution by exact gradient products: <direction(query), grad L(item)>, no projection, no full item gradient kept.

Grad-dot and grad-cos (Charpiat et al. 2019), TracIn over the checkpoints a training kept (Pruthi et al. 2020, eq. 5),
influence with EK-FAC (Grosse et al. 2023, eq. 13), and representer points as the gradient product of the output layer
(Yeh et al. 2018, thm 3.1: a product of features times a product of output gradients).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from linernotes.curvature.ekfac import precondition_ekfac
from linernotes.methods.contract import Prepared, Query, Scores
from linernotes.methods.items import gradient_products
from linernotes.methods.unlearning import ekfac_of, query_gradient
from linernotes.models.training import read_checkpoints
from linernotes.models.weights import ChangedWeights, using_weights
from linernotes.noise import random_for
from linernotes.settings.methods import EkfacSettings, GradCosSettings, GradDotSettings, GradientSettings, TracinSettings

Gradient = dict[str, Tensor]


def score_grad_dot(prepared: Prepared, queries: list[Query], settings: GradDotSettings, folder: Path) -> Scores:
    """<grad L(q), grad L(z_n)>."""
    directions = [gradient_of_query(prepared, query, settings) for query in queries]
    dots_qn, _ = _products(prepared, settings, directions, {}, folder / "products")
    return Scores(dots_qn)


def score_grad_cos(prepared: Prepared, queries: list[Query], settings: GradCosSettings, folder: Path) -> Scores:
    """The same, divided by both lengths."""
    directions = [gradient_of_query(prepared, query, settings) for query in queries]
    dots_qn, squares_n = _products(prepared, settings, directions, {}, folder / "products")
    lengths_q = np.array([sum(float(g.double().square().sum()) for g in d.values()) ** 0.5 for d in directions])
    return Scores(dots_qn / np.maximum(lengths_q[:, None] * np.sqrt(squares_n), 1e-30))


def score_representer(prepared: Prepared, queries: list[Query], settings: GradientSettings, folder: Path) -> Scores:
    """The gradient product of the output layer W: sum over positions s, t of (f_s' f_t)(d_s' d_t), f features, d dL/d(W f)."""
    return score_grad_dot(prepared, queries, settings, folder)  # type: ignore[arg-type]


def score_tracin(prepared: Prepared, queries: list[Query], settings: TracinSettings, folder: Path) -> Scores:
    """sum over checkpoints c of lr_c <grad L_c(q), grad L_c(z_n)>; a model that kept none has its final weights only."""
    kept = read_checkpoints(prepared.model_folder) if prepared.model_folder else []
    total: np.ndarray | float = 0.0
    for i, (weights, rate) in enumerate([*kept, ({}, 1.0 if not kept else kept[-1][1])]):
        device = next(prepared.model.denoiser.parameters()).device
        at = {name: tensor.to(device) for name, tensor in weights.items()}
        directions = [gradient_of_query(prepared, query, settings, at) for query in queries]
        dots_qn, _ = _products(prepared, settings, directions, at, folder / f"products-{i}")
        total = total + rate * dots_qn
    return Scores(np.asarray(total))


def score_ekfac(prepared: Prepared, queries: list[Query], settings: EkfacSettings, folder: Path) -> Scores:
    """<(F + lambda)^-1 grad L(q), grad L(z_n)> over the linear layers."""
    factors = ekfac_of(prepared, settings, settings.layers)
    module = prepared.model.denoiser
    directions = [
        precondition_ekfac(module, gradient_of_query(prepared, query, settings), factors, settings.damping) for query in queries
    ]
    dots_qn, _ = _products(prepared, settings, directions, {}, folder / "products")
    return Scores(dots_qn)


def _products(
    prepared: Prepared, settings: GradientSettings, directions: Sequence[Gradient], at: ChangedWeights, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    bank = prepared.bank(settings.draws, settings.seed)
    return gradient_products(prepared, bank, settings.batch_size, directions, at, folder)


def gradient_of_query(
    prepared: Prepared, query: Query, settings: GradientSettings, at: ChangedWeights | None = None
) -> Gradient:
    """The query's gradient with respect to the chosen layers, at the base weights or ``at`` others."""
    weights = {name: (at or {}).get(name, p) for name, p in prepared.model.layers(settings.layers).items()}
    others = {name: tensor for name, tensor in (at or {}).items() if name not in weights}
    generator = random_for("unlearning", settings.seed, 0)
    with using_weights(prepared.model.denoiser, others):
        return query_gradient(
            prepared.model, query, weights, settings.gradient_draws, settings.mask_silence, generator, settings.batch_size,
            prepared.told(f"gradient of the clip ({query.name})"),
        )  # fmt: skip
