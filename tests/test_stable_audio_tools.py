"""Folders in the layout of stable-audio-tools: the same model as in diffusers' layout, or a refusal that says
what is wrong. dev/reference_stable_audio_tools.py holds both against stable-audio-tools itself.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from linernotes.demo.places import require_model
from linernotes.draws import Batch
from linernotes.errors import LinernotesError
from linernotes.models.objectives import shift_of_length
from linernotes.models.opening import open_model
from linernotes.models.stable_audio import StableAudio
from linernotes.models.starts import write_untrained_copy
from tools_folder import (
    CHANNELS,
    FRAMES,
    HOP,
    weights_of,
    write_diffusers_folder,
    write_small_flow,
    write_tools_folder,
    write_weights,
)

EXACT = {"rtol": 0, "atol": 0}  # the same numbers through the same modules
PROMPTS = ["tone 0", "a low tone", ""]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    return write_diffusers_folder(tmp_path_factory.mktemp("models") / "original", model_path)


@pytest.fixture(scope="module")
def theirs(original: Path) -> StableAudio:
    return StableAudio(original)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, theirs: StableAudio, original: Path) -> Path:
    return write_tools_folder(tmp_path_factory.mktemp("models") / "tools", theirs, original)


@pytest.fixture(scope="module")
def ours(folder: Path) -> StableAudio:
    opened = open_model(folder)
    assert isinstance(opened, StableAudio)
    return opened


def items_of(model: StableAudio) -> Batch:
    latents = torch.randn(3, CHANNELS, FRAMES, generator=torch.Generator().manual_seed(4))
    return model.items(latents, model.embed_text(PROMPTS), torch.tensor([0.5, 1.0, 2.5]))


def test_it_is_the_model_that_diffusers_layout_holds(ours: StableAudio, theirs: StableAudio) -> None:
    sound = torch.randn(2, 2, FRAMES * HOP, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.encode(sound), theirs.encode(sound), **EXACT)
    torch.testing.assert_close(ours.decode(ours.encode(sound)), theirs.decode(theirs.encode(sound)), **EXACT)
    draws = theirs.draw(3, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.prediction(items_of(ours), draws), theirs.prediction(items_of(theirs), draws), **EXACT
        )
        torch.testing.assert_close(
            ours.loss_bt(items_of(ours), draws), theirs.loss_bt(items_of(theirs), draws), **EXACT
        )
    assert ours.draw(3, torch.Generator().manual_seed(1)).hash == draws.hash
    sizes = ("rate_hz", "channels", "latent_channels", "frames", "frame_samples", "text_tokens", "text_dim")
    assert [getattr(ours.encoding, s) for s in sizes] == [getattr(theirs.encoding, s) for s in sizes]


def test_it_generates(ours: StableAudio) -> None:
    ours.sampling = {"steps": 3, "guidance": 2.0}
    first, again = (ours.sample("tone 1", 0.01, seed) for seed in (3, 3))
    assert torch.equal(first, again)
    assert ours.decode(first).shape == (1, 2, FRAMES * HOP)


def test_latents_are_divided_by_the_scale(
    tmp_path: Path, theirs: StableAudio, original: Path, ours: StableAudio
) -> None:
    scaled = StableAudio(
        write_tools_folder(
            tmp_path / "scaled",
            theirs,
            original,
            model__pretransform__scale=0.5,
            model__pretransform__config__decoder__config__final_tanh=True,
        )
    )
    sound = torch.randn(1, 2, FRAMES * HOP)
    torch.testing.assert_close(scaled.encode(sound), 2 * ours.encode(sound))
    latents = ours.encode(sound)
    torch.testing.assert_close(scaled.decode(2 * latents), torch.tanh(ours.decode(latents)))
    assert scaled.encoding.codec_hash != ours.encoding.codec_hash


def test_a_checkpoint_of_training_is_used_with_its_moving_average(
    tmp_path: Path, theirs: StableAudio, original: Path, ours: StableAudio
) -> None:
    wrapped = write_tools_folder(tmp_path / "wrapped", theirs, original)
    weights = weights_of(theirs)
    stored = {f"diffusion.{name}": tensor for name, tensor in weights.items()}
    averaged = {n.removeprefix("model."): t for n, t in weights.items() if n.startswith("model.")}
    stored |= {f"diffusion_ema.ema_model.{name}": tensor for name, tensor in averaged.items()}
    for name in averaged:  # what training was at when it was saved
        stored[f"diffusion.model.{name}"] = torch.zeros_like(averaged[name])
    stored |= {"diffusion_ema.step": torch.tensor(9), "losses.losses.0.weight": torch.tensor(1.0)}
    write_weights(wrapped, stored)
    opened = StableAudio(wrapped)
    for name, parameter in ours.network.named_parameters():
        assert torch.equal(parameter, opened.network.get_parameter(name)), name


def test_a_small_flow_model_has_norms_whole_seconds_and_its_own_times(
    tmp_path: Path, theirs: StableAudio, original: Path
) -> None:
    shift = {"base_shift": 0.5, "max_shift": 1.15, "max_length": 4096, "min_length": 256}
    changes = {
        "model__diffusion__distribution_shift_options": shift,
        "training__timestep_sampler": "trunc_logit_normal",
    }
    folder = write_small_flow(tmp_path / "small", theirs, original, **changes)
    weights = load_file(folder / "model.safetensors")
    table = weights["conditioner.conditioners.seconds_total.int_embedder.weight"]
    model = StableAudio(folder)
    items = items_of(model)
    # 0.5, 1.0 and 2.5 seconds are 1, 1 and 3 whole ones
    torch.testing.assert_close(items.tensors["summary"][:, 0], table[[1, 1, 3]], **EXACT)
    torch.testing.assert_close(items.tensors["tokens"][:, -1], table[[1, 1, 3]], **EXACT)
    name = "model.model.transformer.layers.1.cross_attn.k_norm.bias"
    assert torch.equal(model.network.get_parameter("transformer_blocks.1.attn2.norm_k.bias"), weights[name])
    objective = model.objective
    assert (objective.path, objective.sampler) == ("flow", "trunc_logit_normal")
    assert objective.shift == shift_of_length(FRAMES) == math.exp(0.5)
    draws = model.draw(3, torch.Generator().manual_seed(0))
    t, eps, clean = draws.tensors["t"][:, None, None], draws.tensors["eps"], items.tensors["latents"]
    with torch.inference_mode():
        predicted = model.network(
            (1 - t) * clean + t * eps,
            draws.tensors["t"],
            items.tensors["tokens"],
            items.tensors["summary"],
            model.rotary,
            return_dict=False,
        )[0]
        by_hand = (predicted - (eps - clean)).square().mean(dim=1)
        torch.testing.assert_close(model.loss_bt(items, draws), by_hand)
    assert model.sample("tone 1", 0.01, 0).shape == (1, CHANNELS, FRAMES)


def test_trained_parts_are_written_as_they_were_read(tmp_path: Path, folder: Path, ours: StableAudio) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    (copied / "model.safetensors").unlink()
    ours.save_parts(copied)
    before, after = load_file(folder / "model.safetensors"), load_file(copied / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert StableAudio(copied).weights_hash == ours.weights_hash


def test_an_untrained_copy_keeps_the_codec_alone(tmp_path: Path, folder: Path, ours: StableAudio) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_untrained_copy(folder, tmp_path / name, seed)
    a, b, c = (StableAudio(tmp_path / name) for name in "abc")
    assert a.weights_hash == b.weights_hash != c.weights_hash != ours.weights_hash
    assert a.encoding.made_by == ours.encoding.made_by
    items, draws = items_of(a), a.draw(3, torch.Generator().manual_seed(0))
    with torch.inference_mode():  # its blocks add nothing yet, as stable-audio-tools has training begin
        states = a.hidden_states(items, draws)
    torch.testing.assert_close(states[0], states[-1])


def test_weights_in_half_precision_are_read_in_full(
    tmp_path: Path, theirs: StableAudio, original: Path
) -> None:
    halved = write_tools_folder(tmp_path / "half", theirs, original)
    for dtype in (torch.float16, torch.bfloat16):
        rounded = {name: tensor.to(dtype) for name, tensor in weights_of(theirs).items()}
        write_weights(halved, rounded)
        opened = StableAudio(halved)
        assert {p.dtype for p in opened.network.parameters()} == {torch.float32}
        found = opened.network.get_parameter("proj_out.weight")
        assert torch.equal(found, rounded["model.model.transformer.project_out.weight"].float())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "diffusion_cond_inpaint"}, "model_type is 'diffusion_cond_inpaint', and only"),
        (
            {"model__diffusion__config__attn_kwargs": {"differential": True}},
            r"model\.diffusion\.config\.attn_kwargs\.differential is True",
        ),
        ({"model__diffusion__config__num_memory_tokens": 8}, "num_memory_tokens is 8"),
        ({"model__diffusion__config__global_cond_type": "adaLN"}, "global_cond_type is 'adaLN'"),
        ({"model__diffusion__config__wings": 2}, "wings is a part that linernotes does not know"),
        ({"model__diffusion__diffusion_objective": "eps"}, "diffusion_objective is 'eps'"),
        ({"model__pretransform__config__encoder__type": "dac"}, "encoder.type is 'dac', and only 'oobleck'"),
        ({"model__conditioning__configs__0__type": "clap_text"}, "of type 'clap_text', and only"),
        ({"model__conditioning__configs__1__id": "bpm"}, "id is 'bpm'"),
        ({"model__diffusion__global_cond_ids": ["seconds_total"]}, "global_cond_ids is"),
        ({"model__pretransform__config__downsampling_ratio": 16}, "the strides multiply to 8"),
        ({"training__timestep_sampler": "beta"}, "timestep_sampler is 'beta'"),
        ({"training__inpainting": {}}, "training.inpainting"),
    ],
)
def test_a_part_that_is_not_known_is_named(
    tmp_path: Path, theirs: StableAudio, original: Path, changes: dict[str, Any], said: str
) -> None:
    folder = write_tools_folder(tmp_path / "odd", theirs, original, **changes)
    for look in (open_model, lambda path: require_model(str(path))):
        with pytest.raises(LinernotesError, match=said):
            look(folder)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, theirs: StableAudio, original: Path) -> None:
    folder = write_tools_folder(tmp_path / "odd", theirs, original)
    whole = weights_of(theirs)
    fused = "model.model.transformer.layers.0.self_attn.to_qkv.weight"
    speeds = "model.model.transformer.rotary_pos_emb.inv_freq"
    for weights, said in (
        ({n: t for n, t in whole.items() if n != fused}, "to_qkv.weight is missing"),
        ({**whole, fused: whole[fused][:-1]}, r"to_qkv.weight is \(383, 128\), and"),
        (
            {**whole, "model.model.wings.weight": torch.ones(2)},
            "wings.weight, of 1, is nothing that it names",
        ),
        ({**whole, speeds: 2 * whole[speeds]}, "has other speeds"),
    ):
        write_weights(folder, weights)
        with pytest.raises(LinernotesError, match=said):
            StableAudio(folder)


def test_what_is_missing_is_said(tmp_path: Path, folder: Path) -> None:
    bare = shutil.copytree(folder, tmp_path / "bare")
    shutil.rmtree(bare / "text_encoder")
    with pytest.raises(LinernotesError, match=r"hf download google-t5/t5-base --local-dir .*bare/text"):
        open_model(bare)
    (bare / "model.safetensors").rename(bare / "model.ckpt")
    with pytest.raises(LinernotesError, match=r"linernotes convert .*model\.ckpt -o DIR"):
        open_model(bare)
    (bare / "model.ckpt").unlink()
    with pytest.raises(LinernotesError, match=r"model\.safetensors is missing"):
        require_model(str(bare))
    (bare / "model_config.json").write_text("{")
    with pytest.raises(LinernotesError, match="is damaged"):
        open_model(bare)


def test_a_whole_t5_and_its_tokenizer_in_one_folder_will_do(
    tmp_path: Path, folder: Path, ours: StableAudio
) -> None:
    """As ``hf download`` leaves it."""
    fetched = shutil.copytree(folder, tmp_path / "fetched")
    for path in (fetched / "tokenizer").iterdir():
        path.rename(fetched / "text_encoder" / path.name)
    (fetched / "tokenizer").rmdir()
    weights = load_file(fetched / "text_encoder/model.safetensors")
    weights["decoder.final_layer_norm.weight"] = torch.ones(32)
    save_file(weights, fetched / "text_encoder/model.safetensors", {"format": "pt"})
    opened = StableAudio(fetched)
    assert torch.equal(opened.embed_text(PROMPTS), ours.embed_text(PROMPTS))


def test_what_of_training_is_not_followed_is_said(
    tmp_path: Path, theirs: StableAudio, original: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"training__mask_padding": True, "training__arc": {}}
    StableAudio(write_tools_folder(tmp_path / "masked", theirs, original, **changes))
    assert [record.message.split(": ")[1].split(" (")[0] for record in caplog.records] == [
        "training left padding out of its loss",
        "it was trained adversarially",
    ]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what is mapped where")
def test_weights_are_mapped_and_not_copied(folder: Path) -> None:
    opened = StableAudio(folder)
    weights = str((folder / "model.safetensors").resolve())
    places = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if weights in line]
    ranges = [tuple(int(end, 16) for end in place.split("-")) for place in places]
    for module in (opened.network, opened.projection, opened.codec):
        for name, parameter in module.named_parameters():
            assert any(low <= parameter.data_ptr() < high for low, high in ranges), name


def test_changing_a_model_leaves_its_file_alone(tmp_path: Path, folder: Path) -> None:
    """Training moves weights where they lie, and they lie in a mapped file."""
    copied = shutil.copytree(folder, tmp_path / "copied")
    before = (copied / "model.safetensors").read_bytes()
    opened = StableAudio(copied)
    with torch.no_grad():
        for parameter in opened.network.parameters():
            parameter.add_(1)
    assert (copied / "model.safetensors").read_bytes() == before
