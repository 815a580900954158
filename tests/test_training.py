"""Training: it learns, resumes to the same weights, and refuses what cannot work."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import linernotes
from linernotes.catalog.store import Catalogue
from linernotes.demo.places import MODEL
from linernotes.errors import LinernotesError, UsageError
from linernotes.models.folder import drawn_in_training
from linernotes.models.stable_audio import StableAudio
from linernotes.models.starts import write_untrained_copy
from linernotes.models.training import evenly_by_track, rows_drawn, train
from linernotes.settings.training import TrainingSettings

SETTINGS = TrainingSettings(steps=12, batch_size=8, learning_rate=1e-3)


def data(catalogue: Catalogue) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch = catalogue.batch(catalogue.training_rows)
    return batch.latents_nct, batch.text_nld, batch.seconds_n


def test_a_stopped_training_resumes_to_the_same_weights(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linernotes.models.training.SAVED_EVERY", 5)

    def stop(done: int, total: int, loss: float) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model_path, tmp_path / "stopped", *data(catalogue), SETTINGS, stop)
    assert not (tmp_path / "stopped").exists()
    train(model_path, tmp_path / "stopped", *data(catalogue), SETTINGS)
    train(model_path, tmp_path / "whole", *data(catalogue), SETTINGS)
    for part in ("transformer", "projection_model"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "stopped/training_loss.csv").read_text() == (
        tmp_path / "whole/training_loss.csv"
    ).read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stopped", "whole"]


def test_training_lowers_the_loss_and_keeps_the_codec(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    settings = TrainingSettings(steps=150, batch_size=16, learning_rate=3e-3, ema=0.9)
    train(model_path, tmp_path / "trained", *data(catalogue), settings)
    trained = StableAudio(tmp_path / "trained")
    assert trained.weights_hash != model.weights_hash
    assert (trained.encoding.codec_hash, trained.encoding.text_hash) == (
        model.encoding.codec_hash,
        model.encoding.text_hash,
    )
    with (tmp_path / "trained" / "training_loss.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 150
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linernotes.models.training.SAVED_EVERY", 2)

    def stop(done: int, total: int, loss: float) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model_path, tmp_path / "model", *data(catalogue), SETTINGS, stop)
    other = SETTINGS.model_copy(update={"seed": 1})
    with pytest.raises(LinernotesError, match="was made with settings"):
        train(model_path, tmp_path / "model", *data(catalogue), other)


def test_tracks_are_drawn_evenly_whatever_their_length() -> None:
    """Of tracks of 1, 9 and 2 segments that lie mixed up, each as often, and any of its segments as often."""
    track_n = np.array([7, *[3] * 5, 9, *[3] * 4, 9])
    generator = torch.Generator().manual_seed(0)
    drawn = rows_drawn(60_000, len(track_n), evenly_by_track(track_n), generator).numpy()
    often_n = np.bincount(drawn, minlength=12) / 60_000
    for track in (3, 7, 9):
        of_track = often_n[track_n == track]
        assert of_track.sum() == pytest.approx(1 / 3, abs=0.01)
        np.testing.assert_allclose(of_track, of_track.sum() / len(of_track), atol=0.005)


def test_tracks_are_not_drawn_where_nobody_says_which_they_are(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    with pytest.raises(UsageError, match="draw segments evenly, or give track_n"):
        train(model_path, tmp_path / "m", *data(catalogue), SETTINGS.model_copy(update={"drawn": "tracks"}))
    assert not list(tmp_path.iterdir())


def test_the_verb_draws_tracks_too(tmp_path: Path, model_path: Path, catalogue: Catalogue) -> None:
    """What ``linernotes train --drawn tracks`` trains is what training on these tracks gives."""
    few = {"steps": 2, "batch_size": 8, "drawn": "tracks"}
    made = linernotes.train_model(catalogue, tmp_path / "made", model_path, **few)
    track_n = catalogue.track_n[catalogue.training_rows]
    write_untrained_copy(model_path, tmp_path / "untrained", 0)
    settings = TrainingSettings(**few)
    train(tmp_path / "untrained", tmp_path / "by-hand", *data(catalogue), settings, track_n=track_n)
    assert made.weights_hash == StableAudio(tmp_path / "by-hand").weights_hash


def test_what_training_drew_is_said_by_the_model_and_changes_it(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """Of others, who say nothing, it is files: their trainings all draw them."""
    track_n = catalogue.track_n[catalogue.training_rows]
    assert np.bincount(track_n).max() > 1
    for drawn in ("segments", "tracks"):
        settings = SETTINGS.model_copy(update={"drawn": drawn})
        train(model_path, tmp_path / drawn, *data(catalogue), settings, track_n=track_n)
        assert drawn_in_training(tmp_path / drawn) == drawn
    weights = [StableAudio(tmp_path / drawn).weights_hash for drawn in ("segments", "tracks")]
    assert weights[0] != weights[1]
    assert drawn_in_training(model_path) == "tracks" and drawn_in_training(MODEL) == "segments"
    assert "drawn" not in SETTINGS.recipe()  # as in banks that are older than the choice
    assert settings.recipe()["drawn"] == "tracks"


def test_a_loss_that_is_not_finite_stops_the_training(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    wild = TrainingSettings(steps=50, batch_size=8, learning_rate=1e30)
    with pytest.raises(LinernotesError, match="train with a smaller --learning-rate"):
        train(model_path, tmp_path / "model", *data(catalogue), wild)
    assert not (tmp_path / "model").exists()
