"""Gradients of each item of a batch on its own, from one backward pass.

Hooks see what every layer was given and the gradient at what it returned; an item's gradient, its covariances and its
projections all follow from these two. ``torch.func.vmap`` would do the same, but falls back to a slow path for fused
attention on CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from linernotes.errors import LinernotesError
from linernotes.models.contract import Conditioning, GenerativeModel

# layer's name, the layer, what it was given a [B, ..., in], the gradient at what it returned g [B, ..., out]
SeeLayer = Callable[[str, nn.Module, Tensor, Tensor], None]
# what is differentiated, one value an item: (model, latents_bct, condition, t_b, eps_bct) -> [B]
Measured = Callable[[GenerativeModel, Tensor, Conditioning, Tensor, Tensor], Tensor]


def item_loss_b(model: GenerativeModel, latents_bct: Tensor, condition: Conditioning, t_b: Tensor, eps_bct: Tensor) -> Tensor:
    """The item loss, ``[B]``."""
    return model.loss_bt(latents_bct, condition, t_b, eps_bct).mean(dim=1)


def observe_items(
    model: GenerativeModel, names: Collection[str], see: SeeLayer, measured: Measured,
    latents_bct: Tensor, condition: Conditioning, t_b: Tensor, eps_bct: Tensor,
) -> Tensor:  # fmt: skip
    """One pass forward and backward over a batch: ``see`` is called once for every layer that has a named parameter.

    Returns:
        ``measured_b`` [B], detached.
    """
    # Backward to what the first of these layers are given: that reaches them all and no deeper, and forms no weight's gradient.
    with observed(model.denoiser, names, see) as roots, torch.enable_grad():
        measured_b = measured(model, latents_bct, condition, t_b, eps_bct)
        torch.autograd.grad(measured_b.sum(), roots, allow_unused=True)
    return measured_b.detach()


@contextmanager
def observed(module: nn.Module, names: Collection[str], see: SeeLayer) -> Iterator[list[Tensor]]:
    """While open, a backward pass to the list it gives calls ``see`` for every layer that has a parameter in ``names``; a
    forward pass puts there what such layers are given, where that depends on no other of them.

    Such layers must be ``nn.Linear`` or ``nn.LayerNorm`` with an input ``[B, ..., features]`` and must be called once in a
    forward pass.

    Raises:
        LinernotesError: a named parameter belongs to a layer of another kind.
    """
    handles: list[RemovableHandle] = []
    roots: list[Tensor] = []
    covered: set[str] = set()
    for prefix, layer in module.named_modules():
        own = {f"{prefix}.{short}" if prefix else short for short, _ in layer.named_parameters(recurse=False)}
        if not own & set(names):
            continue
        if type(layer) not in (nn.Linear, nn.LayerNorm):
            raise LinernotesError(
                f"per-item gradients of {prefix} ({type(layer).__name__}) are not supported: choose other --layers"
            )
        covered |= own
        handles.append(layer.register_forward_pre_hook(_rooted(roots)))
        handles.append(layer.register_forward_hook(_hook(prefix, see)))
    if missing := set(names) - covered:
        raise LinernotesError(f"the model has no parameter {sorted(missing)[0]!r}: choose other --layers")
    try:
        yield roots
    finally:
        for handle in handles:
            handle.remove()


def _rooted(roots: list[Tensor]) -> Callable[..., tuple[Tensor, ...] | None]:
    def before_forward(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if inputs[0].requires_grad:
            return None
        roots.append(inputs[0].detach().requires_grad_(True))
        return (roots[-1], *inputs[1:])

    return before_forward


def _hook(prefix: str, see: SeeLayer) -> Callable[..., None]:
    def after_forward(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given = inputs[0].detach()
        if output.requires_grad:
            output.register_hook(lambda gradient: see(prefix, layer, given, gradient.detach()))  # type: ignore[no-untyped-call]

    return after_forward


def layer_gradients(prefix: str, layer: nn.Module, given: Tensor, gradient: Tensor, draws: int = 1) -> dict[str, Tensor]:
    """The gradients of a layer's parameters for each item, ``[B / draws, *parameter.shape]``, by the parameters' full names.

    ``draws`` passes that follow each other belong to one item; their gradients are summed.
    """
    dot = f"{prefix}." if prefix else ""
    g_ito = per_item(gradient, draws)
    if isinstance(layer, nn.LayerNorm):
        normed_itf = per_item(functional.layer_norm(given, layer.normalized_shape, None, None, layer.eps), draws)
        return {f"{dot}weight": (g_ito * normed_itf).sum(dim=1), f"{dot}bias": g_ito.sum(dim=1)}
    gradients = {f"{dot}weight": torch.bmm(g_ito.transpose(1, 2), per_item(given, draws))}
    return gradients | ({f"{dot}bias": g_ito.sum(dim=1)} if layer.bias is not None else {})


def per_item(tensor_bf: Tensor, draws: int = 1) -> Tensor:
    """``[B, ..., features]`` -> ``[items, positions, features]``, the positions of an item's draws one after the other."""
    return tensor_bf.reshape(len(tensor_bf) // draws, -1, tensor_bf.shape[-1])


def with_ones(layer: nn.Module, given: Tensor) -> Tensor:
    """A linear layer's input with a 1 appended where the layer has a bias, so that the bias is one more column of weights."""
    return given if layer.bias is None else functional.pad(given, (0, 1), value=1.0)


def linear_layers(module: nn.Module, names: Collection[str]) -> dict[str, nn.Linear]:
    """The linear layers whose weight is in ``names``, by their own name."""
    return {n: layer for n, layer in module.named_modules() if isinstance(layer, nn.Linear) and f"{n}.weight" in names}


def as_matrix(layer: nn.Linear, prefix: str, gradient: Mapping[str, Tensor]) -> Tensor:
    """A linear layer's weight (and bias, as a last column) out of a dictionary by parameter names: ``[out, in (+ 1)]``."""
    weight = gradient[f"{prefix}.weight"]
    return weight if layer.bias is None else torch.cat([weight, gradient[f"{prefix}.bias"][:, None]], dim=1)


def from_matrix(layer: nn.Linear, prefix: str, matrix: Tensor) -> dict[str, Tensor]:
    """The other way round."""
    if layer.bias is None:
        return {f"{prefix}.weight": matrix}
    return {f"{prefix}.weight": matrix[:, :-1].contiguous(), f"{prefix}.bias": matrix[:, -1].contiguous()}


def probe(direction_bct: Tensor) -> Any:
    """Measures the model's output along a direction, ``<v, prediction>`` [B]."""

    def measured(model: Any, latents_bct: Tensor, condition: Conditioning, t_b: Tensor, eps_bct: Tensor) -> Tensor:
        alpha_b, sigma_b = model.path(t_b)
        noisy_bct = alpha_b[:, None, None] * latents_bct + sigma_b[:, None, None] * eps_bct
        return (model.predict(noisy_bct, t_b, condition) * direction_bct).sum(dim=(1, 2))

    return measured


def squared_output_b(model: Any, latents_bct: Tensor, condition: Conditioning, t_b: Tensor, eps_bct: Tensor) -> Tensor:
    """Mean square of the model's output, ``[B]`` (D-TRAK's measure, Zheng et al. 2024, sec. 3.2)."""
    alpha_b, sigma_b = model.path(t_b)
    noisy_bct = alpha_b[:, None, None] * latents_bct + sigma_b[:, None, None] * eps_bct
    return model.predict(noisy_bct, t_b, condition).square().mean(dim=(1, 2))
