"""Sums of something over the training segments and their draws: what every curvature is fitted with;
resumable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, held, load_tensors, save_tensors
from linernotes.catalog.store import Catalogue
from linernotes.draws import Batch, Draws, no_draws, random_for
from linernotes.errors import LinernotesError
from linernotes.losses import items_of
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.models.workers import in_order

SEGMENTS_IN_CHUNK = 256


@dataclass(frozen=True)
class Drawn:
    """A batch of training segments with one draw each, on the model's device, and what sampled targets are
    drawn by.
    """

    items: Batch
    draws: Draws
    targets: Batch
    number: int  # of the draw


def fit_sums(
    model: GenerativeModel,
    catalogue: Catalogue,
    draws: int,
    seed: int,
    path: Path,
    kind: str,
    header: dict[str, Any],
    measure: Callable[[GenerativeModel, Drawn], dict[str, Tensor]],
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
    shared: Draws | None = None,
    rows: np.ndarray | None = None,
) -> dict[str, Tensor]:
    """Sums ``measure`` over all training segments, each with ``draws`` draws of its own, fixed by ``seed``,
    or all with the ``shared`` draws.

    Written to ``path``; a finished file is read back, a killed fit resumed.

    Args:
        rows: which segments; all that were trained on if None.

    Raises:
        LinernotesError: no training segments, catalogue of another model, or ``path`` was made from something
            else.
    """
    catalogue.require(model.encoding, model.name)
    training = catalogue.training_rows
    if not len(training):
        raise LinernotesError(
            f"{catalogue.path} holds no training segments, only decoys: add tracks whose split is 'train'"
        )
    header = {
        "model": model.weights_hash,
        "catalogue": catalogue.hash,
        "draws": draws,
        "seed": seed,
        **header,
    }
    header |= {"noise": shared.hash} if shared else {}
    header |= {"rows": hash_arrays({"rows": rows})} if rows is not None else {}
    rows = training if rows is None else rows
    if path.exists():
        return load_tensors(path, kind, header)[0]
    with held(path, "computed", math.inf):  # by another process at the same time: its result is read
        if path.exists():
            return load_tensors(path, kind, header)[0]
        partial = path.with_name(path.name + ".partial")
        sums: dict[str, Tensor] = {}
        done = 0
        if partial.exists():
            sums, saved_header = load_tensors(partial, f"{kind}, partial", header)
            done = saved_header["done"]
        device = device_of(model)
        for start in range(done, len(rows), SEGMENTS_IN_CHUNK):
            some = rows[start : start + SEGMENTS_IN_CHUNK]
            chance = (
                _the_same(shared, len(some)) if shared else _their_own(model, len(some), draws, seed, start)
            )
            passes = _passes(items_of(model, catalogue, some), chance, batch_size, device)
            for measured in in_order(model, passes, measure):
                for name, value in measured.items():
                    sums[name] = sums[name].to(device) + value if name in sums else value.clone()
            done = start + len(some)
            if on_progress:
                on_progress(done, len(rows))
            if done < len(rows):
                save_tensors(partial, sums, f"{kind}, partial", {**header, "done": done})
        save_tensors(path, sums, kind, header)
        partial.unlink(missing_ok=True)
        return sums


Chance = tuple[Draws, Batch]  # one draw of every segment, and what its sampled targets are drawn by


def _their_own(model: GenerativeModel, segments: int, draws: int, seed: int, number: int) -> Iterator[Chance]:
    generator = random_for("Fisher", seed, number)
    # a segment's noise must not follow its place in the catalogue
    order = torch.randperm(segments, generator=generator)
    for _ in range(draws):
        yield model.draw(segments, generator, order=order), model.draw_targets(segments, generator)


def _the_same(shared: Draws, segments: int) -> Iterator[Chance]:
    nothing = no_draws(segments)  # whoever shares draws samples no targets
    for k in range(len(shared)):
        yield shared.of_all(k, segments), nothing


def _passes(items: Batch, chance: Iterator[Chance], batch_size: int, device: torch.device) -> Iterator[Drawn]:
    for number, (draws, targets) in enumerate(chance):
        for first in range(0, len(items), batch_size):
            part = slice(first, first + batch_size)
            yield Drawn(items[part], draws[part].to(device), targets[part].to(device), number)
