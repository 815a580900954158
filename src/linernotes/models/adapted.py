"""A model with an adapter: the same family with the same powers, whose weights that can be unlearned, looked
at and trained are the adapter's.

Every kind of layers means the adapter's weights in layers of that kind; ``adapter`` means all of them, as
``all`` does. The read-out and the output layer stay the base model's own, on adapted features.
"""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linernotes.artefacts import hash_json
from linernotes.errors import LinernotesError, UsageError
from linernotes.models.adapter import (
    LENGTHS,
    UP,
    Adapter,
    attach,
    detached,
    hash_adapter,
    new_adapter,
    row_lengths,
    trained_names,
)
from linernotes.models.adapter_files import read_peft, write_adapter, write_weights
from linernotes.models.adapter_folder import CONFIG, Base
from linernotes.models.adapter_sa3 import read_stable_audio_3
from linernotes.models.contract import GenerativeModel, PlacedModel, Readout, ReadoutModel
from linernotes.models.folder import training_record
from linernotes.models.weights import ChangedWeights, using_weights

ADAPTER = "adapter"  # the kind of layers


def adapt(model: GenerativeModel, folder: Path, base: Base) -> GenerativeModel:
    """The model with the adapter in ``folder``, which is made for ``base``; the object itself is changed.

    Raises:
        LinernotesError: the adapter is to another model, by its hash or by its shapes, or to a model that is
            itself adapted.
    """
    if ADAPTER in model.layer_kinds:
        raise LinernotesError(
            f"{base.folder} is itself a model with an adapter: merge that into its weights, and adapt these"
        )
    if base.weights_hash and base.weights_hash != model.weights_hash:
        made_for = base.made_for or base.name
        raise LinernotesError(
            f"{folder.name} is an adapter to another model ({made_for}, {base.weights_hash}) than "
            f"{base.name} ({model.weights_hash}): give that one with --model"
        )
    if isinstance(model, PlacedModel):
        model.placed &= not training_record(folder)
    if (folder / CONFIG).is_file():
        return with_adapter(model, read_peft(folder, model), folder, base)
    adapter, of_conditioner = read_stable_audio_3(folder, model)
    return with_adapter(model, adapter, folder, base, of_conditioner)


def with_adapter(
    model: Any, adapter: Adapter, folder: Path, base: Base, of_conditioner: Adapter | None = None
) -> GenerativeModel:
    """The model with an adapter that fits it; the object itself is changed.

    Its class becomes one that is made from its own, with the few methods below in the place of the family's:
    so a family needs to know nothing of adapters, and a twin of the model is one of the same kind.

    Args:
        of_conditioner: the part of the adapter that changes layers outside the network. It is merged into
            them: items are made once for all passes, so it can be neither unlearned nor taken away.
    """
    kinds = {kind: list(model.layers(kind)) for kind in model.layer_kinds}
    own = {f"{name}.weight" for name in adapter}
    reached = [kind for kind, names in kinds.items() if kind in ("all", "output") or own & set(names)]
    readout = _readout_of(model, adapter) if isinstance(model, ReadoutModel) else None
    base = replace(base, weights_hash=model.weights_hash)
    outer = model.conditioner_layers() if of_conditioner else {}
    for name, low in (of_conditioner or {}).items():
        outer[name].weight.data = low.merged(outer[name].weight.data)
    attach(model.network, adapter)
    family: Any = type(model)
    model.__class__ = _adapted_class(family, readout is not None)
    model.carried = Carried(list(adapter), trained_names(adapter), kinds, base, readout)
    model.layer_kinds = tuple(dict.fromkeys([*reached, ADAPTER]))
    model.weights_hash = hash_json([base.weights_hash, hash_adapter(adapter | (of_conditioner or {}))])
    model.name = folder.resolve().name
    return model  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Carried:
    """What an adapted model remembers of its base model and its adapter."""

    layers: list[str]  # those that the adapter changes
    trained: list[str]  # the adapter's parameters, by their names in the network
    kinds: dict[str, list[str]]  # of the base model's parameters
    base: Base
    readout: Readout | None  # None: there is none, or DoRA changes its layer, in which nothing is linear then


def carried(model: GenerativeModel) -> Carried | None:
    """What an adapted model carries; None for a model that is none."""
    found: Carried | None = getattr(model, "carried", None)
    return found


def without_adapter(model: GenerativeModel) -> ChangedWeights:
    """The weights with which an adapted model is its base model, to the last bit (but for what of the
    conditioning was adapted too); nothing for one that is none.
    """
    found = carried(model)
    changed: dict[str, Tensor] = {}
    for name in found.layers if found else ():
        layer: Any = model.network.get_submodule(name)
        parts = dict(layer.named_children())
        changed[f"{name}.{UP}.weight"] = torch.zeros_like(parts[UP].weight)
        if LENGTHS in parts:
            changed[f"{name}.{LENGTHS}.weight"] = row_lengths(layer.weight.detach().flatten(1))
    return changed


