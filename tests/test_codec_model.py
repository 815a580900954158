"""A model that shares no code with Stable Audio: every room works on it through the contract alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

import linernotes
from codec_language_model import (
    CODEBOOKS,
    CODES,
    FRAME_SAMPLES,
    FRAMES,
    RATE_HZ,
    CodecLanguageModel,
    train_codec_model,
    write_codec_model,
)
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import segment_query
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue, segment_schema
from linernotes.curvature.per_item import item_loss_b, layer_gradients, observe_items, observed
from linernotes.draws import no_draws, random_for
from linernotes.errors import UsageError
from linernotes.evaluation.self_influence import self_influence
from linernotes.losses import item_losses, items_of
from linernotes.methods.all import METHODS, runs_on, score
from linernotes.methods.contract import Prepared
from linernotes.models import opening
from linernotes.models.contract import GenerativeModel, HiddenStatesModel, PredictingModel
from linernotes.models.opening import open_model
from linernotes.models.weights import with_gradients
from linernotes.settings.methods import METHOD_SETTINGS

TRACKS, PLANTED = 14, (3, 9)  # track 9 is track 3 over again
ROUNDING = {"rtol": 1e-3, "atol": 1e-6}  # sums of float32 gradients in another order
ASKED_FOR = ["abu", "abu-ekfac", "ekfac", "grad-dot", "trak", "activations"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A trained model and its catalogue of noises that rise and fall, each in its own way; one of them is
    there twice.
    """
    folder = tmp_path_factory.mktemp("codec")
    sounds = folder / "sounds"
    sounds.mkdir()
    with (sounds / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "title", "artist", "caption"])
        for i in range(TRACKS):
            seed = PLANTED[0] if i == PLANTED[1] else i
            random = np.random.default_rng(seed)
            loudness, width = (
                np.repeat(random.uniform(0.05, 0.9, FRAMES), FRAME_SAMPLES),
                int(random.integers(1, 12)),
            )
            noise = np.convolve(random.standard_normal(len(loudness)), np.ones(width) / width, mode="same")
            wave = np.clip(loudness * noise / np.abs(noise).max(), -1, 1)
            gain = 1 - 1e-4 * (i == PLANTED[1])  # not the same file, but the same codes
            soundfile.write(
                sounds / f"{i:02}.wav", (gain * wave).astype(np.float32), RATE_HZ, subtype="FLOAT"
            )
            writer.writerow([f"{i:02}.wav", f"Noise {i}", "The Shakers", f"noise {seed % 3}"])
    untrained = CodecLanguageModel(write_codec_model(folder / "untrained"))
    catalogue = build_catalogue(read_source(sounds), folder / "catalogue", untrained)
    model = train_codec_model(untrained, items_of(untrained, catalogue, range(TRACKS)), 400, folder / "model")
    return prepare(model, catalogue, folder / "cache", model_folder=folder / "model")


def small(method: str, **more: object) -> object:
    kind = METHOD_SETTINGS[method]
    return kind(**{n: 0.1 for n in ("damping",) if n in kind.model_fields}, **more)


def test_it_is_a_model_with_one_power(world: Prepared) -> None:
    assert isinstance(world.model, GenerativeModel) and isinstance(world.model, HiddenStatesModel)
    assert not isinstance(world.model, PredictingModel)
    assert [m for m in METHODS if not runs_on(m, world.model)] == ["readout", "d-trak", "das"]


def test_codes_come_back_from_the_catalogue_as_they_went_in(world: Prepared) -> None:
    sound = np.stack(
        [
            soundfile.read(world.catalogue.path.parent / f"sounds/{i:02}.wav", dtype="float32")[0]
            for i in (0, 5)
        ]
    )
    codes = world.model.encode(torch.from_numpy(sound)[:, None])
    assert codes.shape == (2, CODEBOOKS, FRAMES) and codes.max() < CODES and len(codes.unique()) > 5
    assert torch.equal(world.catalogue.latents([0, 5]).long(), codes)


