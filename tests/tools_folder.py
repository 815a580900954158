"""Writes a model in the layout of stable-audio-tools, name by name as its modules are called there: by hand,
and knowing nothing of the tables that linernotes reads it with.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioProjectionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from conftest import RATE_HZ
from linernotes.models.stable_audio import StableAudio

FRAMES, HOP, CHANNELS, TEXT, WIDTH, BLOCKS = 16, 8, 4, 64, 128, 2
LONGEST_S = 3.0
SMALL = {  # as Stable Audio Open small is: no start, a flow, norms of queries and keys
    "model__conditioning__configs": [
        {"id": "prompt", "type": "t5", "config": {"t5_model_name": "t5-base", "max_length": 12}},
        {"id": "seconds_total", "type": "int", "config": {"min_val": 0, "max_val": 5}},
    ],
    "model__diffusion__cross_attention_cond_ids": ["prompt", "seconds_total"],
    "model__diffusion__global_cond_ids": ["seconds_total"],
    "model__diffusion__diffusion_objective": "rf_denoiser",
    "model__diffusion__config__global_cond_dim": TEXT,
    "model__diffusion__config__attn_kwargs": {"qk_norm": "ln"},
}


def random_(module: nn.Module, seed: int) -> Any:
    """Every weight away from where modules start, so that none can be mistaken for another."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def write_diffusers_folder(folder: Path, model_path: Path) -> Path:
    """A tiny Stable Audio Open in diffusers' layout, with the text encoder of ``model_path``."""
    parts = ("vae", "transformer", "projection_model", "text_encoder")
    shutil.copytree(model_path, folder, ignore=shutil.ignore_patterns(*parts))
    codec = AutoencoderOobleck(
        encoder_hidden_size=2 * CHANNELS,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=CHANNELS,
        audio_channels=2,
        sampling_rate=RATE_HZ,
    )
    random_(codec, 1).save_pretrained(folder / "vae")
    denoiser = StableAudioDiTModel(
        sample_size=FRAMES,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=BLOCKS,
        attention_head_dim=64,
        num_attention_heads=WIDTH // 64,
        num_key_value_attention_heads=TEXT // 64,
        cross_attention_dim=TEXT,
        cross_attention_input_dim=TEXT,
        global_states_input_dim=2 * TEXT,
    )
    random_(denoiser, 2).save_pretrained(folder / "transformer")
    shutil.copytree(model_path / "text_encoder", folder / "text_encoder")
    text_dim = json.loads((folder / "text_encoder/config.json").read_text())["d_model"]
    conditioner = StableAudioProjectionModel(text_dim, TEXT, min_value=0.0, max_value=LONGEST_S)
    random_(conditioner, 3).save_pretrained(folder / "projection_model")
    return folder


