"""Which seconds of a clip owe what to which seconds of a track: the read-out's first-order score by pairs.

To first order the score of a segment is 2 (a / N) / C times the sum over frames f of the clip and g of the
segment of (r_f . r_g) (phi_f' (F + lambda)^-1 phi_g), mean over draws and bands of noise levels. Nothing is
modelled: the sum of all pairs is the score, but for the step's second order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from linernotes.losses import items_of
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.items import Pairs, whole_items
from linernotes.methods.query_gradient import heard_weights, query_draws
from linernotes.methods.readout import fit_curvature, read, readout_of, solve_damped
from linernotes.models.contract import GenerativeModel, Readout, device_of
from linernotes.models.workers import in_order
from linernotes.settings.methods import ReadoutSettings

CELL_S = 0.1  # pairs are looked at in cells of at least so long


def cell_frames(frame_s: float) -> int:
    """How many frames a cell has."""
    return max(1, round(CELL_S / frame_s))


def frame_pairs(
    prepared: Prepared, windows: Sequence[Query], rows: np.ndarray, settings: ReadoutSettings
) -> Tensor:
    """Products of cells of a clip's windows and cells of segments ``rows``, ``[rows, windows, window's cells,
    cells]``; the sum of a segment and a window is its score to first order.
    """
    readout, bands = readout_of(prepared.model), settings.noise_bands
    draws = prepared.draws(settings.draws, settings.seed)
    curvature_bff = fit_curvature(prepared, draws, bands, settings.batch_size, settings.seed)
    asked_bwqcf = torch.stack(
        [
            solve_damped(
                curvature_ff,
                torch.stack([_asked(prepared, window, settings, b, readout) for window in windows]),
                settings.damping,
            )
            for b, curvature_ff in enumerate(curvature_bff)
        ]
    )
    frames = prepared.model.encoding.frames
    scale = 2 * settings.step_size / prepared.n_training / asked_bwqcf.shape[3] / frames / bands
    asked_bwqcf, size = scale * asked_bwqcf, cell_frames(_frame_s(prepared))
    look = partial(_products, readout=readout, asked_bwqcf=asked_bwqcf, each=len(draws), cell=size)
    items = items_of(prepared.model, prepared.catalogue, rows)
    jobs = whole_items(prepared.model, items, draws, settings.batch_size)
    return torch.cat(list(in_order(prepared.model, jobs, look)))


def _frame_s(prepared: Prepared) -> float:
    encoding = prepared.model.encoding
    return encoding.frame_samples / encoding.rate_hz


def _asked(
    prepared: Prepared, query: Query, settings: ReadoutSettings, band: int, readout: Readout
) -> Tensor:
    """Moments of the clip's residuals and features in each cell, weighted as its frames are heard, mean over
    its draws, ``[cells, C, F]``.
    """
    model = prepared.model
    device = device_of(model)
    draws = query_draws(model, settings, (band, settings.noise_bands))
    weight_t = heard_weights(query, settings.mask_silence).to(device)
    item, size = query.items(model), settings.batch_size
    cell = cell_frames(_frame_s(prepared))
    total: Tensor | int = 0
    for start in range(0, len(draws), size):
        some = draws[start : start + size].to(device)
        residual_btc, given_btf = read(model, readout, (item.repeat(len(some)), some))
        total = total + _in_cells(residual_btc * weight_t[:, None], given_btf, cell)
    return torch.as_tensor(total) / len(draws)


def _in_cells(residual_btc: Tensor, given_btf: Tensor, size: int) -> Tensor:
    """Sums of r phi' over the batch and the frames of each cell, ``[cells, C, F]``; the last may be
    shorter.
    """
    starts = range(0, residual_btc.shape[1], size)
    parts = ((residual_btc[:, at : at + size], given_btf[:, at : at + size]) for at in starts)
    return torch.stack([r.flatten(0, 1).T @ phi.flatten(0, 1) for r, phi in parts])


def _products(
    worker: GenerativeModel, pairs: Pairs, readout: Readout, asked_bwqcf: Tensor, each: int, cell: int
) -> Tensor:
    """``[items, windows, window's cells, cells]``; an item's draws lie in order of their noise level."""
    residual_btc, given_btf = read(worker, readout, pairs)
    bands, found = len(asked_bwqcf), []
    for start in range(0, len(residual_btc), each):
        own = slice(start, start + each)
        by_band = zip(residual_btc[own].chunk(bands), given_btf[own].chunk(bands), strict=True)
        total: Tensor | int = 0
        for (residual_ktc, given_ktf), asked_wqcf in zip(by_band, asked_bwqcf, strict=True):
            moment_ncf = _in_cells(residual_ktc, given_ktf, cell) / len(residual_ktc)
            total = total + torch.einsum("wqcf,ncf->wqn", asked_wqcf, moment_ncf)
        found.append(torch.as_tensor(total))
    return torch.stack(found)
