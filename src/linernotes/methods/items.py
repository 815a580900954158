"""One pass over all segments with all their draws, whole items at a time: what gradient and activation methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, in_chunks
from linernotes.catalog.store import SegmentBatch
from linernotes.methods.contract import Prepared
from linernotes.models.contract import Conditioning, GenerativeModel
from linernotes.models.workers import in_order
from linernotes.noise import NoiseBank

SEGMENTS_IN_CHUNK = 64

# latents_bct, condition, t_b, eps_bct: whole items, their draws following each other
Pairs = tuple[Tensor, Conditioning, Tensor, Tensor]
Look = Callable[[GenerativeModel, Pairs], dict[str, Tensor]]


def sweep_items(
    prepared: Prepared, bank: NoiseBank, batch_size: int, look: Look, folder: Path, kind: str, header: Mapping[str, object],
    only: np.ndarray | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """``look(worker, pairs)`` for all segments of the catalogue, or ``only`` some, a few whole segments with all their draws at
    a time; its tensors, whose first axis is the segments, are put together in order. Resumable.
    """
    model, catalogue = prepared.model, prepared.catalogue
    catalogue.require(model.codec_hash, model.text_hash, model.shape.frames, model.name)
    rows = np.arange(len(catalogue)) if only is None else only
    report = prepared.told(f"{kind} of the catalogue")

    def chunk(some: slice) -> dict[str, Tensor]:
        jobs = whole_items(model, catalogue.batch(rows[some]), bank, batch_size)
        parts = list(in_order(model, jobs, look))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return in_chunks(
        folder / f"{kind.replace(' ', '-')}.safetensors", kind, {**header, "rows": hash_arrays({"rows": rows})}, len(rows),
        SEGMENTS_IN_CHUNK, chunk, (lambda done: report(done, len(rows))) if report else None,
    )  # fmt: skip


def whole_items(model: GenerativeModel, batch: SegmentBatch, bank: NoiseBank, batch_size: int) -> Iterator[Pairs]:
    """Batches of at least one segment with all its draws, each as what ``observe_items`` takes."""
    device = next(model.denoiser.parameters()).device
    condition = model.condition(batch.text_nld, batch.seconds_n)
    draws, count = len(bank), len(batch.latents_nct)
    size = max(1, batch_size // draws)
    for start in range(0, count, size):
        n = torch.arange(start, min(start + size, count)).repeat_interleave(draws)
        k = torch.arange(draws).repeat(len(n) // draws)
        yield batch.latents_nct[n].to(device), condition[n.to(device)], bank.t_k[k].to(device), bank.eps_kct[k].to(device)
