"""Builds the small codec language model: MusicGen in transformers' own classes and folder layout, over the
codec, the text encoder and the tokenizer of a small Stable Audio pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    T5EncoderModel,
)
from transformers.utils import logging

from linernotes.models.codec import SpectrogramCodec
from linernotes.models.residual_codec import ResidualCodec, ResidualCodecConfig


@dataclass(frozen=True)
class SmallMusicGen:
    """Sizes of a small codec language model."""

    codebooks: int = 4
    codes: int = 256
    layers: int = 3
    heads: int = 4
    width: int = 128
    guidance: float = 3.0


def write_small_musicgen(
    folder: Path,
    pipeline: Path,
    latents_nc: Tensor,
    frames: int,
    seed: int,
    size: SmallMusicGen | None = None,
) -> float:
    """Writes an untrained small model to ``folder``; returns the share of the latents' variance that its
    codes keep.

    Args:
        pipeline: a small Stable Audio pipeline, whose codec and text encoder are taken over.
        latents_nc: frames of that codec's latents, which the codebooks are fitted on.
        frames: frames of a clip.
    """
    size = size or SmallMusicGen()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    spectrogram = SpectrogramCodec.from_pretrained(
        pipeline / "vae", local_files_only=True, use_safetensors=True
    )
    text_encoder = T5EncoderModel.from_pretrained(
        pipeline / "text_encoder", local_files_only=True, use_safetensors=True
    )
    text_encoder.config._name_or_path = ""  # or what is saved would say where this was loaded from
    sizes = {n: v for n, v in spectrogram.config.items() if not n.startswith("_")}
    codec = ResidualCodec(
        ResidualCodecConfig(
            spectrogram=sizes,
            num_quantizers=size.codebooks,
            codebook_size=size.codes,
            sampling_rate=spectrogram.sampling_rate,
            hop_length=spectrogram.hop_length,
        )
    )
    codec.spectrogram.load_state_dict(spectrogram.state_dict())
    kept = codec.fit(latents_nc, seed)
    decoder = MusicgenDecoderConfig(
        vocab_size=size.codes,
        num_codebooks=size.codebooks,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        hidden_size=size.width,
        ffn_dim=4 * size.width,
        max_position_embeddings=frames + size.codebooks,
        dropout=0.0,
        pad_token_id=size.codes,
        bos_token_id=size.codes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = MusicgenConfig(
            text_encoder=text_encoder.config.to_dict(),
            audio_encoder=codec.config.to_dict(),
            decoder=decoder.to_dict(),
        )
        model = MusicgenForConditionalGeneration(
            config,
            text_encoder=text_encoder,
            audio_encoder=codec,
            decoder=MusicgenForCausalLM(config.decoder),
        )
    model.generation_config = GenerationConfig(
        do_sample=True,
        guidance_scale=size.guidance,
        max_length=frames,
        pad_token_id=size.codes,
        bos_token_id=size.codes,
        decoder_start_token_id=size.codes,
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(pipeline / "tokenizer", local_files_only=True).save_pretrained(folder)
    return kept
