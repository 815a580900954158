"""Gradients of each item of a batch on its own, from one backward pass.

Hooks see what every layer was given and the gradient at what it returned; an item's gradient, its covariances
and its projections all follow from these two. ``torch.func.vmap`` would do the same, but falls back to a slow
path for fused attention on CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError
from linernotes.models.adapter import Scale
from linernotes.models.contract import GenerativeModel, PredictingModel

# the layer's name, the layer, what it was given a [B, ..., in], the gradient at what it returned g [B, ...,
# out]
SeeLayer = Callable[[str, nn.Module, Tensor, Tensor], None]
# what is differentiated, one value an item: (model, items, draws) -> [B]
Measured = Callable[[GenerativeModel, Batch, Draws], Tensor]

MatrixLayer = nn.Linear | nn.Conv1d | nn.Conv2d  # what a weight matrix is applied to, position by position
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d)
SUPPORTED = (*MATRICES, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.Embedding, Scale)


def item_loss_b(model: GenerativeModel, items: Batch, draws: Draws) -> Tensor:
    """The item loss, ``[B]``."""
    return model.loss_bt(items, draws).mean(dim=1)


def observe_items(
    model: GenerativeModel,
    names: Collection[str],
    see: SeeLayer,
    measured: Measured,
    items: Batch,
    draws: Draws,
) -> Tensor:
    """One pass forward and backward over a batch: ``see`` is called once for every layer that has a named
    parameter.

    Returns:
        ``measured_b`` [B], detached.
    """
    # Backward to what the first of these layers are given: that reaches them all and no deeper, and forms no
    # weight's gradient.
    with observed(model.network, names, see) as roots, torch.enable_grad():
        measured_b = measured(model, items, draws)
        torch.autograd.grad(measured_b.sum(), roots, allow_unused=True)
    return measured_b.detach()


@contextmanager
def observed(module: nn.Module, names: Collection[str], see: SeeLayer) -> Iterator[list[Tensor]]:
    """While open, a backward pass to the list it gives calls ``see`` for every layer that has a parameter in
    ``names``; a forward pass puts there what such layers are given, where that depends on no other of them.

    Such layers must be of a ``SUPPORTED`` kind and must be called once in a forward pass. ``see`` gets
    features last, whatever the layer: a convolution is a matrix applied to patches.

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
        if type(layer) not in SUPPORTED or getattr(layer, "groups", 1) != 1:
            raise LinernotesError(
                f"per-item gradients of {prefix} ({type(layer).__name__}) are not supported: choose other "
                "--layers"
            )
        covered |= own
        handles.append(layer.register_forward_pre_hook(_rooted(roots)))
        handles.append(layer.register_forward_hook(_hook(prefix, see, roots)))
    if missing := set(names) - covered:
        raise LinernotesError(f"the model has no parameter {sorted(missing)[0]!r}: choose other --layers")
    try:
        yield roots
    finally:
        for handle in handles:
            handle.remove()


def _rooted(roots: list[Tensor]) -> Callable[..., tuple[Tensor, ...] | None]:
    def before_forward(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if inputs[0].requires_grad or not inputs[0].is_floating_point():
            return None
        roots.append(inputs[0].detach().requires_grad_(True))
        return (roots[-1], *inputs[1:])

    return before_forward


def _hook(prefix: str, see: SeeLayer, roots: list[Tensor]) -> Callable[..., Tensor | None]:
    def after_forward(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        given = inputs[0].detach()
        # an embedding: what it returns is a root itself
        if not output.requires_grad and not given.is_floating_point():
            roots.append(output.detach().requires_grad_(True))
            output = roots[-1].clone()
        if output.requires_grad:
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: see(
                    prefix, layer, patches(layer, given), features_last(layer, gradient.detach())
                )
            )
        return output

    return after_forward


def patches(layer: nn.Module, given: Tensor) -> Tensor:
    """What a layer is given, features last: of a convolution the patch under each position, ``[B, positions,
    in x width]``.
    """
    if isinstance(layer, nn.Conv1d):
        lifted = functional.unfold(
            _padded(layer, given)[:, :, None],
            (1, *layer.kernel_size),
            (1, *layer.dilation),
            0,
            (1, *layer.stride),
        )
        return lifted.transpose(1, 2)
    if isinstance(layer, nn.Conv2d):
        return functional.unfold(
            _padded(layer, given), layer.kernel_size, layer.dilation, 0, layer.stride
        ).transpose(1, 2)
    return features_last(layer, given)


def _padded(layer: nn.Conv1d | nn.Conv2d, given: Tensor) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(given, layer._reversed_padding_repeated_twice, mode=mode)


def features_last(layer: nn.Module, tensor: Tensor) -> Tensor:
    """What a layer takes or returns, ``[B, ..., features]``; convolutions and group norms have channels
    second.
    """
    return (
        tensor.flatten(2).transpose(1, 2)
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.GroupNorm)
        else tensor
    )