def config(**changes: Any) -> dict[str, Any]:
    """The ``model_config.json`` of that model; ``changes`` are put in by the path of their field, joined by
    two underscores.
    """
    oobleck = {"c_mults": [1, 2], "strides": [2, 4], "channels": 8, "use_snake": True}
    seconds = {"min_val": 0, "max_val": LONGEST_S}
    whole = {
        "model_type": "diffusion_cond",
        "sample_size": FRAMES * HOP,
        "sample_rate": RATE_HZ,
        "audio_channels": 2,
        "model": {
            "pretransform": {
                "type": "autoencoder",
                "iterate_batch": True,
                "config": {
                    "encoder": {
                        "type": "oobleck",
                        "config": {**oobleck, "in_channels": 2, "latent_dim": 2 * CHANNELS},
                    },
                    "decoder": {
                        "type": "oobleck",
                        "config": {**oobleck, "out_channels": 2, "latent_dim": CHANNELS, "final_tanh": False},
                    },
                    "bottleneck": {"type": "vae"},
                    "latent_dim": CHANNELS,
                    "downsampling_ratio": HOP,
                    "io_channels": 2,
                },
            },
            "conditioning": {
                "configs": [
                    {"id": "prompt", "type": "t5", "config": {"t5_model_name": "t5-base", "max_length": 12}},
                    {"id": "seconds_start", "type": "number", "config": seconds},
                    {"id": "seconds_total", "type": "number", "config": seconds},
                ],
                "cond_dim": TEXT,
            },
            "diffusion": {
                "cross_attention_cond_ids": ["prompt", "seconds_start", "seconds_total"],
                "global_cond_ids": ["seconds_start", "seconds_total"],
                "type": "dit",
                "config": {
                    "io_channels": CHANNELS,
                    "embed_dim": WIDTH,
                    "depth": BLOCKS,
                    "num_heads": WIDTH // 64,
                    "cond_token_dim": TEXT,
                    "global_cond_dim": 2 * TEXT,
                    "project_cond_tokens": False,
                    "transformer_type": "continuous_transformer",
                },
            },
            "io_channels": CHANNELS,
        },
        "training": {"use_ema": True, "learning_rate": 4e-5},
    }
    changed = copy.deepcopy(whole)
    for path, value in changes.items():
        *above, name = path.split("__")
        place: Any = changed
        for step in above:
            place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
        place[name] = value
    return changed


def weights_of(model: StableAudio) -> dict[str, Tensor]:
    """The model's weights under the names they have in stable-audio-tools."""
    named: dict[str, Tensor] = {}

    def put(there: str, module: Any, *kinds: str) -> None:
        for kind in kinds or ("weight",):
            named[f"{there}.{kind}"] = getattr(module, kind).detach()

    def norm(there: str, module: Any) -> None:
        named[f"{there}.gamma"], named[f"{there}.beta"] = module.weight.detach(), module.bias.detach()

    net: Any = model.network
    dit = "model.model"
    named[f"{dit}.timestep_features.weight"] = net.time_proj.weight.detach().reshape(-1, 1)
    for i in (0, 2):
        put(f"{dit}.to_timestep_embed.{i}", net.timestep_proj[i], "weight", "bias")
        put(f"{dit}.to_cond_embed.{i}", net.cross_attention_proj[i])
        put(f"{dit}.to_global_embed.{i}", net.global_proj[i])
    put(f"{dit}.preprocess_conv", net.preprocess_conv)
    put(f"{dit}.postprocess_conv", net.postprocess_conv)
    put(f"{dit}.transformer.project_in", net.proj_in)
    put(f"{dit}.transformer.project_out", net.proj_out)
    named[f"{dit}.transformer.rotary_pos_emb.inv_freq"] = 10000.0 ** -(torch.arange(0, 32, 2) / 32)
    for i, block in enumerate(net.transformer_blocks):
        there = f"{dit}.transformer.layers.{i}"
        norm(f"{there}.pre_norm", block.norm1)
        own = block.attn1
        named[f"{there}.self_attn.to_qkv.weight"] = torch.cat(
            [own.to_q.weight.detach(), own.to_k.weight.detach(), own.to_v.weight.detach()]
        )
        put(f"{there}.self_attn.to_out", own.to_out[0])
        norm(f"{there}.cross_attend_norm", block.norm2)
        cross = block.attn2
        put(f"{there}.cross_attn.to_q", cross.to_q)
        named[f"{there}.cross_attn.to_kv.weight"] = torch.cat(
            [cross.to_k.weight.detach(), cross.to_v.weight.detach()]
        )
        put(f"{there}.cross_attn.to_out", cross.to_out[0])
        norm(f"{there}.ff_norm", block.norm3)
        put(f"{there}.ff.ff.0.proj", block.ff.net[0].proj, "weight", "bias")
        put(f"{there}.ff.ff.2", block.ff.net[2], "weight", "bias")

    embed = "conditioner.conditioners"
    put(f"{embed}.prompt.proj_out", model.projection.text_projection, "weight", "bias")
    for name, number in (
        ("seconds_start", model.projection.start_number_conditioner),
        ("seconds_total", model.projection.end_number_conditioner),
    ):
        position, linear = number.time_positional_embedding
        named[f"{embed}.{name}.embedder.embedding.0.weights"] = position.weights.detach()
        put(f"{embed}.{name}.embedder.embedding.1", linear, "weight", "bias")

    def snake(there: str, module: Any) -> None:
        named[f"{there}.alpha"] = module.alpha.detach().flatten()
        named[f"{there}.beta"] = module.beta.detach().flatten()

    def unit(there: str, module: Any) -> None:
        snake(f"{there}.layers.0", module.snake1)
        put(f"{there}.layers.1", module.conv1, "weight_g", "weight_v", "bias")
        snake(f"{there}.layers.2", module.snake2)
        put(f"{there}.layers.3", module.conv2, "weight_g", "weight_v", "bias")

    encoder, decoder = model.codec.encoder, model.codec.decoder
    there = "pretransform.model.encoder.layers"
    put(f"{there}.0", encoder.conv1, "weight_g", "weight_v", "bias")
    for i, block in enumerate(encoder.block, start=1):
        for j, each in enumerate((block.res_unit1, block.res_unit2, block.res_unit3)):
            unit(f"{there}.{i}.layers.{j}", each)
        snake(f"{there}.{i}.layers.3", block.snake1)
        put(f"{there}.{i}.layers.4", block.conv1, "weight_g", "weight_v", "bias")
    snake(f"{there}.3", encoder.snake1)
    put(f"{there}.4", encoder.conv2, "weight_g", "weight_v", "bias")
    there = "pretransform.model.decoder.layers"
    put(f"{there}.0", decoder.conv1, "weight_g", "weight_v", "bias")
    for i, block in enumerate(decoder.block, start=1):
        snake(f"{there}.{i}.layers.0", block.snake1)
        put(f"{there}.{i}.layers.1", block.conv_t1, "weight_g", "weight_v", "bias")
        for j, each in enumerate((block.res_unit1, block.res_unit2, block.res_unit3), start=2):
            unit(f"{there}.{i}.layers.{j}", each)
    snake(f"{there}.3", decoder.snake1)
    put(f"{there}.4", decoder.conv2, "weight_g", "weight_v")
    return named


