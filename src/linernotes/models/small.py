"""Builds the built-in model: a small Stable Audio pipeline in diffusers' own classes and folder layout.

The text encoder is a T5 encoder with seeded random weights and is never trained, as Stable Audio's is frozen
while its denoiser trains: it only has to keep different words apart, and the denoiser's cross-attention
learns what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableAudioDiTModel, StableAudioProjectionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from linernotes.models.codec import SpectrogramCodec
from linernotes.models.stable_audio_folder import v_scheduler

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


@dataclass(frozen=True)
class SmallModel:
    """Sizes of a small Stable Audio pipeline."""

    frames: int = 64
    layers: int = 4
    heads: int = 5
    head_dim: int = 32
    text_dim: int = 128
    text_layers: int = 2
    prompt_tokens: int = 32
    vocabulary: int = 2048
    longest_s: float = 16.0
    sampling_steps: int = 50
    guidance: float = 3.0


def write_small_model(
    folder: Path, codec: SpectrogramCodec, corpus: Iterable[str], seed: int, size: SmallModel | None = None
) -> None:
    """Writes an untrained small pipeline to ``folder``, with a tokenizer trained on the texts of
    ``corpus``.
    """
    size = size or SmallModel()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _write_parts(folder, codec, corpus, size)
    write_index(folder, size)


def _write_parts(folder: Path, codec: SpectrogramCodec, corpus: Iterable[str], size: SmallModel) -> None:
    codec.save_pretrained(folder / "vae")
    tokenizer = train_tokenizer(corpus, size)
    tokenizer.save_pretrained(folder / "tokenizer")
    T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=size.text_dim,
            d_kv=32,
            d_ff=2 * size.text_dim,
            num_layers=size.text_layers,
            num_heads=size.text_dim // 32,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    ).save_pretrained(folder / "text_encoder")
    write_denoiser(folder, codec.config.latent_channels, size)
    v_scheduler().save_pretrained(folder / "scheduler")


def write_denoiser(folder: Path, latent_channels: int, size: SmallModel) -> None:
    """Writes an untrained denoiser and its conditioning projection."""
    StableAudioDiTModel(
        sample_size=size.frames,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=size.layers,
        attention_head_dim=size.head_dim,
        num_attention_heads=size.heads,
        num_key_value_attention_heads=size.heads,
        cross_attention_dim=size.text_dim,
        cross_attention_input_dim=size.text_dim,
        global_states_input_dim=2 * size.text_dim,
        time_proj_dim=128,
    ).save_pretrained(folder / "transformer")
    StableAudioProjectionModel(
        text_encoder_dim=size.text_dim,
        conditioning_dim=size.text_dim,
        min_value=0.0,
        max_value=size.longest_s,
    ).save_pretrained(folder / "projection_model")


def write_index(folder: Path, size: SmallModel) -> None:
    """Writes what makes a folder of parts a pipeline, and how it samples."""
    index = {
        "_class_name": "StableAudioPipeline",
        "vae": ["linernotes.models.codec", "SpectrogramCodec"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "projection_model": ["stable_audio", "StableAudioProjectionModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "StableAudioDiTModel"],
        "scheduler": ["diffusers", "CosineDPMSolverMultistepScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    generation = {"steps": size.sampling_steps, "guidance": size.guidance}
    (folder / "generation.json").write_text(json.dumps(generation, indent=2) + "\n")


def train_tokenizer(corpus: Iterable[str], size: SmallModel) -> PreTrainedTokenizerFast:
    """A lower-casing byte-level BPE tokenizer: every text has tokens, the words of ``corpus`` few."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=size.prompt_tokens,
        model_input_names=["input_ids", "attention_mask"],
    )
