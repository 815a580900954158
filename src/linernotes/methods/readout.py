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

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.curvature.fitting import Drawn, fit_sums
from linernotes.curvature.packed import load_packed
from linernotes.curvature.per_item import with_ones
from linernotes.draws import Band, Draws
from linernotes.methods.contract import TENSOR_BYTES, Prepared, Query, Scores, Work
from linernotes.methods.items import Pairs, sweep_items
from linernotes.methods.query_gradient import heard_weights, query_draws
from linernotes.methods.readout_softmax import score_softmax_readout, work_of_softmax_readout
from linernotes.models.contract import GenerativeModel, Readout, ReadoutModel, SoftmaxReadoutModel, device_of
from linernotes.models.encoding import Encoding
from linernotes.models.workers import in_order
from linernotes.settings.methods import ReadoutSettings

# so many segments have some hundred thousand frames, where a layer has some thousand inputs
CURVATURE_SEGMENTS = 2048
CELL_S = 0.1  # pairs of passages are looked at in cells of at least so long
CELLS_KEPT = 4  # windows whose cells are kept for that: some 80 MB each


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
    cells: list[Tensor] = []
    if len(queries) > CELLS_KEPT or settings.together:
        steps = [unlearning_steps(prepared, some, curvature_bff, settings) for some in sets_of]
    else:
        steps = []
        for query in queries:
            found = [query_cells(prepared, query, settings, (b, bands)) for b in range(bands)]
            steps.append(steps_of([[moment_cf] for moment_cf, _ in found], curvature_bff, prepared, settings))
            cells.append(torch.stack([cells_ncf for _, cells_ncf in found]))
    step_qbcf = torch.stack(steps)
    header = {
        "model": prepared.model.weights_hash,
        "catalogue": prepared.catalogue.hash,
        "noise": draws.hash,
        "steps": hash_arrays({"steps": step_qbcf.cpu().numpy()}),
    }
    look = partial(rises, readout=readout, step_qbcf=step_qbcf, each=len(draws))
    rise_nq = sweep_items(
        prepared, draws, settings.batch_size, look, folder, "losses without the clip", header, prepared.rows
    )["rise_nq"]
    changed = [
        [
            (part, weights_after(prepared.model, readout, step_cf))
            for part, step_cf in zip(parts, step_bcf, strict=True)
        ]
        for step_bcf in step_qbcf
    ]
    return Scores(rise_nq.double().T.numpy(), draws, changed, cells=cells)


def rises(
    worker: GenerativeModel, pairs: Pairs, readout: Readout, step_qbcf: Tensor, each: int
) -> dict[str, Tensor]:
    """Rise of each item's loss by each query's steps, one for each band; mean over ``each`` item's draws,
    which lie in order of their noise level.
    """
    return {"rise_nq": rises_of(*read_bands(worker, readout, pairs, step_qbcf.shape[1], each), step_qbcf)}


