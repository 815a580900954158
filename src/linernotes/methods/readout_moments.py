"""Moments: what the read-out learns from a segment or a clip, as one long vector. The score is, to first
order, the inner product of a clip's and a segment's.

With M = E[r phi'] of a band of noise levels and A that band's damped curvature, the score of a segment is
2 (a / N) / C times the sum over bands of tr(M_clip A^-1 M_segment') (``methods.readout``). So M A^-1/2 is
kept, on those whitened features that a sample of segments has most of.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays
from linernotes.draws import Draws
from linernotes.errors import LinernotesError
from linernotes.index.space import Space
from linernotes.methods.contract import FORWARD, Prepared, Query
from linernotes.methods.items import Pairs, sweep_items
from linernotes.methods.readout import damped, query_moment, read_bands, readout_of, rises_of
from linernotes.methods.room import in_room
from linernotes.models.contract import GenerativeModel, Readout
from linernotes.settings.methods import ReadoutSettings


def whitener(curvature_bff: Tensor, damping: float) -> Tensor:
    """(A + lambda)^-1/2 of each band, ``[bands, F, F]``, lambda as in ``readout.solve_damped``."""
    found = []
    for curvature_ff in curvature_bff:
        values_f, vectors_ff = torch.linalg.eigh(damped(curvature_ff, damping))
        found.append((vectors_ff * values_f.rsqrt()) @ vectors_ff.T)
    return torch.stack(found).float()


def strongest_features(moment_nbcf: Tensor, count: int) -> Tensor:
    """The ``count`` directions of features that moments ``[N, bands, C, F]`` have most of, in each band,
    ``[bands, F, K]``.
    """
    found = []
    for band in range(moment_nbcf.shape[1]):
        flat_pf = moment_nbcf[:, band].float().flatten(0, 1)
        found.append(torch.linalg.eigh((flat_pf.T @ flat_pf).double()).eigenvectors[:, -count:].flip(1))
    return torch.stack(found).float().contiguous()


def query_moments(
    prepared: Prepared, queries: Sequence[Query], strongest_bfk: Tensor, settings: ReadoutSettings
) -> Tensor:
    """Moments of clips, ``[Q, bands x C x K]``."""
    bands = len(strongest_bfk)
    settings = in_room(prepared, settings, FORWARD)

    def moment(query: Query) -> Tensor:
        parts = (query_moment(prepared, query, settings, (b, bands)).cpu() for b in range(bands))
        return torch.cat([(m_cf @ k_fk).flatten() for m_cf, k_fk in zip(parts, strongest_bfk, strict=True)])

    return torch.stack([moment(query) for query in queries])


def _moments(residual_nbpc: Tensor, given_nbpf: Tensor, strongest_bfk: Tensor) -> Tensor:
    moment_nbcf = residual_nbpc.mT @ given_nbpf / residual_nbpc.shape[2]
    return moment_nbcf @ strongest_bfk.to(moment_nbcf.device)


def sweep_moments(
    prepared: Prepared,
    draws: Draws,
    settings: ReadoutSettings,
    strongest_bfk: Tensor,
    step_qbcf: Tensor,
    rows: np.ndarray,
    folder: Path,
) -> dict[str, Tensor]:
    """``y_nd`` [N, D] float16, the moments of segments ``rows``, and ``rise_nq``, the exact scores of clips
    whose steps are given (``readout.rises``).
    """
    header = _header(prepared, draws, strongest_bfk, step_qbcf)
    look = partial(
        _look,
        readout=readout_of(prepared.model),
        strongest_bfk=strongest_bfk,
        step_qbcf=step_qbcf,
        each=len(draws),
    )
    return sweep_items(
        prepared, draws, settings.batch_size, look, folder, "moments of a sample", header, rows
    )


def sweep_codes(
    prepared: Prepared,
    draws: Draws,
    settings: ReadoutSettings,
    space: Space,
    space_file: Path,
    step_qbcf: Tensor,
    rows: np.ndarray,
    folder: Path,
) -> dict[str, Tensor]:
    """``moments_nr`` int8 and ``length_n``, as ``space`` has it (``Space.moments``), and ``rise_nq``, of
    segments ``rows``; all in one pass, in which nothing long is kept.

    Args:
        space_file: where workers find the space.
    """
    space_file, made_by = space_file.absolute(), space.hash
    header = {**_header(prepared, draws, space.strongest_bfk, step_qbcf), "space": made_by}
    look = partial(
        _look,
        readout=readout_of(prepared.model),
        strongest_bfk=space.strongest_bfk,
        step_qbcf=step_qbcf,
        each=len(draws),
    )
    return sweep_items(
        prepared,
        draws,
        settings.batch_size,
        look,
        folder,
        "vectors",
        header,
        rows,
        partial(_coded, space_file=space_file, made_by=made_by),
        [space_file],
    )


def _header(prepared: Prepared, draws: Draws, strongest_bfk: Tensor, step_qbcf: Tensor) -> dict[str, object]:
    arrays = {"strongest": strongest_bfk.cpu().numpy(), "steps": step_qbcf.cpu().numpy()}
    return {
        **prepared.made_from(draws),
        "made from": hash_arrays(arrays),
    }


def _look(
    worker: GenerativeModel,
    pairs: Pairs,
    readout: Readout,
    strongest_bfk: Tensor,
    step_qbcf: Tensor,
    each: int,
) -> dict[str, Tensor]:
    residual_nbpc, given_nbpf = read_bands(worker, readout, pairs, len(strongest_bfk), each)
    return {
        "y_nd": _moments(residual_nbpc, given_nbpf, strongest_bfk).flatten(1).half(),
        "rise_nq": rises_of(residual_nbpc, given_nbpf, step_qbcf, each).mean(dim=2),
    }


def _coded(found: dict[str, Tensor], space_file: Path, made_by: str) -> dict[str, Tensor]:
    """Moments as vectors; of many segments at once, since the space's directions are a long way through
    memory.
    """
    moments_nr, length_n = _space(space_file, made_by).moments(found["y_nd"])
    return {
        "moments_nr": torch.from_numpy(moments_nr),
        "length_n": torch.from_numpy(length_n),
        "rise_nq": found["rise_nq"],
    }


@lru_cache(maxsize=1)
def _space(file: Path, wanted: str) -> Space:
    """Read once in each worker.

    Raises:
        LinernotesError: here it is another.
    """
    space = Space.load(file)
    if space.hash != wanted:
        raise LinernotesError(
            f"{file} on {socket.gethostname()} is another than here ({space.hash}, not {wanted}): put it on "
            "a disk that all nodes share"
        )
    return space.ready()
