"""Unlearning, against closed forms and laws that must hold for any attribution."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from conftest import draws_of, query_of
from linernotes.artefacts import held
from linernotes.catalog.store import Catalogue, segment_schema, write_catalogue
from linernotes.catalog.track import Track
from linernotes.curvature.diagonal import fit_diagonal_fisher, precondition, squared_gradients
from linernotes.curvature.ekfac import fit_ekfac
from linernotes.curvature.per_item import item_loss_b, layer_gradients, observe_items
from linernotes.errors import LinernotesError
from linernotes.losses import items_of
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.fitted import fisher_of
from linernotes.methods.query_gradient import Gradient, query_gradient
from linernotes.methods.rescoring import rescore
from linernotes.methods.unlearning import queries_gradient, score_abu, take_steps
from linernotes.models.stable_audio import StableAudio
from linernotes.models.weights import with_gradients
from linernotes.settings.methods import AbuSettings

SETTINGS = AbuSettings(gradient_draws=32, step_size=2e-5, draws=6)  # the step is a / N, and N is 12 here
ROUNDING = {"rtol": 1e-3, "atol": 1e-6}  # squares and sums of float32 gradients in another order
ALL = ["all", "self-attention", "cross-attention", "cross-attention-kv", "mlp", "last-mlp", "output"]


@pytest.fixture(scope="module")
def prepared(model: StableAudio, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(model, catalogue, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def fisher(prepared: Prepared) -> Gradient:
    return fisher_of(prepared, SETTINGS.fisher_draws, SETTINGS.seed, SETTINGS.batch_size)


def unlearned(
    prepared: Prepared, fisher: Gradient, query: Query, n_training: int, settings: AbuSettings
) -> Gradient:
    """The steps that ``score_abu`` takes, with another N."""

    def step(gradient: Gradient) -> Gradient:
        return {
            n: settings.step_size / n_training * g
            for n, g in precondition(gradient, fisher, settings.damping).items()
        }

    return take_steps(prepared.model, [query], settings, settings.steps, step)


def test_item_gradients_are_those_of_a_plain_loop(model: StableAudio, catalogue: Catalogue) -> None:
    """Hooks against one backward pass an item, for every parameter of every layer kind."""
    items, draws = items_of(model, catalogue, range(4)), draws_of(model, 4)
    parameters = model.layers("all") | model.layers("output")
    hooked: dict[str, torch.Tensor] = {}
    paired: dict[str, torch.Tensor] = {}

    def see(prefix: str, layer: torch.nn.Module, given: torch.Tensor, gradient: torch.Tensor) -> None:
        hooked.update(layer_gradients(prefix, layer, given, gradient))
        paired.update(layer_gradients(prefix, layer, given, gradient, draws=2))

    observe_items(model, parameters.keys(), see, item_loss_b, items, draws)
    assert hooked.keys() == parameters.keys()
    for i in range(4):
        one = slice(i, i + 1)
        with with_gradients(list(parameters.values())):
            loss = model.loss_bt(items[one], draws[one]).mean()
            plain = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, plain, strict=True):
            torch.testing.assert_close(hooked[name][i], gradient, **ROUNDING)
    for name, gradient in paired.items():
        torch.testing.assert_close(gradient, hooked[name][0::2] + hooked[name][1::2], **ROUNDING)


def test_the_fisher_is_the_mean_squared_gradient(model: StableAudio, catalogue: Catalogue) -> None:
    items, draws = items_of(model, catalogue, range(3)), draws_of(model, 3)
    parameters = model.layers("all")
    sums = squared_gradients(model, items, draws)
    plain = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for i in range(3):
        one = slice(i, i + 1)
        with with_gradients(list(parameters.values())):
            loss = model.loss_bt(items[one], draws[one]).mean()
            for name, gradient in zip(
                parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True
            ):
                plain[name] += gradient.square()
    for name in parameters:
        torch.testing.assert_close(sums[name], plain[name], rtol=1e-3, atol=1e-9)


def test_a_killed_fisher_resumes_to_the_same_bytes(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linernotes.curvature.fitting.SEGMENTS_IN_CHUNK", 3)

    def kill(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_diagonal_fisher(model, catalogue, 2, 0, tmp_path / "killed.safetensors", on_progress=kill)
    fit_diagonal_fisher(model, catalogue, 2, 0, tmp_path / "killed.safetensors")
    fit_diagonal_fisher(model, catalogue, 2, 0, tmp_path / "whole.safetensors")
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["fisher", "ekfac"])
def test_two_that_fit_the_same_at_once_fit_it_once(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, kind: str
) -> None:
    """Two processes with one cache: one waits for the other, and nothing half-done stays behind."""
    path = tmp_path / f"{kind}.safetensors"

    def fit() -> Gradient:
        if kind == "fisher":
            return fit_diagonal_fisher(model, catalogue, 1, 0, path, batch_size=8)
        return fit_ekfac(model, catalogue, "output", "empirical", 1, 0, tmp_path, batch_size=8).value_oi

    with ThreadPoolExecutor(1) as other:
        with held(path, "computed"):
            waiting = other.submit(fit)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
            assert not path.exists()
        first = waiting.result(timeout=60)
    written = path.stat().st_mtime_ns
    again = fit()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert path.stat().st_mtime_ns == written
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_decoys_do_not_enter_the_fisher(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Fisher of a catalogue is that of its training segments alone."""
    monkeypatch.setattr(model, "placed", False)  # each of the others is a track of its own
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
def test_one_step_is_the_papers_formula(prepared: Prepared, fisher: Gradient, layers: str) -> None:
    """theta' - theta = (a / N) g / (F + lambda), on the chosen layers and on no others."""
    settings = SETTINGS.model_copy(update={"layers": layers})
    query = query_of(prepared.catalogue, 0)
    changed = unlearned(prepared, fisher, query, 100, settings)
    base = prepared.model.layers(layers)
    assert changed.keys() == base.keys()
    gradient = queries_gradient(prepared.model, [query], dict(base), settings)
    for name, p in base.items():
        damping = settings.damping * fisher[name].mean()
        expected = p + settings.step_size / 100 * gradient[name] / (fisher[name] + damping)
        torch.testing.assert_close(changed[name], expected)


