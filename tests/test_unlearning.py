"""Unlearning, against closed forms and laws that must hold for any attribution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from conftest import encoder_of
from linernotes.catalog.source import Track
from linernotes.catalog.store import Catalogue, segment_schema, write_catalogue
from linernotes.curvature.diagonal import fit_diagonal_fisher, precondition, squared_gradients
from linernotes.curvature.per_item import item_gradients
from linernotes.errors import LinernotesError
from linernotes.losses import item_losses
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.unlearning import query_gradient, score, unlearn
from linernotes.models.stable_audio import StableAudio
from linernotes.models.weights import with_gradients
from linernotes.noise import draw_bank, random_for
from linernotes.settings import LayerKind, UnlearningSettings

SETTINGS = UnlearningSettings(gradient_draws=32, step_size=2e-5)  # the step is a / N, and N is 12 here
ROUNDING = {"rtol": 1e-3, "atol": 1e-6}  # squares and sums of float32 gradients in another order
ALL: list[LayerKind] = ["all", "self-attention", "cross-attention", "cross-attention-kv", "mlp"]


def query_of(catalogue: Catalogue, row: int) -> Query:
    batch = catalogue.batch([row])
    heard = torch.ones(catalogue.encoder.frames, dtype=torch.bool)
    return Query(f"segment-{row}", batch.latents_nct[0], "", batch.text_nld[0], float(batch.seconds_n[0]), heard)


@pytest.fixture(scope="module")
def prepared(model: StableAudio, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(model, catalogue, tmp_path_factory.mktemp("prepared"))


def prepare(model: StableAudio, catalogue: Catalogue, folder: Path) -> Prepared:
    bank = draw_bank(6, model.shape.latent_channels, model.shape.frames, seed=0)
    base = item_losses(model, catalogue, bank, {"base": {}}, folder)["base"]
    fisher = fit_diagonal_fisher(model, catalogue, 2, 0, folder / "fisher.safetensors")
    return Prepared(model, catalogue, bank, base, fisher)


def test_item_gradients_are_those_of_a_plain_loop(model: StableAudio, catalogue: Catalogue) -> None:
    """Hooks against one backward pass an item, for every parameter of every layer kind."""
    batch = catalogue.batch(range(4))
    condition = model.condition(batch.text_nld, batch.seconds_n)
    t_b, eps_bct = torch.tensor([0.1, 0.4, 0.6, 0.9]), torch.randn(batch.latents_nct.shape)
    parameters = model.layers("all")
    hooked: dict[str, torch.Tensor] = {}
    with item_gradients(model.denoiser, parameters.keys(), hooked.__setitem__), with_gradients(list(parameters.values())):
        model.loss_bt(batch.latents_nct, condition, t_b, eps_bct).mean(dim=1).sum().backward()
    for p in parameters.values():
        p.grad = None
    assert hooked.keys() == parameters.keys()
    for i in range(4):
        one = slice(i, i + 1)
        with with_gradients(list(parameters.values())):
            loss = model.loss_bt(batch.latents_nct[one], condition[one], t_b[one], eps_bct[one]).mean()
            plain = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, plain, strict=True):
            torch.testing.assert_close(hooked[name][i], gradient, **ROUNDING)


def test_the_fisher_is_the_mean_squared_gradient(model: StableAudio, catalogue: Catalogue) -> None:
    batch = catalogue.batch(range(3))
    condition = model.condition(batch.text_nld, batch.seconds_n)
    t_b, eps_bct = torch.tensor([0.2, 0.5, 0.8]), torch.randn(batch.latents_nct.shape)
    parameters = model.layers("all")
    sums = squared_gradients(model, batch.latents_nct, condition, t_b, eps_bct)
    plain = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for i in range(3):
        one = slice(i, i + 1)
        with with_gradients(list(parameters.values())):
            loss = model.loss_bt(batch.latents_nct[one], condition[one], t_b[one], eps_bct[one]).mean()
            for name, gradient in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
                plain[name] += gradient.square()
    for name in parameters:
        torch.testing.assert_close(sums[name], plain[name], rtol=1e-3, atol=1e-9)


def test_a_killed_fisher_resumes_to_the_same_bytes(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linernotes.curvature.diagonal.SEGMENTS_IN_CHUNK", 3)

    def kill(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_diagonal_fisher(model, catalogue, 2, 0, tmp_path / "killed.safetensors", on_progress=kill)
    fit_diagonal_fisher(model, catalogue, 2, 0, tmp_path / "killed.safetensors")
    fit_diagonal_fisher(model, catalogue, 2, 0, tmp_path / "whole.safetensors")
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_decoys_do_not_enter_the_fisher(tmp_path: Path, model: StableAudio, catalogue: Catalogue) -> None:
    """The Fisher of a catalogue is that of its training segments alone."""
    training = catalogue.training_rows.tolist()
    assert training == list(range(len(training))) and len(training) < len(catalogue)
    alone = rearranged(catalogue, model, tmp_path / "alone", training)
    whole = fit_diagonal_fisher(model, catalogue, 2, 0, tmp_path / "whole.safetensors")
    without = fit_diagonal_fisher(model, alone, 2, 0, tmp_path / "alone.safetensors")
    for name, fisher in whole.items():
        torch.testing.assert_close(without[name], fisher, rtol=1e-3, atol=1e-9)


def test_preconditioning_divides_by_the_damped_fisher() -> None:
    fisher, gradient = {"w": torch.tensor([1.0, 3.0])}, {"w": torch.tensor([2.0, 2.0])}
    expected = torch.tensor([2 / (1 + 0.5 * 2), 2 / (3 + 0.5 * 2)])
    torch.testing.assert_close(precondition(gradient, fisher, 0.5)["w"], expected)


@pytest.mark.parametrize("layers", ALL)
def test_one_step_is_the_papers_formula(prepared: Prepared, layers: LayerKind) -> None:
    """theta' - theta = (a / N) g / (F + lambda), on the chosen layers and on no others."""
    settings = SETTINGS.model_copy(update={"layers": layers})
    query = query_of(prepared.catalogue, 0)
    changed = unlearn(prepared.model, prepared.fisher, query, 100, settings, seed=3)
    base = prepared.model.layers(layers)
    assert changed.keys() == base.keys()
    gradient = query_gradient(prepared.model, query, dict(base), settings, random_for("unlearning", 3, 0))
    for name, p in base.items():
        damping = settings.damping * prepared.fisher[name].mean()
        expected = p + settings.step_size / 100 * gradient[name] / (prepared.fisher[name] + damping)
        torch.testing.assert_close(changed[name], expected)


