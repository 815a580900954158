"""Reads adapters in Stable Audio 3's layout: one safetensors file, ``lora_config`` as JSON in its header,
tensors named ``LAYER.parametrizations.weight.0.PART``.

Its plain, its row-wise DoRA (``dora-rows``) and their XS kinds are what ``LowRank`` says. Its ``dora-cols``
and ``bora`` scale columns too, which no sum of a layer and a low-rank change does; they are refused.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from linernotes.errors import LinernotesError
from linernotes.models.adapter import Adapter, LowRank
from linernotes.models.adapter_files import Renamed, config_of, tensors_of

KINDS = {
    "lora": False,
    "dora": True,
    "dora-rows": True,
    "lora-xs": False,
    "dora-rows-xs": True,
}  # DoRA or not
NAMED = re.compile(r"(.+)\.parametrizations\.weight\.0\.(\w+)")
BAKED = "baked_vnorm_row"  # row lengths of W + s B A, kept for loaders that do not have W


def read_stable_audio_3(folder: Path, network: nn.Module, renamed: Renamed | None) -> Adapter:
    """The adapter in ``folder``, by the layers of ``network``.

    Args:
        renamed: where a layer stands in the network and how its rows lie there; None where nobody knows.

    Raises:
        LinernotesError: not one file, of a kind that is not known, or this layout is not known for the model.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if len(paths) != 1:
        raise LinernotesError(f"{folder} holds {len(paths)} adapters: give a folder, or the file, of one")
    tensors, header = tensors_of(paths[0])
    config = config_of(header, paths[0])
    kind = config.get("adapter_type", "lora")
    if kind not in KINDS:
        raise LinernotesError(
            f"{paths[0]} is a {kind} adapter: of Stable Audio 3's, {', '.join(KINDS)} are known; train one "
            "of these"
        )
    if renamed is None:
        raise LinernotesError(
            f"{paths[0]} is in Stable Audio 3's layout, whose layers have other names than this model's: "
            "give a StableAudio3Pipeline folder with --model, or the adapter in PEFT's layout"
        )
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if (match := NAMED.fullmatch(key)) is None:
            raise LinernotesError(f"{paths[0]} holds {key}, which is no part of an adapter: copy it anew")
        layers.setdefault(match[1], {})[match[2]] = tensor
    adapter = {}
    for key, parts in layers.items():
        name, rows = renamed(key)
        try:
            layer = network.get_submodule(name)
        except AttributeError:
            layer = None
        if not isinstance(layer, nn.Linear):
            raise LinernotesError(
                f"{paths[0]} adapts {key}, which is no linear layer of this model's network: give the model "
                "that it is an adapter to, or one that was trained with its blocks' layers alone"
            )
        try:
            adapter[name] = _low_rank(parts, layer, rows, config.get("alpha"), KINDS[kind])
        except KeyError as error:
            raise LinernotesError(f"{paths[0]} lacks {error} of {key}: copy the adapter anew") from None
    return adapter


def _low_rank(
    parts: dict[str, Tensor], layer: nn.Linear, rows: Tensor | None, alpha: float | None, dora: bool
) -> LowRank:
    core_rr = parts.get("M_xs")
    if core_rr is None:
        down_ri, up_or = parts["lora_A"], parts["lora_B"]
        up_or = up_or if rows is None else up_or[rows]
    else:
        down_ri, up_or = singular(layer.weight.detach().cpu(), len(core_rr))
    lengths_o = parts["magnitude"].flatten() if dora else None
    if lengths_o is not None and rows is not None:
        lengths_o = lengths_o[rows]
    rank = len(down_ri)
    return LowRank(down_ri, up_or, (rank if alpha is None else float(alpha)) / rank, lengths_o, core_rr)


def singular(weight_oi: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The first right and left singular vectors of a weight, ``[rank, in]`` and ``[out, rank]``, with the
    signs that XS adapters are trained with: the largest element of each left one is positive.
    """
    left_or, _, right_ri = torch.linalg.svd(weight_oi.float(), full_matrices=False)
    left_or, right_ri = left_or[:, :rank], right_ri[:rank]
    largest_r = left_or.abs().argmax(dim=0)
    signs_r = left_or[largest_r, torch.arange(rank)].sign()
    signs_r = torch.where(signs_r == 0, 1.0, signs_r)
    return right_ri * signs_r[:, None], left_or * signs_r