def test_masked_frames_are_not_unlearned(prepared: Prepared) -> None:
    """The gradient is that of the loss over heard frames only, and silence is unlearned when it is not
    masked.
    """
    query = query_of(prepared.catalogue, 0)
    heard = torch.zeros_like(query.heard_t)
    heard[:3] = True
    partly = replace(query, heard_t=heard)
    base = dict(prepared.model.layers("mlp"))

    def gradient(of: Query, mask: bool) -> torch.Tensor:
        found = query_gradient(prepared.model, of, base, draws_of(prepared.model, 32), mask, 32)
        return found[next(iter(base))]

    torch.testing.assert_close(gradient(partly, mask=False), gradient(query, mask=True))
    assert not torch.allclose(gradient(partly, mask=True), gradient(query, mask=True), rtol=0.01)
    with pytest.raises(LinernotesError, match="silent throughout"):
        gradient(replace(query, heard_t=heard & False), mask=True)


def test_a_gradient_is_the_same_on_however_many_cores(prepared: Prepared) -> None:
    query, before = query_of(prepared.catalogue, 0), torch.get_num_threads()
    weights, found = dict(prepared.model.layers("all")), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(
                query_gradient(prepared.model, query, weights, draws_of(prepared.model, 24), False, 32)
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in weights)


def test_a_set_is_unlearned_by_the_mean_of_its_gradients(prepared: Prepared, tmp_path: Path) -> None:
    queries = [query_of(prepared.catalogue, row) for row in (0, 3)]
    base = dict(prepared.model.layers("all"))
    both = queries_gradient(prepared.model, queries, base, SETTINGS)
    one, two = (queries_gradient(prepared.model, [query], base, SETTINGS) for query in queries)
    for name in base:
        torch.testing.assert_close(both[name], (one[name] + two[name]) / 2, rtol=1e-4, atol=1e-7)
    small = SETTINGS.model_copy(update={"step_size": 1e-6})
    apart_qn = score_abu(prepared, queries, small, tmp_path / "apart").scores_qn
    as_one = small.model_copy(update={"together": True})
    (together_n,) = score_abu(prepared, queries, as_one, tmp_path / "together").scores_qn
    mean_n = apart_qn.mean(axis=0)  # to first order
    assert together_n == pytest.approx(mean_n, rel=0.05, abs=0.02 * max(np.abs(mean_n)))


def test_a_small_step_scores_as_its_first_order_says(
    prepared: Prepared, fisher: Gradient, tmp_path: Path
) -> None:
    """For a vanishing step, score = <theta' - theta, grad L(z_n)> on the same bank: the influence it stands
    for.
    """
    model, catalogue, bank = prepared.model, prepared.catalogue, prepared.draws(SETTINGS.draws, SETTINGS.seed)
    settings = SETTINGS.model_copy(update={"step_size": 1e-6})
    query = query_of(catalogue, 1)
    found = score_abu(prepared, [query], settings, tmp_path).scores_qn[0]
    changed = unlearned(prepared, fisher, query, prepared.n_training, settings)
    parameters = model.layers("all")
    expected = []
    for n in range(len(catalogue)):
        items = items_of(model, catalogue, [n]).repeat(len(bank))
        with with_gradients(list(parameters.values())):
            gradients = torch.autograd.grad(model.loss_bt(items, bank).mean(), list(parameters.values()))
        steps = (changed[name] - p for name, p in parameters.items())
        expected.append(
            sum(float((g.double() * s.double()).sum()) for g, s in zip(gradients, steps, strict=True))
        )
    assert np.corrcoef(found, expected)[0, 1] > 0.999
    # second order of a finite step
    assert found == pytest.approx(expected, rel=0.05, abs=0.02 * max(np.abs(expected)))


