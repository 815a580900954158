"""The sweep: item losses of a catalogue's segments on a noise bank, under one or several sets of weights.

One pass over the data serves all weight sets: latents and conditioning are fetched once. Finished chunks are put on disk,
so that a killed sweep goes on where it stopped and ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, in_chunks
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.models.contract import Conditioning, GenerativeModel
from linernotes.models.weights import ChangedWeights, hash_weights, using_weights
from linernotes.models.workers import in_order
from linernotes.noise import NoiseBank

SEGMENTS_IN_CHUNK = 64
DEFAULT_BATCH = 32

Progress = Callable[[int, int], None]


def item_losses(
    model: GenerativeModel,
    catalogue: Catalogue,
    bank: NoiseBank,
    weight_sets: Mapping[str, ChangedWeights],
    folder: Path,
    rows: np.ndarray | None = None,
    batch_size: int = DEFAULT_BATCH,
    on_progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Item losses ``loss_nk`` [segments, draws] float32 under each of ``weight_sets``, by its name.

    Args:
        folder: holds the chunks while the sweep runs, and ``losses.safetensors`` after it; a finished one is read back.
        rows: which segments; all if None.
        batch_size: (segment, draw) pairs in one forward pass; does not change the result beyond rounding.
        on_progress: called with forward passes of single pairs done and to do.

    Raises:
        LinernotesError: catalogue of another model; a loss is not finite; ``folder`` holds another sweep.
    """
    catalogue.require(model.codec_hash, model.text_hash, model.shape.frames, model.name)
    rows = np.arange(len(catalogue)) if rows is None else np.asarray(rows)
    header = {
        "model": model.weights_hash,
        "catalogue": catalogue.hash,
        "noise": bank.hash,
        "rows": hash_arrays({"rows": rows}),
        "weights": {name: hash_weights(changed) for name, changed in weight_sets.items()},
        "axes": "segments, draws",
        "device": next(model.denoiser.parameters()).device.type,
    }
    total = len(rows) * len(bank) * len(weight_sets)
    done = 0

    def chunk(some: slice) -> dict[str, Tensor]:
        nonlocal done
        done = some.start * len(bank) * len(weight_sets)
        batch = catalogue.batch(rows[some])
        condition = model.condition(batch.text_nld, batch.seconds_n)
        losses = {name: torch.empty(len(batch.latents_nct), len(bank)) for name in weight_sets}
        for pairs, loss_bt, name in _passes(model, batch.latents_nct, condition, bank, weight_sets, batch_size):
            losses[name].view(-1)[pairs] = loss_bt.mean(dim=1).cpu()
            done += loss_bt.shape[0]
            if on_progress:
                on_progress(done, total)
        _require_finite(losses)
        return losses

    return in_chunks(folder / "losses.safetensors", "item losses", header, len(rows), SEGMENTS_IN_CHUNK, chunk)


def frame_losses(
    model: GenerativeModel,
    catalogue: Catalogue,
    bank: NoiseBank,
    weight_sets: Mapping[str, ChangedWeights],
    rows: Sequence[int] | np.ndarray,
    batch_size: int = DEFAULT_BATCH,
) -> dict[str, Tensor]:
    """Per-frame losses ``loss_nkt`` [segments, draws, frames] of a few segments: the evidence of *where* in a track."""
    batch = catalogue.batch(rows)
    condition = model.condition(batch.text_nld, batch.seconds_n)
    shape = (len(rows) * len(bank), catalogue.encoder.frames)
    losses = {name: torch.empty(shape) for name in weight_sets}
    for pairs, loss_bt, name in _passes(model, batch.latents_nct, condition, bank, weight_sets, batch_size):
        losses[name][pairs] = loss_bt.cpu()
    return {name: loss.view(len(rows), len(bank), -1) for name, loss in losses.items()}


def _passes(
    model: GenerativeModel,
    latents_nct: Tensor,
    condition: Conditioning,
    bank: NoiseBank,
    weight_sets: Mapping[str, ChangedWeights],
    batch_size: int,
) -> Iterator[tuple[slice, Tensor, str]]:
    """Every (segment, draw) pair under every weight set: yields the pairs' slice, their ``loss_bt`` and the set's name."""
    device = next(model.denoiser.parameters()).device
    latents_nct, t_k, eps_kct = latents_nct.to(device), bank.t_k.to(device), bank.eps_kct.to(device)
    draws = len(bank)
    pairs = torch.arange(len(latents_nct) * draws, device=device)
    jobs = ((slice(start, start + batch_size), name) for start in range(0, len(pairs), batch_size) for name in weight_sets)

    def forward(worker: GenerativeModel, job: tuple[slice, str]) -> tuple[slice, Tensor, str]:
        chosen, name = job
        n, k = pairs[chosen] // draws, pairs[chosen] % draws
        with torch.inference_mode(), using_weights(worker.denoiser, weight_sets[name]):
            return chosen, worker.loss_bt(latents_nct[n], condition[n], t_k[k], eps_kct[k]), name

    yield from in_order(model, jobs, forward)


def _require_finite(losses: Mapping[str, Tensor]) -> None:
    for name, loss_nk in losses.items():
        if not bool(torch.isfinite(loss_nk).all()):
            raise LinernotesError(
                f"item losses under the weights {name!r} are no longer finite: unlearn with a smaller --step-size"
            )
