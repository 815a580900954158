"""The adapter says what the pipeline says, and loads nothing that could run code."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderOobleck, StableAudioPipeline
from safetensors.torch import load_file, save_file

from conftest import RATE_HZ, SEGMENT_SAMPLES, SIZE, write_model
from linernotes.attribution.query import save_generated
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError, UsageError
from linernotes.models.contract import POWERS, GenerativeModel
from linernotes.models.small import write_denoiser
from linernotes.models.stable_audio import StableAudio

PROMPTS = ["tone 1", "a low tone that goes on for longer than the tokenizer has room for", ""]
SAME = {"rtol": 1e-5, "atol": 1e-5}  # float32 sums in another order


def drawn(model: StableAudio, n: int, seed: int = 0) -> tuple[Batch, Draws]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(n, model.encoding.latent_channels, model.encoding.frames, generator=generator)
    text = model.embed_text([f"tone {i % 3}" for i in range(n)])
    return model.items(latents, text, torch.full((n,), 0.5)), model.draw(n, generator)


def test_the_adapter_has_every_power(model: StableAudio) -> None:
    assert all(isinstance(model, power) for power in (GenerativeModel, *POWERS))


def test_conditioning_is_the_pipelines_own(model: StableAudio) -> None:
    """Against StableAudioPipeline's own encode_prompt and encode_duration."""
    pipeline = StableAudioPipeline(
        model.codec, model.text_encoder, model.projection, model.tokenizer, model.network, model.scheduler
    )
    latents = torch.zeros(3, model.encoding.latent_channels, model.encoding.frames)
    ours = model.items(latents, model.embed_text(PROMPTS), torch.tensor([0.3, 0.4, 0.5]))
    with torch.inference_mode():
        text = pipeline.encode_prompt(PROMPTS, "cpu", False)
        start, end = pipeline.encode_duration(0.0, [0.3, 0.4, 0.5], "cpu", False, 3)
    torch.testing.assert_close(ours.tensors["tokens"], torch.cat([text, start, end], dim=1), **SAME)
    torch.testing.assert_close(ours.tensors["summary"], torch.cat([start, end], dim=2), **SAME)


def test_the_loss_is_stable_audios(model: StableAudio) -> None:
    """v-prediction on the cosine path, one value a frame."""
    items, draws = drawn(model, 4)
    latents, t, eps = items.tensors["latents"], draws.tensors["t"], draws.tensors["eps"]
    with torch.inference_mode():
        alpha, sigma = torch.cos(t * math.pi / 2)[:, None, None], torch.sin(t * math.pi / 2)[:, None, None]
        tokens, summary = items.tensors["tokens"], items.tensors["summary"]
        predicted = model.network(
            alpha * latents + sigma * eps, t, tokens, summary, model.rotary, return_dict=False
        )[0]
        by_hand = (predicted - (alpha * eps - sigma * latents)).square().mean(dim=1)
        torch.testing.assert_close(model.loss_bt(items, draws), by_hand, **SAME)


