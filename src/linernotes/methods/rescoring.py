"""The second half of every unlearning method: item losses under the changed weights against those under the base weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from linernotes.artefacts import hash_json, load_tensors, save_tensors
from linernotes.losses import item_losses
from linernotes.methods.contract import Prepared, Query, Scores
from linernotes.methods.items import gradient_products
from linernotes.noise import NoiseBank
from linernotes.settings.methods import Skew, UnlearningSettings

UNLEARNED = "unlearned weights"
SKEW_FLOOR = 1e-3  # Serra et al. 2026


def rescore(
    prepared: Prepared,
    queries: list[Query],
    change: Callable[[Sequence[Query]], dict[str, Tensor]],
    settings: UnlearningSettings,
    bank: NoiseBank,
    folder: Path,
    sign: int = 1,
) -> Scores:
    """Scores of all segments for several queries, in one sweep over the data: losses under each one's weights less those under
    the base weights, or, to first order, <theta' - theta, grad L(z_n)>, one gradient a segment for all queries together.

    Args:
        change: gives the changed weights for one query, or for all of them as one set (``settings.together``).
        folder: keeps the changed weights, so that a killed run goes on with the very same.
        sign: -1 if the change went toward the query.

    Raises:
        LinernotesError: losses under the changed weights are no longer finite.
    """
    device = next(prepared.model.denoiser.parameters()).device
    header = {"model": prepared.model.weights_hash}
    changed = []
    for i, some in enumerate([queries] if settings.together else [[query] for query in queries]):
        path = folder / f"unlearned-{i}.safetensors"
        if not path.exists():
            save_tensors(path, change(some), UNLEARNED, header)
        changed.append({name: tensor.to(device) for name, tensor in load_tensors(path, UNLEARNED, header)[0].items()})
    if settings.score_by == "first-order":
        own = dict(prepared.model.denoiser.named_parameters())
        moves = [{name: tensor - own[name] for name, tensor in weights.items()} for weights in changed]
        dots_qn, _ = gradient_products(prepared, bank, settings.batch_size, moves, {}, folder)
        return Scores(sign * dots_qn, bank, changed, sign)
    base_nk = base_losses(prepared, bank, settings.batch_size)
    sets = {f"query-{i}": weights for i, weights in enumerate(changed)}
    losses = item_losses(
        prepared.model, prepared.catalogue, bank, sets, folder, prepared.rows, batch_size=settings.batch_size,
        on_progress=prepared.told("scoring the catalogue"),
    )  # fmt: skip
    scores = [sign * skew(losses[name], base_nk, settings.score_by).mean(dim=1) for name in sets]
    return Scores(torch.stack(scores).numpy(), bank, changed, sign)


def skew(after_nk: Tensor, before_nk: Tensor, kind: Skew) -> Tensor:
    """How far losses moved, ``[N, K]`` float64: L' - L, or (L' - L) / (L' + L + 0.001) (Serra et al. 2026)."""
    after, before = after_nk.double(), before_nk.double()
    return after - before if kind == "difference" else (after - before) / (after + before + SKEW_FLOOR)


def base_losses(prepared: Prepared, bank: NoiseBank, batch_size: int) -> Tensor:
    """Item losses of all segments under the base weights, from the prepared folder or computed now."""
    name = bank.hash if prepared.only is None else hash_json([bank.hash, prepared.only])
    folder = prepared.folder / f"base-{name}"
    return item_losses(
        prepared.model, prepared.catalogue, bank, {"base": {}}, folder, prepared.rows,
        batch_size=batch_size, on_progress=prepared.told("base losses (once per model)"),
    )["base"]  # fmt: skip
