"""How many passes go at once: what one holds, and what is done where memory does not hold the number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from conftest import draws_of, query_of
from linernotes.artefacts import write_json
from linernotes.attribution.fitness import FRAMES_AT_ONCE, clip_loss
from linernotes.attribution.prepare import prepare
from linernotes.catalog.store import Catalogue
from linernotes.draws import Batch
from linernotes.errors import LinernotesError
from linernotes.losses import items_of
from linernotes.methods.all import METHODS, score
from linernotes.methods.contract import Prepared
from linernotes.methods.room import FORWARD, in_room, passes_of
from linernotes.models.passes import SHARE, fitting, free_bytes, pass_bytes
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import METHOD_SETTINGS, AbuSettings, GradDotSettings, ReadoutSettings

# units of work that go forward alone, and that go backward, too
FORWARD_UNITS = {"forward", "activation"}
NO_PASSES = {"sound", "clap", "gigaflop"}


@pytest.fixture
def prepared(tmp_path: Path, model: StableAudio, catalogue: Catalogue) -> Prepared:
    return prepare(model, catalogue, tmp_path)


class Chain:
    """Layers one after the other, each as wide as the next."""

    def __init__(self, layers: int, width: int) -> None:
        self.network = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))

    def loss_bt(self, items: Batch, _draws: Batch) -> Tensor:
        x_bf: Tensor = items.tensors["x"]
        for layer in self.network:
            x_bf = layer(x_bf)
        return x_bf.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("items", [1, 5])
def test_a_pass_holds_two_layers_outputs_at_a_time_and_all_of_them_for_gradients(items: int) -> None:
    model: Any = Chain(layers=6, width=64)
    batch = Batch({"x": torch.ones(items, 64)})
    output = items * 64 * 4
    assert pass_bytes(model, batch, batch, gradients=False) == 2 * output
    assert pass_bytes(model, batch, batch, gradients=True) == 6 * output + items * 4  # and the sum


def test_as_many_passes_hold_as_many_times_as_much(model: StableAudio, catalogue: Catalogue) -> None:
    item, draws = items_of(model, catalogue, [0]), draws_of(model, 8)
    for gradients in (False, True):
        one, eight = (pass_bytes(model, item.repeat(n), draws[:n], gradients) for n in (1, 8))
        assert eight == pytest.approx(8 * one, rel=0.02)
    assert pass_bytes(model, item, draws[:1], True) > 2 * pass_bytes(model, item, draws[:1], False)
    assert not any(p.requires_grad for p in model.network.parameters())


@given(*(st.integers(1, 10**6) for _ in range(2)), st.integers(0, 10**6), st.integers(1, 10**9))
def test_the_number_is_halved_until_it_fits(most: int, each: int, beside: int, free: int) -> None:
    number = fitting(most, each, beside, free)
    halvings = [most >> k for k in range(most.bit_length())]
    assert number in halvings
    assert number == 1 or number * each + beside <= SHARE * free
    larger = halvings[: halvings.index(number)]
    assert not larger or larger[-1] * each + beside > SHARE * free


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"clap"}))
def test_a_method_says_what_passes_it_makes(method: str, prepared: Prepared) -> None:
    settings = METHOD_SETTINGS[method]()
    work = METHODS[method].work(prepared, settings, query_of(prepared.catalogue, 0))
    units = {*work.once, *work.per_run, *work.per_query} - NO_PASSES
    passes = passes_of(settings)
    assert (passes is not None) == bool(units)
    if passes:
        assert passes.backward == bool(units - FORWARD_UNITS)


def test_fewer_passes_at_once_where_one_holds_much_and_the_same_scores(prepared: Prepared) -> None:
    queries, settings = [query_of(prepared.catalogue, 0)], AbuSettings(draws=4, gradient_draws=16)
    whole = score("abu", prepared, queries, settings, prepared.folder / "whole").scores_qn
    assert in_room(prepared, settings, passes_of(settings)) == settings
    free = free_bytes(torch.device("cpu"))
    for kind in ("forward", "backward"):
        write_json(prepared.folder / f"pass-{kind}.json", {"bytes": free // torch.get_num_threads() // 5})
    assert in_room(prepared, settings, passes_of(settings)).batch_size in (1, 2)
    parts = score("abu", prepared, queries, settings, prepared.folder / "parts").scores_qn
    assert parts == pytest.approx(whole, rel=1e-3, abs=1e-5 * abs(whole).max())


def test_what_has_no_room_is_refused_before_it_begins(prepared: Prepared) -> None:
    free = free_bytes(torch.device("cpu"))
    write_json(prepared.folder / "pass-forward.json", {"bytes": free // 8})
    write_json(prepared.folder / "pass-backward.json", {"bytes": 2 * free})
    in_room(prepared, ReadoutSettings(), FORWARD)
    with pytest.raises(LinernotesError, match=r"16 passes, which go together.* GB are free: .*fewer --draws"):
        in_room(prepared, ReadoutSettings(), passes_of(ReadoutSettings()))
    with pytest.raises(LinernotesError, match=r"^one pass of .* take .* GB of memory, and .* GB are free: "):
        score("abu", prepared, [query_of(prepared.catalogue, 0)], AbuSettings(), prepared.folder / "abu")
    with pytest.raises(LinernotesError, match="8 passes, which go together"):
        in_room(prepared, GradDotSettings(), passes_of(GradDotSettings()))


def test_a_clips_loss_is_the_same_in_parts(prepared: Prepared) -> None:
    model, query = prepared.model, query_of(prepared.catalogue, 0)
    draws = draws_of(model, FRAMES_AT_ONCE // model.encoding.frames + 3)
    with torch.inference_mode():
        whole = float(model.loss_bt(query.items(model, len(draws)), draws).double().mean())
    assert clip_loss(model, query, draws) == pytest.approx(whole, rel=1e-6)
