"""Every method, against the closed form or the law it must obey."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import query_of
from linernotes.artefacts import save_tensors
from linernotes.audio import Sound
from linernotes.catalog.store import Catalogue
from linernotes.curvature.ekfac import Ekfac, add_covariances, add_values, fit_ekfac, precondition_ekfac
from linernotes.curvature.per_item import as_matrix, item_loss_b, matrix_layers, observed, squared_output_b
from linernotes.curvature.projection import Projection, draw_projection, projected_gradients
from linernotes.descriptors import timbre, tonal
from linernotes.draws import random_for
from linernotes.errors import LinernotesError, UsageError
from linernotes.losses import frame_losses, items_of
from linernotes.methods import mucs, projected
from linernotes.methods import readout as readout_method
from linernotes.methods.all import METHODS, score
from linernotes.methods.contract import Prepared
from linernotes.methods.gradients import gradient_of_query
from linernotes.methods.items import gradient_products, whole_items
from linernotes.methods.rescoring import skew
from linernotes.models.checkpoints import CHECKPOINT, KEPT
from linernotes.models.stable_audio import StableAudio
from linernotes.models.weights import with_gradients
from linernotes.settings.methods import (
    METHOD_SETTINGS,
    EkfacSettings,
    GradDotSettings,
    MethodSettings,
    MucsSettings,
)

QUICK = {
    "gradient_draws": 24,
    "draws": 3,
    "fisher_draws": 1,
    "max_steps": 3,
    "retain_batch": 4,
    "projection": 3,
}
QUICK_READOUT = {"noise_bands": 3}
RUNNABLE = [name for name in METHODS if name != "clap"]
SEES_ITSELF = ["readout", "abu", "abu-ekfac", "grad-cos", "latent", "timbre", "tonal", "activations"]


def quick(method: str, **more: object) -> MethodSettings:
    kind = METHOD_SETTINGS[method]
    told = {**QUICK, **(QUICK_READOUT if method == "readout" else {}), **more}
    return kind(**{name: value for name, value in told.items() if name in kind.model_fields})


@pytest.fixture(scope="module")
def prepared(model: StableAudio, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(model, catalogue, tmp_path_factory.mktemp("prepared"))


def test_every_method_has_settings_and_a_description() -> None:
    assert METHODS.keys() == METHOD_SETTINGS.keys()
    for settings in METHOD_SETTINGS.values():
        assert settings.family and settings.paper and settings.cost and settings.__doc__


@pytest.mark.parametrize("method", RUNNABLE)
def test_several_queries_score_as_one_by_one(prepared: Prepared, tmp_path: Path, method: str) -> None:
    queries = [query_of(prepared.catalogue, row) for row in (0, 4)]
    together = score(method, prepared, queries, quick(method), tmp_path / "both").scores_qn
    assert together.shape == (2, len(prepared.catalogue))
    for i, query in enumerate(queries):
        alone = score(method, prepared, [query], quick(method), tmp_path / str(i)).scores_qn[0]
        np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-6 * max(np.abs(alone)))


@pytest.mark.parametrize("method", SEES_ITSELF)
def test_a_training_segment_finds_itself(prepared: Prepared, tmp_path: Path, method: str) -> None:
    rows = [0, 3, 6]
    step = {"abu": 2e-5, "abu-ekfac": 1e-3}.get(method, 0.1)
    settings = quick(
        method, step_size=step, **({"draws": 12, "gradient_draws": 96} if method == "readout" else {})
    )
    scores_qn = score(
        method, prepared, [query_of(prepared.catalogue, row) for row in rows], settings, tmp_path
    ).scores_qn
    assert scores_qn.argmax(axis=1).tolist() == rows


def plain_gradient(
    model: StableAudio, measured: Callable[..., Tensor], pairs: tuple, names: list[str]
) -> dict[str, Tensor]:
    """The gradient of the mean of ``measured`` over a batch, by one plain backward pass."""
    parameters = {n: p for n, p in model.network.named_parameters() if n in names}
    with with_gradients(list(parameters.values())):
        gradients = torch.autograd.grad(measured(model, *pairs).mean(), list(parameters.values()))
    return dict(zip(parameters, gradients, strict=True))


def test_gradient_products_are_those_of_a_plain_loop(prepared: Prepared, tmp_path: Path) -> None:
    model, catalogue, settings = (
        prepared.model,
        prepared.catalogue,
        GradDotSettings(**{"draws": 3, "gradient_draws": 16}),
    )
    directions = [gradient_of_query(prepared, query_of(catalogue, row), settings) for row in (1, 5)]
    bank = prepared.draws(3, settings.seed)
    dots_qn, squares_n = gradient_products(prepared, bank, 32, directions, {}, tmp_path)
    for n in range(len(catalogue)):
        (pairs,) = whole_items(model, items_of(model, catalogue, [n]), bank, 3)
        gradient = plain_gradient(model, item_loss_b, pairs, list(directions[0]))
        for q, direction in enumerate(directions):
            expected = sum(float((gradient[name] * direction[name]).sum()) for name in gradient)
            assert dots_qn[q, n] == pytest.approx(expected, rel=2e-3, abs=1e-4 * np.abs(dots_qn).max())
        assert squares_n[n] == pytest.approx(
            sum(float(g.square().sum()) for g in gradient.values()), rel=2e-3
        )


def test_a_short_forward_step_is_a_gradient_product(prepared: Prepared, tmp_path: Path) -> None:
    """Forward-INF to first order: eta <grad L(q), grad L(z_n)>."""
    query, eta = query_of(prepared.catalogue, 2), 1e-3
    dots = score("grad-dot", prepared, [query], quick("grad-dot"), tmp_path / "dot").scores_qn[0]
    step = score(
        "forward-inf", prepared, [query], quick("forward-inf", step_size=eta), tmp_path / "step"
    ).scores_qn[0]
    # second order of a finite step
    assert step == pytest.approx(eta * dots, rel=0.05, abs=0.02 * eta * np.abs(dots).max())


@pytest.mark.parametrize("method", ["abu", "forward-inf"])
def test_first_order_scores_are_those_of_a_vanishing_step(
    prepared: Prepared, tmp_path: Path, method: str
) -> None:
    query, step = query_of(prepared.catalogue, 2), {"abu": 1e-5, "forward-inf": 1e-3}[method]
    exact, first = (
        score(method, prepared, [query], quick(method, step_size=step, score_by=by), tmp_path / by).scores_qn[
            0
        ]
        for by in ("difference", "first-order")
    )
    # second order of a finite step
    assert exact == pytest.approx(first, rel=0.05, abs=0.02 * np.abs(first).max())


def test_bands_hold_each_noise_level_against_itself_only(prepared: Prepared, tmp_path: Path) -> None:
    """The mean over bands of <grad L(q) in the band, grad L(z_n) on the band's draws>, for products and for
    short steps.
    """
    model, catalogue, query = prepared.model, prepared.catalogue, query_of(prepared.catalogue, 2)
    settings = quick("grad-dot", draws=6, gradient_draws=16, noise_bands=2)
    banded = score("grad-dot", prepared, [query], settings, tmp_path / "dot").scores_qn[0]
    expected = np.zeros(len(catalogue))
    for band, draws in enumerate(([0, 1, 2], [3, 4, 5])):
        direction = gradient_of_query(prepared, query, settings, None, (band, 2))
        for n in range(len(catalogue)):
            (pairs,) = whole_items(
                model, items_of(model, catalogue, [n]), prepared.draws(6, settings.seed), 6
            )
            some = tuple(part[torch.tensor(draws)] for part in pairs)
            gradient = plain_gradient(model, item_loss_b, some, list(direction))
            expected[n] += (
                len(draws) / 6 * sum(float((gradient[name] * direction[name]).sum()) for name in gradient)
            )
    assert banded == pytest.approx(expected, rel=2e-3, abs=1e-3 * np.abs(expected).max())
    step = quick("forward-inf", draws=6, gradient_draws=16, noise_bands=2, step_size=1e-3)
    moved = score("forward-inf", prepared, [query], step, tmp_path / "step").scores_qn[0]
    assert moved == pytest.approx(1e-3 * banded, rel=0.05, abs=2e-5 * np.abs(banded).max())
    assert not np.allclose(
        banded,
        score("grad-dot", prepared, [query], quick("grad-dot", draws=6), tmp_path / "one").scores_qn[0],
    )
    with pytest.raises(UsageError, match="9 noise bands do not divide 3 draws"):
        score("grad-dot", prepared, [query], quick("grad-dot", noise_bands=9), tmp_path / "many")


def test_tracin_adds_up_its_checkpoints(prepared: Prepared, tmp_path: Path) -> None:
    """Two checkpoints with the base weights and learning rates 0.5 and 0.25; the final weights do not count
    beside them.
    """
    kept = {name: p.detach() for name, p in prepared.model.network.named_parameters()}
    for step, rate in ((1, 0.5), (2, 0.25)):
        path = tmp_path / "model" / KEPT / f"step-{step:08d}.safetensors"
        save_tensors(path, kept, CHECKPOINT, {"learning_rate": rate, "step": step})
    with_folder = Prepared(
        prepared.model, prepared.catalogue, prepared.folder, model_folder=tmp_path / "model"
    )
    query = query_of(prepared.catalogue, 0)
    dots = score("grad-dot", prepared, [query], quick("grad-dot"), tmp_path / "dot").scores_qn
    total = score("tracin", with_folder, [query], quick("tracin"), tmp_path / "tracin").scores_qn
    np.testing.assert_allclose(total, (0.5 + 0.25) * dots, rtol=1e-4, atol=1e-6 * np.abs(dots).max())


def project_gradient(module: nn.Module, projection: Projection, gradient: dict[str, Tensor]) -> Tensor:
    """The projection of one gradient that is there in full, by parameter names: ``[P]``."""
    layers = matrix_layers(module, gradient.keys())
    parts = [
        projection.out_or[n].T @ as_matrix(layers[n], n, gradient) @ projection.in_ir[n]
        for n in projection.in_ir
    ]
    return torch.cat([part.flatten() for part in parts])


def test_projected_gradients_are_projections_of_the_gradients(prepared: Prepared) -> None:
    """The full gradient is never formed, and the numbers are the same; squared outputs too."""
    model, catalogue = prepared.model, prepared.catalogue
    names = list(model.layers("all"))
    projection = draw_projection(model.network, names, 4, seed=1)
    assert projection.dimensions == 16 * len(projection.in_ir)
    bank = prepared.draws(3, 0)
    for measured in (item_loss_b, squared_output_b):
        (pairs,) = whole_items(model, items_of(model, catalogue, [0, 1]), bank, 6)
        found_ip, _ = projected_gradients(model, projection, measured, 3, *pairs)
        for i in range(2):
            (own,) = whole_items(model, items_of(model, catalogue, [i]), bank, 3)
            expected = project_gradient(
                model.network, projection, plain_gradient(model, measured, own, names)
            )
            torch.testing.assert_close(
                found_ip[i], expected, rtol=2e-3, atol=1e-4 * float(expected.abs().max())
            )


@pytest.mark.parametrize("rate_hz", [22050, 44100])
def test_a_sound_of_one_latent_frame_can_be_described(rate_hz: int) -> None:
    blip = Sound(np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32), rate_hz)
    assert np.isfinite(timbre(blip)).all() and np.isfinite(tonal(blip)).all()


def test_projections_keep_inner_products_on_average() -> None:
    layer = nn.Sequential(nn.Linear(5, 4))
    a, b = ({"0.weight": torch.randn(4, 5), "0.bias": torch.randn(4)} for _ in range(2))
    exact = sum(float((a[n] * b[n]).sum()) for n in a)
    found = []
    for seed in range(2000):
        projection = draw_projection(layer, a.keys(), 3, seed)
        found.append(float(project_gradient(layer, projection, a) @ project_gradient(layer, projection, b)))
    error = np.std(found) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(exact, abs=5 * error)  # 5 standard errors


def test_trak_is_the_papers_formula(prepared: Prepared, tmp_path: Path) -> None:
    settings = quick("trak")
    query = query_of(prepared.catalogue, 3)
    found = score("trak", prepared, [query], settings, tmp_path).scores_qn[0]
    model, catalogue = prepared.model, prepared.catalogue
    projection = projected._projection(prepared, settings)
    bank, many = (
        prepared.draws(3, 0),
        model.draw(settings.gradient_draws, random_for("projected query", settings.seed)),
    )
    names = list(model.layers("all"))

    def phi(row: int, draws: object) -> np.ndarray:
        (pairs,) = whole_items(model, items_of(model, catalogue, [row]), draws, 1000)
        return (
            project_gradient(model.network, projection, plain_gradient(model, item_loss_b, pairs, names))
            .double()
            .numpy()
        )

    features = np.stack([phi(row, bank) for row in range(len(catalogue))])
    trained = features[catalogue.training_rows]
    gram = trained.T @ trained
    ridge = settings.damping * np.trace(gram) / len(gram)
    expected = features @ np.linalg.solve(gram + ridge * np.eye(len(gram)), phi(3, many))
    assert found == pytest.approx(expected, rel=0.01, abs=2e-3 * np.abs(expected).max())


def test_a_newton_change_is_exact_leave_one_out_of_ridge_regression() -> None:
    """DAS on a linear model with squared loss: refitting without item n moves the query's output by what it
    says.
    """
    random = np.random.default_rng(0)
    phi, target, query = (
        random.standard_normal((30, 6)),
        random.standard_normal(30),
        random.standard_normal((2, 6)),
    )
    damping = 0.3
    ridge = damping * np.trace(phi[:25].T @ phi[:25]) / 6

    def fitted(rows: np.ndarray) -> np.ndarray:
        return np.linalg.solve(phi[rows].T @ phi[rows] + ridge * np.eye(6), phi[rows].T @ target[rows])

    trained = np.arange(25)
    whole = fitted(trained)
    residual = phi @ whole - target
    found = projected.newton_change(
        torch.from_numpy(phi),
        torch.from_numpy(residual),
        torch.from_numpy(query),
        torch.from_numpy(trained),
        damping,
    ).numpy()
    for n in trained:
        np.testing.assert_allclose(found[:, n], query @ (fitted(np.delete(trained, n)) - whole), rtol=1e-9)
    for n in range(25, 30):  # never trained on: what adding it would do, with the other sign
        np.testing.assert_allclose(found[:, n], query @ (whole - fitted(np.append(trained, n))), rtol=1e-9)


class LinearDenoiser(nn.Module):
    """Predicts each frame by one matrix: the loss is exactly quadratic."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        block = nn.Module()
        block.ff = nn.Linear(channels, channels, bias=False)
        self.transformer_blocks = nn.ModuleList([block])

    def forward(self, noisy_bct: Tensor, *_rest: object, **_more: object) -> tuple[Tensor]:
        return (self.transformer_blocks[0].ff(noisy_bct.transpose(1, 2)).transpose(1, 2),)


