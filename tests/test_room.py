"""How many passes go at once: what one holds, and what is done where memory does not hold the number."""

from __future__ import annotations

import warnings
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
from linernotes.errors import LinernotesError, LinernotesWarning
from linernotes.evaluation.cost.planning import plan_methods
from linernotes.losses import items_of
from linernotes.methods.all import METHODS, score, with_room
from linernotes.methods.contract import FORWARD, Prepared
from linernotes.methods.readout import query_cells
from linernotes.methods.readout_cells import cell_bytes, cell_frames, may_be_kept
from linernotes.methods.room import in_room
from linernotes.models.passes import SHARE, Memory, bytes_held, fitting, memory_of
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import (
    METHOD_SETTINGS,
    AbuSettings,
    GradDotSettings,
    MucsSettings,
    ReadoutSettings,
    RepresenterSettings,
)

# what units of work are passes of which kind
KINDS = {"forward": {"forward"}, "hidden": {"activation"}}
NO_PASSES = {"sound", "clap", "gigaflop"}
# where all draws of a segment go together: draws by default over noise bands
TOGETHER = {"readout": 16, "activations": 4, "d-trak": 8, "trak": 8}
TOGETHER |= {"grad-dot": 8, "grad-cos": 8, "tracin": 8, "ekfac": 8, "representer": 8}


@pytest.fixture
def prepared(tmp_path: Path, model: StableAudio, catalogue: Catalogue) -> Prepared:
    return prepare(model, catalogue, tmp_path)


def say(prepared: Prepared, share: float, *kinds: str) -> None:
    """That a pass holds a share of this machine's memory, on one of its workers."""
    here = memory_of(torch.device("cpu")).total / torch.get_num_threads()
    for kind in kinds:
        write_json(prepared.folder / f"pass-{kind}.json", {"bytes": round(share * here)})


class Chain:
    """Layers one after the other, each as wide as the next."""

    def __init__(self, layers: int, width: int) -> None:
        self.network = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers))).requires_grad_(False)

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

    def held(*trained: str) -> int:
        return bytes_held(model, lambda worker: worker.loss_bt(batch, batch), trained)

    assert held() == 2 * output
    assert held(*dict(model.network.named_parameters())) == 6 * output + items * 4  # and the sum
    assert held("5.weight") == 2 * output + items * 4  # the last one alone


def test_as_many_passes_hold_as_many_times_as_much(model: StableAudio, catalogue: Catalogue) -> None:
    item, draws = items_of(model, catalogue, [0]), draws_of(model, 8)

    def held(passes: int, trained: dict[str, Any]) -> int:
        pairs = item.repeat(passes), draws[:passes]
        return bytes_held(model, lambda worker: worker.loss_bt(*pairs), trained)

    for kind in ("", "all"):
        trained: dict[str, Any] = dict(model.layers(kind)) if kind else {}
        assert held(8, trained) == pytest.approx(8 * held(1, trained), rel=0.02)
    assert held(1, {}) <= held(1, dict(model.layers("output"))) < held(1, dict(model.layers("all")))
    assert not any(p.requires_grad for p in model.network.parameters())


@given(*(st.integers(1, 10**6) for _ in range(2)), st.integers(0, 10**6), st.integers(1, 10**9))
def test_the_number_is_halved_until_it_fits(most: int, each: int, beside: int, room: int) -> None:
    number = fitting(most, each, beside, room)
    halvings = [most >> k for k in range(most.bit_length())]
    assert number in halvings
    assert number == 1 or number * each + beside <= SHARE * room
    larger = halvings[: halvings.index(number)]
    assert not larger or larger[-1] * each + beside > SHARE * room


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"clap"}))
def test_a_method_says_what_passes_it_makes(method: str, prepared: Prepared) -> None:
    settings = METHOD_SETTINGS[method]()
    work = METHODS[method].work(prepared, settings, query_of(prepared.catalogue, 0))
    units = {*work.once, *work.per_run, *work.per_query} - NO_PASSES
    passes = METHODS[method].passes(prepared, settings, 1)
    assert (passes is not None) == bool(units)
    if passes and method != "mucs":
        one_kind = KINDS.get(passes.kind, units)
        assert units == one_kind and (passes.kind == "backward") == bool(units - {"forward", "activation"})
        assert passes.together == TOGETHER.get(method, 1)
        of_weights = {"gradient", "square", "product", "output product"} & units
        assert passes.formed == bool(of_weights)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"clap"}))
def test_what_a_method_says_it_costs_once_is_what_it_does_once(method: str, prepared: Prepared) -> None:
    settings = METHOD_SETTINGS[method]()
    if method in ("timbre", "tonal"):
        assert settings.cost.startswith("N decodings; ")
        return
    once, _, _ = settings.cost.partition("; ")
    work = METHODS[method].work(prepared, settings, query_of(prepared.catalogue, 0))
    assert (once == "nothing") == (not work.once)
    backward = {"square", "covariance", "value", "projection", "single projection", "output projection"}
    assert ("gradients" in once) == bool(backward & work.once.keys())


def test_what_first_order_scores_and_noise_bands_take_together(prepared: Prepared) -> None:
    def together(method: str, settings: Any, queries: int = 1) -> int:
        passes = METHODS[method].passes(prepared, settings, queries)
        assert passes
        return passes.together

    assert together("abu", AbuSettings(score_by="first-order", draws=12)) == 12
    assert together("abu", AbuSettings(score_by="first-order", draws=12, noise_bands=4)) == 3
    assert together("grad-dot", GradDotSettings(draws=8, noise_bands=2)) == 4
    mucs = MucsSettings(gradient_draws=32, retain_batch=5)
    assert together("mucs", mucs, queries=3) == 32 + 5  # one clip after the other
    assert together("mucs", mucs.model_copy(update={"together": True}), queries=3) == 3 * 32 + 5