def test_a_model_without_randomness_has_one_draw(world: Prepared, tmp_path: Path) -> None:
    draws = world.draws(16, 0)
    losses = item_losses(world.model, world.catalogue, draws, {"base": {}}, tmp_path)["base"]
    assert len(draws) == 1 and losses.shape == (TRACKS, 1)


def test_item_gradients_of_every_kind_of_layer_are_those_of_a_plain_loop(world: Prepared) -> None:
    """Embeddings, a convolution, norms and matrices."""
    model, items = world.model, items_of(world.model, world.catalogue, range(4))
    parameters, hooked = model.layers("all"), {}

    def see(prefix: str, layer: torch.nn.Module, given: torch.Tensor, gradient: torch.Tensor) -> None:
        hooked.update(layer_gradients(prefix, layer, given, gradient))

    observe_items(model, parameters.keys(), see, item_loss_b, items, no_draws(4))
    assert hooked.keys() == parameters.keys()
    for i in range(4):
        with with_gradients(list(parameters.values())):
            loss = model.loss_bt(items[i : i + 1], no_draws(1)).mean()
            plain = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, plain, strict=True):
            torch.testing.assert_close(hooked[name][i], gradient, **ROUNDING)


def test_sampled_gradients_have_the_gauss_newton_matrix(world: Prepared) -> None:
    """Of a head's bias it is mean_t (diag(p_t) - p_t p_t') / K, of which the trace and the mean along a
    direction are known.
    """
    model, item, n = world.model, items_of(world.model, world.catalogue, [2]), 4000
    seen = {}

    def see(prefix: str, layer: torch.nn.Module, given: torch.Tensor, gradient: torch.Tensor) -> None:
        seen.update(layer_gradients(prefix, layer, given, gradient))

    targets = model.draw_targets(n, random_for("a law", 0))

    def sampled_b(worker: CodecLanguageModel, items: object, draws: object) -> torch.Tensor:
        return worker.sampled_loss_b(items, draws, targets)

    observe_items(model, ["heads.0.bias"], see, sampled_b, item.repeat(n), no_draws(n))
    p_tv = model._logits(item)[0, :, 0].softmax(dim=-1)
    exact = (torch.diag(p_tv.mean(dim=0)) - p_tv.T @ p_tv / FRAMES) / CODEBOOKS
    squares_n = seen["heads.0.bias"].square().sum(dim=1)
    assert float(squares_n.mean()) == pytest.approx(
        float(exact.trace()), abs=5 * float(squares_n.std()) / n**0.5
    )
    direction = torch.linspace(-1, 1, CODES)
    along_n = (seen["heads.0.bias"] @ direction).square()
    assert float(along_n.mean()) == pytest.approx(
        float(direction @ exact @ direction), abs=5 * float(along_n.std()) / n**0.5
    )


@pytest.mark.parametrize("method", ASKED_FOR)
def test_a_planted_duplicate_is_found(world: Prepared, tmp_path: Path, method: str) -> None:
    """The track and its double come first, by every method that runs."""
    scores_n = score(
        method, world, [segment_query(world.catalogue, PLANTED[0])], small(method), tmp_path
    ).scores_qn[0]
    assert set(np.argsort(-scores_n)[:2]) == set(PLANTED)


def test_every_segment_finds_itself(world: Prepared, tmp_path: Path) -> None:
    ranks = self_influence(world, "abu", small("abu"), 8, tmp_path)
    assert sum(rank.track_rank <= 2 for rank in ranks) == len(ranks)  # a planted one ties with its double


