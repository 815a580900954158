"""Gradients of each item of a batch on its own, from one backward pass.

Hooks keep what every layer was given and the gradient at what it returned; an item's gradient follows from these two.
``torch.func.vmap`` would do the same, but falls back to a slow path for fused attention on CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from linernotes.errors import LinernotesError

# (parameter's name, its gradient for each item [B, *parameter.shape])
ItemGradients = Callable[[str, Tensor], None]


@contextmanager
def item_gradients(module: nn.Module, names: Collection[str], use: ItemGradients) -> Iterator[None]:
    """While open, a backward pass of a *sum* of item losses calls ``use`` with each named parameter's item gradients.

    Layers whose parameters are wanted must be ``nn.Linear`` or ``nn.LayerNorm`` with an input ``[B, ..., features]`` and
    must be called once in a forward pass.

    Raises:
        LinernotesError: a named parameter belongs to a layer of another kind.
    """
    handles = []
    covered: set[str] = set()
    for prefix, layer in module.named_modules():
        own = {f"{prefix}.{short}" if prefix else short: short for short, _ in layer.named_parameters(recurse=False)}
        wanted = {full: short for full, short in own.items() if full in names}
        if not wanted:
            continue
        if type(layer) not in _RULES:
            raise LinernotesError(
                f"per-item gradients of {prefix} ({type(layer).__name__}) are not supported: choose other --layers"
            )
        covered |= set(wanted)
        handles.append(layer.register_forward_hook(_hook(wanted, use)))
    if missing := set(names) - covered:
        raise LinernotesError(f"the model has no parameter {sorted(missing)[0]!r}: choose other --layers")
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(wanted: dict[str, str], use: ItemGradients) -> Callable[..., None]:
    def after_forward(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given = inputs[0].detach()

        def after_backward(gradient: Tensor) -> None:
            rule = _RULES[type(layer)]
            for full, short in wanted.items():
                use(full, rule(layer, short, given, gradient.detach()))

        if output.requires_grad:
            output.register_hook(after_backward)  # type: ignore[no-untyped-call]

    return after_forward


def _linear(layer: Any, short: str, given: Tensor, gradient: Tensor) -> Tensor:
    a_bti, g_bto = given.flatten(1, -2), gradient.flatten(1, -2)
    if short == "bias":
        return g_bto.sum(dim=1)
    return torch.bmm(g_bto.transpose(1, 2), a_bti)


def _layer_norm(layer: Any, short: str, given: Tensor, gradient: Tensor) -> Tensor:
    g_btf = gradient.flatten(1, -2)
    if short == "bias":
        return g_btf.sum(dim=1)
    normed = functional.layer_norm(given, layer.normalized_shape, None, None, layer.eps)
    return (g_btf * normed.flatten(1, -2)).sum(dim=1)


_RULES: dict[type[nn.Module], Callable[[Any, str, Tensor, Tensor], Tensor]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
}