def test_fewer_passes_at_once_where_one_holds_much_and_the_same_scores(prepared: Prepared) -> None:
    queries, settings = [query_of(prepared.catalogue, 0)], AbuSettings(draws=4, gradient_draws=16)
    assert with_room("abu", prepared, settings, queries) == settings
    whole = score("abu", prepared, queries, settings, prepared.folder / "whole").scores_qn
    say(prepared, 0.11, "backward-all")
    assert with_room("abu", prepared, settings, queries).batch_size == 4
    parts = score("abu", prepared, queries, settings, prepared.folder / "parts").scores_qn
    assert parts == pytest.approx(whole, rel=1e-3, abs=1e-5 * abs(whole).max())


def test_a_run_that_is_taken_up_again_takes_the_same_number(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else has come to need memory: its results would have other last bits, and other names. Or it
    says that there is no room now."""
    settings, queries = ReadoutSettings(draws=8), [query_of(prepared.catalogue, 0)]
    total = memory_of(torch.device("cpu")).total
    say(prepared, 0.011, "forward")

    def of_free(free: int) -> int:
        monkeypatch.setattr("linernotes.methods.room.memory_of", lambda _device: Memory(total, free))
        return with_room("readout", prepared, settings, queries).batch_size

    assert of_free(total) == of_free(total // 2) == 32  # half of what is free would be 16
    with pytest.raises(LinernotesError, match=r"^32 passes of ") as refused:
        of_free(total // 5)
    assert "a smaller --batch-size" in str(refused.value)


def test_the_diagonal_fisher_counts_whichever_layers_are_unlearned_in(prepared: Prepared) -> None:
    for method, of_all in (("abu", True), ("abu-ekfac", False), ("forward-inf", False)):
        passes = METHODS[method].passes(prepared, METHOD_SETTINGS[method](layers="output"), 1)
        assert passes and passes.layers == ("all" if of_all else "output")


def test_what_has_no_room_is_refused_before_it_begins(prepared: Prepared) -> None:
    say(prepared, 0.08, "forward", "hidden")
    say(prepared, 2.0, "backward-all", "backward-mlp")
    in_room(prepared, ReadoutSettings(), FORWARD)
    readout, queries = ReadoutSettings(), [query_of(prepared.catalogue, 0)]
    with pytest.raises(
        LinernotesError, match=r"^16 passes, which go together.* GB are free: .* fewer --draws"
    ):
        with_room("readout", prepared, readout, queries)
    with pytest.raises(LinernotesError, match=r"^one pass of .* take .* GB of memory, and .* GB are free: "):
        score("abu", prepared, queries, AbuSettings(), prepared.folder / "abu")
    with pytest.raises(LinernotesError, match="8 passes, which go together"):
        with_room("grad-dot", prepared, GradDotSettings(), queries)
    with pytest.raises(LinernotesError, match="fewer --gradient-draws or a smaller --retain-batch"):
        with_room("mucs", prepared, MucsSettings(), queries)
    with_room("representer", prepared, RepresenterSettings(), queries)  # its passes go back one layer


def test_what_has_no_room_is_left_out_of_a_plan_of_several(prepared: Prepared) -> None:
    say(prepared, 2.0, "backward-all")
    both = {"latent": METHOD_SETTINGS["latent"](), "abu": AbuSettings()}
    with pytest.warns(LinernotesWarning, match="^abu is not planned: one pass of .* GB are free"):
        (found,) = plan_methods(both, lambda _name: prepared, 1)
    assert found.method == "latent"
    none = {"forward-inf": METHOD_SETTINGS["forward-inf"](), "abu": AbuSettings()}
    for without in ({"abu": AbuSettings()}, none):
        with (
            pytest.raises(LinernotesError, match=r"^one pass of"),
            warnings.catch_warnings(action="ignore", category=LinernotesWarning),
        ):
            plan_methods(without, lambda _name: prepared, 1)


def test_a_clips_loss_is_the_same_in_parts(prepared: Prepared) -> None:
    model, query = prepared.model, query_of(prepared.catalogue, 0)
    draws = draws_of(model, FRAMES_AT_ONCE // model.encoding.frames + 3)
    with torch.inference_mode():
        whole = float(model.loss_bt(query.items(model, len(draws)), draws).double().mean())
    assert clip_loss(model, query, draws) == pytest.approx(whole, rel=1e-6)


def test_cells_are_longer_where_they_would_be_too_much(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, query, bands = prepared.model, query_of(prepared.catalogue, 0), 2
    settings = ReadoutSettings(draws=4, gradient_draws=8, noise_bands=bands)
    short_ncf = query_cells(prepared, query, settings, (1, bands))
    one, cells = cell_bytes(model, bands), len(short_ncf)
    assert one == bands * short_ncf[0].numel() * 4
    assert cell_frames(model, bands) == model.encoding.frames // cells
    room = "linernotes.methods.readout_cells"
    monkeypatch.setattr(f"{room}.KEPT_BYTES", 3 * cells * one)
    assert [may_be_kept(model, bands, windows) for windows in (3, 4)] == [True, False]
    monkeypatch.setattr(f"{room}.CELLS_BYTES", cells // 2 * one)
    long_ncf = query_cells(prepared, query, settings, (1, bands))
    expected = short_ncf.unflatten(0, (cells // 2, 2)).sum(dim=1)
    torch.testing.assert_close(long_ncf, expected, rtol=1e-4, atol=1e-6)