def test_unlearning_a_segment_hurts_it_more_than_another_one_of_its_size(
    prepared: Prepared, tmp_path: Path
) -> None:
    """Scores are to first order products of gradients, and for those Cauchy and Schwarz' inequality holds."""
    queries = [query_of(prepared.catalogue, row) for row in range(len(prepared.catalogue))]
    scores_nn = score_abu(prepared, queries, SETTINGS, tmp_path).scores_qn
    own_n = np.diag(scores_nn)
    assert (own_n > 0).all()
    assert (np.outer(own_n, own_n) >= scores_nn * scores_nn.T).all()


def test_several_queries_at_once_score_as_one_by_one(prepared: Prepared, tmp_path: Path) -> None:
    queries = [query_of(prepared.catalogue, row) for row in (0, 4)]
    together = score_abu(prepared, queries, SETTINGS, tmp_path / "both").scores_qn
    for i, query in enumerate(queries):
        np.testing.assert_array_equal(
            together[i], score_abu(prepared, [query], SETTINGS, tmp_path / str(i)).scores_qn[0]
        )


def test_many_steps_go_further_than_one(prepared: Prepared, tmp_path: Path) -> None:
    query = query_of(prepared.catalogue, 0)
    losses = []
    for steps in (1, 4):
        settings = SETTINGS.model_copy(update={"steps": steps})
        losses.append(score_abu(prepared, [query], settings, tmp_path / str(steps)).scores_qn[0, 0])
    assert 0 < losses[0] < losses[1]


def test_a_step_that_breaks_the_weights_is_refused(prepared: Prepared) -> None:
    query = query_of(prepared.catalogue, 0)
    nothing = {name: torch.zeros_like(p) for name, p in prepared.model.layers("all").items()}
    with pytest.raises(LinernotesError, match="not finite: use a smaller --step-size"):
        unlearned(prepared, nothing, query, 10, SETTINGS)


def rearranged(catalogue: Catalogue, model: StableAudio, path: Path, order: list[int]) -> Catalogue:
    """A catalogue of these segments, in this order, each a track of its own; repeats are exact duplicates."""
    encoding = model.encoding
    batch = catalogue.batch(order)
    captions = [catalogue.tracks[catalogue.track_n[row]].caption for row in order]
    distinct = list(dict.fromkeys(captions))
    size = encoding.latent_channels * encoding.frames
    table = pa.RecordBatch.from_arrays(
        [
            pa.array(np.arange(len(order), dtype=np.int32)),
            pa.array(np.zeros(len(order))),
            pa.array(batch.seconds_n.double().numpy()),
            pa.array(np.array([distinct.index(c) for c in captions], dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(pa.array(batch.latents_nct.half().numpy().ravel()), size),
            pa.FixedSizeListArray.from_arrays(
                pa.array(catalogue.loudness_db(order).ravel()), encoding.frames
            ),
        ],
        schema=segment_schema(encoding),
    )
    tracks = [Track(f"{i}", f"{i}.wav", f"{i}", caption=caption) for i, caption in enumerate(captions)]
    path.mkdir()
    embedded = [(caption, model.embed_text([caption])[0].numpy()) for caption in distinct]
    write_catalogue(path, encoding, tracks, iter([table]), embedded, [], {"source": "test"})
    return Catalogue(path)


def test_duplicates_tie_and_a_permuted_catalogue_permutes_the_scores(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, prepared: Prepared, fisher: Gradient
) -> None:
    order = [5, 0, 3, 3, 1, 5, 2]
    one = rearranged(catalogue, model, tmp_path / "one", order)
    two = rearranged(catalogue, model, tmp_path / "two", order[::-1])
    query = query_of(catalogue, 3)
    changed = unlearned(prepared, fisher, query, prepared.n_training, SETTINGS)
    bank = prepared.draws(SETTINGS.draws, SETTINGS.seed)
    scores = []
    for chosen in (one, two):
        given = replace(prepared, catalogue=chosen, folder=tmp_path / f"prepared-{chosen.path.name}")
        found = rescore(
            given,
            [query],
            lambda _some, _band: changed,
            SETTINGS,
            bank,
            tmp_path / f"sweep-{chosen.path.name}",
        )
        scores.append(found.scores_qn[0])
    tie = 2e-7  # an item's place in its batch may change the last bit of its loss, which is about 1
    assert scores[0][2] == pytest.approx(scores[0][3], abs=tie)
    assert scores[0][0] == pytest.approx(scores[0][5], abs=tie)
    assert scores[0] == pytest.approx(scores[1][::-1], abs=tie)
    assert scores[0][2] > 0  # the clip itself
