"""Unlearning in the model's linear read-out: the exact step, and its exact effect on every item, from forward
passes alone.

Where a model's output is linear in one layer's weights W, the item loss is quadratic in them, frame by frame:
|r + P D phi|^2 / C with r the prediction less its target, phi what the layer is given, P the linear maps
after it and D the change of W. Its curvature is Kronecker, (2 / C) P'P (x) E[phi phi'], so the mirrored
unlearning step theta' = theta + (a / N) (F + lambda)^-1 grad L(query) (Wang et al. 2024, eq. 6), which
elsewhere needs an approximate F, is solved here as it stands; no gradient of any deeper layer is formed.

The step is taken in each band of noise levels by itself, with that band's curvature, and held against items'
losses on that band: the read-out's gradients at different noise levels are nearly unrelated or opposed
(dev/LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.curvature.fitting import Drawn, fit_sums
from linernotes.curvature.packed import load_packed
from linernotes.curvature.per_item import with_ones
from linernotes.draws import Band, Draws, noise_contrasts
from linernotes.methods.contract import (
    TENSOR_BYTES,
    Deviations,
    Passes,
    Prepared,
    Query,
    Scores,
    Work,
    draws_together,
)
from linernotes.methods.items import Pairs, sweep_items
from linernotes.methods.query_gradient import heard_weights, query_draws
from linernotes.methods.readout_cells import cell_frames, in_cells, may_be_kept
from linernotes.methods.readout_softmax import score_softmax_readout, work_of_softmax_readout
from linernotes.models.contract import GenerativeModel, Readout, ReadoutModel, SoftmaxReadoutModel, device_of
from linernotes.models.workers import in_order
from linernotes.settings.methods import ReadoutSettings

# so many segments have some hundred thousand frames, where a layer has some thousand inputs
CURVATURE_SEGMENTS = 2048


def score_readout(
    prepared: Prepared, queries: list[Query], settings: ReadoutSettings, folder: Path
) -> Scores:
    """Rise of the item loss after the exact unlearning step of each query in the read-out, mean over
    bands; of a model of codes, in its heads.
    """
    if isinstance(prepared.model, SoftmaxReadoutModel):
        return score_softmax_readout(prepared, queries, settings, folder)
    readout, bands = readout_of(prepared.model), settings.noise_bands
    draws = prepared.draws(settings.draws, settings.seed)
    parts = draws.bands(bands)
    curvature_bff = fit_curvature(prepared, draws, bands, settings.batch_size, settings.seed)
    sets_of = [queries] if settings.together else [[query] for query in queries]
    keep = may_be_kept(prepared.model, bands, len(queries)) and not settings.together
    solved = []
    for i, some in enumerate(sets_of):
        if prepared.on_progress and len(sets_of) > 1:
            prepared.on_progress("unlearning steps", i, len(sets_of))
        solved.append(solve_steps(prepared, some, curvature_bff, settings, keep))
    step_qbcf = torch.stack([one.step_bcf for one in solved])
    chance_qbcf = torch.stack([one.chance_bcf for one in solved])
    header = {
        **prepared.made_from(draws),
        "steps": hash_arrays({"steps": step_qbcf.cpu().numpy(), "chance": chance_qbcf.cpu().numpy()}),
    }
    look = partial(rises, readout=readout, step_qbcf=step_qbcf, chance_qbcf=chance_qbcf, each=len(draws))
    found = sweep_items(prepared, draws, settings.batch_size, look, folder, "scores", header, prepared.rows)
    changed = [
        [
            (part, weights_after(prepared.model, readout, step_cf))
            for part, step_cf in zip(parts, step_bcf, strict=True)
        ]
        for step_bcf in step_qbcf
    ]
    by_items, by_clip = (found[name].permute(2, 1, 0).numpy() for name in ("by_items_nqr", "by_clip_nqb"))
    known = settings.gradient_draws // bands > 1  # one draw a band does not say what another would do
    deviations = Deviations(by_items, by_clip if known else None) if len(by_items) else None
    return Scores(
        scores_qn=found["rise_nq"].double().T.numpy(),
        draws=draws,
        changed=changed,
        deviations=deviations,
        cells=[one.cells_bncf for one in solved if one.cells_bncf is not None],
    )


def rises(
    worker: GenerativeModel,
    pairs: Pairs,
    readout: Readout,
    step_qbcf: Tensor,
    chance_qbcf: Tensor,
    each: int,
) -> dict[str, Tensor]:
    """Rise of each item's loss by each query's steps, one for each band; mean over ``each`` item's draws,
    which lie in order of their noise level. Beside it what each rise owes to chance (``Deviations``), by the
    clip's draws to first order in the step.
    """
    residual_nbpc, given_nbpf = read_bands(worker, readout, pairs, step_qbcf.shape[1], each)
    rise_nqk = rises_of(residual_nbpc, given_nbpf, step_qbcf, each)
    bands, frames, channels = residual_nbpc.shape[1:]
    moment_bnf = (residual_nbpc.mT @ given_nbpf).flatten(2).transpose(0, 1)
    contrasts_kr = torch.from_numpy(noise_contrasts(each).T).float()
    by_items, by_clip = [], []
    for q, chance_bcf in enumerate(chance_qbcf):  # one by one, as in rises_of
        by_items.append(rise_nqk[:, q].contiguous() @ contrasts_kr)
        by_clip.append((moment_bnf @ chance_bcf.flatten(1)[..., None])[..., 0].T.cpu())
    return {
        "rise_nq": rise_nqk.mean(dim=2),
        "by_items_nqr": torch.stack(by_items, dim=1),
        "by_clip_nqb": torch.stack(by_clip, dim=1) * (2 / (bands * frames * channels)),
    }


def read_bands(
    worker: GenerativeModel, readout: Readout, pairs: Pairs, bands: int, each: int
) -> tuple[Tensor, Tensor]:
    """``read`` of items with ``each`` draws, in order of their noise level: ``[items, bands, frames of all
    draws in the band, C]``, and features alike.
    """
    residual_btc, given_btf = read(worker, readout, pairs)
    shape = (len(residual_btc) // each, bands, -1)
    return residual_btc.reshape(*shape, residual_btc.shape[2]), given_btf.reshape(*shape, given_btf.shape[2])


def rises_of(residual_nbpc: Tensor, given_nbpf: Tensor, step_qbcf: Tensor, each: int) -> Tensor:
    """Rise of each item's loss by each query's steps on each of its ``each`` draws, ``[items, Q, K]``:
    |r + m|^2 - |r|^2, m what the step does to the output; mean over frames.
    """
    items, bands = residual_nbpc.shape[:2]
    residual_bpc, given_bpf = (x.transpose(0, 1).flatten(1, 2) for x in (residual_nbpc, given_nbpf))
    rise_nqk = torch.zeros(items, len(step_qbcf), each)
    for q, step_bcf in enumerate(step_qbcf):  # a query's score does not depend on the others, to the last bit
        moved_bpc = given_bpf @ step_bcf.mT
        rise_bpc = moved_bpc * (2 * residual_bpc + moved_bpc)
        rise_bnk = rise_bpc.reshape(bands, items, each // bands, -1).mean(dim=3)
        rise_nqk[:, q] = rise_bnk.transpose(0, 1).flatten(1)
    return rise_nqk


def readout_of(model: GenerativeModel) -> Readout:
    """The model's read-out, which the method asks for."""
    assert isinstance(model, ReadoutModel)
    return model.readout()


