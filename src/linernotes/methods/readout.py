"""Unlearning in the model's linear read-out: the exact step, and its exact effect on every item, from forward passes alone.

Where a model's output is linear in one layer's weights W, the item loss is quadratic in them, frame by frame:
|r + P D phi|^2 / C with r the prediction less its target, phi what the layer is given, P the linear maps after it and D the
change of W. Its curvature is Kronecker, (2 / C) P'P (x) E[phi phi'], so the mirrored unlearning step
theta' = theta + (a / N) (F + lambda)^-1 grad L(query) (Wang et al. 2024, eq. 6), which elsewhere needs an approximate F, is
solved here as it stands; no gradient of any deeper layer is formed.

The step is taken in each band of noise levels by itself, with that band's curvature, and held against items' losses on that
band: the read-out's gradients at different noise levels are nearly unrelated or opposed (dev/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.curvature.fitting import Items, fit_sums
from linernotes.curvature.per_item import with_ones
from linernotes.errors import UsageError
from linernotes.methods.contract import TENSOR_BYTES, Prepared, Query, Scores, Work
from linernotes.methods.items import Pairs, sweep_items
from linernotes.methods.unlearning import draws_in, heard_weights, noise_name
from linernotes.models.contract import GenerativeModel, Readout, ReadoutModel
from linernotes.models.workers import in_order
from linernotes.noise import Band, NoiseBank, random_for, stratified_times
from linernotes.settings.methods import ReadoutSettings


def score_readout(prepared: Prepared, queries: list[Query], settings: ReadoutSettings, folder: Path) -> Scores:
    """Rise of the item loss after the exact unlearning step of each query in the read-out, mean over bands."""
    readout, bands = readout_of(prepared.model), settings.noise_bands
    bank = prepared.bank(settings.draws, settings.seed)
    parts = bank.bands(bands)
    curvature_bff = fit_curvature(prepared, bank, bands, settings.batch_size)
    sets_of = [queries] if settings.together else [[query] for query in queries]
    step_qbcf = torch.stack([unlearning_steps(prepared, some, curvature_bff, settings) for some in sets_of])
    header = {
        "model": prepared.model.weights_hash, "catalogue": prepared.catalogue.hash, "noise": bank.hash,
        "steps": hash_arrays({"steps": step_qbcf.cpu().numpy()}),
    }  # fmt: skip
    look = partial(rises, readout=readout, step_qbcf=step_qbcf, draws=len(bank))
    rise_nq = sweep_items(prepared, bank, settings.batch_size, look, folder, "losses without the clip", header, prepared.rows)[
        "rise_nq"
    ]
    changed = [
        [(part, weights_after(prepared.model, readout, step_cf)) for part, step_cf in zip(parts, step_bcf, strict=True)]
        for step_bcf in step_qbcf
    ]
    return Scores(rise_nq.double().T.numpy(), bank, changed)


def rises(worker: GenerativeModel, pairs: Pairs, readout: Readout, step_qbcf: Tensor, draws: int) -> dict[str, Tensor]:
    """Rise of each item's loss by each query's steps, one for each band; mean over the item's ``draws``, which lie in order of
    their noise level.
    """
    bands = step_qbcf.shape[1]

    def by_band(x_btc: Tensor) -> Tensor:
        """``[bands, items x the frames of all draws in the band, C]``"""
        return x_btc.reshape(len(x_btc) // draws, bands, -1, x_btc.shape[2]).transpose(0, 1).flatten(1, 2)

    residual_bpc, given_bpf = map(by_band, read(worker, readout, pairs))
    rises = []
    for step_bcf in step_qbcf:  # one by one: a query's score does not depend on the others, to the last bit
        moved_bpc = given_bpf @ step_bcf.mT
        rise_bpc = moved_bpc * (2 * residual_bpc + moved_bpc)  # |r + m|^2 - |r|^2
        rises.append(rise_bpc.reshape(bands, len(pairs[0]) // draws, -1).mean(dim=(0, 2)))
    return {"rise_nq": torch.stack(rises, dim=1)}


def readout_of(model: GenerativeModel) -> Readout:
    """The model's read-out.

    Raises:
        UsageError: the model's output is not linear in any layer.
    """
    if not isinstance(model, ReadoutModel):
        raise UsageError(f"{model.name} has no linear read-out, which the method 'readout' needs: choose --method abu-ekfac")
    return model.readout()


def read(model: GenerativeModel, readout: Readout, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """One pass forward: prediction less target ``[B, T, C]``, and what the read-out is given ``[B, T, F (+ 1)]``."""
    assert isinstance(model, ReadoutModel)
    latents_bct, condition, t_b, eps_bct = pairs
    layer = model.denoiser.get_submodule(readout.layer)
    given: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given.append(with_ones(layer, inputs[0][:, readout.skipped :]))

    handle = layer.register_forward_pre_hook(keep)
    try:
        with torch.inference_mode():
            alpha_b, sigma_b = model.path(t_b)
            noisy_bct = alpha_b[:, None, None] * latents_bct + sigma_b[:, None, None] * eps_bct
            residual_bct = model.predict(noisy_bct, t_b, condition) - model.target(latents_bct, eps_bct, alpha_b, sigma_b)
    finally:
        handle.remove()
    return residual_bct.transpose(1, 2), given[0]


def fit_curvature(prepared: Prepared, bank: NoiseBank, bands: int, batch_size: int) -> Tensor:
    """E[phi phi'] over the training segments and their frames in each band of ``bank``, ``[bands, F, F]``; from the prepared
    folder or fitted now, in one pass forward.

    The draws are those that items are scored on: what the features owe to this very noise is then no signal. With draws of its
    own the same method predicts retraining less well (dev/LOG.md).
    """
    readout = readout_of(prepared.model)

    def moments(worker: GenerativeModel, items: Items) -> dict[str, Tensor]:
        _, given_btf = read(worker, readout, (items.latents_bct, items.condition, items.t_b, items.eps_bct))
        (band,) = set((items.t_b * bands).long().tolist())  # a batch has one draw
        given_pf = given_btf.flatten(0, 1)
        return {f"band-{band}": given_pf.T @ given_pf}

    made_from = {"layer": readout.layer, "bands": bands}
    path = prepared.folder / f"readout-{hash_json([made_from, bank.hash])}.safetensors"
    sums = fit_sums(
        prepared.model, prepared.catalogue, len(bank), bank.seed, path, "curvature of the read-out", made_from, moments,
        batch_size, prepared.told("curvature (once per model)"), bank,
    )  # fmt: skip
    moments_bff = torch.stack([sums[f"band-{band}"] for band in range(bands)])
    return moments_bff / (prepared.n_training * len(bank) / bands * prepared.model.shape.frames)


def unlearning_steps(prepared: Prepared, queries: Sequence[Query], curvature_bff: Tensor, settings: ReadoutSettings) -> Tensor:
    """(a / N) (F + lambda)^-1 grad L for the queries' mean loss in each band, as it acts on the model's output
    ``[bands, C, F (+ 1)]``: the factors P, P'P and 2 / C of gradient and curvature cancel out.
    """
    steps, bands = [], len(curvature_bff)
    for b, curvature_ff in enumerate(curvature_bff):
        moments = [query_moment(prepared, query, settings, (b, bands)) for query in queries]
        steps.append(solve_damped(curvature_ff, torch.stack(moments).mean(dim=0), settings.damping))
    return settings.step_size / prepared.n_training * torch.stack(steps)


def solve_damped(curvature_ff: Tensor, gradient_cf: Tensor, damping: float) -> Tensor:
    """gradient (curvature + lambda)^-1, lambda = ``damping`` x the curvature's mean diagonal."""
    damped_ff = curvature_ff.double()
    damped_ff.diagonal().add_(damping * damped_ff.diagonal().mean())
    return torch.linalg.solve(damped_ff, gradient_cf.double(), left=False).float()


def query_moment(prepared: Prepared, query: Query, settings: ReadoutSettings, band: Band) -> Tensor:
    """E[r phi'] over the query's heard frames and its draws in a band, ``[C, F (+ 1)]``."""
    model, readout = prepared.model, readout_of(prepared.model)
    device = next(model.denoiser.parameters()).device
    draws, generator = draws_in(settings, band), random_for(noise_name(band), settings.seed)
    weight_t = heard_weights(query, settings.mask_silence).to(device)
    condition = model.condition(query.text_ld[None], torch.tensor([query.seconds]))
    times = stratified_times(draws, generator, band)
    jobs = (
        (t_b, torch.randn(len(t_b), *query.latents_ct.shape, generator=generator))
        for t_b in torch.split(times, settings.batch_size)
    )

    def moment(worker: GenerativeModel, job: tuple[Tensor, Tensor]) -> Tensor:
        t_b, eps_bct = (x.to(device) for x in job)
        latents_bct = query.latents_ct.to(device).expand(len(t_b), -1, -1)
        residual_btc, given_btf = read(worker, readout, (latents_bct, condition.repeat(len(t_b)), t_b, eps_bct))
        return torch.einsum("btc,t,btf->cf", residual_btc, weight_t, given_btf) / draws

    return torch.stack(list(in_order(model, jobs, moment))).sum(dim=0)


def weights_after(model: GenerativeModel, readout: Readout, step_cf: Tensor) -> dict[str, Tensor]:
    """The layer's weights that do to the output what the step does: of all such, those nearest to the old ones."""
    layer: Any = model.denoiser.get_submodule(readout.layer)
    move_of = torch.linalg.pinv(readout.projection_co.double()) @ step_cf.double()
    after = {f"{readout.layer}.weight": layer.weight + move_of[:, : layer.weight.shape[1]].float()}
    if layer.bias is not None:
        after[f"{readout.layer}.bias"] = layer.bias + move_of[:, -1].float()
    return after


def work_of_readout(prepared: Prepared, settings: ReadoutSettings, _query: Query) -> Work:
    """Forward passes only. Once: the curvature."""
    readout = readout_of(prepared.model)
    layer: Any = prepared.model.denoiser.get_submodule(readout.layer)
    width = layer.in_features + (layer.bias is not None)
    curvature = TENSOR_BYTES * settings.noise_bands * width**2
    steps = TENSOR_BYTES * settings.noise_bands * layer.weight.numel()
    return Work(
        {"forward": prepared.n_training * settings.draws}, {"forward": len(prepared.rows) * settings.draws},
        {"forward": settings.gradient_draws}, curvature, 4 * curvature, steps,
    )  # fmt: skip
