"""Adapters: a base model that stays as it is, and a low-rank change of it that all methods look at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import linernotes
from conftest import draws_of, query_of, write_model
from linernotes.artefacts import hash_files
from linernotes.attribution.base_part import adapter_part, share_of
from linernotes.attribution.fitness import clip_loss, loss_draws
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import as_set, load_clip
from linernotes.attribution.result import Attribution
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.curvature.per_item import item_loss_b, layer_gradients, observe_items
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.retraining import read_retrain, run_retrains
from linernotes.evaluation.bank.setting import BankQuery, Retrain, Setting
from linernotes.evaluation.self_influence import self_influence
from linernotes.jobs.inline import Inline
from linernotes.losses import items_of
from linernotes.methods.all import score
from linernotes.methods.contract import Prepared
from linernotes.methods.readout import read
from linernotes.methods.unlearning import take_steps
from linernotes.models.adapted import carried, without_adapter, write_new_adapter
from linernotes.models.adapter import detached
from linernotes.models.adapter_folder import paired
from linernotes.models.checkpoints import read_checkpoints
from linernotes.models.contract import (
    GenerativeModel,
    PlacedModel,
    PredictingModel,
    ReadoutModel,
    TrainableModel,
)
from linernotes.models.opening import open_model
from linernotes.models.stable_audio import StableAudio
from linernotes.models.starts import write_untrained_copy
from linernotes.models.weights import using_weights, with_gradients
from linernotes.models.workers import twin
from linernotes.settings.methods import METHOD_SETTINGS, AbuEkfacSettings, AbuSettings, ReadoutSettings
from linernotes.settings.training import TrainingSettings

SAME = {"rtol": 1e-4, "atol": 1e-5}  # float32 sums in another order
TRAINING = {"steps": 60, "batch_size": 8, "learning_rate": 1e-2, "ema": 0.5, "seed": 1}
WEIGHTS = "adapter_model.safetensors"


def new(folder: Path, model_path: Path, dora: bool, rank: int = 3) -> Path:
    write_new_adapter(StableAudio(model_path), model_path, folder, rank, dora, 0)
    return folder


def stir(folder: Path, by: float = 0.3) -> Path:
    """The same adapter with random weights in it everywhere."""
    tensors, generator = load_file(folder / WEIGHTS), torch.Generator().manual_seed(5)
    moved = {
        n: t + by * t.abs().mean().clamp(min=0.1) * torch.randn(t.shape, generator=generator)
        for n, t in tensors.items()
    }
    save_file(moved, folder / WEIGHTS)
    return folder


def pairs(model: GenerativeModel, catalogue: Catalogue, n: int = 4) -> tuple[Batch, Draws]:
    return items_of(model, catalogue, range(n)), draws_of(model, n)


def predicted(model: GenerativeModel, catalogue: Catalogue) -> Tensor:
    assert isinstance(model, PredictingModel)
    with torch.inference_mode():
        return model.prediction(*pairs(model, catalogue))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model_path: Path, catalogue: Catalogue) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    linernotes.train_model(catalogue, folder, model_path, adapter="lora", rank=4, **TRAINING)
    return folder


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_that_changes_nothing_changes_no_bit(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue, dora: bool
) -> None:
    adapted = open_model(new(tmp_path / "adapter", model_path, dora))
    assert torch.equal(predicted(adapted, catalogue), predicted(model, catalogue))
    assert adapted.weights_hash != model.weights_hash
    assert adapted.encoding.made_by == model.encoding.made_by


@pytest.mark.parametrize("dora", [False, True])
def test_merged_weights_predict_what_the_adapted_model_does(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue, dora: bool
) -> None:
    adapted = open_model(stir(new(tmp_path / "adapter", model_path, dora)))
    known = carried(adapted)
    assert known is not None
    lows = detached(adapted.network, known.layers)
    merged = {f"{n}.weight": low.merged(model.network.get_submodule(n).weight) for n, low in lows.items()}
    with using_weights(model.network, merged):
        by_merging = predicted(model, catalogue)
    found = predicted(adapted, catalogue)
    torch.testing.assert_close(found, by_merging, **SAME)
    assert (found - predicted(model, catalogue)).abs().max() > 100 * SAME["atol"]


@pytest.mark.parametrize("dora", [False, True])
def test_without_its_adapter_a_model_is_its_base_to_the_last_bit(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue, dora: bool
) -> None:
    adapted = open_model(stir(new(tmp_path / "adapter", model_path, dora)))
    with using_weights(adapted.network, without_adapter(adapted)):
        assert torch.equal(predicted(adapted, catalogue), predicted(model, catalogue))
    assert not torch.equal(predicted(adapted, catalogue), predicted(model, catalogue))


@pytest.mark.parametrize("dora", [False, True])
def test_item_gradients_of_an_adapter_are_those_of_a_plain_loop(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, dora: bool
) -> None:
    adapted = open_model(stir(new(tmp_path / "adapter", model_path, dora)))
    parameters = adapted.layers("adapter")
    assert {name.rsplit(".", 2)[1] for name in parameters} == {"lora_A", "lora_B"} | (
        {"lora_magnitude_vector"} if dora else set()
    )
    items, draws = pairs(adapted, catalogue)
    hooked: dict[str, Tensor] = {}
    observe_items(
        adapted, parameters, lambda *seen: hooked.update(layer_gradients(*seen)), item_loss_b, items, draws
    )
    for i in range(len(items)):
        with with_gradients(list(parameters.values())):
            loss = adapted.loss_bt(items[i : i + 1], draws[i : i + 1]).mean()
            alone = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, alone, strict=True):
            torch.testing.assert_close(hooked[name][i], gradient, rtol=1e-3, atol=1e-6)


def test_kinds_of_layers_mean_the_adapters_weights_in_them(trained: Path, model: StableAudio) -> None:
    adapted = open_model(trained)
    every = set(adapted.layers("adapter"))
    assert every == set(adapted.layers("all"))
    assert not every & set(model.layers("all"))
    attention = set(adapted.layers("self-attention"))
    assert attention and attention == {name for name in every if ".attn1." in name}
    assert set(adapted.layers("output")) == set(model.layers("output"))
    with pytest.raises(UsageError, match="choose one of"):
        adapted.layers("everything")


def test_a_twin_of_an_adapted_model_has_layers_of_its_own(trained: Path) -> None:
    adapted = open_model(trained)
    other = twin(adapted)
    own, others = adapted.layers("adapter"), other.layers("adapter")
    assert own.keys() == others.keys()
    assert all(own[n] is not others[n] and own[n].data_ptr() == others[n].data_ptr() for n in own)


def test_the_readout_of_an_adapted_model_is_exact(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """A change of the read-out's weight does to the output what the projection says, whatever is adapted: the
    layer itself, and what lies behind it too.
    """
    folder = stir(new(tmp_path / "adapter", model_path, False))
    behind = StableAudio(model_path).network.get_submodule("proj_out").weight
    further = {"lora_A": torch.randn(3, behind.shape[1]), "lora_B": torch.randn(len(behind), 3)}
    named = {f"base_model.model.proj_out.{part}.weight": tensor for part, tensor in further.items()}
    save_file(load_file(folder / WEIGHTS) | named, folder / WEIGHTS)
    adapted = open_model(folder)
    assert isinstance(adapted, ReadoutModel)
    readout = adapted.readout()
    weight = dict(adapted.network.named_parameters())[f"{readout.layer}.weight"].detach()
    step = 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    before, given = read(adapted, readout, pairs(adapted, catalogue))
    with using_weights(adapted.network, {f"{readout.layer}.weight": weight + step}):
        after, _ = read(adapted, readout, pairs(adapted, catalogue))
    expected = given[..., : step.shape[1]] @ step.T @ readout.projection_co.T
    torch.testing.assert_close(after - before, expected, **SAME)


def test_dora_on_the_readouts_layer_has_no_readout(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    folder = new(tmp_path / "adapter", model_path, True)
    layer = StableAudio(model_path).readout().layer
    assert not any(layer in name for name in load_file(folder / WEIGHTS))
    lora = load_file(new(tmp_path / "lora", model_path, False) / WEIGHTS)
    weight = StableAudio(model_path).network.get_submodule(layer).weight
    own = {n: t for n, t in lora.items() if layer in n}
    own[f"base_model.model.{layer}.lora_magnitude_vector"] = weight.norm(dim=1)
    save_file(load_file(folder / WEIGHTS) | own, folder / WEIGHTS)
    adapted = open_model(folder)
    assert isinstance(open_model(tmp_path / "lora"), ReadoutModel) and not isinstance(adapted, ReadoutModel)
    with pytest.raises(
        UsageError, match="lacks a layer that its prediction is linear in, and the method readout"
    ):
        score("readout", prepare(adapted, catalogue, tmp_path), [], ReadoutSettings(), tmp_path)


def test_unlearning_moves_the_adapter_and_nothing_else(
    trained: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    adapted = open_model(trained)
    before = {n: p.clone() for n, p in adapted.network.named_parameters()}
    settings = AbuSettings(gradient_draws=4, step_size=1e-3)
    moved = take_steps(
        adapted, [query_of(catalogue, 0)], settings, 1, lambda g: {n: 1e-2 * x for n, x in g.items()}
    )
    assert moved.keys() == adapted.layers("adapter").keys()
    assert any(not torch.equal(moved[n], before[n]) for n in moved)
    assert all(torch.equal(p, before[n]) for n, p in adapted.network.named_parameters())


def test_training_writes_the_adapter_alone_and_it_reads_back_the_same(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue, trained: Path
) -> None:
    assert sorted(p.name for p in trained.iterdir()) == [
        "adapter_config.json",
        WEIGHTS,
        "base.json",
        "training.json",
        "training_loss.csv",
    ]
    base = json.loads((trained / "base.json").read_text())
    assert base["weights_hash"] == model.weights_hash == StableAudio(model_path).weights_hash
    adapted, again = open_model(trained), open_model(trained)
    assert isinstance(adapted, TrainableModel)
    adapted.save_parts(tmp_path)
    assert load_file(tmp_path / WEIGHTS).keys() == load_file(trained / WEIGHTS).keys()
    assert all(
        torch.equal(t, load_file(trained / WEIGHTS)[n]) for n, t in load_file(tmp_path / WEIGHTS).items()
    )
    assert torch.equal(predicted(adapted, catalogue), predicted(again, catalogue))
    losses = np.loadtxt(trained / "training_loss.csv", delimiter=",", skiprows=1)[:, 1]
    assert losses[-10:].mean() < losses[:10].mean()


def test_training_moves_the_adapter_and_nothing_else(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """What training kept on its way is all that it moves, as the weights that a method may put in place."""
    settings = {"adapter": "dora", "rank": 2, "steps": 4, "batch_size": 2, "checkpoints": 1}
    linernotes.train_model(catalogue, tmp_path / "kept", model_path, **settings)
    ((weights, _rate),) = read_checkpoints(tmp_path / "kept")
    assert weights.keys() == open_model(tmp_path / "kept").layers("adapter").keys()


def test_an_untrained_copy_has_other_random_weights_and_changes_nothing(
    tmp_path: Path, trained: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    write_untrained_copy(trained, tmp_path / "one", 7)
    write_untrained_copy(trained, tmp_path / "two", 8)
    one, two = load_file(tmp_path / "one" / WEIGHTS), load_file(tmp_path / "two" / WEIGHTS)
    assert one.keys() == load_file(trained / WEIGHTS).keys()
    assert all(torch.equal(one[n], two[n]) == n.endswith("lora_B.weight") for n in one)
    assert torch.equal(predicted(open_model(tmp_path / "one"), catalogue), predicted(model, catalogue))


def test_an_adapter_that_was_trained_here_takes_segments_for_clips(
    tmp_path: Path, trained: Path, catalogue: Catalogue
) -> None:
    """Its training told it no place in a recording; one from elsewhere is told as its base is. What is
    computed for one of them is not taken for the other.
    """
    elsewhere = Path(shutil.copytree(trained, tmp_path / "elsewhere"))
    (elsewhere / "training.json").unlink()
    here, there = open_model(trained), open_model(elsewhere)
    assert isinstance(here, PlacedModel) and isinstance(there, PlacedModel)
    assert (here.placed, there.placed) == (False, True) and here.weights_hash == there.weights_hash
    (row,) = np.flatnonzero(catalogue.start_s_n > 0)[:1]
    one, other = (items_of(model, catalogue, [row]).tensors["summary"] for model in (here, there))
    assert not torch.equal(one, other)
    assert prepare(here, catalogue).folder != prepare(there, catalogue).folder


def test_a_bank_retrains_the_adapter_and_leaves_the_base_alone(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue, trained: Path
) -> None:
    """A retrain without any step is the base model; with its steps the losses are those of the recipe."""
    query = BankQuery("a", "tone 1", 0.4, 3, "prompt", "reporting", True)
    adapted = open_model(trained)
    latents = model.sample(query.prompt, query.seconds, query.seed).numpy()
    recipe = TrainingSettings(**json.loads((trained / "training.json").read_text())["settings"])
    setting = Setting(trained, catalogue.path, recipe, [query], latents, 4, 0)
    everything = np.ones(sum(track.split == "train" for track in catalogue.tracks), dtype=bool)
    same = Retrain("same", "full", everything, recipe.seed)
    files = [p for p in model_path.rglob("*") if p.is_file()]
    before = hash_files(files, model_path)
    run_retrains(setting, [same], tmp_path / "retrains", executor=Inline())
    found, _ = read_retrain(tmp_path / "retrains", same, setting.header())
    assert hash_files(files, model_path) == before
    items = adapted.items(torch.from_numpy(latents), adapted.embed_text([query.prompt]), torch.tensor([0.4]))
    draws = setting.drawn(adapted)
    with torch.inference_mode():
        own = adapted.loss_bt(items.repeat(4), draws).mean(dim=1)
    torch.testing.assert_close(found["loss_qk"][0], own, **SAME)


@pytest.mark.parametrize(
    "method, settings",
    [
        ("abu-ekfac", AbuEkfacSettings(draws=4, gradient_draws=16, fisher_draws=2, step_size=1e-2)),
        ("readout", ReadoutSettings(draws=16, gradient_draws=64, noise_bands=2)),
    ],
)
def test_segments_find_themselves_in_an_adapter(
    tmp_path: Path, trained: Path, catalogue: Catalogue, method: str, settings: AbuEkfacSettings
) -> None:
    prepared = Prepared(open_model(trained), catalogue, tmp_path / "prepared", model_folder=trained)
    ranks = self_influence(prepared, method, settings, 4, tmp_path / "work")
    assert np.mean([rank.segment_rank for rank in ranks]) < 2


def test_an_adapter_of_another_base_is_refused_by_its_hash(tmp_path: Path, trained: Path) -> None:
    other = write_model(tmp_path / "other", seed=9)
    with pytest.raises(LinernotesError, match=r"adapter to another model \(tiny, \w+\) than other \("):
        open_model(paired(other, trained))


def test_an_adapter_of_another_base_is_refused_by_its_shape(
    tmp_path: Path, trained: Path, model_path: Path
) -> None:
    tensors = load_file(trained / WEIGHTS)
    wide = {n: t.repeat(1, 2) if n.endswith("attn1.to_q.lora_A.weight") else t for n, t in tensors.items()}
    for name, wrong in (
        ("wide", wide),
        ("odd", {n.replace("attn1", "attn9"): t for n, t in tensors.items()}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text((trained / "adapter_config.json").read_text())
        save_file(wrong, folder / WEIGHTS)
        with pytest.raises(LinernotesError, match="adapter to another model"):
            open_model(paired(model_path, folder))


def test_pefts_scale_and_prefixes(tmp_path: Path, model_path: Path, catalogue: Catalogue) -> None:
    """alpha / r, alpha / sqrt(r) and an alpha of one layer's own; whatever the network was called."""
    folder = stir(new(tmp_path / "adapter", model_path, False, rank=4))
    config = json.loads((folder / "adapter_config.json").read_text())
    own = "transformer_blocks.0.attn1.to_q"

    def scales(**changed: object) -> dict[str, float]:
        foreign = tmp_path / "foreign"
        foreign.mkdir(exist_ok=True)
        (foreign / "adapter_config.json").write_text(json.dumps(config | changed))
        renamed = {
            n.replace("base_model.model.", "transformer."): t for n, t in load_file(folder / WEIGHTS).items()
        }
        save_file(renamed, foreign / WEIGHTS)
        adapted = open_model(paired(model_path, foreign))
        known = carried(adapted)
        assert known is not None
        return {n: low.scale for n, low in detached(adapted.network, known.layers).items()}

    assert set(scales(lora_alpha=8).values()) == {2.0}
    assert set(scales(lora_alpha=8, use_rslora=True).values()) == {4.0}
    patterned = scales(lora_alpha=8, alpha_pattern={"blocks.0.attn1.to_q": 2, "0.attn1.to_q": 2})
    assert patterned[own] == 0.5
    assert set(patterned.values()) == {2.0, 0.5}
    with pytest.raises(LinernotesError, match="says bias = 'all'"):
        scales(bias="all")
    with pytest.raises(LinernotesError, match="holds a IA3 adapter"):
        scales(peft_type="IA3")


