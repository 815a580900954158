"""Stable Audio 3 as diffusers has it, on a tiny pipeline that diffusers writes, and its own adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderSAME,
    FlowMatchEulerDiscreteScheduler,
    StableAudio3DiTModel,
    StableAudio3Pipeline,
)
from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5GemmaConfig, T5GemmaEncoderModel, T5GemmaModuleConfig

from conftest import RATE_HZ, SIZE, draws_of, write_recordings
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError
from linernotes.evaluation.self_influence import self_influence
from linernotes.methods.contract import Prepared
from linernotes.methods.readout import read
from linernotes.models.adapter_folder import paired
from linernotes.models.contract import POWERS, GenerativeModel, PredictingModel, ReadoutModel
from linernotes.models.opening import open_model
from linernotes.models.small import train_tokenizer
from linernotes.models.stable_audio_3 import StableAudio3
from linernotes.models.starts import write_untrained_copy
from linernotes.models.training import train
from linernotes.models.weights import using_weights
from linernotes.settings.methods import AbuEkfacSettings, ReadoutSettings
from linernotes.settings.training import TrainingSettings

FRAMES, FRAME_SAMPLES, WIDTH = 16, 128, 32
SAME = {"rtol": 1e-5, "atol": 1e-5}  # float32 sums in another order
PROMPTS = ["tone 1", "a low tone", ""]


def write_pipeline(folder: Path, embed_dim: int = WIDTH, num_heads: int = 4) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["tone 0", "tone 1", "tone 2", "a low tone"], SIZE)
    module = T5GemmaModuleConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
    )
    encoder = T5GemmaConfig(
        encoder=module, decoder=module, is_encoder_decoder=False, vocab_size=len(tokenizer)
    )
    transformer = StableAudio3DiTModel(
        io_channels=6,
        embed_dim=embed_dim,
        depth=2,
        num_heads=num_heads,
        cond_token_dim=24,
        global_cond_dim=24,
        local_add_cond_dim=7,
        timestep_features_dim=16,
        num_memory_tokens=3,
    )
    for name in ("preprocess_conv", "postprocess_conv"):
        torch.nn.init.normal_(transformer.get_submodule(name).weight, std=0.1)  # zero until it was trained
    torch.nn.init.normal_(transformer.prompt_padding_embedding)
    codec = AutoencoderSAME(
        audio_channels=2,
        patch_size=16,
        encoder_channels=16,
        encoder_c_mults=[2],
        encoder_strides=[8],
        encoder_transformer_depths=[1],
        latent_dim=6,
        dim_heads=8,
        sampling_rate=RATE_HZ,
    )
    for parameter in codec.parameters():
        if not parameter.any():  # zero until it was trained
            torch.nn.init.normal_(parameter, std=0.3)
    StableAudio3Pipeline(
        vae=codec,
        text_encoder=T5GemmaEncoderModel(encoder),
        tokenizer=tokenizer,
        duration_embedder=StableAudio3DurationEmbedder(output_dim=24, fourier_dim=16),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, stochastic_sampling=True),
    ).save_pretrained(folder)
    (folder / "generation.json").write_text(json.dumps({"frames": FRAMES}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("models") / "three")


@pytest.fixture(scope="module")
def three(folder: Path) -> StableAudio3:
    opened = open_model(folder)
    assert isinstance(opened, StableAudio3)
    return opened


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory, three: StableAudio3) -> Catalogue:
    place = tmp_path_factory.mktemp("three")
    recordings = write_recordings(place / "recordings", [FRAMES * FRAME_SAMPLES] * 8)
    return build_catalogue(read_source(recordings), place / "catalogue", three)


def pipeline_of(model: StableAudio3) -> StableAudio3Pipeline:
    return StableAudio3Pipeline(
        model.codec, model.text_encoder, model.tokenizer, model.duration, model.network, model.scheduler
    )


def drawn(model: StableAudio3, seed: int = 0) -> tuple[Batch, Draws]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(3, 6, FRAMES, generator=generator)
    return model.items(latents, model.embed_text(PROMPTS), torch.tensor([0.1, 0.2, 0.25])), draws_of(model, 3)


def test_norms_of_the_blocks_are_those_of_training(three: StableAudio3) -> None:
    """With x constant over features, RMS norm gives x / sqrt(x^2 + 1e-5)."""
    blocks: Any = three.network.transformer_blocks
    x = 1e-3 * torch.ones(1, 1, blocks[0].pre_norm.gamma.numel())
    for norm in (blocks[0].pre_norm, blocks[-1].cross_attend_norm, blocks[-1].ff_norm):
        expected = norm.gamma * x / (x.square() + 1e-5).sqrt()
        torch.testing.assert_close(norm(x), expected.detach(), rtol=1e-5, atol=1e-7)


def test_the_adapter_has_every_power(three: StableAudio3) -> None:
    assert all(isinstance(three, power) for power in (GenerativeModel, *POWERS))
    assert three.encoding.segment_samples == FRAMES * FRAME_SAMPLES
    sound = torch.randn(1, 2, three.encoding.segment_samples)
    latents = three.encode(sound)
    assert latents.shape == (1, 6, FRAMES)
    assert torch.equal(latents, three.encode(sound))
    assert three.decode(latents).shape == sound.shape


def test_the_prediction_is_the_pipelines(three: StableAudio3) -> None:
    """By the pipeline's own conditioning: words, durations, and what stands for no word."""
    items, draws = drawn(three)
    pipeline, t, eps = pipeline_of(three), draws.tensors["t"], draws.tensors["eps"]
    latents, at = items.tensors["latents"], draws.tensors["t"][:, None, None]
    with torch.inference_mode():
        text, mask = pipeline.encode_prompt(PROMPTS, torch.device("cpu"), 1)
        duration = torch.cat(
            [pipeline.encode_duration(s, torch.device("cpu"), 1, 1) for s in (0.1, 0.2, 0.25)]
        )
        context, mask = pipeline.prepare_cross_attention(text, mask, duration)
        velocity = three.network((1 - at) * latents + at * eps, t, context, duration, mask).sample
        torch.testing.assert_close(three.prediction(items, draws), velocity, **SAME)
        by_hand = (velocity - (eps - latents)).square().mean(dim=1)
        torch.testing.assert_close(three.loss_bt(items, draws), by_hand, **SAME)