def test_an_items_loss_does_not_depend_on_its_batch(model: StableAudio) -> None:
    items, draws = drawn(model, 5)
    with torch.inference_mode():
        together = model.loss_bt(items, draws)
        alone = [model.loss_bt(items[i : i + 1], draws[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), **SAME)


def test_layer_kinds_are_what_their_names_say(model: StableAudio) -> None:
    kinds = {
        kind: set(model.layers(kind))
        for kind in ("self-attention", "cross-attention", "cross-attention-kv", "mlp", "all")
    }
    assert {name.split(".", 2)[2].split(".")[0] for name in kinds["self-attention"]} == {"attn1"}
    assert {name.split(".", 2)[2] for name in kinds["cross-attention-kv"]} == {
        "attn2.to_k.weight",
        "attn2.to_v.weight",
    }
    assert kinds["cross-attention-kv"] < kinds["cross-attention"]
    assert not kinds["self-attention"] & kinds["cross-attention"] | kinds["mlp"] & kinds["self-attention"]
    assert kinds["self-attention"] | kinds["cross-attention"] | kinds["mlp"] < kinds["all"]
    last = set(model.layers("last-mlp"))
    assert (
        last < kinds["mlp"]
        and all(name.startswith("transformer_blocks.1.ff.net.2.") for name in last)
        and last
    )
    with pytest.raises(UsageError, match="choose one of"):
        model.layers("everything")  # type: ignore[arg-type]


def test_a_seed_is_a_clip(model: StableAudio) -> None:
    first, again, other = (model.sample("tone 1", 0.4, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert model.decode(first).shape == (1, 1, SEGMENT_SAMPLES)


def test_the_codec_keeps_a_tone(model: StableAudio) -> None:
    """440 Hz in, 440 Hz out, to within the width of a Fourier bin."""
    t = torch.arange(SEGMENT_SAMPLES) / RATE_HZ
    sound = (0.5 * torch.sin(2 * math.pi * 440 * t))[None, None]
    spectrum = torch.fft.rfft(model.decode(model.encode(sound))[0, 0]).abs()
    assert spectrum.argmax() * RATE_HZ / SEGMENT_SAMPLES == pytest.approx(440, abs=RATE_HZ / 256)


def test_a_refitted_codec_gives_the_same_latents(tmp_path: Path, model: StableAudio) -> None:
    again = StableAudio(write_model(tmp_path / "again"))
    assert again.encoding.codec_hash == model.encoding.codec_hash


def test_stable_audio_opens_own_layout_loads(tmp_path: Path, model_path: Path) -> None:
    """A stereo pipeline with diffusers' AutoencoderOobleck in the place of the built-in codec."""
    folder = tmp_path / "open"
    shutil.copytree(model_path, folder, ignore=shutil.ignore_patterns("vae", "transformer"))
    AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=RATE_HZ,
    ).save_pretrained(folder / "vae")
    write_denoiser(folder, 4, SIZE)
    loaded = StableAudio(folder)
    assert (loaded.encoding.channels, loaded.encoding.frame_samples, loaded.encoding.latent_channels) == (
        2,
        8,
        4,
    )
    sound = torch.randn(1, 2, loaded.encoding.segment_samples)
    assert loaded.encode(sound).shape == (1, 4, SIZE.frames)
    assert torch.equal(loaded.encode(sound), loaded.encode(sound))  # the posterior's mode, not a sample
    assert loaded.decode(loaded.sample("tone 1", 0.005, 0)).shape == sound.shape


class Bomb:
    """Unpickled, it would write a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def test_a_malicious_pickle_is_never_loaded(tmp_path: Path, model_path: Path) -> None:
    mark, folder = tmp_path / "exploded", tmp_path / "evil"
    shutil.copytree(model_path, folder)
    next((folder / "transformer").glob("*.safetensors")).unlink()
    (folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(LinernotesError, match=r"diffusion_pytorch_model\.bin is a pickle"):
        StableAudio(folder)
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(LinernotesError, match=r"model\.ckpt is a pickle"):
        StableAudio(tmp_path / "model.ckpt")
    assert not mark.exists()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, model_path: Path) -> None:
    """Left to themselves the libraries fill what is missing with random numbers."""
    for part in ("text_encoder", "vae", "transformer"):
        folder = shutil.copytree(model_path, tmp_path / part)
        (weights,) = (folder / part).glob("*.safetensors")
        tensors = load_file(weights)
        name = sorted(tensors)[0]
        save_file(
            {("model." + n if n == name else n): t for n, t in tensors.items()}, weights, {"format": "pt"}
        )
        with pytest.raises(LinernotesError, match=f"weights in {part} do not fit"):
            StableAudio(folder)


def test_a_clip_without_sound_is_not_kept(tmp_path: Path, model: StableAudio) -> None:
    broken = torch.full((1, model.encoding.latent_channels, model.encoding.frames), float("nan"))
    with pytest.raises(LinernotesError, match="no sound"):
        save_generated(tmp_path / "clip.flac", model, broken, "tone 0", 0.3, 7)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_one_sentence(tmp_path: Path, model_path: Path) -> None:
    with pytest.raises(LinernotesError, match="there is no model at"):
        StableAudio(tmp_path / "nothing")
    with pytest.raises(LinernotesError, match="is not a diffusers pipeline"):
        StableAudio(tmp_path)
    other = shutil.copytree(model_path, tmp_path / "other")
    (other / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(LinernotesError, match="holds a FluxPipeline"):
        StableAudio(other)
    damaged = shutil.copytree(model_path, tmp_path / "damaged")
    weights = next((damaged / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(LinernotesError, match="could not be loaded"):
        StableAudio(damaged)
