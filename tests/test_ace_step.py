"""ACE-Step 1.5 as diffusers has it, on a tiny pipeline that diffusers writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3Model
from typer.testing import CliRunner

from conftest import RATE_HZ, SIZE, draws_of, write_recordings
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.cli.app import app
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError
from linernotes.evaluation.self_influence import self_influence
from linernotes.methods.contract import Prepared
from linernotes.models.ace_step import AceStep
from linernotes.models.ace_step_tensors import convert_tensors
from linernotes.models.ace_step_words import Words, words_of
from linernotes.models.adapted import write_new_adapter
from linernotes.models.adapter_folder import paired
from linernotes.models.contract import POWERS, AnyReadout, GenerativeModel
from linernotes.models.objectives import Objective
from linernotes.models.opening import open_model
from linernotes.models.small import train_tokenizer
from linernotes.models.starts import write_untrained_copy
from linernotes.models.training import train
from linernotes.settings.methods import AbuEkfacSettings
from linernotes.settings.training import TrainingSettings

FRAMES, RATIOS, WIDTH = 8, [8, 32], 32
SAME = {"rtol": 1e-5, "atol": 1e-5}  # float32 sums in another order
SUNG = "a slow air\n# Metas\n- bpm: 72\n- keyscale: G major\n# Languages\nde\n# Lyric\n[Verse] low and slow"
PROMPTS = ["tone 1", SUNG, ""]
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 4,
}


class Bomb:
    """Unpickled, it would write a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def write_pipeline(folder: Path, turbo: bool = False) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(
        ["tone 0", "tone 1", "a low tone", "# Metas bpm keyscale duration seconds"], SIZE
    )
    tokenizer.model_max_length = 4096
    encoder = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
    )
    conditioner = AceStepConditionEncoder(
        **SIZES,
        text_hidden_dim=24,
        timbre_hidden_dim=6,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=1,
    )
    torch.nn.init.normal_(conditioner.silence_latent)
    AceStepPipeline(
        vae=AutoencoderOobleck(
            encoder_hidden_size=12,
            downsampling_ratios=RATIOS,
            channel_multiples=[1, 2],
            decoder_channels=8,
            decoder_input_channels=6,
            audio_channels=2,
            sampling_rate=RATE_HZ,
        ),
        text_encoder=Qwen3Model(encoder),
        tokenizer=tokenizer,
        transformer=AceStepTransformer1DModel(
            **SIZES, num_hidden_layers=2, in_channels=18, audio_acoustic_hidden_dim=6, is_turbo=turbo
        ),
        condition_encoder=conditioner,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    ).save_pretrained(folder)
    (folder / "generation.json").write_text(json.dumps({"frames": FRAMES, "lyric_tokens": 128, "steps": 4}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("models") / "ace")


@pytest.fixture(scope="module")
def ace(folder: Path) -> AceStep:
    opened = open_model(folder)
    assert isinstance(opened, AceStep)
    return opened


def pipeline_of(model: AceStep) -> AceStepPipeline:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    pipeline = AceStepPipeline(
        model.codec, model.text_encoder, model.tokenizer, model.network, model.conditioner, scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(model: AceStep) -> tuple[Batch, Draws]:
    latents = torch.randn(3, 6, FRAMES, generator=torch.Generator().manual_seed(0))
    return model.items(latents, model.embed_text(PROMPTS), torch.full((3,), 0.2)), draws_of(model, 3)


def test_it_has_every_power_but_the_readout(ace: AceStep) -> None:
    lacking = [power for power in (GenerativeModel, *POWERS) if not isinstance(ace, power)]
    assert lacking == [AnyReadout]
    sound = torch.randn(1, 2, ace.encoding.segment_samples)
    assert ace.encode(sound).shape == (1, 6, FRAMES)
    assert ace.decode(ace.encode(sound)).shape == sound.shape


def test_a_prompt_carries_metadata_and_lyrics() -> None:
    words = words_of(SUNG)
    assert words == Words("a slow air", {"bpm": "72", "keyscale": "G major"}, "de", "[Verse] low and slow")
    assert words_of(words.prompt) == words
    assert words_of("# a caption\nover two lines") == Words("# a caption\nover two lines")
    assert words_of("x\n# Metas\n- bpm: N/A\n- mood: blue").metas == {}


def test_the_prediction_is_the_pipelines(ace: AceStep) -> None:
    """One prompt after the other, as the pipeline would: without padding, by its own conditioning."""
    items, draws = drawn(ace)
    pipeline, ours = pipeline_of(ace), []
    with torch.inference_mode():
        found = ace.prediction(items, draws)
        for i, prompt in enumerate(PROMPTS):
            words = words_of(prompt)
            text, text_mask, sung, sung_mask = pipeline.encode_prompt(
                words.caption,
                words.lyrics,
                torch.device("cpu"),
                words.language,
                ace._seconds,
                bpm=int(words.metas["bpm"]) if "bpm" in words.metas else None,
                keyscale=words.metas.get("keyscale"),
            )
            silence = ace.conditioner.silence_latent[:, : -(-30 * RATE_HZ // 256)]
            tokens, _ = ace.conditioner(
                text, text_mask, sung, sung_mask, silence, torch.zeros(1, dtype=torch.long)
            )
            source, _ = pipeline.prepare_src_latents(torch.device("cpu"), torch.float32, latent_length=FRAMES)
            context = torch.cat([source, torch.ones_like(source)], dim=-1)
            t, eps = draws.tensors["t"][i : i + 1], draws.tensors["eps"][i : i + 1]
            latents = items.tensors["latents"][i : i + 1]
            noisy = ((1 - t[:, None, None]) * latents + t[:, None, None] * eps).transpose(1, 2)
            velocity = ace.network(noisy, t, t, tokens, context).sample.transpose(1, 2)
            ours.append((velocity - (eps - latents)).square().mean(dim=1))
            torch.testing.assert_close(found[i : i + 1], velocity, **SAME)
        torch.testing.assert_close(ace.loss_bt(items, draws), torch.cat(ours), **SAME)


def test_a_clip_is_the_pipelines(ace: AceStep) -> None:
    start = torch.randn(1, 6, FRAMES, generator=torch.Generator().manual_seed(3))
    theirs = pipeline_of(ace)(
        "a slow air",
        lyrics="[Verse] low and slow",
        vocal_language="de",
        bpm=72,
        keyscale="G major",
        audio_duration=(FRAMES - 0.5) * 256 / RATE_HZ,
        num_inference_steps=4,
        latents=start.transpose(1, 2),
        output_type="latent",
    ).audios.transpose(1, 2)
    ours = ace.sample(SUNG, 0.2, 3)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, ace.sample("tone 1", 0.2, 3))


def test_an_items_loss_does_not_depend_on_its_batch(ace: AceStep) -> None:
    items, draws = drawn(ace)
    with torch.inference_mode():
        together = ace.loss_bt(items, draws)
        alone = [ace.loss_bt(items[i : i + 1], draws[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), **SAME)


def test_a_distilled_model_is_asked_at_its_own_times(tmp_path: Path, ace: AceStep) -> None:
    assert ace.objective == Objective("flow", "logit_normal", mean=-0.4)
    turbo = AceStep(write_pipeline(tmp_path / "turbo", turbo=True))
    eight = [1.0, 0.9545454545454546, 0.9, 0.8333333333333334, 0.75, 0.6428571428571429, 0.5, 0.3]
    ranks = torch.arange(8, 0, -1) / 8
    torch.testing.assert_close(turbo.objective.time_at(ranks), torch.tensor(eight))


def test_segments_find_themselves_after_training(tmp_path: Path, folder: Path, ace: AceStep) -> None:
    recordings = write_recordings(tmp_path / "recordings", [FRAMES * 256] * 6)
    catalogue = build_catalogue(read_source(recordings), tmp_path / "catalogue", ace)
    write_untrained_copy(folder, tmp_path / "untrained", 1)
    data = catalogue.batch(catalogue.training_rows)
    recipe = TrainingSettings(steps=40, batch_size=8, learning_rate=3e-3, ema=0.5)
    train(tmp_path / "untrained", tmp_path / "model", data.latents_nct, data.text_nld, data.seconds_n, recipe)
    prepared = Prepared(open_model(tmp_path / "model"), catalogue, tmp_path / "prepared")
    settings = AbuEkfacSettings(draws=4, gradient_draws=16, fisher_draws=2, step_size=1e-3)
    ranks = self_influence(prepared, "abu-ekfac", settings, 4, tmp_path / "work")
    assert np.mean([rank.segment_rank for rank in ranks]) < 2


def test_an_adapter_may_call_layers_as_ace_step_does(tmp_path: Path, folder: Path, ace: AceStep) -> None:
    write_new_adapter(AceStep(folder), folder, tmp_path / "ours", 2, False, 0)
    tensors = load_file(tmp_path / "ours" / "adapter_model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        for theirs, own in AceStep.other_names.items():
            name = name.replace(f".{own}.", f".{theirs}.")
        renamed[name] = tensor + 0.1
    assert renamed.keys() != tensors.keys()
    save_file(renamed, tmp_path / "ours" / "adapter_model.safetensors")
    adapted = open_model(paired(folder, tmp_path / "ours"))
    assert len(adapted.layers("adapter")) == len(tensors)
    items, draws = drawn(ace)
    with torch.inference_mode():
        assert not torch.allclose(adapted.loss_bt(items, draws), ace.loss_bt(items, draws))


def kept(folder: Path, name: str, latents: torch.Tensor, **said: object) -> dict[str, object]:
    """A clip as ACE-Step's training keeps it."""
    held = {
        "target_latents": latents.T,
        "attention_mask": torch.ones(latents.shape[1]),
        "encoder_hidden_states": torch.zeros(3, WIDTH),
        "encoder_attention_mask": torch.ones(3),
        "context_latents": torch.zeros(latents.shape[1], 12),
        "metadata": {"filename": f"{name}.wav", "duration": 0.25, **said},
    }
    torch.save(held, folder / f"{name}.pt")
    return held


def test_preprocessed_clips_become_latents_words_and_a_catalogue(tmp_path: Path, ace: AceStep) -> None:
    folder = tmp_path / "tensors"
    folder.mkdir()
    latents = torch.randn(6, FRAMES)
    kept(folder, "one", latents, caption="a slow air", lyrics="[Verse] low", bpm=72, keyscale="G major")
    kept(folder, "two", latents + 1, caption="tone 1", lyrics="", bpm=None)
    (folder / "manifest.json").write_text(json.dumps({"samples": ["/elsewhere/one.pt", "two.pt"]}))
    words = ["convert", str(folder), "-o", str(tmp_path / "latents"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and json.loads(done.stdout)["clips"] == 2
    names = sorted(p.name for p in (tmp_path / "latents").iterdir())
    assert names == ["one.json", "one.npy", "two.json", "two.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "latents" / "one.npy"), latents.numpy())
    said = json.loads((tmp_path / "latents" / "one.json").read_text())
    metas = {"bpm": "72", "keyscale": "G major"}
    assert words_of(said["prompt"]) == Words("a slow air", metas, "en", "[Verse] low")
    assert said["seconds_total"] == 0.25 and said["padding_mask"] == [1] * FRAMES
    assert json.loads((tmp_path / "latents" / "two.json").read_text())["prompt"] == "tone 1"
    catalogue = build_catalogue(read_source(tmp_path / "latents"), tmp_path / "catalogue", ace)
    assert [track.title for track in catalogue.tracks] == ["one", "two"]
    torch.testing.assert_close(catalogue.latents([0])[0], latents, rtol=1e-3, atol=1e-3)  # kept in half


def test_preprocessed_clips_are_never_a_smaller_set_in_silence(tmp_path: Path) -> None:
    folder, mark = tmp_path / "tensors", tmp_path / "exploded"
    folder.mkdir()
    with pytest.raises(LinernotesError, match="holds no preprocessed clip"):
        convert_tensors(folder, tmp_path / "out")
    kept(folder, "one", torch.randn(6, FRAMES))
    (folder / "manifest.json").write_text(json.dumps({"samples": ["one.pt", "two.pt", "three.pt"]}))
    with pytest.raises(LinernotesError, match=r"3 clips, and 2 of them are missing \(two.pt, three.pt\)"):
        convert_tensors(folder, tmp_path / "out")
    (folder / "manifest.json").unlink()
    torch.save({"target_latents": Bomb(mark)}, folder / "two.pt")
    torch.save({"latents": torch.zeros(2)}, folder / "three.pt")
    with pytest.raises(LinernotesError, match=r"2 of 3 clips .* two\.pt: it asks for code"):
        convert_tensors(folder, tmp_path / "out")
    assert not mark.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tensors"]
