"""Names of weights: stable-audio-tools' -> those of diffusers' modules, which are the same functions.

A table maps a stored name to the names whose tensors, one under the other, it holds: stable-audio-tools fuses
the matrices of keys and values, and of queries, keys and values. Tables serve both ways.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from linernotes.errors import LinernotesError

Names = dict[str, tuple[str, ...]]

DENOISER, CODEC, CONDITIONERS = "model.model.", "pretransform.model.", "conditioner.conditioners."
TIMES = DENOISER + "timestep_features.weight"  # [n, 1] there, [n] here
FREQUENCIES = DENOISER + "transformer.rotary_pos_emb.inv_freq"
WRAPPED, AVERAGED = "diffusion.", "diffusion_ema.ema_model."
SECONDS = {"seconds_start": "start_number_conditioner", "seconds_total": "end_number_conditioner"}


def denoiser_names(layers: int, normed: bool) -> Names:
    """Of the diffusion transformer; ``normed``: its queries and keys have norms of their own."""
    plain = {
        "timestep_features.weight": "time_proj.weight",
        "preprocess_conv.weight": "preprocess_conv.weight",
        "postprocess_conv.weight": "postprocess_conv.weight",
        "transformer.project_in.weight": "proj_in.weight",
        "transformer.project_out.weight": "proj_out.weight",
    }
    for there, here in (("to_cond_embed", "cross_attention_proj"), ("to_global_embed", "global_proj")):
        plain |= {f"{there}.{i}.weight": f"{here}.{i}.weight" for i in (0, 2)}
    plain |= {
        f"to_timestep_embed.{i}.{kind}": f"timestep_proj.{i}.{kind}"
        for i in (0, 2)
        for kind in ("weight", "bias")
    }
    names: Names = {there: (here,) for there, here in plain.items()}
    for i in range(layers):
        names |= {
            f"transformer.layers.{i}.{there}": tuple(f"transformer_blocks.{i}.{h}" for h in here)
            for there, here in _block(normed).items()
        }
    return {DENOISER + there: here for there, here in names.items()}


def _block(normed: bool) -> Names:
    names: Names = {
        "self_attn.to_qkv.weight": ("attn1.to_q.weight", "attn1.to_k.weight", "attn1.to_v.weight"),
        "self_attn.to_out.weight": ("attn1.to_out.0.weight",),
        "cross_attn.to_q.weight": ("attn2.to_q.weight",),
        "cross_attn.to_kv.weight": ("attn2.to_k.weight", "attn2.to_v.weight"),
        "cross_attn.to_out.weight": ("attn2.to_out.0.weight",),
    }
    for there, here in (("pre_norm", "norm1"), ("cross_attend_norm", "norm2"), ("ff_norm", "norm3")):
        names |= {f"{there}.gamma": (f"{here}.weight",), f"{there}.beta": (f"{here}.bias",)}
    for there, here in (("ff.ff.0.proj", "ff.net.0.proj"), ("ff.ff.2", "ff.net.2")):
        names |= {f"{there}.{kind}": (f"{here}.{kind}",) for kind in ("weight", "bias")}
    if normed:
        names |= {
            f"{there}.{norm}_norm.{kind}": (f"{here}.norm_{norm}.{kind}",)
            for there, here in (("self_attn", "attn1"), ("cross_attn", "attn2"))
            for norm in ("q", "k")
            for kind in ("weight", "bias")
        }
    return names


def codec_names(blocks: int) -> Names:
    """Of the Oobleck autoencoder with so many strides."""
    names: dict[str, str] = {}
    first, last = 0, blocks + 1
    for side, upward in (("encoder", False), ("decoder", True)):
        names |= _convolution(f"{side}.layers.{first}", f"{side}.conv1")
        for i in range(blocks):
            there, here = f"{side}.layers.{i + 1}", f"{side}.block.{i}"
            units = (2, 3, 4) if upward else (0, 1, 2)
            snake, convolution = (0, 1) if upward else (3, 4)
            names |= _snake(f"{there}.layers.{snake}", f"{here}.snake1")
            names |= _convolution(f"{there}.layers.{convolution}", f"{here}.conv{'_t' if upward else ''}1")
            for number, unit in enumerate(units, start=1):
                inside, own = f"{there}.layers.{unit}.layers", f"{here}.res_unit{number}"
                names |= _snake(f"{inside}.0", f"{own}.snake1") | _convolution(f"{inside}.1", f"{own}.conv1")
                names |= _snake(f"{inside}.2", f"{own}.snake2") | _convolution(f"{inside}.3", f"{own}.conv2")
        names |= _snake(f"{side}.layers.{last}", f"{side}.snake1")
        names |= _convolution(f"{side}.layers.{last + 1}", f"{side}.conv2", bias=not upward)
    return {CODEC + there: (here,) for there, here in names.items()}


def _snake(there: str, here: str) -> dict[str, str]:
    return {f"{there}.{name}": f"{here}.{name}" for name in ("alpha", "beta")}


def _convolution(there: str, here: str, bias: bool = True) -> dict[str, str]:
    kinds = ("weight_g", "weight_v", *(("bias",) if bias else ()))
    return {f"{there}.{kind}": f"{here}.{kind}" for kind in kinds}


def conditioner_names(text: str, projected: bool, seconds: Mapping[str, str]) -> Names:
    """Of the conditioners.

    Args:
        text: the prompt's; ``projected``: whether its embeddings go through a matrix.
        seconds: the kind, number or int, of each conditioner of seconds.
    """
    names: dict[str, str] = {}
    if projected:
        names |= {f"{text}.proj_out.{kind}": f"text_projection.{kind}" for kind in ("weight", "bias")}
    for there, kind in seconds.items():
        here = SECONDS[there]
        if kind == "int":
            names[f"{there}.int_embedder.weight"] = f"{here}.embedding.weight"
            continue
        own = f"{here}.time_positional_embedding"
        names[f"{there}.embedder.embedding.0.weights"] = f"{own}.0.weights"
        names |= {f"{there}.embedder.embedding.1.{k}": f"{own}.1.{k}" for k in ("weight", "bias")}
    return {CONDITIONERS + there: (here,) for there, here in names.items()}


def unwrapped(names: list[str]) -> dict[str, str]:
    """Plain names -> names as stored: a checkpoint of training has its model under ``diffusion.``, and the
    denoiser's moving average, which is what such a model is used with, under ``diffusion_ema.``.
    """
    if not any(name.startswith(WRAPPED) for name in names):
        return {name: name for name in names}
    plain = {n.removeprefix(WRAPPED): n for n in names if n.startswith(WRAPPED)}
    averaged = {"model." + n.removeprefix(AVERAGED): n for n in names if n.startswith(AVERAGED)}
    return plain | averaged


def split(stored: Mapping[str, Tensor], names: Names, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Stored tensors -> the tensors of our names, without copying any.

    Args:
        shapes: what ours must be.

    Raises:
        LinernotesError: one is missing or does not fit.
    """
    found: dict[str, Tensor] = {}
    for there, here in names.items():
        if there not in stored:
            raise LinernotesError(f"{there} is missing")
        rows = [shapes[name][0] for name in here]
        tensor = stored[there]
        numbers = sum(shapes[name].numel() for name in here)
        if tensor.numel() != numbers or (len(here) > 1 and tensor.shape[0] != sum(rows)):
            wanted = " + ".join(str(tuple(shapes[name])) for name in here)
            raise LinernotesError(f"{there} is {tuple(tensor.shape)}, and {wanted} is expected")
        parts = torch.split(tensor, rows) if len(here) > 1 else (tensor,)
        found |= {name: part.reshape(shapes[name]) for name, part in zip(here, parts, strict=True)}
    return found


def fused(own: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """The other way round."""
    stored = {
        there: torch.cat([own[name] for name in here]) if len(here) > 1 else own[here[0]]
        for there, here in names.items()
    }
    for name, tensor in stored.items():
        if name == TIMES:
            stored[name] = tensor[:, None]
        elif name.endswith((".alpha", ".beta")):  # [1, C, 1] here
            stored[name] = tensor.flatten()
    return stored