def read_bands(
    worker: GenerativeModel, readout: Readout, pairs: Pairs, bands: int, each: int
) -> tuple[Tensor, Tensor]:
    """``read`` of items with ``each`` draws, in order of their noise level: ``[items, bands, frames of all
    draws in the band, C]``, and features alike.
    """
    residual_btc, given_btf = read(worker, readout, pairs)
    shape = (len(residual_btc) // each, bands, -1)
    return residual_btc.reshape(*shape, residual_btc.shape[2]), given_btf.reshape(*shape, given_btf.shape[2])


def rises_of(residual_nbpc: Tensor, given_nbpf: Tensor, step_qbcf: Tensor) -> Tensor:
    """Rise of each item's loss by each query's steps, ``[items, Q]``: |r + m|^2 - |r|^2, m what the step does
    to the output; mean over bands and frames.
    """
    items = len(residual_nbpc)
    residual_bpc, given_bpf = (x.transpose(0, 1).flatten(1, 2) for x in (residual_nbpc, given_nbpf))
    rise_nq = torch.zeros(items, len(step_qbcf))
    for q, step_bcf in enumerate(step_qbcf):  # a query's score does not depend on the others, to the last bit
        moved_bpc = given_bpf @ step_bcf.mT
        rise_bpc = moved_bpc * (2 * residual_bpc + moved_bpc)
        rise_nq[:, q] = rise_bpc.reshape(len(rise_bpc), items, -1).mean(dim=(0, 2))
    return rise_nq


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
        return load_packed(prepared.shipped / name, curvature_header(prepared, draws)).to(
            device_of(prepared.model)
        )
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


def curvature_header(prepared: Prepared, draws: Draws) -> dict[str, Any]:
    """What a curvature that is shipped must have been made from."""
    return {
        "model": prepared.model.weights_hash,
        "catalogue": prepared.catalogue.hash,
        "noise": draws.hash,
    }


def unlearning_steps(
    prepared: Prepared, queries: Sequence[Query], curvature_bff: Tensor, settings: ReadoutSettings
) -> Tensor:
    """(a / N) (F + lambda)^-1 grad L for the queries' mean loss in each band, as it acts on the model's
    output ``[bands, C, F (+ 1)]``: the factors P, P'P and 2 / C of gradient and curvature cancel out.
    """
    bands = range(len(curvature_bff))
    moments = [[query_moment(prepared, query, settings, (b, len(bands))) for query in queries] for b in bands]
    return steps_of(moments, curvature_bff, prepared, settings)


def steps_of(
    moments: Sequence[Sequence[Tensor]],
    curvature_bff: Tensor,
    prepared: Prepared,
    settings: ReadoutSettings,
) -> Tensor:
    """The same from the queries' moments in each band."""
    steps = [
        solve_damped(curvature_ff, torch.stack([*own]).mean(dim=0), settings.damping)
        for curvature_ff, own in zip(curvature_bff, moments, strict=True)
    ]
    return settings.step_size / prepared.n_training * torch.stack(steps)


def solve_damped(curvature_ff: Tensor, gradient_cf: Tensor, damping: float) -> Tensor:
    """gradient (curvature + lambda)^-1, lambda = ``damping`` x the curvature's mean diagonal."""
    damped_ff = curvature_ff.double()
    damped_ff.diagonal().add_(damping * damped_ff.diagonal().mean())
    return torch.linalg.solve(damped_ff, gradient_cf.double(), left=False).float()


def query_moment(prepared: Prepared, query: Query, settings: ReadoutSettings, band: Band) -> Tensor:
    """E[r phi'] over the query's heard frames and its draws in a band, ``[C, F (+ 1)]``."""
    parts = _query_parts(prepared, query, settings, band, lambda residual_btc, given_btf: torch.zeros(0))
    return torch.stack([moment_cf for moment_cf, _ in parts]).sum(dim=0)


def query_cells(
    prepared: Prepared, query: Query, settings: ReadoutSettings, band: Band
) -> tuple[Tensor, Tensor]:
    """The same, and what each of its cells contributes to it, ``[cells, C, F (+ 1)]``."""
    cell = cell_frames(prepared.model.encoding)
    parts = _query_parts(prepared, query, settings, band, partial(in_cells, size=cell))
    moments, cells = zip(*parts, strict=True)
    return torch.stack(moments).sum(dim=0), torch.stack(cells).sum(dim=0)


def _query_parts(
    prepared: Prepared,
    query: Query,
    settings: ReadoutSettings,
    band: Band,
    of_cells: Callable[[Tensor, Tensor], Tensor],
) -> list[tuple[Tensor, Tensor]]:
    """What some of its draws contribute to a query's moment, and ``of_cells`` of the same."""
    model, readout = prepared.model, readout_of(prepared.model)
    device = device_of(model)
    draws = query_draws(model, settings, band)
    weight_t = heard_weights(query, settings.mask_silence).to(device)
    item, size = query.items(model), settings.batch_size
    jobs = (draws[start : start + size].to(device) for start in range(0, len(draws), size))

    def part(worker: GenerativeModel, some: Draws) -> tuple[Tensor, Tensor]:
        residual_btc, given_btf = read(worker, readout, (item.repeat(len(some)), some))
        moment_cf = torch.einsum("btc,t,btf->cf", residual_btc, weight_t, given_btf) / len(draws)
        return moment_cf, of_cells(residual_btc * weight_t[:, None], given_btf) / len(draws)

    return list(in_order(model, jobs, part))


def cell_frames(encoding: Encoding) -> int:
    """How many frames a cell has."""
    return max(1, round(CELL_S * encoding.rate_hz / encoding.frame_samples))


def in_cells(residual_btc: Tensor, given_btf: Tensor, size: int) -> Tensor:
    """Sums of r phi' over the batch and the frames of each cell, ``[cells, C, F (+ 1)]``; the last may be
    shorter.
    """
    starts = range(0, residual_btc.shape[1], size)
    parts = ((residual_btc[:, at : at + size], given_btf[:, at : at + size]) for at in starts)
    return torch.stack([r.flatten(0, 1).T @ phi.flatten(0, 1) for r, phi in parts])


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


def work_of_readout(prepared: Prepared, settings: ReadoutSettings, _query: Query) -> Work:
    """Forward passes only. Once: the curvature."""
    if isinstance(prepared.model, SoftmaxReadoutModel):
        return work_of_softmax_readout(prepared, settings, _query)
    readout = readout_of(prepared.model)
    layer: Any = prepared.model.network.get_submodule(readout.layer)
    width = layer.in_features + (layer.bias is not None)
    curvature = TENSOR_BYTES * settings.noise_bands * width**2
    steps = TENSOR_BYTES * settings.noise_bands * layer.weight.numel()
    fitted = min(prepared.n_training, CURVATURE_SEGMENTS)
    return Work(
        {"forward": fitted * settings.draws},
        {"forward": len(prepared.rows) * settings.draws},
        {"forward": settings.gradient_draws},
        curvature,
        4 * curvature,
        steps,
    )
