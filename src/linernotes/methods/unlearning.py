"""Attribution by unlearning (AbU): make a copy of the model forget the query, and see which training items it loses.

Wang et al. 2024 (arXiv 2406.09408) for images, Choi et al. 2025 (2506.18312) for music. Only the tensors that change are
copied, never the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import load_tensors, save_tensors
from linernotes.curvature.diagonal import precondition
from linernotes.errors import LinernotesError
from linernotes.losses import DEFAULT_BATCH, item_losses
from linernotes.methods.contract import Prepared, Progress, Query, Scores
from linernotes.models.contract import GenerativeModel
from linernotes.models.weights import ChangedWeights, all_finite, using_weights, with_gradients
from linernotes.models.workers import in_order
from linernotes.noise import random_for, stratified_times
from linernotes.settings import UnlearningSettings

UNLEARNED = "unlearned weights"


def unlearn(
    model: GenerativeModel,
    fisher: dict[str, Tensor],
    query: Query,
    n_training: int,
    settings: UnlearningSettings,
    seed: int,
    batch_size: int = DEFAULT_BATCH,
    on_draws: Progress | None = None,
) -> dict[str, Tensor]:
    """The changed weights after unlearning ``query``, by parameter name.

    theta' = theta + (a / N) (F + lambda)^-1 grad L(query)  (Wang et al. 2024, eq. 6), ``settings.steps`` times.

    Args:
        n_training: N, the number of training items.

    Raises:
        LinernotesError: every frame of the query is silent, or the weights are no longer finite.
    """
    parameters = model.layers(settings.layers)
    changed = {name: p.detach().clone() for name, p in parameters.items()}
    for step in range(settings.steps):
        generator = random_for("unlearning", seed, step)
        gradient = query_gradient(model, query, changed, settings, generator, batch_size, on_draws)
        for name, direction in precondition(gradient, fisher, settings.damping).items():
            changed[name] = changed[name] + settings.step_size / n_training * direction
    if not all_finite(changed):
        raise LinernotesError(
            f"unlearning {query.name} left weights that are not finite: use a smaller --step-size or more --damping"
        )
    return changed


def query_gradient(
    model: GenerativeModel,
    query: Query,
    changed: ChangedWeights,
    settings: UnlearningSettings,
    generator: torch.Generator,
    batch_size: int = DEFAULT_BATCH,
    on_draws: Progress | None = None,
) -> dict[str, Tensor]:
    """Gradient of the query's loss, averaged over draws and over heard frames, with respect to the ``changed`` weights."""
    frames_t = query.heard_t if settings.mask_silence else torch.ones_like(query.heard_t)
    if not bool(frames_t.any()):
        raise LinernotesError(f"{query.name} is silent throughout: give a clip with sound in it, or --no-mask-silence")
    device = next(model.denoiser.parameters()).device
    weight_t = (frames_t / frames_t.sum()).to(device)
    condition = model.condition(query.text_ld[None], torch.tensor([query.seconds]))
    draws = settings.gradient_draws
    times = stratified_times(draws, generator)
    shape = query.latents_ct.shape
    jobs = ((t_b, torch.randn(len(t_b), *shape, generator=generator)) for t_b in times.split(batch_size))

    def gradient_of(worker: GenerativeModel, job: tuple[Tensor, Tensor]) -> tuple[dict[str, Tensor], int]:
        t_b, eps_bct = (x.to(device) for x in job)
        parameters = {name: p for name, p in worker.denoiser.named_parameters() if name in changed}
        with using_weights(worker.denoiser, changed), with_gradients(list(parameters.values())):
            latents_bct = query.latents_ct.to(device).expand(len(t_b), -1, -1)
            loss_bt = worker.loss_bt(latents_bct, condition.repeat(len(t_b)), t_b, eps_bct)
            gradients = torch.autograd.grad((loss_bt * weight_t).sum() / draws, list(parameters.values()))
        return dict(zip(parameters, gradients, strict=True)), len(t_b)

    total = {name: torch.zeros_like(p) for name, p in changed.items()}
    done = 0
    for gradients, size in in_order(model, jobs, gradient_of):
        for name, gradient in gradients.items():
            total[name] += gradient
        done += size
        if on_draws:
            on_draws(f"unlearning ({query.name})", done, draws)
    return total


def score(
    prepared: Prepared,
    queries: list[Query],
    settings: UnlearningSettings,
    seed: int,
    folder: Path,
    batch_size: int = DEFAULT_BATCH,
    on_progress: Progress | None = None,
) -> Scores:
    """Scores of all segments for several queries, in one sweep over the data.

    A segment's score is the mean over the noise bank of its item loss after unlearning minus before.
    """
    n_training = len(prepared.catalogue.training_rows)
    changed = []
    for i, query in enumerate(queries):
        path = folder / f"unlearned-{i}.safetensors"  # kept, so that a killed run goes on with the very same weights
        if not path.exists():
            weights = unlearn(prepared.model, prepared.fisher, query, n_training, settings, seed, batch_size, on_progress)
            save_tensors(path, weights, UNLEARNED, {"model": prepared.model.weights_hash})
        loaded, _ = load_tensors(path, UNLEARNED, {"model": prepared.model.weights_hash})
        device = next(prepared.model.denoiser.parameters()).device
        changed.append({name: tensor.to(device) for name, tensor in loaded.items()})
    sets = {f"query-{i}": weights for i, weights in enumerate(changed)}
    losses = item_losses(
        prepared.model, prepared.catalogue, prepared.bank, sets, folder, batch_size=batch_size,
        on_progress=(lambda done, total: on_progress("scoring the catalogue", done, total)) if on_progress else None,
    )  # fmt: skip
    differences = [(losses[name].double() - prepared.base_loss_nk.double()).mean(dim=1) for name in sets]
    return Scores(np.stack([d.numpy() for d in differences]), changed)