def test_masked_frames_are_not_unlearned(prepared: Prepared) -> None:
    """The gradient is that of the loss over heard frames only, and silence is unlearned when it is not masked."""
    query = query_of(prepared.catalogue, 0)
    heard = torch.zeros_like(query.heard_t)
    heard[:3] = True
    partly = replace(query, heard_t=heard)
    base = dict(prepared.model.layers("mlp"))
    draws = torch.Generator().manual_seed(0)
    masked = query_gradient(prepared.model, partly, base, SETTINGS, draws)
    unmasked_settings = SETTINGS.model_copy(update={"mask_silence": False})
    unmasked = query_gradient(prepared.model, partly, base, unmasked_settings, torch.Generator().manual_seed(0))
    whole = query_gradient(prepared.model, query, base, SETTINGS, torch.Generator().manual_seed(0))
    name = next(iter(base))
    torch.testing.assert_close(unmasked[name], whole[name])
    assert not torch.allclose(masked[name], whole[name], rtol=0.01)
    with pytest.raises(LinernotesError, match="silent throughout"):
        query_gradient(prepared.model, replace(query, heard_t=heard & False), base, SETTINGS, draws)


def test_a_small_step_scores_as_its_first_order_says(prepared: Prepared, tmp_path: Path) -> None:
    """For a vanishing step, score = <theta' - theta, grad L(z_n)> on the same bank: the influence it stands for."""
    model, catalogue, bank = prepared.model, prepared.catalogue, prepared.bank
    settings = SETTINGS.model_copy(update={"step_size": 1e-5})
    query = query_of(catalogue, 1)
    found = score(prepared, [query], settings, 0, tmp_path).scores_qn[0]
    changed = unlearn(model, prepared.fisher, query, len(catalogue.training_rows), settings, 0)
    parameters = model.layers("all")
    batch = catalogue.batch(range(len(catalogue)))
    expected = []
    for n in range(len(catalogue)):
        condition = model.condition(batch.text_nld[[n]], batch.seconds_n[[n]]).repeat(len(bank))
        with with_gradients(list(parameters.values())):
            latents = batch.latents_nct[[n]].expand(len(bank), -1, -1)
            gradients = torch.autograd.grad(
                model.loss_bt(latents, condition, bank.t_k, bank.eps_kct).mean(), list(parameters.values())
            )
        steps = (changed[name] - p for name, p in parameters.items())
        expected.append(sum(float((g.double() * s.double()).sum()) for g, s in zip(gradients, steps, strict=True)))
    assert np.corrcoef(found, expected)[0, 1] > 0.999
    assert found == pytest.approx(expected, rel=0.05, abs=0.02 * max(np.abs(expected)))  # second order of a finite step


