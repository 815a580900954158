"""TRAK, D-TRAK and DAS: linear models on projected gradients, phi [N, P], with the Gram matrix of the
training segments.

TRAK: Park et al. 2023, eq. 13 (without the weights Q, as for diffusion: Georgiev et al. 2023). D-TRAK: Zheng
et al. 2024, the squared output in the loss's place. DAS: Lin et al. 2025, eq. 12: a Newton step of the
predicted noise.

As in these papers the query is taken whole, its silence included.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from linernotes.artefacts import hash_json
from linernotes.curvature.per_item import Measured, item_loss_b, matrix_layers, probe, squared_output_b
from linernotes.curvature.projection import Projection, draw_projection, projected_gradients
from linernotes.draws import Draws, random_for
from linernotes.methods.contract import (
    TENSOR_BYTES,
    Passes,
    Prepared,
    Query,
    Scores,
    Work,
    draw,
    draws_together,
)
from linernotes.methods.items import Pairs, sweep_items
from linernotes.models.contract import GenerativeModel, PredictingModel, device_of
from linernotes.models.workers import in_order
from linernotes.settings.methods import (
    DasSettings,
    DtrakSettings,
    GramSettings,
    ProjectedSettings,
    TrakSettings,
)


def score_trak(prepared: Prepared, queries: list[Query], settings: TrakSettings, folder: Path) -> Scores:
    """phi(q)' (Phi' Phi + lambda)^-1 phi(z_n), phi the projected gradient of the loss."""
    return _score_gram(prepared, queries, settings, "loss", item_loss_b)


def score_dtrak(prepared: Prepared, queries: list[Query], settings: DtrakSettings, folder: Path) -> Scores:
    """The same, phi the projected gradient of the mean squared output."""
    return _score_gram(prepared, queries, settings, "squared output", squared_output_b)


def score_das(prepared: Prepared, queries: list[Query], settings: DasSettings, folder: Path) -> Scores:
    """Mean over draws of the squared change of the query's output if the segment were left out
    (``newton_change``).

    On draw k the output is looked at along one random direction v_k, the same for query and items: squared
    changes along random directions average to the squared change of the whole output.
    """
    model = prepared.model
    draws = prepared.draws(settings.draws, settings.seed)
    projection = _projection(prepared, settings)
    generator = random_for("DAS directions", settings.seed)
    shape = model.encoding.latent_channels, model.encoding.frames
    total = torch.zeros(len(queries), len(prepared.catalogue), dtype=torch.float64)
    trained = torch.from_numpy(prepared.catalogue.training_rows)
    for k in range(len(draws)):
        direction_ct = torch.randn(shape, generator=generator) / (shape[0] * shape[1]) ** 0.5
        one = draws[k : k + 1]
        measured = probe(direction_ct.to(device_of(model)))
        kept = _features(
            prepared, settings, projection, one, f"output along direction {k}", measured, direction_ct
        )
        phi_qp = torch.cat([_query_features(prepared, q, projection, measured, one) for q in queries])
        total += newton_change(
            kept["gradients_np"].double(),
            kept["residuals_n"].double(),
            phi_qp.double(),
            trained,
            settings.damping,
        ).square()
    return Scores((total / len(draws)).numpy()[:, prepared.rows], draws)


def newton_change(
    phi_np: Tensor, residual_n: Tensor, phi_qp: Tensor, trained: Tensor, damping: float
) -> Tensor:
    """What each segment does to each query's output under a linear model on phi, ``[Q, N]``: exact
    leave-one-out of ridge regression (by Sherman and Morrison) for segments it was fitted on, adding one for
    the others.

    Args:
        residual_n: output minus target of each segment.
        trained: rows of phi that the model was fitted on; ``damping``: the ridge, as a multiple of the Gram
            matrix's mean eigenvalue.
    """
    solved_np = solve_gram(phi_np[trained], phi_np, damping)
    leverage_n = (solved_np * phi_np).sum(dim=1)
    fitted = torch.zeros(len(phi_np), dtype=torch.bool)
    fitted[trained] = True
    shrunk_n = torch.where(fitted, 1 - leverage_n, 1 + leverage_n)
    return phi_qp @ solved_np.T * (residual_n / shrunk_n)


def solve_gram(phi_np: Tensor, right_mp: Tensor, damping: float) -> Tensor:
    """(Phi' Phi + lambda)^-1 applied to each row of ``right_mp``, lambda = ``damping`` times the mean
    eigenvalue.
    """
    gram_pp = phi_np.T @ phi_np
    ridge = damping * gram_pp.diagonal().mean()
    gram_pp.diagonal().add_(ridge)
    return torch.linalg.solve(gram_pp, right_mp.T, left=True).T


def _score_gram(
    prepared: Prepared, queries: list[Query], settings: GramSettings, name: str, measured: Measured
) -> Scores:
    draws = prepared.draws(settings.draws, settings.seed)
    projection = _projection(prepared, settings)
    phi_np = _features(prepared, settings, projection, draws, name, measured)["gradients_np"].double()
    many = draw(prepared.model, settings.gradient_draws, random_for("projected query", settings.seed))
    phi_qp = torch.cat(
        [_query_features(prepared, q, projection, measured, many, settings.batch_size) for q in queries]
    ).double()
    solved_qp = solve_gram(
        phi_np[torch.from_numpy(prepared.catalogue.training_rows)], phi_qp, settings.damping
    )
    return Scores((solved_qp @ phi_np.T).numpy()[:, prepared.rows], draws)


def _projection(prepared: Prepared, settings: ProjectedSettings) -> Projection:
    module = prepared.model.network
    return draw_projection(
        module, prepared.model.layers(settings.layers).keys(), settings.projection, settings.seed
    )


def _features(
    prepared: Prepared,
    settings: ProjectedSettings,
    projection: Projection,
    draws: Draws,
    name: str,
    measured: Measured,
    direction_ct: Tensor | None = None,
) -> dict[str, Tensor]:
    """``gradients_np`` of all segments, from the prepared folder or computed now; with a direction,
    ``residuals_n`` too: the model's error along it.
    """

    look = partial(
        features, projection=projection, measured=measured, each=len(draws), direction_ct=direction_ct
    )
    made_from = {
        **prepared.made_from(draws),
        "measured": name,
        "layers": settings.layers,
        "projection": settings.projection,
        "seed": settings.seed,
    }
    folder = prepared.folder / f"projected-{hash_json(made_from)}"
    return sweep_items(prepared, draws, settings.batch_size, look, folder, "projected gradients", made_from)


def features(
    worker: GenerativeModel,
    pairs: Pairs,
    projection: Projection,
    measured: Measured,
    each: int,
    direction_ct: Tensor | None,
) -> dict[str, Tensor]:
    """Projected gradients of items, each with ``each`` draws; with a direction also the model's error along
    it.
    """
    gradient_ip, measured_b = projected_gradients(worker, projection, measured, each, *pairs)
    if direction_ct is None:
        return {"gradients_np": gradient_ip}
    assert isinstance(worker, PredictingModel)
    aimed_b = (worker.target(*pairs) * direction_ct.to(measured_b.device)).sum(dim=(1, 2))
    return {"gradients_np": gradient_ip, "residuals_n": measured_b - aimed_b}


def _query_features(
    prepared: Prepared,
    query: Query,
    projection: Projection,
    measured: Measured,
    draws: Draws,
    batch_size: int = 32,
) -> Tensor:
    """The query's projected gradient, mean over draws, ``[1, P]``."""
    model = prepared.model
    device = device_of(model)
    item = query.items(model)
    jobs = (draws[start : start + batch_size].to(device) for start in range(0, len(draws), batch_size))

    def part(worker: GenerativeModel, some: Draws) -> Tensor:
        n = len(some)
        return projected_gradients(worker, projection, measured, n, item.repeat(n), some)[0].cpu() * n

    return torch.stack(list(in_order(model, jobs, part))).sum(dim=0) / len(draws)


def passes_of_gram(prepared: Prepared, settings: GramSettings, _queries: int = 1) -> Passes:
    """Projected gradients of all draws of a segment together."""
    return Passes("backward", settings.layers, together=draws_together(prepared, settings))


def passes_of_das(_prepared: Prepared, settings: DasSettings, _queries: int = 1) -> Passes:
    """The same for each draw by itself."""
    return Passes("backward", settings.layers)


def work_of_gram(prepared: Prepared, settings: GramSettings, _query: Query) -> Work:
    """TRAK and D-TRAK. Once: every segment's projected gradient. A run: one solve with the Gram matrix."""
    unit = "output projection" if isinstance(settings, DtrakSettings) else "projection"
    kept, solve = _kept_bytes(prepared, settings), _solve_gigaflops(prepared, settings)
    once = {unit: len(prepared.catalogue) * settings.draws}
    return Work(once, {"gigaflop": solve}, {unit: settings.gradient_draws}, kept, 4 * kept)


def work_of_das(prepared: Prepared, settings: DasSettings, _query: Query) -> Work:
    """The same for each draw by itself."""
    kept, n = _kept_bytes(prepared, settings), len(prepared.catalogue)
    flops = settings.draws * (
        _solve_gigaflops(prepared, settings) + 2e-9 * n * _width(prepared, settings) ** 2
    )
    once = {"single projection": n * settings.draws}
    return Work(once, {"gigaflop": flops}, {"projection": settings.draws}, settings.draws * kept, 6 * kept)


def _width(prepared: Prepared, settings: ProjectedSettings) -> int:
    """Numbers in one projected gradient."""
    model = prepared.model
    return len(matrix_layers(model.network, model.layers(settings.layers).keys())) * settings.projection**2


def _kept_bytes(prepared: Prepared, settings: ProjectedSettings) -> int:
    return TENSOR_BYTES * len(prepared.catalogue) * _width(prepared, settings)


def _solve_gigaflops(prepared: Prepared, settings: ProjectedSettings) -> float:
    width = _width(prepared, settings)
    return 1e-9 * (2 * prepared.n_training * width**2 + 2 / 3 * width**3)