def layers_to_adapt(model: GenerativeModel, dora: bool) -> dict[str, nn.Linear]:
    """The layers that a new adapter changes: all linear ones of the model's blocks. DoRA leaves out the
    read-out, which would no longer be linear in its weights.
    """
    names = set(model.layers("all"))
    readout = model.readout().layer if dora and isinstance(model, ReadoutModel) else None
    return {
        name: layer
        for name, layer in model.network.named_modules()
        if isinstance(layer, nn.Linear) and f"{name}.weight" in names and name != readout
    }


def write_new_adapter(
    model: GenerativeModel, model_folder: Path, folder: Path, rank: int, dora: bool, seed: int
) -> None:
    """Writes an adapter to a model that changes nothing yet; the model itself stays where it is."""
    layers = layers_to_adapt(model, dora)
    if narrow := [name for name, layer in layers.items() if min(layer.weight.shape) < rank]:
        raise UsageError(
            f"rank {rank} is more than {narrow[0]} has ({min(layers[narrow[0]].weight.shape)}): give a lower "
            "--rank"
        )
    base = Base(str(model_folder.resolve()), model.name, model.weights_hash)
    write_adapter(folder, new_adapter(layers, rank, dora, seed), base, dora)


def write_untrained_adapter(model: GenerativeModel, adapter: Path, folder: Path, seed: int) -> None:
    """Writes the adapter in ``adapter`` to ``folder`` as it was before its training, but with another seed.

    Args:
        model: its base model.
    """
    shutil.copytree(adapter, folder, ignore=shutil.ignore_patterns("training*", "checkpoints"))
    if not (folder / CONFIG).is_file():
        raise LinernotesError(
            f"{adapter} is an adapter in Stable Audio 3's layout, which is read and not trained here: train "
            "one with 'linernotes train --adapter'"
        )
    trained = read_peft(adapter, model)
    layers: dict[str, Any] = {name: model.network.get_submodule(name) for name in trained}
    dora = any(low.lengths_o is not None for low in trained.values())
    fresh: Adapter = {}
    for name, low in trained.items():
        new = new_adapter({name: layers[name]}, len(low.down_ri), dora, seed)[name]
        fresh[name] = replace(new, scale=low.scale)
    write_weights(folder, fresh)


@functools.cache
def _adapted_class(base: type, reads_out: bool) -> type:
    """The class of models of a family with adapters, with the power of a read-out or without."""
    methods = {
        "layers": _layers,
        "trained_parts": _trained_parts,
        "save_parts": _save_parts,
        "readout": _readout if reads_out else None,  # a method that is None is no power (typing.Protocol)
    }
    return type(f"Adapted{base.__name__}", (base,), methods)


def _layers(self: Any, kind: str) -> dict[str, nn.Parameter]:
    if kind not in self.layer_kinds:
        raise UsageError(f"there are no layers {kind!r}: choose one of {', '.join(self.layer_kinds)}")
    found: Carried = self.carried
    parameters = dict(self.network.named_parameters())
    names = found.kinds["all" if kind == ADAPTER else kind]
    if kind == "output":
        return {name: parameters[name] for name in names}
    wanted = set(names) if kind not in ("all", ADAPTER) else {f"{layer}.weight" for layer in found.layers}
    return {name: parameters[name] for name in found.trained if f"{name.rsplit('.', 2)[0]}.weight" in wanted}


def _trained_parts(self: Any) -> nn.ModuleDict:
    return nn.ModuleDict({ADAPTER: self.network})


def _save_parts(self: Any, folder: Path) -> None:
    write_weights(folder, detached(self.network, self.carried.layers))


def _readout(self: Any) -> Readout:
    found: Readout = self.carried.readout
    return found


def _readout_of(model: ReadoutModel, adapter: Adapter) -> Readout | None:
    """The base model's read-out with the adapter's changes of what lies behind it, which is no block."""
    layer = model.readout().layer
    if layer in adapter and adapter[layer].lengths_o is not None:
        return None
    blocks = set(model.layers("all"))
    behind = {
        f"{name}.weight": low.merged(model.network.get_submodule(name).weight)  # type: ignore[arg-type]
        for name, low in adapter.items()
        if name != layer and f"{name}.weight" not in blocks
    }
    with torch.no_grad(), using_weights(model.network, behind):
        readout = model.readout()
        return replace(readout, projection_co=readout.projection_co.clone())
