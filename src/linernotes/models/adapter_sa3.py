"""Reads adapters in Stable Audio 3's layout: one safetensors file, ``lora_config`` as JSON in its header,
tensors named ``LAYER.parametrizations.weight.0.PART``.

Its plain, its row-wise DoRA (``dora-rows``) and their XS kinds are what ``LowRank`` says. Its ``dora-cols``
and ``bora`` scale columns too, which no sum of a layer and a low-rank change does; they are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from linernotes.errors import LinernotesError
from linernotes.models.adapter import Adapter, LowRank
from linernotes.models.adapter_files import fitting, tensors_of
from linernotes.models.adapter_folder import CONFIG
from linernotes.models.contract import GenerativeModel

KINDS = {
    "lora": False,
    "dora": True,
    "dora-rows": True,
    "lora-xs": False,
    "dora-rows-xs": True,
}  # DoRA or not
NAMED = re.compile(r"(.+)\.parametrizations\.weight\.0\.(\w+)")
LORA_CONFIG = "lora_config"


@runtime_checkable
class NamedByStableAudio3(Protocol):
    """A model that knows what Stable Audio 3's own code calls its layers."""

    network: nn.Module

    def renamed(self, name: str) -> tuple[str, Tensor | None]:
        """Where a layer stands in the network, and which of its rows stand where; None: as they were."""

    def conditioner_layers(self) -> dict[str, nn.Linear]:
        """The layers outside the network that adapters may change, by their names there."""


def read_stable_audio_3(folder: Path, model: GenerativeModel) -> tuple[Adapter, Adapter]:
    """The adapter in ``folder``, by the layers of the model's network; and what it changes of the layers
    that make the conditioning, by their names there (``conditioner_layers``).

    Raises:
        LinernotesError: not one file, of a kind that is not known, or this layout is not known for the model.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if len(paths) != 1:
        raise LinernotesError(f"{folder} holds {len(paths)} adapters: give a folder, or the file, of one")
    path = paths[0]
    tensors, header = tensors_of(path)
    config = _config_of(header, path)
    kind = config.get("adapter_type", "lora")
    if kind not in KINDS:
        raise LinernotesError(
            f"{path} is a {kind} adapter: of Stable Audio 3's, {', '.join(KINDS)} are known; train one of "
            "these"
        )
    if not isinstance(model, NamedByStableAudio3):
        raise LinernotesError(
            f"{path} is in Stable Audio 3's layout, whose layers have other names than this model's: give a "
            "StableAudio3Pipeline folder with --model, or the adapter in PEFT's layout"
        )
    inner, outer = dict(model.network.named_modules()), model.conditioner_layers()
    found: tuple[Adapter, Adapter] = ({}, {})
    for key, parts in _by_layer(tensors, path).items():
        name, rows = (key, None) if key in outer else model.renamed(key)
        layer = outer.get(key) or inner.get(name)
        if not (isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d) and layer.kernel_size == (1,))):
            raise LinernotesError(
                f"{path} adapts {key}, which is no layer of this model: it is an adapter to another model; "
                "give that one with --model"
            )
        try:
            low = _low_rank(parts, layer, rows, config.get("alpha"), KINDS[kind])
        except KeyError as error:
            raise LinernotesError(f"{path} lacks {error} of {key}: copy the adapter anew") from None
        found[key in outer][name] = low
    return fitting(folder, found[0], inner), fitting(folder, found[1], outer) if found[1] else {}


def _by_layer(tensors: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if (match := NAMED.fullmatch(key)) is None:
            raise LinernotesError(f"{path} holds {key}, which is no part of an adapter: copy it anew")
        layers.setdefault(match[1], {})[match[2]] = tensor
    return layers


def _low_rank(
    parts: dict[str, Tensor],
    layer: nn.Linear | nn.Conv1d,
    rows: Tensor | None,
    alpha: float | None,
    dora: bool,
) -> LowRank:
    core_rr = parts.get("M_xs")
    if core_rr is None:
        down_ri, up_or = parts["lora_A"], parts["lora_B"]
        up_or = up_or if rows is None else up_or[rows]
    else:
        down_ri, up_or = singular(layer.weight.detach().flatten(1).cpu(), len(core_rr))
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


def _config_of(header: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Stable Audio 3's ``lora_config``.

    Raises:
        LinernotesError: there is none.
    """
    try:
        found = json.loads(header[LORA_CONFIG])
    except (KeyError, json.JSONDecodeError):
        found = None
    if not isinstance(found, dict):
        raise LinernotesError(
            f"{path} has neither {CONFIG} beside it nor {LORA_CONFIG} in its header: give an adapter in "
            "PEFT's or Stable Audio 3's layout"
        )
    return found