def layer_gradients(
    prefix: str, layer: nn.Module, given: Tensor, gradient: Tensor, draws: int = 1
) -> dict[str, Tensor]:
    """The gradients of a layer's parameters for each item, ``[B / draws, *parameter.shape]``, by the
    parameters' full names.

    ``draws`` passes that follow each other belong to one item; their gradients are summed.
    """
    dot = f"{prefix}." if prefix else ""
    g_ito = per_item(gradient, draws)
    found: dict[str, Tensor] = {}
    if isinstance(layer, nn.Embedding):
        rows_it = given.reshape(len(g_ito), -1, 1).expand(-1, -1, g_ito.shape[2])
        found["weight"] = g_ito.new_zeros(len(g_ito), *layer.weight.shape).scatter_add(1, rows_it, g_ito)
    elif isinstance(layer, MATRICES):
        found["weight"] = torch.bmm(g_ito.transpose(1, 2), per_item(given, draws)).reshape(
            -1, *layer.weight.shape
        )
    else:
        found["weight"] = (g_ito * per_item(_normalised(layer, given), draws)).sum(dim=1)
    if getattr(layer, "bias", None) is not None:
        found["bias"] = g_ito.sum(dim=1)
    return {f"{dot}{name}": tensor for name, tensor in found.items()}


def _normalised(layer: nn.Module, given: Tensor) -> Tensor:
    """What a norm's or a scale's weight multiplies, features last."""
    if isinstance(layer, Scale):
        return given
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(given, layer.normalized_shape, None, None, layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return functional.rms_norm(given, layer.normalized_shape, None, layer.eps)
    assert isinstance(layer, nn.GroupNorm)
    return functional.group_norm(given.transpose(1, 2), layer.num_groups, None, None, layer.eps).transpose(
        1, 2
    )


def per_item(tensor_bf: Tensor, draws: int = 1) -> Tensor:
    """``[B, ..., features]`` -> ``[items, positions, features]``, the positions of an item's draws one after
    the other.
    """
    return tensor_bf.reshape(len(tensor_bf) // draws, -1, tensor_bf.shape[-1])


def with_ones(layer: nn.Module, given: Tensor) -> Tensor:
    """A matrix layer's input with a 1 appended where the layer has a bias, so that the bias is one more
    column of weights.
    """
    return given if layer.bias is None else functional.pad(given, (0, 1), value=1.0)


def matrix_layers(module: nn.Module, names: Collection[str]) -> dict[str, MatrixLayer]:
    """The linear and convolutional layers whose weight is in ``names``, by their own name."""
    return {
        n: layer
        for n, layer in module.named_modules()
        if isinstance(layer, MATRICES) and f"{n}.weight" in names
    }


def sides(layer: MatrixLayer) -> tuple[int, int]:
    """Inputs (one more for a bias) and outputs of a layer's matrix."""
    return layer.weight[0].numel() + (layer.bias is not None), len(layer.weight)


def as_matrix(layer: MatrixLayer, prefix: str, gradient: Mapping[str, Tensor]) -> Tensor:
    """A layer's weight (and bias, as a last column) out of a dictionary by parameter names: ``[out, in (+
    1)]``.
    """
    weight = gradient[f"{prefix}.weight"].flatten(1)
    return weight if layer.bias is None else torch.cat([weight, gradient[f"{prefix}.bias"][:, None]], dim=1)


def from_matrix(layer: MatrixLayer, prefix: str, matrix: Tensor) -> dict[str, Tensor]:
    """The other way round."""
    if layer.bias is None:
        return {f"{prefix}.weight": matrix.reshape(layer.weight.shape)}
    weight = matrix[:, :-1].contiguous().reshape(layer.weight.shape)
    return {f"{prefix}.weight": weight, f"{prefix}.bias": matrix[:, -1].contiguous()}


def probe(direction_ct: Tensor) -> Measured:
    """Measures the model's prediction along a direction, ``<v, prediction>`` [B]."""
    return partial(_along, direction_ct)


def _along(direction_ct: Tensor, model: GenerativeModel, items: Batch, draws: Draws) -> Tensor:
    assert isinstance(model, PredictingModel)
    return (model.prediction(items, draws) * direction_ct).sum(dim=(1, 2))


def squared_output_b(model: GenerativeModel, items: Batch, draws: Draws) -> Tensor:
    """Mean square of the model's prediction, ``[B]`` (D-TRAK's measure, Zheng et al. 2024, sec. 3.2)."""
    assert isinstance(model, PredictingModel)
    return model.prediction(items, draws).square().mean(dim=(1, 2))
