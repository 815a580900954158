"""The modules of a Stable Audio model as stable-audio-tools has them, out of diffusers' own; and the few
conditioners and norms that diffusers lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderOobleck, StableAudioDiTModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioNumberConditioner
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import weight_norm

from linernotes.models.stable_audio_tools_schema import LEAST_HEAD, Number, ToolsConfig, Whole

Modules = tuple[Any, Any, Any]  # codec, conditioner, denoiser
NORM_EPS = 1e-6  # of the norms of queries and keys


@dataclass(frozen=True)
class Conditions:
    """Vectors of a segment's conditioning, as diffusers' projection model returns them; None where the model
    has none.
    """

    text_hidden_states: Tensor | None
    seconds_start_hidden_states: Tensor | None
    seconds_end_hidden_states: Tensor | None


class WholeSeconds(nn.Module):
    """Whole seconds ``[B]`` -> a vector each ``[B, 1, D]``."""

    def __init__(self, dim: int, smallest: int, largest: int) -> None:
        super().__init__()
        self.smallest, self.largest = smallest, largest
        self.embedding = nn.Embedding(largest - smallest + 1, dim)

    def forward(self, seconds_b: Tensor) -> Tensor:
        # training names a track's length in seconds rounded up, and does not count from the smallest
        return self.embedding(seconds_b.ceil().long().clamp(self.smallest, self.largest))[:, None]


class Conditioner(nn.Module):
    """The conditioners that training moves, called as diffusers' ``StableAudioProjectionModel``."""

    def __init__(self, config: ToolsConfig, text_dim: int) -> None:
        super().__init__()
        dim = config.model.conditioning.cond_dim
        self.text_projection = nn.Linear(text_dim, dim) if is_projected(config, text_dim) else nn.Identity()
        self.start_number_conditioner = _seconds(config.seconds("seconds_start"), dim)
        self.end_number_conditioner = _seconds(config.seconds("seconds_total"), dim)

    def forward(
        self,
        text_hidden_states: Tensor | None = None,
        start_seconds: Tensor | None = None,
        end_seconds: Tensor | None = None,
    ) -> Conditions:
        def of(module: nn.Module | None, given: Tensor | None) -> Tensor | None:
            return None if module is None or given is None else module(given)

        return Conditions(
            of(self.text_projection, text_hidden_states),
            of(self.start_number_conditioner, start_seconds),
            of(self.end_number_conditioner, end_seconds),
        )


class UnitLength(nn.Module):
    """Queries or keys at length 1."""

    def forward(self, heads: Tensor) -> Tensor:
        return functional.normalize(heads, dim=-1)


def new_modules(config: ToolsConfig, text_dim: int) -> Modules:
    """Codec, conditioner and denoiser, new."""
    return _codec(config), Conditioner(config, text_dim).eval(), _denoiser(config)


def _codec(config: ToolsConfig) -> Any:
    audio = config.model.pretransform.config
    encoder, decoder = audio.encoder.config, audio.decoder.config
    codec = AutoencoderOobleck(
        encoder_hidden_size=encoder.channels,
        downsampling_ratios=encoder.strides,
        channel_multiples=encoder.c_mults,
        decoder_channels=decoder.channels,
        decoder_input_channels=decoder.latent_dim,
        audio_channels=encoder.in_channels,
        sampling_rate=config.sample_rate,
    )
    if encoder.latent_dim != encoder.channels:  # diffusers has but one size for both
        wide = encoder.channels * encoder.c_mults[-1]
        codec.encoder.conv2 = weight_norm(nn.Conv1d(wide, encoder.latent_dim, kernel_size=3, padding=1))
    return codec.eval()


def _denoiser(config: ToolsConfig) -> nn.Module:
    sizes = config.model.diffusion.config
    head = sizes.embed_dim // sizes.num_heads
    inner = sizes.embed_dim if sizes.project_cond_tokens else sizes.cond_token_dim
    network: Any = StableAudioDiTModel(
        sample_size=config.frames,
        in_channels=sizes.io_channels,
        out_channels=sizes.io_channels,
        num_layers=sizes.depth,
        attention_head_dim=head,
        num_attention_heads=sizes.num_heads,
        num_key_value_attention_heads=inner // head,
        cross_attention_dim=inner,
        cross_attention_input_dim=sizes.cond_token_dim,
        global_states_input_dim=sizes.global_cond_dim,
    )
    for block in network.transformer_blocks:
        for norm in (block.norm1, block.norm2, block.norm3):
            norm.eps = sizes.norm_kwargs.eps
        for attention in (block.attn1, block.attn2):
            match sizes.attn_kwargs.qk_norm:
                case "ln":
                    attention.norm_q = nn.LayerNorm(head, eps=NORM_EPS)
                    attention.norm_k = nn.LayerNorm(head, eps=NORM_EPS)
                case "l2":
                    attention.norm_q, attention.norm_k = UnitLength(), UnitLength()
    return network.eval()


def start_at_nothing(network: Any) -> None:
    """Each branch of an untrained denoiser adds nothing, as training has it begin."""
    with torch.no_grad():
        for block in network.transformer_blocks:
            for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
                for parameter in layer.parameters():
                    parameter.zero_()
        network.preprocess_conv.weight.zero_()
        network.postprocess_conv.weight.zero_()


def is_projected(config: ToolsConfig, text_dim: int) -> bool:
    """Whether text embeddings go through a matrix."""
    return config.text.config.project_out or text_dim != config.model.conditioning.cond_dim


def _seconds(part: Number | Whole | None, dim: int) -> nn.Module | None:
    if part is None:
        return None
    if isinstance(part, Whole):
        return WholeSeconds(dim, part.config.min_val, part.config.max_val)
    return StableAudioNumberConditioner(dim, part.config.min_val, part.config.max_val)


def rotary_features(head: int) -> int:
    """How many features of an attention's head are turned by positions."""
    return max(head // 2, LEAST_HEAD)
