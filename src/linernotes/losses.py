"""The sweep: item losses of a catalogue's segments on fixed draws, under one or several sets of weights.

One pass over the data serves all weight sets: latents and conditioning are fetched once. Finished chunks are
put on disk, so that a killed sweep goes on where it stopped and ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays
from linernotes.catalog.store import Catalogue
from linernotes.catalog.workplace import Opened, Workplace, workplace
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError
from linernotes.jobs.executor import Executor, Here
from linernotes.jobs.shards import in_shards
from linernotes.models.contract import GenerativeModel, device_of, placed_items
from linernotes.models.weights import ChangedWeights, hash_weights, using_weights
from linernotes.models.workers import in_order

SEGMENTS_IN_CHUNK = 64
DEFAULT_BATCH = 32

Progress = Callable[[int, int], None]


def item_losses(
    model: GenerativeModel,
    catalogue: Catalogue,
    draws: Draws,
    weight_sets: Mapping[str, ChangedWeights],
    folder: Path,
    rows: np.ndarray | None = None,
    batch_size: int = DEFAULT_BATCH,
    on_progress: Progress | None = None,
    executor: Executor | None = None,
    model_folder: Path | None = None,
) -> dict[str, Tensor]:
    """Item losses ``loss_nk`` [segments, draws] float32 under each of ``weight_sets``, by its name.

    Args:
        folder: holds the chunks while the sweep runs, and ``losses.safetensors`` after it; a finished one is
            read back.
        rows: which segments; all if None.
        batch_size: (segment, draw) pairs in one forward pass; does not change the result beyond rounding.
        on_progress: called with forward passes of single pairs done and to do.
        executor: what runs the sweep's chunks; this process if None. The result is the same, to the last bit.
        model_folder: where the model lies, for workers in other processes.

    Raises:
        LinernotesError: catalogue of another model; a loss is not finite; ``folder`` holds another sweep.
    """
    catalogue.require(model.encoding, model.name)
    rows = np.arange(len(catalogue)) if rows is None else np.asarray(rows)
    header = {
        "model": model.weights_hash,
        "catalogue": catalogue.hash,
        "noise": draws.hash,
        "rows": hash_arrays({"rows": rows}),
        "weights": {name: hash_weights(changed) for name, changed in weight_sets.items()},
        "axes": "segments, draws",
        "device": device_of(model).type,
    }
    each = len(draws) * len(weight_sets)  # forward passes of one segment
    done = 0

    def passed(passes: int) -> None:
        if on_progress:
            on_progress(done * each + passes, len(rows) * each)

    def finished(segments: int) -> None:
        nonlocal done
        done = segments
        passed(0)

    place = workplace(model, catalogue, model_folder)
    return in_shards(
        folder / "losses.safetensors",
        "item losses",
        header,
        len(rows),
        SEGMENTS_IN_CHUNK,
        _Losses(place, rows, draws, weight_sets, batch_size, Here(passed)),
        executor,
        finished,
    )


@dataclass(frozen=True)
class _Losses:
    """The sweep as workers take it."""

    setup: Workplace
    rows: np.ndarray
    draws: Draws
    weight_sets: Mapping[str, ChangedWeights]
    batch_size: int
    passed: Here[Callable[[int], None]]  # told of the passes of a chunk that are done

    @property
    def paths(self) -> Sequence[Path]:
        return self.setup.paths

    def compute(self, worker: Opened, rows: slice) -> dict[str, Tensor]:
        model, catalogue = worker
        items = items_of(model, catalogue, self.rows[rows])
        losses = {name: torch.empty(len(items), len(self.draws)) for name in self.weight_sets}
        passes = 0
        for pairs, loss_bt, name in _passes(model, items, self.draws, self.weight_sets, self.batch_size):
            losses[name].view(-1)[pairs] = loss_bt.mean(dim=1).cpu()
            passes += loss_bt.shape[0]
            if self.passed.value:
                self.passed.value(passes)
        _require_finite(losses)
        return losses


def frame_losses(
    model: GenerativeModel,
    catalogue: Catalogue,
    draws: Draws,
    weight_sets: Mapping[str, ChangedWeights],
    rows: Sequence[int] | np.ndarray,
    batch_size: int = DEFAULT_BATCH,
) -> dict[str, Tensor]:
    """Per-frame losses ``loss_nkt`` [segments, draws, frames] of a few segments: the evidence of *where* in a
    track.
    """
    items = items_of(model, catalogue, rows)
    shape = (len(rows) * len(draws), catalogue.encoding.frames)
    losses = {name: torch.empty(shape) for name in weight_sets}
    for pairs, loss_bt, name in _passes(model, items, draws, weight_sets, batch_size):
        losses[name][pairs] = loss_bt.cpu()
    return {name: loss.view(len(rows), len(draws), -1) for name, loss in losses.items()}


def items_of(model: GenerativeModel, catalogue: Catalogue, rows: Sequence[int] | np.ndarray) -> Batch:
    """Segments of a catalogue as the model takes them."""
    batch = catalogue.batch(rows)
    place = (batch.start_s_n, batch.whole_s_n)
    return placed_items(model, batch.latents_nct, batch.text_nld, batch.seconds_n, place)


def _passes(
    model: GenerativeModel,
    items: Batch,
    draws: Draws,
    weight_sets: Mapping[str, ChangedWeights],
    batch_size: int,
) -> Iterator[tuple[slice, Tensor, str]]:
    """Every (segment, draw) pair under every weight set: yields the pairs' slice, their ``loss_bt`` and the
    set's name.
    """
    device = device_of(model)
    draws, count = draws.to(device), len(draws)
    pairs = torch.arange(len(items) * count, device=device)
    jobs = (
        (slice(start, start + batch_size), name)
        for start in range(0, len(pairs), batch_size)
        for name in weight_sets
    )

    def forward(worker: GenerativeModel, job: tuple[slice, str]) -> tuple[slice, Tensor, str]:
        chosen, name = job
        n, k = pairs[chosen] // count, pairs[chosen] % count
        with torch.inference_mode(), using_weights(worker.network, weight_sets[name]):
            return chosen, worker.loss_bt(items[n], draws[k]), name

    yield from in_order(model, jobs, forward)


def _require_finite(losses: Mapping[str, Tensor]) -> None:
    for name, loss_nk in losses.items():
        if not bool(torch.isfinite(loss_nk).all()):
            raise LinernotesError(
                f"item losses under the weights {name!r} are no longer finite: unlearn with a smaller "
                "--step-size"
            )
