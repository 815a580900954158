"""The diagonal Fisher: for every weight, the mean over training items and draws of its squared loss gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from linernotes.artefacts import load_tensors, save_tensors
from linernotes.catalog.store import Catalogue
from linernotes.curvature.per_item import item_gradients
from linernotes.errors import LinernotesError
from linernotes.models.contract import Conditioning, GenerativeModel
from linernotes.models.workers import in_order
from linernotes.noise import random_for, stratified_times

SEGMENTS_IN_CHUNK = 256


def fit_diagonal_fisher(
    model: GenerativeModel,
    catalogue: Catalogue,
    draws: int,
    seed: int,
    path: Path,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """F_p = E_{i, t, eps} [ (dL(z_i; t, eps) / d theta_p)^2 ] over the training segments (empirical Fisher; Wang et al.
    2024, eq. 5), for every parameter of the model's transformer layers, by name.

    A draw is one sample of the loss: gradients are squared before they are averaged over items and draws. Each segment
    has its own ``draws`` draws, fixed by ``seed``. Written to ``path``; a finished one is read back, a killed one resumed.

    Raises:
        LinernotesError: no training segments, catalogue of another model, or ``path`` was made from something else.
    """
    catalogue.require(model.codec_hash, model.text_hash, model.shape.frames, model.name)
    rows = catalogue.training_rows
    if not len(rows):
        raise LinernotesError(f"{catalogue.path} holds no training segments, only decoys: add tracks whose split is 'train'")
    header = {"model": model.weights_hash, "catalogue": catalogue.hash, "draws": draws, "seed": seed}
    if path.exists():
        return load_tensors(path, "diagonal Fisher", header)[0]
    parameters = model.layers("all")
    partial = path.with_name(path.name + ".partial")
    sums, done = {name: torch.zeros_like(p) for name, p in parameters.items()}, 0
    if partial.exists():
        saved, saved_header = load_tensors(partial, "diagonal Fisher, partial", header)
        sums = {name: tensor.to(sums[name].device) for name, tensor in saved.items()}
        done = saved_header["done"]

    for start in range(done, len(rows), SEGMENTS_IN_CHUNK):
        some = rows[start : start + SEGMENTS_IN_CHUNK]
        batch = catalogue.batch(some)
        generator = random_for("Fisher", seed, start)
        order = torch.randperm(len(some), generator=generator)  # a segment's times must not follow its place in the catalogue
        passes = (
            (batch.latents_nct[part], batch.text_nld[part], batch.seconds_n[part], t_n[part], eps_nct[part])
            for t_n, eps_nct in (
                (stratified_times(len(some), generator)[order], torch.randn(batch.latents_nct.shape, generator=generator))
                for _ in range(draws)
            )
            for part in (slice(first, first + batch_size) for first in range(0, len(some), batch_size))
        )
        for squares in in_order(model, passes, _squared_gradients):
            for name, square in squares.items():
                sums[name] += square
        done = start + len(some)
        if on_progress:
            on_progress(done, len(rows))
        if done < len(rows):
            save_tensors(partial, sums, "diagonal Fisher, partial", {**header, "done": done})
    fisher = {name: total / (len(rows) * draws) for name, total in sums.items()}
    save_tensors(path, fisher, "diagonal Fisher", header)
    partial.unlink(missing_ok=True)
    return fisher


def _squared_gradients(model: GenerativeModel, items: tuple[Tensor, ...]) -> dict[str, Tensor]:
    latents_bct, text_bld, seconds_b, t_b, eps_bct = items
    device = next(model.denoiser.parameters()).device
    condition = model.condition(text_bld, seconds_b)
    return squared_gradients(model, latents_bct.to(device), condition, t_b.to(device), eps_bct.to(device))


def squared_gradients(
    model: GenerativeModel, latents_bct: Tensor, condition: Conditioning, t_b: Tensor, eps_bct: Tensor
) -> dict[str, Tensor]:
    """Sum over the batch of each item's squared gradient, by parameter name."""
    sums: dict[str, Tensor] = {}
    names = model.layers("all").keys()

    def use(name: str, gradient_bp: Tensor) -> None:
        sums[name] = gradient_bp.square().sum(dim=0)

    # Every layer's output depends on what the denoiser is given, so a backward pass to its inputs reaches all of them,
    # and no gradient of any weight is formed on the way.
    latents_bct = latents_bct.detach().requires_grad_(True)
    told = Conditioning({name: tensor.detach().requires_grad_(True) for name, tensor in condition.tensors.items()})
    with item_gradients(model.denoiser, names, use), torch.enable_grad():
        loss = model.loss_bt(latents_bct, told, t_b, eps_bct).mean(dim=1).sum()
        torch.autograd.grad(loss, [latents_bct, *told.tensors.values()], allow_unused=True)
    return sums


def precondition(gradient: dict[str, Tensor], fisher: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
    """(F + lambda)^-1 g, with lambda = ``damping`` times the mean of F in each layer (each parameter tensor)."""
    return {name: g / (fisher[name].to(g.device) + damping * fisher[name].mean().to(g.device)) for name, g in gradient.items()}