def read(model: GenerativeModel, readout: Readout, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """One pass forward: prediction less target ``[B, T, C]``, and what the read-out is given ``[B, T, F (+
    1)]``.
    """
    assert isinstance(model, ReadoutModel)
    layer = model.network.get_submodule(readout.layer)
    given: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given.append(with_ones(layer, inputs[0][:, readout.skipped :]))

    handle = layer.register_forward_pre_hook(keep)
    try:
        with torch.inference_mode():
            residual_bct = model.prediction(*pairs) - model.target(*pairs)
    finally:
        handle.remove()
    return residual_bct.transpose(1, 2), given[0]


def fit_curvature(prepared: Prepared, draws: Draws, bands: int, batch_size: int, seed: int = 0) -> Tensor:
    """E[phi phi'] over training segments and their frames in each band of ``draws``, ``[bands, F, F]``; from
    the prepared folder or fitted now, in one pass forward. Over all training segments, or an even sample of
    ``CURVATURE_SEGMENTS`` of a large catalogue's.

    The draws are those that items are scored on: what the features owe to this very noise is then no signal.
    With draws of its own the same method predicts retraining less well (dev/LOG.md).
    """
    readout = readout_of(prepared.model)

    def moments(worker: GenerativeModel, drawn: Drawn) -> dict[str, Tensor]:
        _, given_btf = read(worker, readout, (drawn.items, drawn.draws))
        given_pf = given_btf.flatten(0, 1)
        return {f"band-{drawn.number * bands // len(draws)}": given_pf.T @ given_pf}

    rows = prepared.catalogue.sample(CURVATURE_SEGMENTS)
    made_from = _made_from(readout, bands)
    name = curvature_name(prepared, draws, bands)
    if prepared.shipped and (prepared.shipped / name).is_file():
        return load_packed(prepared.shipped / name, prepared.made_from(draws)).to(device_of(prepared.model))
    path = prepared.folder / name
    sums = fit_sums(
        prepared.model,
        prepared.catalogue,
        len(draws),
        seed,
        path,
        "curvature of the read-out",
        made_from,
        moments,
        batch_size,
        prepared.progress("curvature (once per model)"),
        draws,
        rows if len(rows) < prepared.n_training else None,
    )
    moments_bff = torch.stack([sums[f"band-{band}"] for band in range(bands)])
    return moments_bff / (len(rows) * len(draws) / bands * prepared.model.encoding.frames)


def curvature_name(prepared: Prepared, draws: Draws, bands: int) -> str:
    """What the file of a curvature is called."""
    made_from = _made_from(readout_of(prepared.model), bands)
    return f"readout-{hash_json([made_from, draws.hash])}.safetensors"


def _made_from(readout: Readout, bands: int) -> dict[str, Any]:
    return {"layer": readout.layer, "bands": bands}


def unlearning_steps(
    prepared: Prepared, queries: Sequence[Query], curvature_bff: Tensor, settings: ReadoutSettings
) -> Tensor:
    """(a / N) (F + lambda)^-1 grad L for the queries' mean loss in each band, as it acts on the model's
    output ``[bands, C, F (+ 1)]``: the factors P, P'P and 2 / C of gradient and curvature cancel out.
    """
    return solve_steps(prepared, queries, curvature_bff, settings).step_bcf


@dataclass(frozen=True)
class Solved:
    """A step in each band, and what it was made of."""

    step_bcf: Tensor
    chance_bcf: Tensor  # its deviation by its draws
    cells_bncf: Tensor | None  # what each cell of a single query contributes to its moment


def solve_steps(
    prepared: Prepared,
    queries: Sequence[Query],
    curvature_bff: Tensor,
    settings: ReadoutSettings,
    keep_cells: bool = False,
) -> Solved:
    """``unlearning_steps``, and in each band the step's deviation by its draws: n draws fall in two halves of
    n_0 and n_1, and their means' difference times sqrt(n_0 n_1) / n has the mean's own variance.

    Args:
        keep_cells: of a single query, what its cells contribute is kept.
    """
    steps, chances, cells, bands = [], [], [], len(curvature_bff)
    count = max(1, settings.gradient_draws // bands)
    even, odd = count - count // 2, count // 2
    apart = math.sqrt(even * odd) / count
    for b, curvature_ff in enumerate(curvature_bff):
        found = [query_moments_of(prepared, query, settings, (b, bands), keep_cells) for query in queries]
        half_hcf = torch.stack([own_hcf for own_hcf, _ in found]).mean(dim=0)
        difference_cf = half_hcf[0] / even - half_hcf[1] / max(odd, 1)
        asked_hcf = torch.stack([half_hcf.sum(dim=0) / count, apart * difference_cf])
        solved_hcf = solve_damped(curvature_ff, asked_hcf.flatten(0, 1), settings.damping).view_as(asked_hcf)
        steps.append(solved_hcf[0])
        chances.append(solved_hcf[1])
        cells.append(found[0][1])
    scale = settings.step_size / prepared.n_training
    kept = torch.stack(cells) if keep_cells else None
    return Solved(scale * torch.stack(steps), scale * torch.stack(chances), kept)


def solve_damped(curvature_ff: Tensor, gradient_cf: Tensor, damping: float) -> Tensor:
    """gradient (curvature + lambda)^-1, lambda = ``damping`` x the curvature's mean diagonal."""
    return torch.linalg.solve(damped(curvature_ff, damping), gradient_cf.double(), left=False).float()


def damped(curvature_ff: Tensor, damping: float) -> Tensor:
    """Curvature + lambda, in float64."""
    damped_ff = curvature_ff.double()
    damped_ff.diagonal().add_(damping * damped_ff.diagonal().mean())
    return damped_ff


def query_moment(prepared: Prepared, query: Query, settings: ReadoutSettings, band: Band) -> Tensor:
    """E[r phi'] over the query's heard frames and its draws in a band, ``[C, F (+ 1)]``."""
    draws = max(1, settings.gradient_draws // band[1])
    return query_moments_of(prepared, query, settings, band)[0].sum(dim=0) / draws


def query_cells(prepared: Prepared, query: Query, settings: ReadoutSettings, band: Band) -> Tensor:
    """What each of its cells contributes to that, ``[cells, C, F (+ 1)]``."""
    return query_moments_of(prepared, query, settings, band, in_parts=True)[1]


def query_moments_of(
    prepared: Prepared, query: Query, settings: ReadoutSettings, band: Band, in_parts: bool = False
) -> tuple[Tensor, Tensor]:
    """r phi' summed over every other of the query's draws in a band, mean over heard frames,
    ``[2, C, F (+ 1)]``: over the first, third, ... and over the second, fourth, ... And the mean over all of
    what each cell contributes, ``[cells, C, F (+ 1)]``, if that is wanted.
    """
    model, readout = prepared.model, readout_of(prepared.model)
    device = device_of(model)
    draws = query_draws(model, settings, band)
    weight_t = heard_weights(query, settings.mask_silence).to(device)
    item, size = query.items(model), settings.batch_size
    jobs = (
        (half, draws[slice(start, start + 2 * size, 2)].to(device))
        for half in (0, 1)
        for start in range(half, len(draws), 2 * size)
    )

    cell = cell_frames(model, settings.noise_bands)

    def moment(worker: GenerativeModel, job: tuple[int, Draws]) -> tuple[int, Tensor, Tensor]:
        half, some = job
        residual_btc, given_btf = read(worker, readout, (item.repeat(len(some)), some))
        moment_cf = torch.einsum("btc,t,btf->cf", residual_btc, weight_t, given_btf)
        if not in_parts:
            return half, moment_cf, moment_cf[:0]
        return half, moment_cf, in_cells(residual_btc * weight_t[:, None], given_btf, cell) / len(draws)

    totals: dict[int, Tensor] = {}
    cells_ncf: Tensor | None = None  # added up as they come: they are large
    for half, moment_cf, part_ncf in in_order(model, jobs, moment):
        totals[half] = totals[half] + moment_cf if half in totals else moment_cf
        cells_ncf = part_ncf if cells_ncf is None else cells_ncf + part_ncf
    assert cells_ncf is not None
    nothing = torch.zeros_like(totals[0])
    return torch.stack([totals.get(half, nothing) for half in (0, 1)]), cells_ncf


def weights_after(model: GenerativeModel, readout: Readout, step_cf: Tensor) -> dict[str, Tensor]:
    """The layer's weights that do to the output what the step does: of all such, those nearest to the old
    ones.
    """
    layer: Any = model.network.get_submodule(readout.layer)
    move_of = torch.linalg.pinv(readout.projection_co.double()) @ step_cf.double()
    after = {f"{readout.layer}.weight": layer.weight + move_of[:, : layer.weight.shape[1]].float()}
    if layer.bias is not None:
        after[f"{readout.layer}.bias"] = layer.bias + move_of[:, -1].float()
    return after


def passes_of_readout(prepared: Prepared, settings: ReadoutSettings, _queries: int = 1) -> Passes:
    """Forward passes only, all draws of a segment at once."""
    return Passes("forward", together=draws_together(prepared, settings))


def work_of_readout(prepared: Prepared, settings: ReadoutSettings, _query: Query) -> Work:
    """Forward passes only. Once: the curvature."""
    if isinstance(prepared.model, SoftmaxReadoutModel):
        return work_of_softmax_readout(prepared, settings, _query)
    readout = readout_of(prepared.model)
    layer: Any = prepared.model.network.get_submodule(readout.layer)
    width = layer.in_features + (layer.bias is not None)
    curvature = TENSOR_BYTES * settings.noise_bands * width**2
    # the step, and how far its draws may have led it
    steps = 2 * TENSOR_BYTES * settings.noise_bands * layer.weight.numel()
    fitted = min(prepared.n_training, CURVATURE_SEGMENTS)
    return Work(
        {"forward": fitted * settings.draws},
        {"forward": len(prepared.rows) * settings.draws},
        {"forward": settings.gradient_draws},
        curvature,
        4 * curvature,
        steps,
    )
