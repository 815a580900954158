"""The sweep: however it is cut, stopped or shared, the item losses are the same."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from conftest import draws_of
from linernotes.catalog.store import Catalogue
from linernotes.draws import Batch, Draws
from linernotes.errors import LinernotesError
from linernotes.losses import frame_losses, item_losses
from linernotes.models.stable_audio import StableAudio, project
from linernotes.models.weights import using_weights
from linernotes.models.workers import twin

ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # float32, sums in another order


@pytest.fixture(scope="module")
def bank(model: StableAudio) -> Draws:
    return draws_of(model, 5, seed=1)


@pytest.fixture(scope="module")
def other_weights(model: StableAudio) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: p + 0.01 * torch.randn(p.shape, generator=generator) for name, p in model.layers("mlp").items()
    }


@pytest.mark.parametrize("placed", [True, False])
def test_losses_are_those_of_a_plain_loop(
    tmp_path: Path,
    model: StableAudio,
    catalogue: Catalogue,
    bank: Draws,
    placed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that stable-audio-tools trained was told where in its recording a segment begins and how long
    that is, in whole seconds; one that was trained here takes every segment for a clip.
    """
    assert model.placed and catalogue.start_s_n.max() > 0
    monkeypatch.setattr(model, "placed", placed)
    loss_nk = item_losses(model, catalogue, bank, {"base": {}}, tmp_path)["base"]
    batch = catalogue.batch(range(len(catalogue)))
    ends = [
        max(catalogue.start_s_n[catalogue.track_n == track] + catalogue.seconds_n[catalogue.track_n == track])
        for track in catalogue.track_n
    ]
    with torch.inference_mode():
        for n in range(len(catalogue)):
            start, end = math.floor(catalogue.start_s_n[n]), math.ceil(ends[n])
            told = project(
                model.projection,
                batch.text_nld[n : n + 1],
                torch.tensor([float(start) if placed else 0.0]),
                torch.tensor([float(end)]) if placed else batch.seconds_n[n : n + 1],
            )
            item = Batch({"latents": batch.latents_nct[n : n + 1], **told})
            for k in range(len(bank)):
                loss = model.loss_bt(item, bank[k : k + 1])
                torch.testing.assert_close(loss.mean(), loss_nk[n, k], **ROUNDING)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_matter(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, bank: Draws, batch_size: int
) -> None:
    one = item_losses(model, catalogue, bank, {"base": {}}, tmp_path / "a", batch_size=batch_size)["base"]
    two = item_losses(model, catalogue, bank, {"base": {}}, tmp_path / "b")["base"]
    torch.testing.assert_close(one, two, **ROUNDING)


def test_several_weight_sets_at_once_are_as_one_by_one(
    tmp_path: Path,
    model: StableAudio,
    catalogue: Catalogue,
    bank: Draws,
    other_weights: dict[str, torch.Tensor],
) -> None:
    sets = {"base": {}, "other": other_weights}
    together = item_losses(model, catalogue, bank, sets, tmp_path / "both")
    for name, changed in sets.items():
        alone = item_losses(model, catalogue, bank, {name: changed}, tmp_path / name)[name]
        assert torch.equal(together[name], alone)
    assert not torch.equal(together["base"], together["other"])


def test_frame_losses_average_to_item_losses(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, bank: Draws
) -> None:
    loss_nk = item_losses(model, catalogue, bank, {"base": {}}, tmp_path)["base"]
    loss_nkt = frame_losses(model, catalogue, bank, {"base": {}}, [2, 0])["base"]
    torch.testing.assert_close(loss_nkt.mean(dim=2), loss_nk[[2, 0]], **ROUNDING)


def test_changed_weights_are_put_back(model: StableAudio, other_weights: dict[str, torch.Tensor]) -> None:
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    with pytest.raises(RuntimeError, match="on purpose"), using_weights(model.network, other_weights):
        raise RuntimeError("on purpose")
    assert all(torch.equal(before[name], p) for name, p in model.network.named_parameters())


