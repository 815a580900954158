"""Sums of something over the training segments and their draws: what every curvature is fitted with; resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linernotes.artefacts import load_tensors, save_tensors
from linernotes.catalog.store import Catalogue, SegmentBatch
from linernotes.errors import LinernotesError
from linernotes.models.contract import Conditioning, GenerativeModel
from linernotes.models.workers import in_order
from linernotes.noise import NoiseBank, random_for, stratified_times

SEGMENTS_IN_CHUNK = 256


@dataclass(frozen=True)
class Items:
    """A batch of training segments with one draw each, on the model's device."""

    latents_bct: Tensor
    condition: Conditioning
    t_b: Tensor
    eps_bct: Tensor
    second_bct: Tensor  # further noise, for sampled targets


def fit_sums(
    model: GenerativeModel,
    catalogue: Catalogue,
    draws: int,
    seed: int,
    path: Path,
    kind: str,
    header: dict[str, Any],
    measure: Callable[[GenerativeModel, Items], dict[str, Tensor]],
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
    bank: NoiseBank | None = None,
) -> dict[str, Tensor]:
    """Sums ``measure`` over all training segments, each with ``draws`` draws of its own, fixed by ``seed``, or all with the
    draws of ``bank``.

    Written to ``path``; a finished file is read back, a killed fit resumed.

    Raises:
        LinernotesError: no training segments, catalogue of another model, or ``path`` was made from something else.
    """
    catalogue.require(model.codec_hash, model.text_hash, model.shape.frames, model.name)
    rows = catalogue.training_rows
    if not len(rows):
        raise LinernotesError(f"{catalogue.path} holds no training segments, only decoys: add tracks whose split is 'train'")
    header = {"model": model.weights_hash, "catalogue": catalogue.hash, "draws": draws, "seed": seed, **header}
    header |= {"noise": bank.hash} if bank else {}
    if path.exists():
        return load_tensors(path, kind, header)[0]
    partial = path.with_name(path.name + ".partial")
    sums: dict[str, Tensor] = {}
    done = 0
    if partial.exists():
        sums, saved_header = load_tensors(partial, f"{kind}, partial", header)
        done = saved_header["done"]
    device = next(model.denoiser.parameters()).device
    for start in range(done, len(rows), SEGMENTS_IN_CHUNK):
        some = rows[start : start + SEGMENTS_IN_CHUNK]
        batch = catalogue.batch(some)
        noise = _same_noise(bank, len(some)) if bank else _own_noise(batch.latents_nct.shape, draws, seed, start)
        passes = _passes(model, batch, noise, batch_size, device)
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


Noise = tuple[Tensor, Tensor, Tensor]  # times, noise, further noise: one draw of every segment


def _own_noise(shape: torch.Size, draws: int, seed: int, number: int) -> Iterator[Noise]:
    generator = random_for("Fisher", seed, number)
    order = torch.randperm(shape[0], generator=generator)  # a segment's times must not follow its place in the catalogue
    for _ in range(draws):
        t_n = stratified_times(shape[0], generator)[order]
        yield t_n, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def _same_noise(bank: NoiseBank, segments: int) -> Iterator[Noise]:
    for t, eps_ct in zip(bank.t_k, bank.eps_kct, strict=True):
        eps_nct = eps_ct.expand(segments, -1, -1)
        yield t.expand(segments), eps_nct, eps_nct


def _passes(
    model: GenerativeModel, batch: SegmentBatch, noise: Iterator[Noise], batch_size: int, device: torch.device
) -> Iterator[Items]:
    condition = model.condition(batch.text_nld, batch.seconds_n)
    for t_n, eps_nct, second_nct in noise:
        for first in range(0, len(t_n), batch_size):
            part = slice(first, first + batch_size)
            on_device = (x[part].to(device) for x in (batch.latents_nct, t_n, eps_nct, second_nct))
            latents_bct, t_b, eps_bct, second_bct = on_device
            yield Items(latents_bct, condition[part], t_b, eps_bct, second_bct)