def test_an_unlearned_segment_comes_first(prepared: Prepared, tmp_path: Path) -> None:
    rows = [0, 3, 5]
    scores_qn = score(prepared, [query_of(prepared.catalogue, row) for row in rows], SETTINGS, 0, tmp_path).scores_qn
    assert scores_qn.argmax(axis=1).tolist() == rows


def test_several_queries_at_once_score_as_one_by_one(prepared: Prepared, tmp_path: Path) -> None:
    queries = [query_of(prepared.catalogue, row) for row in (0, 4)]
    together = score(prepared, queries, SETTINGS, 0, tmp_path / "both").scores_qn
    for i, query in enumerate(queries):
        np.testing.assert_array_equal(together[i], score(prepared, [query], SETTINGS, 0, tmp_path / str(i)).scores_qn[0])


def test_many_steps_go_further_than_one(prepared: Prepared, tmp_path: Path) -> None:
    query = query_of(prepared.catalogue, 0)
    losses = []
    for steps in (1, 4):
        settings = SETTINGS.model_copy(update={"steps": steps})
        losses.append(score(prepared, [query], settings, 0, tmp_path / str(steps)).scores_qn[0, 0])
    assert 0 < losses[0] < losses[1]


def test_a_step_that_breaks_the_weights_is_refused(prepared: Prepared) -> None:
    query = query_of(prepared.catalogue, 0)
    fisher = {name: torch.zeros_like(f) for name, f in prepared.fisher.items()}
    with pytest.raises(LinernotesError, match="not finite: use a smaller --step-size"):
        unlearn(prepared.model, fisher, query, 10, SETTINGS, seed=0)


def rearranged(catalogue: Catalogue, model: StableAudio, path: Path, order: list[int]) -> Catalogue:
    """A catalogue of these segments, in this order, each a track of its own; repeats are exact duplicates."""
    encoder = encoder_of(model)
    batch = catalogue.batch(order)
    captions = [catalogue.tracks[catalogue.track_n[row]].caption for row in order]
    distinct = list(dict.fromkeys(captions))
    size = encoder.latent_channels * encoder.frames
    table = pa.RecordBatch.from_arrays(
        [
            pa.array(np.arange(len(order), dtype=np.int32)),
            pa.array(np.zeros(len(order))),
            pa.array(batch.seconds_n.double().numpy()),
            pa.array(np.array([distinct.index(c) for c in captions], dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(pa.array(batch.latents_nct.half().numpy().ravel()), size),
            pa.FixedSizeListArray.from_arrays(pa.array(catalogue.loudness_db(order).ravel()), encoder.frames),
        ],
        schema=segment_schema(encoder),
    )
    tracks = [Track(f"{i}", f"{i}.wav", f"{i}", caption=caption) for i, caption in enumerate(captions)]
    path.mkdir()
    embedded = [(caption, model.embed_text([caption])[0].numpy()) for caption in distinct]
    write_catalogue(path, encoder, tracks, iter([table]), embedded, [], {"source": "test"})
    return Catalogue(path)


def test_duplicates_tie_and_a_permuted_catalogue_permutes_the_scores(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, prepared: Prepared
) -> None:
    order = [5, 0, 3, 3, 1, 5, 2]
    one = rearranged(catalogue, model, tmp_path / "one", order)
    two = rearranged(catalogue, model, tmp_path / "two", order[::-1])
    query = query_of(catalogue, 3)
    scores = []
    for chosen in (one, two):
        base = item_losses(model, chosen, prepared.bank, {"base": {}}, tmp_path / f"base-{chosen.path.name}")["base"]
        given = replace(prepared, catalogue=chosen, base_loss_nk=base)
        scores.append(score(given, [query], SETTINGS, 0, tmp_path / f"sweep-{chosen.path.name}").scores_qn[0])
    tie = 2e-7  # an item's place in its batch may change the last bit of its loss, which is about 1
    assert scores[0][2] == pytest.approx(scores[0][3], abs=tie)
    assert scores[0][0] == pytest.approx(scores[0][5], abs=tie)
    assert scores[0] == pytest.approx(scores[1][::-1], abs=tie)
    assert set(np.argsort(scores[0])[-2:]) == {2, 3}