@pytest.fixture
def linear(model: StableAudio, catalogue: Catalogue, tmp_path: Path) -> Prepared:
    """A linear-Gaussian denoiser at the optimum of its ridge-regularised loss over the training segments on
    one bank.
    """
    other = copy.copy(model)
    torch.manual_seed(0)
    other.network = LinearDenoiser(model.encoding.latent_channels).requires_grad_(False)
    return Prepared(other, catalogue, tmp_path / "prepared")


@pytest.mark.parametrize("step_size", [0.01, 1.0])
def test_unlearning_in_the_readout_does_to_losses_what_it_says(
    prepared: Prepared, tmp_path: Path, step_size: float
) -> None:
    """The score is the rise of the loss when the model itself runs with the changed weights, whatever the
    step.
    """
    catalogue, query = prepared.catalogue, query_of(prepared.catalogue, 2)
    scores = score("readout", prepared, [query], quick("readout", step_size=step_size), tmp_path)
    rise_n = torch.zeros(len(catalogue), dtype=torch.float64)
    for part, weights in scores.changed[0]:
        sets: dict[str, dict[str, Tensor]] = {"base": {}, "changed": weights}
        losses = frame_losses(prepared.model, catalogue, part, sets, np.arange(len(catalogue)))
        rise_n += (losses["changed"].double() - losses["base"].double()).mean(dim=2).sum(dim=1)
    expected = (rise_n / 3).numpy()
    np.testing.assert_allclose(scores.scores_qn[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_readouts_step_is_its_exact_leave_one_out(prepared: Prepared) -> None:
    """With features held fast, the read-out that fits all items but one best is the one that fits all of them
    best, moved by the step that unlearns the item under the others' curvature.
    """
    model, catalogue, bank = prepared.model, prepared.catalogue, prepared.draws(4, 1)
    rows, readout, ridge = catalogue.training_rows, model.readout(), 0.05
    read_out = [
        [x.double() for x in readout_method.read(model, readout, pairs)]
        for n in rows
        for pairs in whole_items(model, items_of(model, catalogue, [n]), bank, 4)
    ]

    def moments(some: list[int]) -> tuple[Tensor, Tensor]:
        """E[phi phi'] and E[r phi'], both over all items."""
        pairs = [read_out[i] for i in some]
        n = len(rows) * len(bank) * model.encoding.frames
        return tuple(
            sum(torch.einsum("btx,bty->xy", x, y) for x, y in p) / n
            for p in (
                [(phi, phi) for _, phi in pairs],
                [(r, phi) for r, phi in pairs],
            )
        )

    def best(some: list[int]) -> Tensor:
        """The change of the read-out that minimises E|r + D phi|^2 + ridge |D|^2."""
        curvature, gradient = moments(some)
        return -gradient @ torch.linalg.inv(curvature + ridge * torch.eye(len(curvature)))

    whole = best(list(range(len(rows))))
    others = list(range(1, len(rows)))
    curvature, _ = moments(others)
    own_r, own_phi = read_out[0]
    moment = (
        torch.einsum("btc,btf->cf", own_r + own_phi @ whole.T, own_phi) / len(bank) / model.encoding.frames
    )
    damping = float(ridge / curvature.diagonal().mean())
    step = readout_method.solve_damped(curvature, moment, damping) / len(rows)
    exact = best(others) - whole
    torch.testing.assert_close(step.double(), exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))


def test_a_readouts_curvature_is_that_of_its_bands(prepared: Prepared) -> None:
    """Against a plain loop over the training segments and the band's own draws."""
    model, catalogue, bank = prepared.model, prepared.catalogue, prepared.draws(6, 2)
    fitted = readout_method.fit_curvature(prepared, bank, 3, 4)
    for found, part in zip(fitted, bank.bands(3), strict=True):
        (pairs,) = whole_items(model, items_of(model, catalogue, catalogue.training_rows), part, 1000)
        phi_pf = readout_method.read(model, model.readout(), pairs)[1].flatten(0, 1)
        torch.testing.assert_close(found, phi_pf.T @ phi_pf / len(phi_pf), rtol=1e-4, atol=1e-4)


NAME = "transformer_blocks.0.ff"
RIDGE = 0.05


def quadratic(prepared: Prepared, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean over ``rows`` and the bank of the second moments of what the linear layer is given and is to
    predict, scaled so that the loss is tr(W S W') - 2 tr(W X) + const.
    """
    model, bank = prepared.model, prepared.draws(3, 0)
    (pairs,) = whole_items(model, items_of(model, prepared.catalogue, rows), bank, 1000)
    latents_bct, noise = pairs[0].tensors["latents"], pairs[1].tensors
    angle = noise["t"][:, None, None] * math.pi / 2
    noisy = (angle.cos() * latents_bct + angle.sin() * noise["eps"]).double()
    target = model.target(*pairs).double()
    scale = 1 / (noisy.shape[1] * noisy.shape[2] * len(noisy))
    return torch.einsum("bit,bjt->ij", noisy, noisy) * scale, torch.einsum(
        "bit,bjt->ij", noisy, target
    ) * scale


def optimum(prepared: Prepared, rows: np.ndarray, n_all: int) -> Tensor:
    """Weights that minimise the sum of the losses of ``rows`` over ``n_all``, plus the ridge."""
    s, x = (len(rows) / n_all * m for m in quadratic(prepared, rows))
    return torch.linalg.solve(s + RIDGE / 2 * torch.eye(len(s), dtype=torch.float64), x).T


def exact_curvature(prepared: Prepared, rows: np.ndarray) -> Ekfac:
    """The Gauss-Newton matrix of the linear denoiser: 2 S (x) 1, which is Kronecker."""
    s, _ = quadratic(prepared, rows)
    values, vectors = torch.linalg.eigh(2 * s)
    out = torch.eye(len(s))
    return Ekfac(
        {NAME: vectors.float()}, {NAME: out}, {NAME: (values + RIDGE).float().expand(len(s), -1).contiguous()}
    )


def test_influence_and_unlearning_are_exact_leave_one_out_on_a_linear_denoiser(linear: Prepared) -> None:
    """Removing item n moves the optimum by (1/N) H^-1 grad L(z_n) / (1 - leverage): influence and the
    unlearning step are its first order in 1/N, with H without the item they are exact.
    """
    rows, model = linear.catalogue.training_rows, linear.model
    n_all = len(rows)
    whole = optimum(linear, rows, n_all)
    model.network.get_parameter(f"{NAME}.weight").copy_(whole)
    for n in (0, 4):
        left = np.delete(rows, n)
        (pairs,) = whole_items(model, items_of(model, linear.catalogue, [rows[n]]), linear.draws(3, 0), 1000)
        gradient = plain_gradient(model, item_loss_b, pairs, [f"{NAME}.weight"])
        # curvature of the others' losses: what an unlearning step needs to be exact
        s_left = quadratic(linear, left)[0] * len(left) / n_all
        values, vectors = torch.linalg.eigh(2 * s_left)
        factors = Ekfac(
            {NAME: vectors.float()},
            {NAME: torch.eye(len(s_left))},
            {NAME: (values + RIDGE).float().expand(len(s_left), -1).contiguous()},
        )
        step = precondition_ekfac(model.network, gradient, factors, 0.0)[f"{NAME}.weight"] / n_all
        exact = optimum(linear, left, n_all) - whole
        torch.testing.assert_close(step.double(), exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))
        with_all = (
            precondition_ekfac(model.network, gradient, exact_curvature(linear, rows), 0.0)[f"{NAME}.weight"]
            / n_all
        )
        cosine = torch.nn.functional.cosine_similarity(with_all.double().flatten(), exact.flatten(), dim=0)
        assert cosine > 1 - 2 / n_all  # off by the item's own share of the curvature


def test_ekfac_is_the_exact_fisher_where_that_is_kronecker() -> None:
    """Items are all pairs of inputs a_i and output gradients g_j: then E[gg' (x) aa'] = E[gg'] (x) E[aa']
    exactly.
    """
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    a_if, g_jf = torch.randn(7, 4), torch.randn(5, 3)
    given, upstream = a_if.repeat_interleave(5, dim=0)[:, None], g_jf.repeat(7, 1)[:, None]
    module = nn.Sequential(layer)

    def look(see: Callable[..., None]) -> None:
        with observed(module, ["0.weight"], see) as roots:
            torch.autograd.grad((module(given) * upstream).sum(), roots)

    covariances: dict[str, Tensor] = {}
    look(add_covariances(covariances))
    inputs, outputs = ({"0": torch.linalg.eigh(covariances[f"{side}/0"])[1]} for side in ("in", "out"))
    values: dict[str, Tensor] = {}
    look(add_values(values, inputs, outputs))
    factors = Ekfac(inputs, outputs, {"0": values["0"] / 35})
    with_one = torch.cat([given[:, 0], torch.ones(35, 1)], dim=1).detach()
    gradients = torch.einsum("no,ni->noi", upstream[:, 0], with_one).flatten(1)
    fisher = gradients.T @ gradients / 35
    matrix = torch.randn(3, 5)
    damping = 0.1 * fisher.diagonal().mean()
    expected = torch.linalg.solve(fisher + damping * torch.eye(15), matrix.flatten()).view(3, 5)
    torch.testing.assert_close(factors.solve({"0": matrix}, 0.1)["0"], expected, rtol=1e-3, atol=1e-4)


def test_a_sampled_ekfac_is_the_gauss_newton_matrix_of_a_linear_denoiser(linear: Prepared) -> None:
    """White output gradients of variance 2 / (C T) in the mean over many draws."""
    draws = 400
    fitted = fit_ekfac(linear.model, linear.catalogue, "all", "sampled", draws, 0, linear.folder)
    c, t = linear.model.encoding.latent_channels, linear.model.encoding.frames
    value = fitted.value_oi[NAME]
    n = draws * len(linear.catalogue.training_rows)
    variance = 2 / (c * t)  # of each output gradient; inputs have second moment E[z z'] over frames
    batch = linear.catalogue.batch(linear.catalogue.training_rows)
    z = batch.latents_nct.double()
    # E over t of both ends
    s = (torch.einsum("bit,bjt->ij", z, z) / len(z) + t * torch.eye(c, dtype=torch.float64)) / 2
    exact = variance * torch.linalg.eigvalsh(s)
    # a sum of squares of n draws; eigenvectors are fitted on the same, hence ten standard errors
    torch.testing.assert_close(value.double().mean(dim=0), exact, rtol=10 * (2 / n) ** 0.5, atol=0)


def test_a_killed_ekfac_resumes_to_the_same_bytes(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linernotes.curvature.fitting.SEGMENTS_IN_CHUNK", 3)
    arguments = (prepared.model, prepared.catalogue, "mlp", "sampled", 1, 0)

    def kill(done: int, total: int) -> None:
        if done > total / 2 + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_ekfac(*arguments, tmp_path / "killed", on_progress=kill)
    fit_ekfac(*arguments, tmp_path / "killed")
    fit_ekfac(*arguments, tmp_path / "whole")
    name = "ekfac.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert [p.name for p in (tmp_path / "killed").iterdir()] == [name]


def test_an_ekfac_of_other_layers_or_another_model_is_refused(
    tmp_path: Path, prepared: Prepared, linear: Prepared
) -> None:
    fit_ekfac(prepared.model, prepared.catalogue, "mlp", "sampled", 1, 0, tmp_path)
    with pytest.raises(LinernotesError, match=r"was made with layers 'mlp', but 'all' is in use"):
        fit_ekfac(prepared.model, prepared.catalogue, "all", "sampled", 1, 0, tmp_path)
    changed = copy.copy(prepared.model)
    changed.weights_hash = "another"
    with pytest.raises(LinernotesError, match="was made with model"):
        fit_ekfac(changed, prepared.catalogue, "mlp", "sampled", 1, 0, tmp_path)
    factors = fit_ekfac(prepared.model, prepared.catalogue, "mlp", "sampled", 1, 0, tmp_path)
    gradient = {name: torch.zeros_like(p) for name, p in prepared.model.layers("self-attention").items()}
    with pytest.raises(LinernotesError, match="was not fitted for the layer"):
        precondition_ekfac(prepared.model.network, gradient, factors, 0.1)


def test_the_skew_and_the_stopping_rule_by_hand() -> None:
    after, before = torch.tensor([[0.3, 0.5]]), torch.tensor([[0.1, 0.5]])
    torch.testing.assert_close(
        skew(after, before, "normalised"), torch.tensor([[0.2 / 0.401, 0.0]]).double(), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(skew(after, before, "difference"), torch.tensor([[0.2, 0.0]]).double())
    assert mucs.stops(0.95, 1.0, 0.95) and not mucs.stops(0.949, 1.0, 0.95)


def test_mucs_stops_at_its_bound_and_leaves_the_model_alone(prepared: Prepared) -> None:
    """Here the model is untrained itself: its loss is an untrained network's, so at a bound of 95 % there is
    nothing to do; at the whole of a bound it cannot reach, it climbs for as long as it may.
    """
    settings = MucsSettings(learning_rate=0.001, retain_batch=4, max_steps=20, gradient_draws=16)
    before = {name: p.clone() for name, p in prepared.model.network.named_parameters()}
    query = query_of(prepared.catalogue, 0)
    reached, none = mucs.ascend(prepared, [query], settings.model_copy(update={"stop_at": 0.5}))
    assert none == 0
    assert reached.keys() == prepared.model.layers("mlp").keys()
    assert all(torch.equal(before[name], w) for name, w in reached.items())
    climbed, _ = mucs.ascend(
        prepared, [query], settings.model_copy(update={"stop_at": 1.0, "forget_weight": 50.0})
    )
    assert not any(torch.equal(before[name], w) for name, w in climbed.items() if name.endswith("weight"))
    assert all(torch.equal(before[name], p) for name, p in prepared.model.network.named_parameters())


def test_tonal_likeness_does_not_hear_the_key() -> None:
    rate = 22050
    t = np.arange(rate) / rate

    def melody(steps: list[int]) -> Sound:
        tones = [np.sin(2 * np.pi * 440 * 2 ** (s / 12) * t[: rate // 3]) for s in steps]
        return Sound(np.concatenate(tones)[None].astype(np.float32), rate)

    tune, higher, other = melody([0, 4, 7, 0, 5]), melody([3, 7, 10, 3, 8]), melody([0, 1, 2, 6, 3])

    def likeness(a: Sound, b: Sound) -> float:
        return float((tonal(a) @ tonal(b)[0]).max())

    assert likeness(tune, tune) == pytest.approx(1, abs=1e-6)
    assert likeness(tune, higher) > 0.95 > likeness(tune, other)


def test_clap_needs_a_checkpoint(prepared: Prepared, tmp_path: Path) -> None:
    queries = [query_of(prepared.catalogue, 0)]
    with pytest.raises(UsageError, match="give its folder with --clap"):
        score("clap", prepared, queries, quick("clap"), tmp_path)
    with pytest.raises(LinernotesError, match="is no CLAP checkpoint"):
        score("clap", prepared, queries, quick("clap", clap=str(tmp_path)), tmp_path)


def test_clap_runs_from_a_local_checkpoint(prepared: Prepared, tmp_path: Path) -> None:
    """A real CLAP, tiny and untrained."""
    from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig

    torch.manual_seed(0)
    audio = ClapAudioConfig(
        window_size=8,
        num_mel_bins=64,
        spec_size=256,
        hidden_size=32,
        patch_embeds_hidden_size=16,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
    )
    text = ClapTextConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=8)
    ClapModel(config).save_pretrained(tmp_path / "clap")
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(tmp_path / "clap")
    settings = quick("clap", clap=str(tmp_path / "clap"))
    scores = score("clap", prepared, [query_of(prepared.catalogue, 3)], settings, tmp_path / "run").scores_qn
    assert scores.argmax() == 3 and scores.max() == pytest.approx(1, abs=1e-4)


def test_scores_that_are_not_finite_are_never_ranked(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(LinernotesError, match="finite"):
        score(
            "forward-inf",
            prepared,
            [query_of(prepared.catalogue, 0)],
            quick("forward-inf", step_size=1e30),
            tmp_path,
        )


def test_ekfac_settings_reach_the_method(prepared: Prepared, tmp_path: Path) -> None:
    """More damping turns influence into a gradient product of the linear layers."""
    query = query_of(prepared.catalogue, 1)
    damped = EkfacSettings(
        **{"damping": 1e6, "draws": 3, "gradient_draws": 24, "fisher_draws": 1, "layers": "output"}
    )
    found = score("ekfac", prepared, [query], damped, tmp_path / "ekfac").scores_qn[0]
    dots = score("representer", prepared, [query], quick("representer"), tmp_path / "dots").scores_qn[0]
    assert np.corrcoef(found, dots)[0, 1] > 1 - 1e-5
