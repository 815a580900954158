"""Which seconds of a clip owe what to which seconds of a track: the read-out's first-order score by pairs.

To first order the score of a segment is 2 (a / N) / C times the sum over frames f of the clip and g of the
segment of (r_f . r_g) (phi_f' (F + lambda)^-1 phi_g), mean over draws and bands of noise levels. Nothing is
modelled: the sum of all pairs is the score, but for the step's second order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from linernotes.draws import Batch, Draws
from linernotes.losses import items_of
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.items import whole_items
from linernotes.methods.readout import (
    fit_curvature,
    passes_of_readout,
    query_cells,
    read_bands,
    readout_of,
    solve_damped,
)
from linernotes.methods.readout_cells import cell_frames, in_cells
from linernotes.methods.room import in_room
from linernotes.models.contract import GenerativeModel, Readout
from linernotes.models.workers import in_order
from linernotes.settings.methods import ReadoutSettings


@dataclass(frozen=True)
class Pairs:
    """Of each of some segments: what its cells and those of a clip's windows contribute to its score, and how
    far each window makes the loss of its frames rise.
    """

    pairs_nwqk: Tensor  # [rows, windows, window's cells, cells]
    rise_nwt: Tensor  # [rows, windows, frames]; to second order, too


def frame_pairs(
    prepared: Prepared,
    windows: Sequence[Query],
    rows: np.ndarray,
    settings: ReadoutSettings,
    cells: Sequence[Tensor] = (),
) -> Pairs:
    """Products of cells of a clip's windows and cells of segments ``rows``; the sum of a segment and a window
    is its score to first order.

    Args:
        cells: ``Scores.cells`` of these windows; formed now if there are none.
    """
    readout, bands = readout_of(prepared.model), settings.noise_bands
    settings = in_room(prepared, settings, passes_of_readout(prepared, settings), begun=True)
    draws = prepared.draws(settings.draws, settings.seed)
    curvature_bff = fit_curvature(prepared, draws, bands, settings.batch_size, settings.seed)
    one_ff = torch.eye(curvature_bff.shape[1], device=curvature_bff.device)
    # the inverse once: there are thousands of rows to solve for
    inverse_bff = torch.stack([solve_damped(own_ff, one_ff, settings.damping) for own_ff in curvature_bff])
    asked_bwqcf, steps = torch.empty(0), []
    for w, window in enumerate(windows):  # one after the other: they are large
        cells_bqcf = (
            cells[w]
            if cells
            else torch.stack([query_cells(prepared, window, settings, (b, bands)) for b in range(bands)])
        )
        solved_bqcf = (cells_bqcf.flatten(1, 2) @ inverse_bff).reshape(cells_bqcf.shape)
        solved_bqcf *= settings.step_size / prepared.n_training
        steps.append(solved_bqcf.sum(dim=1))
        if not w:
            asked_bwqcf = solved_bqcf.new_empty(bands, len(windows), *solved_bqcf.shape[1:])
        asked_bwqcf[:, w] = solved_bqcf * (2 / solved_bqcf.shape[2] / prepared.model.encoding.frames / bands)
    look = partial(
        _products,
        readout=readout,
        asked_bwqcf=asked_bwqcf,
        step_wbcf=torch.stack(steps),
        each=len(draws),
        cell=cell_frames(prepared.model, bands),
    )
    items = items_of(prepared.model, prepared.catalogue, rows)
    jobs = whole_items(prepared.model, items, draws, settings.batch_size)
    pairs, rises = zip(*in_order(prepared.model, jobs, look), strict=True)
    return Pairs(torch.cat(pairs), torch.cat(rises))


def _products(
    worker: GenerativeModel,
    pairs: tuple[Batch, Draws],
    readout: Readout,
    asked_bwqcf: Tensor,
    step_wbcf: Tensor,
    each: int,
    cell: int,
) -> tuple[Tensor, Tensor]:
    """``[items, windows, window's cells, cells]``, and ``[items, windows, frames]``; an item's draws lie in
    order of their noise level.
    """
    bands = len(asked_bwqcf)
    residual_nbpc, given_nbpf = read_bands(worker, readout, pairs, bands, each)
    shape = (len(residual_nbpc), bands, each // bands, worker.encoding.frames, -1)
    residual_nbktc, given_nbktf = residual_nbpc.reshape(shape), given_nbpf.reshape(shape)
    found = []
    for residual_bktc, given_bktf in zip(residual_nbktc, given_nbktf, strict=True):
        total: Tensor | int = 0
        for residual_ktc, given_ktf, asked_wqcf in zip(residual_bktc, given_bktf, asked_bwqcf, strict=True):
            moment_ncf = in_cells(residual_ktc, given_ktf, cell) / len(residual_ktc)
            total = total + torch.einsum("wqcf,ncf->wqn", asked_wqcf, moment_ncf)
        found.append(torch.as_tensor(total))
    moved = [torch.einsum("nbktf,bcf->nbktc", given_nbktf, step_bcf) for step_bcf in step_wbcf]
    rises = [(move * (2 * residual_nbktc + move)).mean(dim=(1, 2, 4)) for move in moved]
    return torch.stack(found), torch.stack(rises, dim=1)
