"""Unlearning in the read-out of a model of codes: the heads that its logits are linear in, from forward
passes alone.

The item loss is a cross-entropy, -log softmax(W_k h)_c for each codebook k, so its curvature in the heads'
weights is known in closed form: the mean over frames of (diag p - p p') (x) h h'. It is taken in the
eigenbasis of its factors' means with its own diagonal there (EK-FAC, George et al. 2018), without a single
sampled target. The mirrored unlearning step (Wang et al. 2024, eq. 6) is solved with it, and its effect on
every item is exact: the logits move by D_k h, and the loss is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from linernotes.artefacts import hash_arrays
from linernotes.curvature.fitting import Drawn, fit_sums
from linernotes.draws import Batch
from linernotes.methods.contract import TENSOR_BYTES, Prepared, Query, Scores, Work
from linernotes.methods.items import Pairs, sweep_items
from linernotes.methods.query_gradient import heard_weights
from linernotes.models.contract import GenerativeModel, HeadsPass, SoftmaxReadoutModel, device_of
from linernotes.settings.methods import ReadoutSettings


def score_softmax_readout(
    prepared: Prepared, queries: list[Query], settings: ReadoutSettings, folder: Path
) -> Scores:
    """Rise of the item loss after the unlearning step of each query in the heads. There is no noise, so there
    are no bands of it.
    """
    draws = prepared.draws(1, settings.seed)
    curvature = fit_heads(prepared, settings.batch_size)
    sets_of = [queries] if settings.together else [[query] for query in queries]
    step_qkvf = torch.stack([unlearning_step(prepared, some, curvature, settings) for some in sets_of])
    header = {
        "model": prepared.model.weights_hash,
        "catalogue": prepared.catalogue.hash,
        "steps": hash_arrays({"steps": step_qkvf.cpu().numpy()}),
    }
    look = partial(rises, step_qkvf=step_qkvf)
    rise_nq = sweep_items(
        prepared, draws, settings.batch_size, look, folder, "scores", header, prepared.rows
    )["rise_nq"]
    changed = [[(draws, weights_after(prepared.model, step_kvf))] for step_kvf in step_qkvf]
    return Scores(rise_nq.double().T.numpy(), draws, changed)


def heads_pass(model: GenerativeModel, items: Batch) -> HeadsPass:
    """One pass forward."""
    assert isinstance(model, SoftmaxReadoutModel)
    with torch.inference_mode():
        return model.heads_pass(items)


def rises(worker: GenerativeModel, pairs: Pairs, step_qkvf: Tensor) -> dict[str, Tensor]:
    """Rise of each item's loss by each query's step."""
    seen, rises = heads_pass(worker, pairs[0]), []
    before_b = item_losses_b(seen, seen.logits_bktv)
    for step_kvf in step_qkvf:  # one by one: a query's score does not depend on the others, to the last bit
        moved_bktv = torch.einsum("bktf,kvf->bktv", seen.given_bktf, step_kvf)
        rises.append(item_losses_b(seen, seen.logits_bktv + moved_bktv) - before_b)
    return {"rise_nq": torch.stack(rises, dim=1)}


def item_losses_b(seen: HeadsPass, logits_bktv: Tensor) -> Tensor:
    """The item loss with these logits."""
    losses = functional.cross_entropy(logits_bktv.flatten(0, 2), seen.codes_bkt.flatten(), reduction="none")
    return (losses.view(seen.codes_bkt.shape).mean(dim=1) * seen.counts_bt).mean(dim=1)


Measure = Callable[[GenerativeModel, Drawn], dict[str, Tensor]]
Curvature = list[tuple[Tensor, Tensor, Tensor]]  # of each head: bases of outputs and inputs, values [V, F]


def fit_heads(prepared: Prepared, batch_size: int) -> Curvature:
    """The heads' curvature over the training segments, in two passes forward; from the prepared folder or
    fitted now.
    """
    model = prepared.model
    heads = range(model.encoding.latent_channels)

    def factors(worker: GenerativeModel, drawn: Drawn) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        for k, (p_nv, given_nf) in enumerate(_counted(heads_pass(worker, drawn.items))):
            sums[f"in/{k}"] = given_nf.T @ given_nf
            sums[f"out/{k}"] = torch.diag(p_nv.sum(dim=0)) - p_nv.T @ p_nv
        return sums

    sums = _sums(prepared, "factors", factors, batch_size)
    bases = {name: torch.linalg.eigh(matrix.double())[1].float() for name, matrix in sums.items()}

    def values(worker: GenerativeModel, drawn: Drawn) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for k, (p_nv, given_nf) in enumerate(_counted(heads_pass(worker, drawn.items))):
            out_vv, in_ff = bases[f"out/{k}"].to(p_nv.device), bases[f"in/{k}"].to(p_nv.device)
            # variance of each direction of the logits under the model's own distribution
            variance_nv = p_nv @ out_vv.square() - (p_nv @ out_vv).square()
            found[f"value/{k}"] = variance_nv.T @ (given_nf @ in_ff).square()
        return found

    totals = _sums(prepared, "values", values, batch_size)
    each, device = prepared.n_training * len(heads) * model.encoding.frames, device_of(model)
    return [
        (bases[f"out/{k}"].to(device), bases[f"in/{k}"].to(device), totals[f"value/{k}"].to(device) / each)
        for k in heads
    ]


def _sums(prepared: Prepared, what: str, measure: Measure, batch_size: int) -> dict[str, Tensor]:
    draws = prepared.draws(1, 0)
    on_progress = prepared.progress("curvature (once per model)")
    return fit_sums(
        prepared.model,
        prepared.catalogue,
        len(draws),
        0,
        prepared.folder / f"softmax-readout-{what}.safetensors",
        f"curvature of the heads, {what}",
        {},
        measure,
        batch_size,
        on_progress,
        draws,
    )


def _counted(seen: HeadsPass) -> list[tuple[Tensor, Tensor]]:
    """Of each head what the model foretells and what the head is given at all frames that count."""
    counts = seen.counts_bt.flatten() > 0
    return [
        (logits.flatten(0, 1)[counts].softmax(dim=1), given.flatten(0, 1)[counts])
        for logits, given in zip(seen.logits_bktv.unbind(dim=1), seen.given_bktf.unbind(dim=1), strict=True)
    ]


def unlearning_step(
    prepared: Prepared, queries: Sequence[Query], curvature: Curvature, settings: ReadoutSettings
) -> Tensor:
    """(a / N) (F + lambda)^-1 grad L for the queries' mean loss, ``[K, V, F]``; lambda = ``damping`` x the
    mean value of each head.
    """
    gradient_kvf = torch.stack([head_gradients(prepared, q, settings) for q in queries]).mean(dim=0)
    solved = []
    for gradient_vf, (out_vv, in_ff, value_vf) in zip(gradient_kvf, curvature, strict=True):
        turned_vf = out_vv.T @ gradient_vf @ in_ff / (value_vf + settings.damping * value_vf.mean())
        solved.append(out_vv @ turned_vf @ in_ff.T)
    return settings.step_size / prepared.n_training * torch.stack(solved)


def head_gradients(prepared: Prepared, query: Query, settings: ReadoutSettings) -> Tensor:
    """Gradient of a query's loss in the heads' weights, mean over heard frames, ``[K, V, F]``."""
    model = prepared.model
    weight_t = heard_weights(query, settings.mask_silence).to(device_of(model))
    seen = heads_pass(model, query.items(model))
    wrong_ktv = seen.logits_bktv[0].softmax(dim=2)
    wrong_ktv = wrong_ktv - functional.one_hot(seen.codes_bkt[0], wrong_ktv.shape[2])
    weight_t = weight_t * seen.counts_bt[0] / len(wrong_ktv)
    return torch.einsum("ktv,t,ktf->kvf", wrong_ktv, weight_t, seen.given_bktf[0])


def weights_after(model: GenerativeModel, step_kvf: Tensor) -> dict[str, Tensor]:
    """The heads' weights after a step, by parameter name."""
    assert isinstance(model, SoftmaxReadoutModel)
    names = [f"{head}.weight" for head in model.heads]
    parameters = dict(model.network.named_parameters())
    return {name: parameters[name] + step_vf for name, step_vf in zip(names, step_kvf, strict=True)}


def work_of_softmax_readout(prepared: Prepared, _settings: ReadoutSettings, _query: Query) -> Work:
    """Forward passes only. Once: two over the training segments."""
    model = prepared.model
    assert isinstance(model, SoftmaxReadoutModel)
    weights = [p for n, p in model.network.named_parameters() if n.rpartition(".")[0] in model.heads]
    curvature = TENSOR_BYTES * sum(sum(side**2 for side in p.shape) + p.numel() for p in weights)
    return Work(
        {"forward": 2 * prepared.n_training},
        {"forward": len(prepared.rows)},
        {"forward": 1},
        curvature,
        4 * curvature,
        TENSOR_BYTES * sum(p.numel() for p in weights),
    )
