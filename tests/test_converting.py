"""Checkpoints that are pickles: weights come out of them, and nothing in them is run. The families of models
are listed.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import linernotes
from linernotes.cli.app import app
from linernotes.errors import LinernotesError
from linernotes.models.families import LAYOUTS, list_models
from linernotes.models.opening import FAMILIES
from linernotes.models.stable_audio import StableAudio
from tools_folder import config, weights_of, write_diffusers_folder


class Bomb:
    """Unpickled, it would make a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.mkdir, (str(self.mark),))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    return write_diffusers_folder(tmp_path_factory.mktemp("models") / "original", model_path)


@pytest.fixture
def place(tmp_path: Path, original: Path) -> Path:
    """A folder where training left what belongs to a checkpoint."""
    place = tmp_path / "run"
    place.mkdir()
    (place / "model_config.json").write_text(json.dumps(config()))
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(original / part, place / part)
    return place


def test_a_config_beside_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    words = ["convert", str(tmp_path / "clips"), "-o", str(tmp_path / "out"), "--config", "nowhere.json"]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 2 and "--config is of a checkpoint" in run.output


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_of_training_becomes_a_model(place: Path, original: Path, zipped: bool) -> None:
    theirs = StableAudio(original)
    weights = weights_of(theirs)
    averaged = {n.removeprefix("model."): t for n, t in weights.items() if n.startswith("model.")}
    stored = {f"diffusion.{n}": torch.zeros_like(t) if n[6:] in averaged else t for n, t in weights.items()}
    stored |= {f"diffusion_ema.ema_model.{name}": tensor for name, tensor in averaged.items()}
    stored["diffusion_ema.step"] = torch.tensor(3)
    held = {"state_dict": stored, "optimizer_states": [{"state": {0: torch.ones(3)}}], "epoch": 2}
    torch.save(held, place / "last.ckpt", _use_new_zipfile_serialization=zipped)
    run = CliRunner().invoke(app, ["convert", str(place / "last.ckpt"), "-o", str(place / "out"), "--json"])
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert (said["averaged"], said["left_out"]) == (True, ["epoch", "optimizer_states"])
    opened = StableAudio(place / "out")
    for name, parameter in theirs.network.named_parameters():
        assert torch.equal(parameter, opened.network.get_parameter(name)), name
    with pytest.raises(LinernotesError, match="exists already"):
        linernotes.convert(place / "last.ckpt", place / "out")


def test_code_in_a_checkpoint_is_named_and_never_run(place: Path) -> None:
    mark = place / "exploded"
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": Bomb(mark)}, place / "zip.ckpt")
    (place / "plain.ckpt").write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    for name in ("zip.ckpt", "plain.ckpt"):
        with pytest.raises(LinernotesError, match=r"asks for posix\.mkdir to be run"):
            linernotes.convert(place / name, place / "out")
    assert not mark.exists()
    assert not list(place.glob("*out*"))


def test_what_is_no_checkpoint_is_one_sentence(place: Path) -> None:
    for name, held in (("noise.ckpt", None), ("list.ckpt", [1]), ("empty.ckpt", {"state_dict": {}})):
        if held is None:
            (place / name).write_bytes(b"no pickle at all")
        else:
            torch.save(held, place / name)
        with pytest.raises(LinernotesError, match=f"{name} is no checkpoint"):
            linernotes.convert(place / name, place / "out")
    (place / "model_config.json").unlink()
    with pytest.raises(LinernotesError, match=r"model_config\.json is missing.*--config"):
        linernotes.convert(place / "empty.ckpt", place / "out")


def test_every_family_is_listed_with_a_command_to_try() -> None:
    assert {layout.family for layout in LAYOUTS} == set(FAMILIES)
    run = CliRunner().invoke(app, ["models", "--json"])
    assert json.loads(run.stdout) == [vars(layout) for layout in list_models()]
    assert all(layout.example.startswith("linernotes ") for layout in LAYOUTS)
