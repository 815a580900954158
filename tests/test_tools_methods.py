"""What people do with a model of stable-audio-tools: train it on latents that are there already, attribute.
The model is a flow with norms of queries and keys, which no other model of these tests is.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import draws_of
from linernotes.attribution.prepare import prepare
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.curvature.per_item import item_loss_b, layer_gradients, observe_items
from linernotes.evaluation.self_influence import segment_query
from linernotes.losses import items_of
from linernotes.methods.all import score
from linernotes.methods.contract import Prepared
from linernotes.models.stable_audio import StableAudio
from linernotes.models.starts import write_untrained_copy
from linernotes.models.training import train
from linernotes.models.weights import with_gradients
from linernotes.settings.methods import METHOD_SETTINGS
from linernotes.settings.training import TrainingSettings
from tools_folder import CHANNELS, FRAMES, HOP, write_diffusers_folder, write_small_flow

TRACKS = 12
PLANTED = (3, 9)  # track 9 is track 3 over again, but for rounding
ROUNDING = {"rtol": 1e-3, "atol": 1e-6}  # sums of float32 gradients in another order


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Prepared:
    root = tmp_path_factory.mktemp("tools")
    original = write_diffusers_folder(root / "original", model_path)
    start = write_small_flow(root / "small", StableAudio(original), original)
    latents = root / "latents/0"
    latents.mkdir(parents=True)
    for i in range(TRACKS):
        seed = PLANTED[0] if i == PLANTED[1] else i
        generator = np.random.default_rng(seed)
        values = generator.standard_normal((CHANNELS, 1)) + 0.3 * generator.standard_normal(
            (CHANNELS, FRAMES)
        )
        np.save(latents / f"{i:02}.npy", (values * (1 + 1e-3 * (i == PLANTED[1]))).astype(np.float32))
        words = {"path": f"{i:02}.wav", "seconds_total": 1, "prompt": f"tone {seed % 3}"}
        (latents / f"{i:02}.json").write_text(json.dumps({**words, "padding_mask": [1] * FRAMES}))
    catalogue = build_catalogue(read_source(root / "latents"), root / "catalogue", StableAudio(start))
    write_untrained_copy(start, root / "untrained", 0)
    batch = catalogue.batch(catalogue.training_rows)
    settings = TrainingSettings(steps=80, batch_size=12, learning_rate=4e-3, ema=0.9)
    train(root / "untrained", root / "trained", batch.latents_nct, batch.text_nld, batch.seconds_n, settings)
    model = StableAudio(root / "trained")
    return prepare(model, catalogue, root / "cache", model_folder=root / "trained")


def test_training_lowers_its_loss_and_writes_the_same_layout(world: Prepared) -> None:
    folder = world.catalogue.path.with_name("trained")
    assert {path.name for path in folder.iterdir()} >= {
        "model_config.json",
        "model.safetensors",
        "text_encoder",
    }
    with (folder / "training_loss.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])
    untrained = StableAudio(folder.with_name("untrained"))
    assert world.model.encoding.made_by == untrained.encoding.made_by


def test_item_gradients_are_those_of_a_plain_loop(world: Prepared) -> None:
    model, items = world.model, items_of(world.model, world.catalogue, range(3))
    draws, parameters, hooked = draws_of(model, 3), model.layers("all"), {}
    assert any("norm_q" in name for name in parameters)

    def see(prefix: str, layer: torch.nn.Module, given: torch.Tensor, gradient: torch.Tensor) -> None:
        hooked.update(layer_gradients(prefix, layer, given, gradient))

    observe_items(model, parameters.keys(), see, item_loss_b, items, draws)
    assert hooked.keys() == parameters.keys()
    for i in range(3):
        with with_gradients(list(parameters.values())):
            loss = model.loss_bt(items[i : i + 1], draws[i : i + 1]).mean()
            plain = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, plain, strict=True):
            torch.testing.assert_close(hooked[name][i], gradient, **ROUNDING)


@pytest.mark.parametrize(
    ("method", "chosen"),
    [
        ("readout", {"gradient_draws": 16}),
        ("abu", {"gradient_draws": 16}),
        ("grad-dot", {}),
        ("activations", {}),
    ],
)
def test_a_planted_duplicate_is_found(
    world: Prepared, tmp_path: Path, method: str, chosen: dict[str, int]
) -> None:
    """The track and its double come first."""
    query = segment_query(world.catalogue, PLANTED[0])
    settings = METHOD_SETTINGS[method](
        draws=16, **({"gradient_draws": 16} if method in ("readout", "abu") else {})
    )
    scores_n = score(method, world, [query], settings, tmp_path).scores_qn[0]
    assert set(np.argsort(-scores_n)[:2]) == set(PLANTED)


def test_the_sound_of_it_has_the_right_length(world: Prepared) -> None:
    world.model.sampling = {"steps": 4, "guidance": 1.0, "renoise": True}
    latents = world.model.sample("tone 1", 0.01, 5)
    assert world.model.decode(latents).shape == (1, 2, FRAMES * HOP)
