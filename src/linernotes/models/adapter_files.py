"""Adapters in PEFT's layout: ``adapter_config.json`` and ``adapter_model.safetensors``, read and written.

Where the base model is lies beside them (``models/adapter_folder.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from linernotes.artefacts import read_json, save_tensors, write_json
from linernotes.errors import LinernotesError
from linernotes.models.adapter import DOWN, LENGTHS, UP, Adapter, LowRank
from linernotes.models.adapter_folder import CONFIG, WEIGHTS, Base, write_base
from linernotes.models.folder import is_pointer

PEFT_PREFIX = "base_model.model."
KIND = "adapter"
ZERO = {"bias": "none", "modules_to_save": None, "lora_bias": False, "fan_in_fan_out": False}
PARTS = {
    f"{DOWN}.weight": "down",
    f"{UP}.weight": "up",
    LENGTHS: "lengths",
    f"{LENGTHS}.weight": "lengths",
}


def write_adapter(folder: Path, adapter: Adapter, base: Base, dora: bool) -> None:
    """Writes an adapter of one rank in PEFT's layout, with what it is an adapter to."""
    rank = len(next(iter(adapter.values())).down_ri)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,  # s = 1
        "use_dora": dora,
        "use_rslora": False,
        "target_modules": list(adapter),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "base_model_name_or_path": base.folder,
    }
    write_json(folder / CONFIG, config)
    write_base(folder, base)
    write_weights(folder, adapter)


def write_weights(folder: Path, adapter: Adapter) -> None:
    """Writes an adapter's weights beside a configuration that is there."""
    tensors = {}
    for name, low in adapter.items():
        tensors[f"{PEFT_PREFIX}{name}.{DOWN}.weight"] = low.down_ri
        tensors[f"{PEFT_PREFIX}{name}.{UP}.weight"] = low.up_or
        if low.lengths_o is not None:
            tensors[f"{PEFT_PREFIX}{name}.{LENGTHS}"] = low.lengths_o
    save_tensors(folder / WEIGHTS, tensors, KIND, {})


def read_peft(folder: Path, model: Any) -> Adapter:
    """The adapter in a folder in PEFT's layout, for the layers of a model's network.

    Args:
        model: may say in ``other_names`` what the layers of its network are called elsewhere.

    Raises:
        LinernotesError: damaged, of a kind that is not known, or its shapes are not those of the network.
    """
    network = model.network
    found = _peft(folder, network, getattr(model, "other_names", {}))
    return fitting(folder, dict(found), dict(network.named_modules()))


def tensors_of(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors in single precision, and its header.

    Raises:
        LinernotesError: it cannot be read.
    """
    if is_pointer(path):
        raise LinernotesError(f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' there")
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name).float() for name in names}, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise LinernotesError(f"{path} is not a readable adapter ({error}): copy it anew") from None


def _peft(folder: Path, network: nn.Module, other_names: Mapping[str, str]) -> Iterator[tuple[str, LowRank]]:
    config = read_json(folder / CONFIG, "an adapter")
    _refuse_unknown(folder, config)
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors_of(folder / WEIGHTS)[0].items():
        part = next((part for part in PARTS if key.endswith(f".{part}")), None)
        if part is None:
            raise LinernotesError(
                f"{folder / WEIGHTS} holds {key}, which is no part of LoRA or DoRA on linear layers: train "
                "an adapter without it"
            )
        layers.setdefault(key.removesuffix(f".{part}"), {})[PARTS[part]] = tensor
    for key, parts in layers.items():
        if {"down", "up"} - parts.keys() or ("lengths" in parts) != bool(config.get("use_dora")):
            raise LinernotesError(f"{folder / WEIGHTS} holds only a part of {key}: copy the adapter anew")
        name, rank = _layer_named(key, folder, network, other_names), len(parts["down"])
        alpha = _alpha(config, key.removeprefix(PEFT_PREFIX), rank)
        scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
        yield name, LowRank(parts["down"], parts["up"], scale, parts.get("lengths"))


def _refuse_unknown(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise LinernotesError(f"{folder} holds a {kind} adapter: only LoRA and DoRA are known")
    for name, nothing in ZERO.items():
        if config.get(name, nothing) not in (nothing, None, []):
            raise LinernotesError(
                f"{folder / CONFIG} says {name} = {config[name]!r}, and only adapters without are known: "
                "train one without it"
            )


def _alpha(config: Mapping[str, Any], name: str, rank: int) -> float:
    """PEFT's alpha of a layer: that of the first pattern which its name ends in, or everybody's."""
    patterns = (config.get("alpha_pattern") or {}).items()
    own = (alpha for pattern, alpha in patterns if re.fullmatch(rf"(.*\.)?({pattern})", name))
    return float(next(own, config.get("lora_alpha", rank)))


def _layer_named(key: str, folder: Path, network: nn.Module, other_names: Mapping[str, str]) -> str:
    """The linear layer that a key stands for, after whatever the name of the network itself was."""
    layers = {n for n, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    name = ".".join(other_names.get(part, part) for part in key.removeprefix(PEFT_PREFIX).split("."))
    while name not in layers:
        _, dot, name = name.partition(".")
        if not dot:
            raise LinernotesError(
                f"{folder} adapts the layer {key.removeprefix(PEFT_PREFIX)}, which this model does not have: "
                "it is an adapter to another model; give that one with --model"
            )
    return name


def fitting(folder: Path, adapter: Adapter, layers: Mapping[str, Any]) -> Adapter:
    """The adapter on the device of its ``layers``, if its shapes fit.

    Raises:
        LinernotesError: they do not.
    """
    if not adapter:
        raise LinernotesError(f"{folder} holds an adapter without any layer: copy it anew")
    placed = {}
    for name, low in adapter.items():
        weight_oi = layers[name].weight.flatten(1)
        rows, columns = weight_oi.shape
        found = f"{len(low.up_or)} x {low.down_ri.shape[1]}"
        if found != f"{rows} x {columns}" or low.up_or.shape[1] != len(low.down_ri):
            raise LinernotesError(
                f"{folder} changes {name} as a layer of {found} weights, and in this model it has {rows} x "
                f"{columns}: it is an adapter to another model; give that one with --model"
            )
        placed[name] = low.to(weight_oi.device)
    return placed