def test_rows_choose_and_order(tmp_path: Path, model: StableAudio, catalogue: Catalogue, bank: Draws) -> None:
    whole = item_losses(model, catalogue, bank, {"base": {}}, tmp_path / "all")["base"]
    some = item_losses(
        model, catalogue, bank, {"base": {}}, tmp_path / "some", rows=torch.tensor([4, 1]).numpy()
    )["base"]
    torch.testing.assert_close(some, whole[[4, 1]], **ROUNDING)


def test_losses_that_are_not_finite_are_refused(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, bank: Draws
) -> None:
    broken = {name: p * float("inf") for name, p in model.layers("mlp").items()}
    with pytest.raises(LinernotesError, match="no longer finite"):
        item_losses(model, catalogue, bank, {"broken": broken}, tmp_path)


def test_a_finished_sweep_of_something_else_is_refused(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, bank: Draws
) -> None:
    item_losses(model, catalogue, bank, {"base": {}}, tmp_path)
    other = draws_of(model, 5, seed=2)
    with pytest.raises(LinernotesError, match="was made with noise"):
        item_losses(model, catalogue, other, {"base": {}}, tmp_path)


def test_a_sweep_killed_with_signal_9_ends_in_the_same_bytes(
    tmp_path: Path, model_path: Path, model: StableAudio, catalogue: Catalogue, bank: Draws
) -> None:
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import linernotes.losses as losses
        from linernotes.catalog.store import Catalogue
        from linernotes.models.stable_audio import StableAudio
        from linernotes.draws import random_for
        losses.SEGMENTS_IN_CHUNK = 4
        model, catalogue = StableAudio(Path(sys.argv[1])), Catalogue(Path(sys.argv[2]))
        folder, kill = Path(sys.argv[3]), sys.argv[4]
        bank = model.draw(5, random_for("noise bank", 1))
        def on_progress(done, total):
            if kill == "kill" and done > 30: os.kill(os.getpid(), signal.SIGKILL)
        losses.item_losses(
            model, catalogue, bank, {"base": {}}, folder, batch_size=5, on_progress=on_progress
        )
        """
    )

    def run(folder: Path, kill: str) -> int:
        arguments = [sys.executable, "-c", program, str(model_path), str(catalogue.path), str(folder), kill]
        return subprocess.run(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode

    assert run(tmp_path / "killed", "kill") == -signal.SIGKILL
    assert any((tmp_path / "killed").glob("losses-*"))
    assert run(tmp_path / "killed", "go on") == 0
    assert run(tmp_path / "whole", "go on") == 0
    name = "losses.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert [p.name for p in (tmp_path / "killed").iterdir()] == [name]


def test_the_number_of_cores_does_not_matter(
    tmp_path: Path,
    model: StableAudio,
    catalogue: Catalogue,
    bank: Draws,
    other_weights: dict[str, torch.Tensor],
) -> None:
    """Workers run on twins of the model: each under its own weights, and the model itself keeps its own."""
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    sets, own = {"base": {}, "other": other_weights}, torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        many = item_losses(model, catalogue, bank, sets, tmp_path / "many", batch_size=4)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        one = item_losses(model, catalogue, bank, sets, tmp_path / "one", batch_size=4)
    finally:
        torch.set_num_threads(own)
    for name in sets:
        torch.testing.assert_close(many[name], one[name], **ROUNDING)
    assert all(torch.equal(before[name], p) for name, p in model.network.named_parameters())


def test_a_twin_shares_the_weights_memory(model: StableAudio, other_weights: dict[str, torch.Tensor]) -> None:
    other = twin(model)
    pairs = zip(model.network.parameters(), other.network.parameters(), strict=True)
    assert all(a is not b and a.data_ptr() == b.data_ptr() for a, b in pairs)
