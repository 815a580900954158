"""Flow matching: a small model trained on straight paths, and everything that follows from its objective."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import linernotes
from conftest import draws_of
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.self_influence import self_influence
from linernotes.losses import items_of
from linernotes.methods.contract import Prepared
from linernotes.models.objectives import Objective
from linernotes.models.opening import open_model
from linernotes.models.parts import OBJECTIVE
from linernotes.models.stable_audio import StableAudio
from linernotes.models.starts import write_untrained_copy
from linernotes.settings.methods import AbuEkfacSettings, ReadoutSettings

TRAINING = {"steps": 80, "batch_size": 8, "learning_rate": 5e-3, "ema": 0.5}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, model_path: Path, catalogue: Catalogue) -> Path:
    folder = tmp_path_factory.mktemp("flow") / "flow"
    linernotes.train_model(catalogue, folder, model_path, objective="flow", **TRAINING)
    return folder


def test_the_objective_is_recorded_and_read_back(tmp_path: Path, flow: Path, model: StableAudio) -> None:
    assert model.objective == Objective()
    trained = StableAudio(flow)
    assert trained.objective == Objective("flow")
    write_untrained_copy(flow, tmp_path / "again", 3)  # as a retrain bank does
    assert StableAudio(tmp_path / "again").objective == Objective("flow")
    (tmp_path / "again" / OBJECTIVE).unlink()
    as_v = StableAudio(tmp_path / "again")
    assert as_v.objective == Objective()


def test_the_objective_is_part_of_a_models_hash(tmp_path: Path, flow: Path) -> None:
    one, record = StableAudio(flow), flow / OBJECTIVE
    kept = record.read_text()
    try:
        record.write_text(json.dumps({**json.loads(kept), "shift": 2.0}))
        assert StableAudio(flow).weights_hash != one.weights_hash
        record.write_text(json.dumps({"path": "flow", "speed": 1}))
        with pytest.raises(LinernotesError, match="is no objective"):
            StableAudio(flow)
    finally:
        record.write_text(kept)


def test_the_loss_of_a_flow_is_its_velocitys(flow: Path, catalogue: Catalogue) -> None:
    """z_t = (1 - t) z_0 + t eps, target eps - z_0, one value a frame."""
    model = StableAudio(flow)
    items, draws = items_of(model, catalogue, range(4)), draws_of(model, 4)
    x, t, eps = items.tensors, draws.tensors["t"], draws.tensors["eps"]
    at = t[:, None, None]
    with torch.inference_mode():
        noisy = (1 - at) * x["latents"] + at * eps
        velocity = model.network(noisy, t, x["tokens"], x["summary"], model.rotary, return_dict=False)[0]
        by_hand = (velocity - (eps - x["latents"])).square().mean(dim=1)
        torch.testing.assert_close(model.loss_bt(items, draws), by_hand, rtol=1e-5, atol=1e-5)


def test_euler_steps_along_a_straight_flow_end_at_its_clip(
    flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that always points from the clip to this noise is followed back to the clip exactly."""
    model = StableAudio(flow)
    shape = (1, model.encoding.latent_channels, model.encoding.frames)
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(6))

    def straight(latents: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
        return ((noise - clip).expand_as(latents),)

    monkeypatch.setattr(model.network, "forward", straight)
    seen: list[int] = []
    found = model.sample("tone 1", 0.4, 6, lambda done, _: seen.append(done))
    torch.testing.assert_close(found, clip, rtol=1e-5, atol=1e-5)
    assert seen == list(range(1, 1 + int(model.sampling["steps"])))


def test_a_seed_is_a_clip_of_a_flow(flow: Path) -> None:
    model = StableAudio(flow)
    first, again, other = (model.sample("tone 1", 0.4, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_a_flow_lowers_its_loss(flow: Path) -> None:
    losses = np.loadtxt(flow / "training_loss.csv", delimiter=",", skiprows=1)[:, 1]
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()


@pytest.mark.parametrize(
    "method, settings",
    [
        ("abu-ekfac", AbuEkfacSettings(draws=4, gradient_draws=16, fisher_draws=2, step_size=1e-3)),
        ("readout", ReadoutSettings(draws=16, gradient_draws=64, noise_bands=2)),
    ],
)
def test_segments_find_themselves_in_a_flow(
    tmp_path: Path, flow: Path, catalogue: Catalogue, method: str, settings: AbuEkfacSettings
) -> None:
    prepared = Prepared(open_model(flow), catalogue, tmp_path / "prepared", model_folder=flow)
    ranks = self_influence(prepared, method, settings, 4, tmp_path / "work")
    assert np.mean([rank.segment_rank for rank in ranks]) < 2


def test_an_adapter_keeps_its_models_objective(tmp_path: Path, flow: Path, catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="keeps the objective"):
        linernotes.train_model(catalogue, tmp_path / "a", flow, adapter="lora", objective="v", steps=1)
    adapted = linernotes.train_model(
        catalogue, tmp_path / "b", flow, adapter="dora", rank=2, steps=2, batch_size=2
    )
    assert adapted.objective == Objective("flow")  # type: ignore[attr-defined]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_the_command_line_trains_flows_and_adapters(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    def trained(name: str, *words: object) -> Result:
        asked = ["train", catalogue.path, "-o", tmp_path / name, "--init", model_path, *words]
        asked += ["--steps", 2, "--batch-size", 2]
        return CliRunner().invoke(app, [str(word) for word in asked])

    assert trained("flow", "--objective", "flow").exit_code == 0
    assert StableAudio(tmp_path / "flow").objective == Objective("flow")
    assert trained("dora", "--adapter", "dora", "--rank", 2).exit_code == 0
    adapted = open_model(tmp_path / "dora")
    assert "adapter" in adapted.layer_kinds
    wrong = trained("wrong", "--objective", "sideways")
    assert wrong.exit_code == 2 and "objective = 'sideways'" in wrong.output
    assert not (tmp_path / "wrong").exists()
