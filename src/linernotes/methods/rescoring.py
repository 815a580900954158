"""The second half of every unlearning method: item losses under the changed weights against those under the
base weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from linernotes.artefacts import hash_json, load_tensors, save_tensors
from linernotes.draws import Band, Draws, noise_contrasts
from linernotes.losses import item_losses
from linernotes.methods.contract import (
    TENSOR_BYTES,
    Changed,
    Deviations,
    Passes,
    Prepared,
    Query,
    Scores,
    Work,
    draws_together,
    weight_bytes,
)
from linernotes.methods.items import gradient_products
from linernotes.models.contract import device_of
from linernotes.settings.methods import RescoringSettings, Skew

UNLEARNED = "unlearned weights"
SKEW_FLOOR = 1e-3  # Serra et al. 2026


def rescore(
    prepared: Prepared,
    queries: list[Query],
    change: Callable[[Sequence[Query], Band], dict[str, Tensor]],
    settings: RescoringSettings,
    draws: Draws,
    folder: Path,
    sign: int = 1,
    bands: int = 1,
) -> Scores:
    """Scores of all segments for several queries, in one sweep over the data: losses under each one's weights
    less those under the base weights, or, to first order, <theta' - theta, grad L(z_n)>, one gradient a
    segment for all queries together.

    Args:
        change: gives the changed weights for one query, or for all of them as one set
            (``settings.together``), unlearned in one band of noise levels.
        folder: keeps the changed weights, so that a killed run goes on with the very same.
        sign: -1 if the change went toward the query.
        bands: a band's weights are held against losses on the same band's draws only; the bands' means are
            added up.

    Raises:
        LinernotesError: losses under the changed weights are no longer finite.
    """
    device = device_of(prepared.model)
    header = {"model": prepared.model.weights_hash}
    sets_of = [queries] if settings.together else [[query] for query in queries]
    changed: list[list[Changed]] = [[] for _ in sets_of]
    total = np.zeros((len(sets_of), len(prepared.rows)))
    contrasts_rk = sign * noise_contrasts(len(draws))
    deviations_rqn = np.zeros((len(contrasts_rk), *total.shape), np.float32)
    first = 0
    for band, part in enumerate(draws.bands(bands)):
        place = folder / f"band-{band}"
        for i, some in enumerate(sets_of):
            path = place / f"unlearned-{i}.safetensors"
            if not path.exists():
                save_tensors(path, change(some, (band, bands)), UNLEARNED, header)
            weights = load_tensors(path, UNLEARNED, header)[0]
            changed[i].append((part, {name: tensor.to(device) for name, tensor in weights.items()}))
        sets = {f"query-{i}": parts[-1][1] for i, parts in enumerate(changed)}
        share = len(part) / len(draws)
        if settings.score_by == "first-order":
            before = dict(prepared.model.network.named_parameters())
            moves = [
                {name: tensor - before[name] for name, tensor in weights.items()} for weights in sets.values()
            ]
            dots_qn, _ = gradient_products(prepared, part, settings.batch_size, moves, {}, place)
            total += share * dots_qn
            continue
        own = slice(first, first + len(part))
        base_nk = base_losses(prepared, draws, settings.batch_size, folder)[:, own]
        first += len(part)
        what = "scoring the catalogue" if bands == 1 else f"scoring the catalogue (band {band + 1})"
        losses = item_losses(
            prepared.model,
            prepared.catalogue,
            part,
            sets,
            place,
            prepared.rows,
            batch_size=settings.batch_size,
            on_progress=prepared.progress(what),
            executor=prepared.executor,
            model_folder=prepared.model_folder,
        )
        for i, name in enumerate(sets):
            moved_nk = skew(losses[name], base_nk, settings.score_by)
            total[i] += share * moved_nk.mean(dim=1).numpy()
            deviations_rqn[:, i] += contrasts_rk[:, own] @ moved_nk.numpy().T
    apart = settings.score_by != "first-order" and len(contrasts_rk) > 0  # losses of single draws are known
    return Scores(sign * total, draws, changed, sign, Deviations(deviations_rqn) if apart else None)


def skew(after_nk: Tensor, before_nk: Tensor, kind: Skew) -> Tensor:
    """How far losses moved, ``[N, K]`` float64: L' - L, or (L' - L) / (L' + L + 0.001) (Serra et al.
    2026).
    """
    after, before = after_nk.double(), before_nk.double()
    return after - before if kind == "difference" else (after - before) / (after + before + SKEW_FLOOR)


def base_losses(prepared: Prepared, draws: Draws, batch_size: int, folder: Path) -> Tensor:
    """Item losses of the segments under the base weights: those of the whole catalogue from the prepared
    folder, where they are kept for later runs; those of a shortlist, which is one clip's, from the run's own
    ``folder``.
    """
    if prepared.only is None:
        kept, what = prepared.folder / f"base-{hash_json([draws.hash, None])}", "base losses (once per model)"
    else:
        kept, what = folder / "base", "base losses of the shortlist"
    return item_losses(
        prepared.model,
        prepared.catalogue,
        draws,
        {"base": {}},
        kept,
        prepared.rows,
        batch_size=batch_size,
        on_progress=prepared.progress(what),
        executor=prepared.executor,
        model_folder=prepared.model_folder,
    )["base"]


def passes_of_rescoring(prepared: Prepared, settings: RescoringSettings, _queries: int = 1) -> Passes:
    """Gradients of the layers that are unlearned in; to first order those of a segment's draws together."""
    whole = settings.score_by == "first-order"
    together = max(1, draws_together(prepared, settings) // settings.bands) if whole else 1
    return Passes("backward", settings.layer_kind, formed=True, together=together)


def rescoring_work(prepared: Prepared, settings: RescoringSettings, step: Mapping[str, float]) -> Work:
    """The work of an unlearning method whose changed weights take ``step`` for each query, without what its
    step needs once.
    """
    passes = len(prepared.rows) * settings.draws
    changed = (1 + settings.bands) * weight_bytes(prepared, settings.layers)
    if settings.score_by == "first-order":
        return Work({}, {"product": passes}, step, 0.0, 0.0, changed)
    return Work({"forward": passes}, {}, {**step, "forward": passes}, TENSOR_BYTES * passes, 0.0, changed)