def test_what_it_lacks_is_named_with_what_runs(world: Prepared, tmp_path: Path) -> None:
    query = segment_query(world.catalogue, 0)
    with pytest.raises(
        UsageError, match=r"model lacks a layer that .* readout needs that: choose one of abu, .*, random$"
    ):
        score("readout", world, [query], METHOD_SETTINGS["readout"](), tmp_path)
    with pytest.raises(
        UsageError, match="one draw cannot be divided into noise bands: leave out --noise-bands"
    ):
        score("grad-dot", world, [query], METHOD_SETTINGS["grad-dot"](noise_bands=2), tmp_path)
    with pytest.raises(
        UsageError, match="has no layers 'cross-attention': choose --layers from all, mlp, output"
    ):
        score("abu", world, [query], METHOD_SETTINGS["abu"](layers="cross-attention"), tmp_path)


def test_a_plan_of_what_does_not_run_names_what_does(
    world: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(opening.FAMILIES, "codec LM", "codec_language_model:CodecLanguageModel")
    assert world.model_folder
    with linernotes.Workspace(world.model_folder, world.catalogue.path) as work:
        for method in ("readout", "d-trak"):
            with pytest.raises(UsageError, match=f"the method {method} needs that: choose one of abu, "):
                work.plan([method])
        everything = {plan.method for plan in work.plan(draws=1, gradient_draws=1)}
    assert {"abu", "trak", "random"} <= everything and not {"readout", "d-trak", "das"} & everything


def test_a_clip_is_attributed_from_the_folders_alone(
    world: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(opening.FAMILIES, "codec LM", "codec_language_model:CodecLanguageModel")
    assert isinstance(open_model(world.model_folder), CodecLanguageModel)
    clip = world.catalogue.path.parent / f"sounds/{PLANTED[0]:02}.wav"
    (found,) = linernotes.attribute(
        clip,
        tmp_path / "out",
        world.model_folder,
        world.catalogue.path,
        prompt="noise 0",
        method="abu",
        cache=tmp_path,
    )
    assert {track.title for track in found.tracks[:2]} == {f"Noise {i}" for i in PLANTED}
    assert "Noise 9" in (tmp_path / "out/report.html").read_text()


def test_a_catalogue_of_codes_is_opened_anew(world: Prepared) -> None:
    assert Catalogue(world.catalogue.path).encoding == replace(world.model.encoding, model="untrained")


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (torch.nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), (4, 17)),
        (torch.nn.Conv1d(4, 6, 5, padding="same", bias=False), (4, 9)),
        (torch.nn.Conv2d(3, 5, (3, 2), stride=(1, 2), padding=(1, 0)), (3, 8, 6)),
        (torch.nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (3, 5, 6)),
        (torch.nn.GroupNorm(2, 6), (6, 7)),
        (torch.nn.RMSNorm(5), (4, 5)),
        (torch.nn.Embedding(9, 4), (6,)),
    ],
)
def test_gradients_of_layers_that_other_families_have_are_autograds(
    layer: torch.nn.Module, shape: tuple[int, ...]
) -> None:
    given = torch.randint(9, (3, *shape)) if isinstance(layer, torch.nn.Embedding) else torch.randn(3, *shape)
    seen: dict[str, torch.Tensor] = {}

    def see(prefix: str, module: torch.nn.Module, a: torch.Tensor, g: torch.Tensor) -> None:
        seen.update(layer_gradients(prefix, module, a, g))

    module = torch.nn.Sequential(layer).requires_grad_(False)
    with observed(module, [name for name, _ in module.named_parameters()], see) as roots, torch.enable_grad():
        torch.autograd.grad(module(given).sin().square().sum(), roots)
    module.requires_grad_(True)
    for i in range(3):
        loss = module(given[i : i + 1]).sin().square().sum()
        for (name, _), plain in zip(
            module.named_parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True
        ):
            torch.testing.assert_close(seen[name][i], plain, rtol=1e-4, atol=1e-5)


def test_large_codes_are_stored_as_whole_numbers(world: Prepared) -> None:
    """Half precision holds no odd number above 2,048."""
    encoding = replace(world.catalogue.encoding, codes=4096)
    assert pa.array([4095], segment_schema(encoding).field("latents").type.value_type).to_pylist() == [4095]