def test_a_clip_is_the_pipelines(three: StableAudio3) -> None:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(1, 6, FRAMES, generator=generator)
    pipeline = pipeline_of(three)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline("tone 1", duration=0.2, latents=start, generator=generator, output_type="latent").audios
    seen: list[tuple[int, int]] = []
    ours = three.sample("tone 1", 0.2, 3, lambda done, steps: seen.append((done, steps)))
    assert torch.equal(ours, theirs)
    assert seen == [(i, 8) for i in range(1, 9)]
    assert not torch.equal(ours, three.sample("tone 1", 0.2, 4))


def test_an_items_loss_does_not_depend_on_its_batch(three: StableAudio3) -> None:
    items, draws = drawn(three)
    with torch.inference_mode():
        together = three.loss_bt(items, draws)
        alone = [three.loss_bt(items[i : i + 1], draws[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), **SAME)


def test_the_readout_is_exact(three: StableAudio3) -> None:
    assert isinstance(three, ReadoutModel)
    readout, pairs = three.readout(), drawn(three)
    weight = dict(three.network.named_parameters())[f"{readout.layer}.weight"].detach()
    step = 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    before, given = read(three, readout, pairs)
    with using_weights(three.network, {f"{readout.layer}.weight": weight + step}):
        after, _ = read(three, readout, pairs)
    torch.testing.assert_close(after - before, given @ step.T @ readout.projection_co.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "method, settings",
    [
        ("abu-ekfac", AbuEkfacSettings(draws=4, gradient_draws=16, fisher_draws=2, step_size=1e-3)),
        ("readout", ReadoutSettings(draws=16, gradient_draws=64, noise_bands=2)),
    ],
)
def test_segments_find_themselves_after_training(
    tmp_path: Path, folder: Path, catalogue: Catalogue, method: str, settings: AbuEkfacSettings
) -> None:
    write_untrained_copy(folder, tmp_path / "untrained", 1)
    data = catalogue.batch(catalogue.training_rows)
    recipe = TrainingSettings(steps=40, batch_size=8, learning_rate=3e-3, ema=0.5)
    train(tmp_path / "untrained", tmp_path / "model", data.latents_nct, data.text_nld, data.seconds_n, recipe)
    prepared = Prepared(open_model(tmp_path / "model"), catalogue, tmp_path / "prepared")
    ranks = self_influence(prepared, method, settings, 4, tmp_path / "work")
    assert np.mean([rank.segment_rank for rank in ranks]) < 2


def lengths(weight: Tensor) -> Tensor:
    return weight.norm(dim=1)


@pytest.mark.parametrize("kind", ["lora", "dora-rows", "lora-xs", "dora-rows-xs"])
def test_its_own_adapters_do_what_its_own_code_says(
    tmp_path: Path, folder: Path, three: StableAudio3, kind: str
) -> None:
    """W + (alpha / r) B A, or U M V', rows brought to the magnitudes, in the rows' order of that code."""
    generator = torch.Generator().manual_seed(2)
    layers = {  # by their names in that code
        "model.transformer.layers.0.self_attn.to_qkv": "transformer_blocks.0.self_attn.to_qkv",
        "model.transformer.layers.1.cross_attn.to_kv": "transformer_blocks.1.cross_attn.to_kv",
        "model.transformer.layers.1.ff.ff.0.proj": "transformer_blocks.1.ff.proj_in",
        "model.transformer.layers.0.ff.ff.2": "transformer_blocks.0.ff.proj_out",
        "model.transformer.project_in": "proj_in",
        "model.preprocess_conv": "preprocess_conv",
        "model.to_timestep_embed.0": "to_timestep_embed.0",
    }
    own = dict(three.network.named_parameters())
    tensors: dict[str, Tensor] = {}
    merged: dict[str, Tensor] = {}

    def adapt(key: str, weight: Tensor) -> Tensor:
        """Writes the adapter of a layer whose weight lies as in that code, and gives the adapted weight."""
        flat, rank, prefix = weight.flatten(1), 2, f"{key}.parametrizations.weight.0."
        if kind.endswith("-xs"):
            core = torch.randn(rank, rank, generator=generator).half().float()
            left, _, right = torch.linalg.svd(flat, full_matrices=False)
            signs = left[left.abs().argmax(dim=0), torch.arange(left.shape[1])].sign()
            change = (left * signs)[:, :rank] @ core @ (right * signs[:, None])[:rank]
            tensors[f"{prefix}M_xs"] = core.half()
        else:
            down = torch.randn(rank, flat.shape[1], generator=generator).half().float()
            up = torch.randn(len(flat), rank, generator=generator).half().float()
            change = up @ down
            tensors[f"{prefix}lora_A"], tensors[f"{prefix}lora_B"] = down.half(), up.half()
        moved = flat + (0.5 / rank) * change
        if kind.startswith("dora"):
            magnitude = (lengths(flat) * 1.5).half().float()
            tensors[f"{prefix}magnitude"] = magnitude.half()
            tensors[f"{prefix}baked_vnorm_row"] = lengths(moved)
            moved = moved / lengths(moved)[:, None] * magnitude[:, None]
        return moved.reshape(weight.shape)

    for key, name in layers.items():
        weight = own[f"{name}.weight"].detach()
        if not name.endswith("to_qkv"):
            merged[f"{name}.weight"] = adapt(key, weight)
            continue
        q, q2, k, k2, v = weight.chunk(5)
        q, k, v, q2, k2 = adapt(key, torch.cat([q, k, v, q2, k2])).chunk(5)
        merged[f"{name}.weight"] = torch.cat([q, q2, k, k2, v])
    conditioner = "conditioners.seconds_total.embedder.embedding.1"
    with_duration = adapt(conditioner, three.duration.linear.weight.detach())
    place = tmp_path / "mine.safetensors"
    save_file(tensors, place, {"lora_config": json.dumps({"rank": 2, "alpha": 0.5, "adapter_type": kind})})
    adapted = open_model(paired(folder, place))
    assert isinstance(adapted, PredictingModel)
    assert adapted.name == "mine"
    latents = drawn(three)[0].tensors["latents"]
    text, seconds, draws = three.embed_text(PROMPTS), torch.tensor([0.1, 0.2, 0.25]), draws_of(three, 3)
    plain = three.duration.linear.weight.data
    with torch.inference_mode(), using_weights(three.network, merged):
        try:
            three.duration.linear.weight.data = with_duration
            expected = three.prediction(three.items(latents, text, seconds), draws)
        finally:
            three.duration.linear.weight.data = plain
        found = adapted.prediction(adapted.items(latents, text, seconds), draws)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    trained = {name.rsplit(".", 2)[1] for name in adapted.layers("adapter")}
    core = {"lora_core"} if kind.endswith("-xs") else {"lora_A", "lora_B"}
    assert trained == core | ({"lora_magnitude_vector"} if kind.startswith("dora") else set())


def test_adapters_that_are_not_known_are_named(tmp_path: Path, folder: Path, model_path: Path) -> None:
    def written(kind: str, key: str) -> Path:
        place = tmp_path / f"{kind}.safetensors"
        tensors = {
            f"{key}.parametrizations.weight.0.{part}": torch.zeros(2, 2) for part in ("lora_A", "lora_B")
        }
        save_file(tensors, place, {"lora_config": json.dumps({"adapter_type": kind})})
        return place

    with pytest.raises(LinernotesError, match="is a dora-cols adapter"):
        open_model(paired(folder, written("dora-cols", "model.transformer.layers.0.ff.ff.2")))
    with pytest.raises(LinernotesError, match="no layer of this model"):
        open_model(paired(folder, written("lora", "model.transformer.layers.9.ff.ff.2")))
    with pytest.raises(LinernotesError, match="give a StableAudio3Pipeline folder"):
        open_model(paired(model_path, written("lora", "model.transformer.layers.0.ff.ff.2")))
