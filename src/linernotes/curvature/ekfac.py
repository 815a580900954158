"""EK-FAC: per linear layer, the curvature's Kronecker eigenbasis and its own second moments there.

George et al. 2018 (1806.03884); for influence Grosse et al. 2023 (2308.03296, sec. 2.2). Positions of a
sequence are treated as K-FAC "expand": covariances are sums over positions, one gradient per frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linernotes.artefacts import held, load_tensors, save_tensors
from linernotes.catalog.store import Catalogue
from linernotes.curvature.fitting import Drawn, fit_sums
from linernotes.curvature.per_item import (
    SeeLayer,
    as_matrix,
    from_matrix,
    item_loss_b,
    matrix_layers,
    observe_items,
    per_item,
    with_ones,
)
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError
from linernotes.models.contract import GenerativeModel
from linernotes.settings.methods import FisherKind

KIND = "EK-FAC"


@dataclass(frozen=True)
class Ekfac:
    """``input_ij`` and ``output_ij``, eigenvectors of the covariances of a layer's inputs and output
    gradients (columns), and ``value_oi`` [out, in (+ 1)], the mean squared gradient in that basis, each by
    the layer's name.
    """

    input_ij: dict[str, Tensor]
    output_ij: dict[str, Tensor]
    value_oi: dict[str, Tensor]

    def solve(self, matrices: Mapping[str, Tensor], damping: float) -> dict[str, Tensor]:
        """(F + lambda)^-1 G for each layer's gradient ``[out, in (+ 1)]``, lambda = ``damping`` x the layer's
        mean value.
        """
        solved = {}
        for name, matrix in matrices.items():
            left, right, value = (
                x[name].to(matrix.device) for x in (self.output_ij, self.input_ij, self.value_oi)
            )
            turned = left.T @ matrix @ right / (value + damping * value.mean())
            solved[name] = left @ turned @ right.T
        return solved


def precondition_ekfac(
    module: nn.Module, gradient: Mapping[str, Tensor], factors: Ekfac, damping: float
) -> dict[str, Tensor]:
    """(F + lambda)^-1 g for gradients by parameter name; parameters of layers that are not linear are left
    out.
    """
    layers = matrix_layers(module, gradient.keys())
    if missing := set(layers) - set(factors.value_oi):
        raise LinernotesError(
            f"this EK-FAC was not fitted for the layer {sorted(missing)[0]!r}: fit it for these --layers"
        )
    solved = factors.solve(
        {name: as_matrix(layer, name, gradient) for name, layer in layers.items()}, damping
    )
    return {
        full: t
        for name, matrix in solved.items()
        for full, t in from_matrix(layers[name], name, matrix).items()
    }


def fit_ekfac(
    model: GenerativeModel,
    catalogue: Catalogue,
    layers: str,
    fisher: FisherKind,
    draws: int,
    seed: int,
    folder: Path,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> Ekfac:
    """Fits EK-FAC on the linear layers among ``layers``, in two passes over the training segments.

    Args:
        fisher: ``sampled``: the Gauss-Newton matrix of the loss, by targets drawn from the model's own
            output. ``empirical``: the true targets' gradients.
        folder: holds ``ekfac.safetensors`` and the sums it is made from; a finished one is read back, a
            killed one resumed.

    Raises:
        LinernotesError: no training segments, no linear layer, or ``folder`` holds the EK-FAC of another
            model or other layers.
    """
    wanted = matrix_layers(model.network, model.layers(layers).keys())
    if not wanted:
        raise LinernotesError(f"the model has no linear layers of the kind {layers!r}: choose other --layers")
    header = {"layers": layers, "fisher": fisher}
    path = folder / "ekfac.safetensors"
    whole = {"model": model.weights_hash, "catalogue": catalogue.hash, "draws": draws, "seed": seed, **header}
    if path.exists():
        return _read(path, whole)
    with held(path, "computed", math.inf):  # by another process at the same time: its result is read
        if path.exists():
            return _read(path, whole)
        names = [f"{name}.weight" for name in wanted]
        total = 2 * len(catalogue.training_rows)

        def half_of(offset: int) -> Callable[[int, int], None] | None:
            return (lambda done, half: on_progress(offset + done, total)) if on_progress else None

        def covariances(worker: GenerativeModel, drawn: Drawn) -> dict[str, Tensor]:
            sums: dict[str, Tensor] = {}
            look_at(worker, names, add_covariances(sums), fisher, drawn)
            return sums

        sums = fit_sums(
            model,
            catalogue,
            draws,
            seed,
            folder / "covariances.safetensors",
            f"{KIND} covariances",
            header,
            covariances,
            batch_size,
            half_of(0),
        )
        bases = {name: torch.linalg.eigh(matrix.double())[1].float() for name, matrix in sums.items()}
        inputs = {name: bases[f"in/{name}"] for name in wanted}
        outputs = {name: bases[f"out/{name}"] for name in wanted}

        def values(worker: GenerativeModel, drawn: Drawn) -> dict[str, Tensor]:
            sums: dict[str, Tensor] = {}
            look_at(worker, names, add_values(sums, inputs, outputs), fisher, drawn)
            return sums

        totals = fit_sums(
            model,
            catalogue,
            draws,
            seed,
            folder / "values.safetensors",
            f"{KIND} values",
            header,
            values,
            batch_size,
            half_of(total // 2),
        )
        value = {name: total / (len(catalogue.training_rows) * draws) for name, total in totals.items()}
        saved = {
            f"{p}/{n}": t
            for p, part in (("in", inputs), ("out", outputs), ("value", value))
            for n, t in part.items()
        }
        save_tensors(path, saved, KIND, whole)
        for part in ("covariances", "values"):
            (folder / f"{part}.safetensors").unlink(missing_ok=True)
        return Ekfac(inputs, outputs, value)


def _read(path: Path, made_from: Mapping[str, Any]) -> Ekfac:
    tensors, _ = load_tensors(path, KIND, made_from)
    parts = (
        {n.removeprefix(f"{p}/"): t for n, t in tensors.items() if n.startswith(f"{p}/")}
        for p in ("in", "out", "value")
    )
    return Ekfac(*parts)


def add_covariances(sums: dict[str, Tensor]) -> SeeLayer:
    """Adds up, for each layer, sum a a^T (``in/NAME``) and sum g g^T (``out/NAME``) over items and
    positions.
    """

    def see(name: str, layer: nn.Module, given: Tensor, gradient: Tensor) -> None:
        for key, x in ((f"in/{name}", with_ones(layer, given)), (f"out/{name}", gradient)):
            x_pf = x.flatten(0, -2)
            sums[key] = sums.get(key, 0) + x_pf.T @ x_pf

    return see


def add_values(
    sums: dict[str, Tensor], inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> SeeLayer:
    """Adds up each item's squared gradient in the eigenbasis."""

    def see(name: str, layer: nn.Module, given: Tensor, gradient: Tensor) -> None:
        a_itj = per_item(with_ones(layer, given)) @ inputs[name].to(given.device)
        g_itj = per_item(gradient) @ outputs[name].to(given.device)
        sums[name] = sums.get(name, 0) + torch.bmm(g_itj.transpose(1, 2), a_itj).square().sum(dim=0)

    return see


def look_at(
    model: GenerativeModel, names: list[str], see: SeeLayer, fisher: FisherKind, drawn: Drawn
) -> None:
    """Shows ``see`` the layers of a pass over items, with sampled or with true targets."""

    def sampled_b(worker: GenerativeModel, items: Batch, draws: Draws) -> Tensor:
        return worker.sampled_loss_b(items, draws, drawn.targets)

    observe_items(
        model, names, see, item_loss_b if fisher == "empirical" else sampled_b, drawn.items, drawn.draws
    )
