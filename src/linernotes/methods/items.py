"""One pass over all segments with all their draws, whole items at a time: what gradient and activation
methods share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from linernotes.artefacts import hash_arrays
from linernotes.catalog.workplace import Opened, Workplace
from linernotes.curvature.per_item import item_loss_b, layer_gradients, observe_items
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError
from linernotes.jobs.shards import in_shards
from linernotes.losses import items_of
from linernotes.methods.contract import Prepared
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.models.weights import ChangedWeights, using_weights
from linernotes.models.workers import in_order

SEGMENTS_IN_CHUNK = 64

Pairs = tuple[Batch, Draws]  # whole items, their draws following each other
Look = Callable[[GenerativeModel, Pairs], dict[str, Tensor]]
Finish = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def sweep_items(
    prepared: Prepared,
    draws: Draws,
    batch_size: int,
    look: Look,
    folder: Path,
    kind: str,
    header: Mapping[str, object],
    only: np.ndarray | None = None,
    finish: Finish | None = None,
    reads: Sequence[Path] = (),
) -> dict[str, Tensor]:
    """``look(worker, pairs)`` for all segments of the catalogue, or ``only`` some, a few whole segments with
    all their draws at a time; its tensors, whose first axis is the segments, are put together in order.
    Resumable, on whatever executor ``prepared`` has: ``look`` must be picklable.

    Args:
        finish: what is made of the tensors of some dozen segments together, before they are kept.
        reads: files besides model and catalogue that this takes.
    """
    model, catalogue = prepared.model, prepared.catalogue
    catalogue.require(model.encoding, model.name)
    rows = np.arange(len(catalogue)) if only is None else only
    report = prepared.progress(f"{kind} of the catalogue")
    return in_shards(
        folder / f"{kind.replace(' ', '-')}.safetensors",
        kind,
        {**header, "rows": hash_arrays({"rows": rows})},
        len(rows),
        SEGMENTS_IN_CHUNK,
        _Looks(prepared.workplace, rows, draws, batch_size, look, finish, reads),
        prepared.executor,
        (lambda done: report(done, len(rows))) if report else None,
    )


@dataclass(frozen=True)
class _Looks:
    """The sweep as workers take it."""

    setup: Workplace
    rows: np.ndarray
    draws: Draws
    batch_size: int
    look: Look
    finish: Finish | None
    reads: Sequence[Path]

    @property
    def paths(self) -> Sequence[Path]:
        return [*self.setup.paths, *self.reads]

    def compute(self, worker: Opened, rows: slice) -> dict[str, Tensor]:
        model, catalogue = worker
        jobs = whole_items(model, items_of(model, catalogue, self.rows[rows]), self.draws, self.batch_size)
        parts = list(in_order(model, jobs, self.look))
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self.finish(found) if self.finish else found


def whole_items(model: GenerativeModel, items: Batch, draws: Draws, batch_size: int) -> Iterator[Pairs]:
    """Batches of at least one segment with all its draws."""
    device = device_of(model)
    draws, each = draws.to(device), len(draws)
    size = max(1, batch_size // each)
    for start in range(0, len(items), size):
        n = torch.arange(start, min(start + size, len(items)), device=device).repeat_interleave(each)
        yield items[n], draws[torch.arange(each, device=device).repeat(len(n) // each)]


def gradient_products(
    prepared: Prepared,
    draws: Draws,
    batch_size: int,
    directions: Sequence[Mapping[str, Tensor]],
    at: ChangedWeights,
    folder: Path,
) -> tuple[np.ndarray, np.ndarray]:
    """``dots_qn`` [Q, N] of each direction with each segment's gradient (mean over the draws), and the
    squared lengths ``squares_n`` of these gradients over the parameters that the directions have.
    """
    names = directions[0].keys()
    stacked = {name: torch.stack([direction[name] for direction in directions]).flatten(1) for name in names}
    look = partial(products, stacked_qp=stacked, at=at, each=len(draws))
    header = {
        **prepared.made_from(draws),
        "directions": [hash_arrays({n: g.cpu().numpy() for n, g in d.items()}) for d in directions],
        "at": hash_arrays({n: g.cpu().numpy() for n, g in at.items()}),
    }
    result = sweep_items(
        prepared, draws, batch_size, look, folder, "gradient products", header, prepared.rows
    )
    dots_qn, squares_n = result["dots_nq"].double().T.numpy(), result["squares_n"].double().numpy()
    if not (np.isfinite(dots_qn).all() and np.isfinite(squares_n).all()):
        raise LinernotesError(
            "gradients of the training items are not finite: the model is broken; train it anew"
        )
    return dots_qn, squares_n


def products(
    worker: GenerativeModel, pairs: Pairs, stacked_qp: Mapping[str, Tensor], at: ChangedWeights, each: int
) -> dict[str, Tensor]:
    """The gradients of items, each with ``each`` draws, at the weights ``at``: ``dots_nq`` with the
    directions in ``stacked_qp``, by parameter name, and ``squares_n``.
    """
    found: dict[str, Tensor] = {}

    def see(prefix: str, layer: nn.Module, given: Tensor, gradient: Tensor) -> None:
        for name, gradient_ip in layer_gradients(prefix, layer, given, gradient, each).items():
            if name in stacked_qp:
                flat_ip = gradient_ip.flatten(1) / each
                found["dots_nq"] = found.get("dots_nq", 0) + flat_ip @ stacked_qp[name].T
                found["squares_n"] = found.get("squares_n", 0) + flat_ip.square().sum(dim=1)

    with using_weights(worker.network, at):
        observe_items(worker, stacked_qp.keys(), see, item_loss_b, *pairs)
    return found