def write_tools_folder(folder: Path, model: StableAudio, source: Path, **changes: Any) -> Path:
    """``model``, which lies in ``source``, in the layout of stable-audio-tools."""
    folder.mkdir(parents=True)
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(source / part, folder / part)
    (folder / "model_config.json").write_text(json.dumps(config(**changes)))
    write_weights(folder, weights_of(model))
    return folder


def write_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    save_file({n: t.contiguous().clone() for n, t in weights.items()}, folder / "model.safetensors")


def write_small_flow(folder: Path, model: StableAudio, source: Path, **changes: Any) -> Path:
    """A model like Stable Audio Open small: a flow that is not told where a clip starts, whole seconds, norms
    of queries and keys; its other weights are ``model``'s.
    """
    write_tools_folder(folder, model, source, **{**SMALL, **changes})
    weights = {n: t for n, t in weights_of(model).items() if ".seconds_" not in n}
    generator = torch.Generator().manual_seed(9)
    table = torch.randn(6, TEXT, generator=generator)
    weights["conditioner.conditioners.seconds_total.int_embedder.weight"] = table
    weights["model.model.to_global_embed.0.weight"] = torch.randn(WIDTH, TEXT, generator=generator)
    for i in range(BLOCKS):
        for attention in ("self_attn", "cross_attn"):
            for norm in ("q_norm", "k_norm"):
                name = f"model.model.transformer.layers.{i}.{attention}.{norm}"
                weights[f"{name}.weight"] = 1 + 0.1 * torch.randn(64, generator=generator)
                weights[f"{name}.bias"] = 0.1 * torch.randn(64, generator=generator)
    write_weights(folder, weights)
    return folder