def test_what_is_no_adapter_is_one_sentence(tmp_path: Path, model_path: Path, trained: Path) -> None:
    with pytest.raises(LinernotesError, match="there is no adapter at"):
        paired(model_path, tmp_path / "nothing")
    with pytest.raises(LinernotesError, match="holds no adapter"):
        paired(model_path, tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(LinernotesError, match=r"adapter_model\.bin is a pickle"):
        paired(model_path, tmp_path)
    assert paired(model_path, trained) == trained
    with pytest.raises(UsageError, match="give a lower --rank"):
        new(tmp_path / "high", model_path, False, rank=1000)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in trained.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    base = json.loads((trained / "base.json").read_text())
    (moved / "base.json").write_text(json.dumps({**base, "folder": str(tmp_path / "gone")}))
    with pytest.raises(LinernotesError, match="say where it is with --model"):
        open_model(moved)
    assert open_model(paired(model_path, moved)).weights_hash == open_model(trained).weights_hash


def test_an_attribution_tells_the_adapters_part_from_the_bases(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue, trained: Path
) -> None:
    """By --adapter on the command line; the losses are those of either model on the same draws."""
    clip = linernotes.generate("tone 1", tmp_path / "clip.flac", trained, seed=3, seconds=0.4)
    words = ["attribute", clip, "--model", model_path, "--adapter", trained, "--catalog", catalogue.path]
    words += ["--method", "latent", "-o", tmp_path / "out"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    read = Attribution.load(tmp_path / "out" / "attribution.json")
    part = read.adapter
    assert part is not None and part.nothing is not None and part.share is not None
    assert (part.base, part.base_hash) == (model.name, model.weights_hash)
    adapted = open_model(trained)
    query = load_clip(clip, adapted, None).query
    assert part.loss == pytest.approx(clip_loss(adapted, query, loss_draws(adapted, 0)), rel=1e-6)
    assert part.base_loss == pytest.approx(clip_loss(model, query, loss_draws(model, 0)), rel=1e-6)
    grown = (part.base_loss - part.loss) / (part.nothing - part.loss)
    assert part.share == pytest.approx(min(1.0, grown))  # an untrained base model is worse than nothing
    assert any(model.name in sentence and "came with the adapter" in sentence for sentence in read.cautions)
    plain = linernotes.load_model(model_path)
    assert adapter_part(load_clip(clip, adapted, None), plain) is None
    other = linernotes.generate("tone 2", tmp_path / "other.flac", trained, seed=4, seconds=0.2)
    both = [load_clip(path, adapted, None) for path in (clip, other)]
    of_set, parts = adapter_part(as_set(both), adapted), [adapter_part(each, adapted) for each in both]
    for loss in ("loss", "base_loss", "nothing"):  # a set is all of its clips, by their seconds
        mean = np.average([getattr(p, loss) for p in parts], weights=[each.query.seconds for each in both])
        assert getattr(of_set, loss) == pytest.approx(mean, rel=1e-6)


def test_every_method_runs_on_an_adapted_model_and_leaves_its_weights(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """But for likenesses, which do not ask the model; on DoRA, which has every kind of layer in it."""
    adapted = open_model(stir(new(tmp_path / "adapter", model_path, True)))
    before = {name: p.clone() for name, p in adapted.network.named_parameters()}
    prepared = Prepared(adapted, catalogue, tmp_path / "prepared")
    few = {"draws": 2, "gradient_draws": 2, "fisher_draws": 1, "retain_batch": 2, "noise_bands": 1}
    for name, kind in METHOD_SETTINGS.items():
        if kind.family in ("similarity", "chance"):
            continue
        settings = kind(**{n: v for n, v in few.items() if n in kind.model_fields})
        scores = score(name, prepared, [query_of(catalogue, 0)], settings, tmp_path / name)
        moved = {weight for changed in scores.changed for _, weights in changed for weight in weights}
        readout = {"transformer_blocks.1.ff.net.2.weight", "transformer_blocks.1.ff.net.2.bias"}
        assert moved <= (readout if name == "readout" else set(adapted.layers("adapter"))), name
        assert np.abs(scores.scores_qn).max() > 0, name
    assert all(torch.equal(p, before[name]) for name, p in adapted.network.named_parameters())


def test_the_adapters_share_is_of_what_the_whole_model_saves() -> None:
    assert share_of(adapted=0.4, base=0.6, nothing=1.0) == pytest.approx(1 / 3)
    assert share_of(adapted=0.4, base=0.3, nothing=1.0) == 0  # the adapter did harm
    assert share_of(adapted=0.4, base=2.0, nothing=1.0) == 1  # the base model knew less than nothing
    assert share_of(adapted=1.2, base=1.1, nothing=1.0) is None  # the adapted model knows nothing
    assert share_of(adapted=0.4, base=0.6, nothing=None) is None


def test_an_adapters_folder_keeps_its_whole_name(tmp_path: Path, model_path: Path, trained: Path) -> None:
    folder = tmp_path / "lora-v1.5"
    shutil.copytree(trained, folder)
    assert open_model(paired(model_path, folder)).name == "lora-v1.5"
