"""An index: vectors, recall, shortlists and their audit."""

from __future__ import annotations

import html
import json
import shutil
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import linernotes
from conftest import SEGMENT_SAMPLES, write_recordings
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import segment_query
from linernotes.attribution.result import FIRST_TRACKS, RECORD, Attribution
from linernotes.attribution.shortlisting import _chosen, _Tracks
from linernotes.attribution.tables import SCORES, read_scores_of, read_table, read_weights
from linernotes.attribution.verdict import whole
from linernotes.catalog.gathering import Gatherer, gather_tracks, stray_of, weigh_tracks
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.curvature.packed import load_packed, save_packed
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.cost.scale import part_of
from linernotes.index.recall import FIRST, Audited, Recall, audit, measure_recall
from linernotes.index.search import look_up
from linernotes.index.space import principal_directions
from linernotes.index.store import Index
from linernotes.index.vectors import Vectors, in_bytes, resemblance
from linernotes.methods.all import METHODS, score
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.readout import curvature_name, fit_curvature
from linernotes.methods.readout_moments import query_moments, sweep_moments, whitener
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import AbuSettings, ReadoutSettings
from linernotes.settings.verbs import IndexSettings

TRACKS, EACH = 120, 2
FEW = {"draws": 8, "gradient_draws": 16}
# of a length of its own: what a list must have by itself is for the model to say, and may be nearly all
LISTED: dict[str, Any] = {**FEW, "shortlist": 30, "audit": 50}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, model: StableAudio) -> Catalogue:
    folder = tmp_path_factory.mktemp("many")
    write_recordings(folder / "sounds", [SEGMENT_SAMPLES * EACH] * TRACKS, decoys=6)
    return build_catalogue(read_source(folder / "sounds"), folder / "many", model)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, model_path: Path, many: Catalogue) -> Index:
    out = tmp_path_factory.mktemp("index") / "many.index"
    return linernotes.build_index(out, model_path, many.path, queries=3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    return linernotes.generate("tone 1", tmp_path_factory.mktemp("clips") / "clip.flac", model_path, seed=1)


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, clip: Path, model_path: Path, many: Catalogue, built: Index
) -> dict[str, Path]:
    """The same clip attributed by a shortlist and exhaustively."""
    folder = tmp_path_factory.mktemp("both")
    linernotes.attribute(clip, folder / "listed", model_path, many.path, index=built.path, **LISTED)
    linernotes.attribute(clip, folder / "all", model_path, many.path, **FEW)
    return {name: folder / name for name in ("listed", "all")}


def test_a_score_is_an_inner_product_of_moments_to_first_order(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    prepared = prepare(model, catalogue, tmp_path)
    settings = ReadoutSettings(draws=8, gradient_draws=16, step_size=1e-5)
    draws, rows = prepared.draws(8, 0), np.arange(len(catalogue))
    white_bff = whitener(fit_curvature(prepared, draws, settings.noise_bands, 32), settings.damping)
    queries = [segment_query(catalogue, row) for row in (0, 5)]
    nothing = torch.zeros(0, 1, 1, 1)
    y_nd = sweep_moments(prepared, draws, settings, white_bff, nothing, rows, tmp_path / "y")["y_nd"].double()
    y_qd = query_moments(prepared, queries, white_bff, settings).double()
    scores_qn = score("readout", prepared, queries, settings, tmp_path / "scores").scores_qn
    per_product = 2 * settings.step_size / prepared.n_training / catalogue.encoding.latent_channels
    per_product /= settings.noise_bands
    expected = (y_qd @ y_nd.T * per_product).numpy()
    assert np.abs(expected - scores_qn).max() < 2e-3 * np.abs(scores_qn).max()


def test_all_directions_keep_all_inner_products() -> None:
    rows = torch.randn(12, 70_000, generator=torch.Generator().manual_seed(0))
    basis = principal_directions(rows, 12).float()
    assert torch.allclose(basis @ basis.T, torch.eye(12), atol=2e-3)
    inside = rows @ basis.T
    assert torch.allclose(inside @ inside.T, rows @ rows.T, rtol=5e-3, atol=50)
    long = rows * torch.tensor([100.0] + [1.0] * 11)[:, None]  # the longest row is the first direction
    first = principal_directions(long, 1).float()[0]
    assert abs(float(first @ (long[0] / long[0].norm()))) > 0.999


def test_bytes_keep_directions() -> None:
    x = torch.randn(50, 1024, generator=torch.Generator().manual_seed(1))
    cosines = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    nothing = np.zeros((50, 0), np.int8)
    vectors = Vectors(nothing, in_bytes(x), np.ones(50, np.float32))
    assert np.abs(resemblance(vectors, vectors, at_once=7) - cosines.numpy()).max() < 2e-3
    assert np.isfinite(
        resemblance(replace_latents(vectors, np.zeros_like(vectors.latents_np)), vectors)
    ).all()


def replace_latents(vectors: Vectors, latents: np.ndarray) -> Vectors:
    return replace(vectors, latents_np=latents)


def test_recall_of_what_is_known() -> None:
    exact = np.random.default_rng(0).standard_normal((4, 300)) * 0.01
    exact[:, :FIRST] += np.arange(FIRST, 0, -1)
    perfect = recall_of(exact / 3 - 5, exact)
    assert perfect.of(FIRST) == (1.0, 1.0, 1.0) and perfect.of(0)[0] == 0.0
    assert perfect.of(10)[0] == 0.5 and perfect.of_score(10)[0] > 0.7
    assert perfect.size_for() == 19 and perfect.of_chosen()[0] == 0.95
    said = exact.copy()
    said[:, 3:5] = -9.0  # two of the first are taken for the last
    assert recall_of(said, exact).size_for() >= 299
    own = exact.copy()
    own[2, 0] = -np.inf  # what a clip must not find is not asked for
    assert 0 not in np.argsort(-own[2])[:FIRST]
    assert recall_of(exact, own).of(FIRST)[0] == 1.0


def test_a_shortlist_holds_enough_of_the_summed_score_too() -> None:
    """One of twenty is missed: enough of them where all weigh alike, not where it weighs as much as all."""
    exact = np.full((1, 300), -1.0)
    exact[0, :FIRST] = 1 + 1e-6 * np.arange(FIRST, 0, -1)
    said = exact.copy()
    said[0, 3] = -9.0
    exact[0, 3] = 0.5
    assert recall_of(said, exact).size_for() == 19
    exact[0, 3] = 19.0
    assert recall_of(said, exact).size_for() == 300
    odd = np.full((1, 300), -1.0)  # a clip whose first come to next to nothing
    odd[0, :FIRST] = [1.0] * 10 + [-0.999] * 10
    both = recall_of(np.concatenate([said, odd]), np.concatenate([exact, odd]))
    assert both.size_for() == 300 and both.of_score(19)[0] == pytest.approx((0.5 + 1.0) / 2, abs=1e-3)


def test_a_catalogue_of_few_tracks_has_as_many_first() -> None:
    """Clips that are a catalogue's own segments must not find their own track."""
    exact = np.random.default_rng(3).standard_normal((3, 12))
    exact[np.arange(3), np.arange(3)] = -np.inf
    found = recall_of(exact, exact)
    assert np.array(found.places).shape == (3, 11) and np.isfinite(found.scores).all()
    assert found.of(11) == (1.0, 1.0, 1.0) and found.of_score(11)[0] == pytest.approx(1.0)
    with pytest.raises(LinernotesError, match="own track is the only one that was trained on: add tracks"):
        recall_of(exact[:1, :1], exact[:1, :1])


def recall_of(said: np.ndarray, exact: np.ndarray, track_n: np.ndarray | None = None) -> Recall:
    track_n = np.arange(said.shape[1]) if track_n is None else track_n
    return measure_recall(said, exact, track_n, "clips", "readout", {"draws": 16})


def test_recall_is_of_whole_tracks() -> None:
    """A track stands where its segments together put it, whatever the highest of them."""
    draw = np.random.default_rng(4)
    track_n = draw.permutation(np.repeat(np.arange(60), 3))
    exact = draw.standard_normal((3, 180))
    said = exact + draw.standard_normal((3, 180))
    found = recall_of(said, exact, track_n)
    gather = Gatherer("norm", track_n, 60, np.ones(180, dtype=bool), np.ones(180))
    said_t = [gather_tracks(values, track_n, 60, "norm") for values in said]
    by_track = np.stack([*said_t, *(gather.of(values) for values in exact)])
    order = np.argsort(-by_track[:3], axis=1)
    for q in range(3):
        first = np.argsort(-by_track[3 + q])[:FIRST]
        assert found.places[q] == [int(np.flatnonzero(order[q] == t)[0]) for t in first]
    assert (found.tracks, found.segments) == (60, 180)


def test_a_length_is_chosen_on_other_clips_than_its_recall_is_stated_of() -> None:
    """One clip in five has its first tracks far behind: on the five of them a length holds 95 %, on the one
    that the four others did not know of it holds what is left.
    """
    places = [list(range(FIRST))] * 4 + [list(range(100, 100 + FIRST))]
    alike = {"places": places, "scores": np.ones((5, FIRST)).tolist()}
    found = recall_of(np.zeros((1, 30)), np.zeros((1, 30))).model_copy(update=alike)
    assert found.of(found.size_for())[0] >= 0.95
    mean, low, high = found.of_chosen()
    assert mean == pytest.approx((4 * 1.0 + 0.0) / 5) and low < 0.5 and high == 1.0


def test_what_is_expected_behind_a_shortlist_is_in_the_unit_of_the_scores_or_nothing() -> None:
    draw = np.random.default_rng(6)
    exact = draw.standard_normal((2, 50)) + 3
    found = recall_of(exact, exact)
    assert found.size_for(500) == 10 * found.size_for()  # a list grows with what it is taken from
    asked = {"method": "readout", "settings": {"draws": 16}}
    once = found.expected(**asked, n_training=50)
    assert once == pytest.approx(np.mean([np.sort(own)[:-FIRST] for own in exact]))
    assert found.expected(**asked, n_training=500) == pytest.approx(once / 10)  # as a score is
    assert found.expected("abu", {"draws": 16}, 50) == 0 == found.expected("readout", {"draws": 4}, 50)
    track_n = np.repeat(np.arange(60), 1 + np.arange(60) % 4)
    exact = draw.standard_normal((2, len(track_n)))
    several = recall_of(exact, exact, track_n)
    gather = Gatherer("norm", track_n, 60, np.ones(len(track_n), dtype=bool), np.ones(len(track_n)))
    exact_t = np.stack([gather.of(values) for values in exact])
    said_t = np.stack([gather_tracks(values, track_n, 60, "norm") for values in exact])
    place_t = np.argsort(np.argsort(-said_t, axis=1), axis=1)
    behind = exact_t[place_t >= several.size_for()]
    assert len(behind) and several.expected(**asked, n_training=len(track_n)) == pytest.approx(behind.mean())
    summed = several.model_copy(update={"gather": None})  # of an index from before norms
    assert summed.expected(**asked, n_training=50) == 0 and not summed.as_gathered
    assert found.gather is None and found.as_gathered  # where a track is one segment it is the same


def test_an_audit_bounds_what_is_outside() -> None:
    draw = np.random.default_rng(0)
    said = draw.standard_normal(400) * 0.01
    exact = said + draw.standard_normal(400) * 0.01 + 0.02
    clean = audit(exact[:100], said[:100], said, bar=1.0)
    assert clean.above == 0
    assert clean.above_at_most == int(400 * (1 - 0.05 ** (1 / 100)))  # Clopper and Pearson's, of none
    whole = audit(exact, said, said, bar=float(np.sort(exact)[-3]))
    assert whole.above == whole.above_at_most == 3
    assert whole.total == pytest.approx(exact.sum()) and whole.error == pytest.approx(0.0, abs=1e-12)
    (one,) = exact[:1]  # the only one outside
    assert audit(exact[:1], said[:1], said[:1], bar=one) == Audited(1, 1, pytest.approx(one), 0.0)


def test_an_audits_total_is_right_on_average() -> None:
    draw = np.random.default_rng(1)
    said, exact = draw.standard_normal(7), draw.standard_normal(7)
    every = [audit(exact[list(c)], said[list(c)], said, 9.0).total for c in combinations(range(7), 3)]
    assert np.mean(every) == pytest.approx(exact.sum())


def test_an_index_holds_what_it_says(built: Index, many: Catalogue, model: StableAudio) -> None:
    assert len(built) == len(built.vectors) == len(many) == TRACKS * EACH
    assert built.bytes_each <= 2048 and built.bytes_each == sum(
        part.nbytes for part in vars(built.vectors).values()
    ) / len(built)
    built.require(model.weights_hash, many)
    assert (built.recall.tracks, built.recall.segments) == (TRACKS - 6, len(many.training_rows))
    assert built.recall.of(len(many))[0] == 1.0
    said = CliRunner().invoke(app, ["index", "show", str(built.path)])
    assert said.exit_code == 0 and "shortlists of" in said.output


def test_listed_segments_score_as_in_a_whole_sweep(both: dict[str, Path], many: Catalogue) -> None:
    listed, whole = (pq.read_table(both[name] / "scores.parquet") for name in ("listed", "all"))
    weights = listed["weight"].to_numpy()
    exact = weights > 0
    assert exact.sum() < len(many) and "weight" not in whole.column_names
    a, b = listed["score"].to_numpy(), whole["score"].to_numpy()
    assert np.allclose(a[exact], b[exact], rtol=1e-4, atol=1e-7 * np.abs(b).max())
    read = Attribution.load(both["listed"] / "attribution.json")
    found = read.shortlist
    assert found and found.tracks + found.outside == TRACKS - 6 and read.segments == exact.sum()
    assert found.audited == LISTED["audit"] < found.outside
    weight_t = weigh_tracks(weights, many.track_n, TRACKS)
    assert (weight_t[many.track_n] == weights).all()  # whole tracks
    trained = np.array([track.split == "train" for track in many.tracks])
    assert weight_t[trained].sum() == pytest.approx(TRACKS - 6)  # all are spoken for
    listed_t, sampled_t = trained & (weight_t == 1), trained & (weight_t > 1)
    score_t = read_scores_of(both["listed"], "readout", many.track_n, TRACKS)
    bar = np.sort(score_t[listed_t])[::-1][min(FIRST, listed_t.sum()) - 1]
    assert found.above == (score_t[sampled_t] >= bar).sum()
    assert (found.tracks, found.segments) == (listed_t.sum(), EACH * listed_t.sum())
    assert found.tracks >= FIRST_TRACKS and sampled_t.sum() == found.audited
    assert Attribution.load(both["all"] / "attribution.json").shortlist is None


def test_a_shortlist_is_as_long_as_was_asked_for(
    clip: Path, tmp_path: Path, model_path: Path, many: Catalogue, built: Index
) -> None:
    where = {"model": model_path, "catalogue": many.path}
    (done,) = linernotes.attribute(
        clip, tmp_path / "out", **where, index=built.path, **(LISTED | {"shortlist": 13})
    )
    found = done.shortlist
    assert found and found.tracks == 13
    assert (found.recall, found.recall_low, found.recall_high) == built.recall.of(13)
    asked: dict[str, Any] = {"index": built.path, "shortlist": 13, "audit": LISTED["audit"]}
    (planned,) = linernotes.plan(["readout"], **where, **asked)
    assert planned.segments == pytest.approx(EACH * (13 + found.audited), abs=EACH)
    assert "--shortlist 13 --audit 50" in (tmp_path / "out" / "attribution.json").read_text()
    assert linernotes.replay(tmp_path / "out").same
    for other in ({"shortlist": 14}, {"shortlist": None}, {"audit": 40}, {"audit": None}):  # another answer
        with pytest.raises(LinernotesError, match="another attribution already"):
            linernotes.attribute(clip, tmp_path / "out", **where, **(asked | other), **FEW)

    def refused(match: str, **asked: Any) -> None:
        with pytest.raises(UsageError, match=match):
            linernotes.attribute(clip, tmp_path / "no", **where, **asked)

    refused("--shortlist 9 is fewer than the 10 tracks that a report", index=built.path, shortlist=9)
    refused("--shortlist takes its tracks from an index: give one with --index", shortlist=13)
    refused("--audit takes its tracks from an index: give one with --index", audit=50)
    refused("--audit 24 is fewer than 25 tracks", index=built.path, audit=24)
    refused("--shortlist takes a shortlist and --exhaustive does not", exhaustive=True, shortlist=13)
    refused(
        "trak goes through .*: leave out --index, --shortlist and --audit",
        index=built.path,
        shortlist=13,
        method="trak",
    )
    refused("activations measures likenesses", index=built.path, shortlist=13, method="activations")


def test_a_plan_counts_what_a_shortlist_and_its_audit_score(
    both: dict[str, Path], model_path: Path, many: Catalogue, built: Index
) -> None:
    def planned(*methods: str, **asked: Any) -> list[int]:
        return [p.segments for p in linernotes.plan(methods, model_path, many.path, **asked)]

    read = Attribution.load(both["listed"] / "attribution.json")
    where: dict[str, Any] = {"index": built.path, "shortlist": LISTED["shortlist"], "audit": LISTED["audit"]}
    assert read.shortlist and planned("readout", **where)[0] == pytest.approx(read.segments, rel=0.1)
    listed = EACH * TRACKS / (TRACKS - 6)  # segments of one that is listed, and of decoys that come along
    for length, audited in ((15, 25), (40, 40)):  # by itself an audit is as long as the list
        (some,) = planned("readout", index=built.path, shortlist=length)
        assert some == round(length * listed) + EACH * audited
    (some,) = planned("readout", **where)
    assert some == round(LISTED["shortlist"] * listed) + EACH * read.shortlist.audited
    length = max(built.recall.size_for(TRACKS - 6), FIRST_TRACKS)  # by itself
    (some,) = planned("readout", index=built.path, audit=25)
    assert some == round(length * listed) + EACH * min(25, TRACKS - 6 - length)
    assert planned("readout", "latent", index=built.path, queries=50) == [len(many)] * 2
    assert planned("readout") == [len(many)]  # all that there is, and a method that takes no shortlist
    with pytest.raises(UsageError, match="--index takes a shortlist and --exhaustive does not"):
        planned("readout", index=built.path, exhaustive=True)
    (shipped,), (whole,) = (linernotes.plan(["readout"], exhaustive=every) for every in (False, True))
    assert shipped.segments < whole.segments == len(linernotes.open_catalogue())


def test_a_record_says_by_what_command_the_same_is_asked_for(
    model_path: Path, many: Catalogue, built: Index
) -> None:
    with linernotes.open(shortlist=41) as work:
        assert work._shortlists.words("readout") == ["--shortlist", "41"]
        work.use_index(None)  # the built-in catalogue has one that would be taken
        assert work._shortlists.words("readout") == ["--exhaustive"]
        assert work._shortlists.words("abu") == []  # it takes no shortlist unasked
        assert work._shortlists.of(work.prepared, "readout").index is None
    with linernotes.open(model_path, many.path) as other:
        assert other._shortlists.words("readout") == []
        other.use_index(built.path)
        assert other._shortlists.words("abu") == ["--index", str(built.path)]


def test_the_record_says_what_was_not_scored(both: dict[str, Path]) -> None:
    table = pq.read_table(both["listed"] / "scores.parquet")
    exact = {}
    for name, is_exact in zip(table["track_id"].to_pylist(), table["weight"].to_pylist(), strict=True):
        exact[name] = exact.get(name, False) or is_exact > 0
    for track in Attribution.load(both["listed"] / "attribution.json").tracks:
        assert track.estimated == (not exact[track.track_id])
        assert not (track.estimated and track.effect and track.effect.named)


def test_a_score_on_a_shortlist_has_the_error_that_it_has_anyway(both: dict[str, Path]) -> None:
    whole, listed = (Attribution.load(both[name] / RECORD) for name in ("all", "listed"))
    before = {track.track_id: track for track in whole.tracks}
    errors = {name: track.error for name, track in before.items()}
    weights = read_weights(both["listed"])
    names = read_table(both["listed"] / SCORES)["track_id"].to_pylist()
    part = {name for name, weight in zip(names, weights, strict=True) if weight == 0}
    exact = [track for track in listed.tracks if track.track_id not in part and errors.get(track.track_id)]
    estimated = [track for track in listed.tracks if track.estimated]
    assert exact and estimated and not any(track.error for track in estimated)
    less = []
    for track in exact:
        error, score = errors[track.track_id], before[track.track_id].score
        assert error and track.error  # a norm's error is the larger, the smaller what is left of it
        assert track.error.total * abs(track.score) == pytest.approx(error.total * abs(score), rel=1e-3)
        less.append(np.sign(score) * score**2 - np.sign(track.score) * track.score**2)
    # what is taken off for each segment but one is told from those scored, audited ones for all others
    table = read_table(both["all"] / SCORES)
    trained = np.array(table["split"].to_pylist()) == "train"
    everything = stray_of(table["score"].to_numpy()[trained])
    scored = trained & (weights > 0)
    sampled = stray_of(read_table(both["listed"] / SCORES)["score"].to_numpy()[scored], weights[scored])
    largest = max(track.score for track in exact) ** 2
    assert less == pytest.approx([(EACH - 1) * (sampled - everything)] * len(less), abs=1e-3 * largest)


def test_an_audit_speaks_for_the_tracks_outside_on_average() -> None:
    """Over clips' own draws, and tracks of one segment to six: the total of all tracks is right on average,
    and its interval holds it as often as it says.
    """
    draw = np.random.default_rng(3)
    track_n = np.repeat(np.arange(400), draw.integers(1, 7, 400))
    value_t, said_t = draw.standard_normal(400) + 2, draw.random(400)
    trained_t = draw.random(400) < 0.9
    tracks = _Tracks(track_n, np.ones(len(track_n)), trained_t)
    totals, inside = [], []
    for i in range(1000):
        chosen = _chosen(tracks, said_t, 15, 30, [clip_of(i)])
        weight_t = chosen.weights(400)[trained_t]
        assert weight_t.sum() == pytest.approx(trained_t.sum()) and len(chosen.audited) == 30
        total, error = whole(value_t[trained_t], weight_t)
        totals.append(total)
        inside.append(abs(total - value_t[trained_t].sum()) <= error)
    assert np.mean(totals) == pytest.approx(value_t[trained_t].sum(), abs=4 * np.std(totals) / np.sqrt(1000))
    assert np.mean(inside) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 1000))


def clip_of(number: int) -> Query:
    nothing = torch.zeros(1, 1)
    return Query("clip", torch.full((1, 1), float(number)), "", nothing, 1.0, nothing[0] > 0)


def test_what_a_clip_is_given_does_not_depend_on_those_beside_it(
    both: dict[str, Path], clip: Path, model_path: Path, many: Catalogue, built: Index, tmp_path: Path
) -> None:
    other = linernotes.generate("tone 3", tmp_path / "other.flac", model_path, seed=2)
    linernotes.attribute([clip, other], tmp_path / "out", model_path, many.path, index=built.path, **LISTED)
    alone, beside = (Attribution.load(f / RECORD) for f in (both["listed"], tmp_path / "out" / "clip"))
    assert beside.shortlist and alone.shortlist
    one, two = (each.shortlist.model_dump() for each in (alone, beside) if each.shortlist)
    assert {
        key: pytest.approx(value, rel=1e-4) if key.startswith("outside_") else value
        for key, value in one.items()
    } == two
    assert [track.track_id for track in alone.tracks] == [track.track_id for track in beside.tracks]
    for track, same in zip(alone.tracks, beside.tracks, strict=True):
        assert (track.error is None) == (same.error is None)
        if track.error and same.error:
            assert same.error.total == pytest.approx(track.error.total, rel=1e-3)


def test_the_page_says_what_was_searched(both: dict[str, Path]) -> None:
    found = Attribution.load(both["listed"] / "attribution.json").shortlist
    assert found and f"at most {found.above_at_most} of all {found.outside}" in found.sentence
    page = (both["listed"] / "report.html").read_text()
    assert found.sentence in html.unescape(page)
    assert "searched" not in (both["all"] / "report.html").read_text()


def test_a_shortlisted_record_is_replayed_and_found_again(
    both: dict[str, Path], clip: Path, model_path: Path, many: Catalogue, built: Index
) -> None:
    found = linernotes.replay(both["listed"])
    assert found.same and found.segments == found.of < len(many)
    before = (both["listed"] / "attribution.json").read_bytes()
    linernotes.attribute(clip, both["listed"], model_path, many.path, index=built.path, **LISTED)
    assert (both["listed"] / "attribution.json").read_bytes() == before
    with pytest.raises(LinernotesError, match="another attribution already"):
        linernotes.attribute(clip, both["listed"], model_path, many.path, **FEW)


def test_a_large_index_is_looked_through_by_codes(
    tmp_path: Path,
    model_path: Path,
    many: Catalogue,
    built: Index,
    clip: Path,
    both: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Large is what holds more than so many segments. What the codes put first is scored as without them, and
    what they put last is taken for no more than the last that was looked at."""
    monkeypatch.setattr("linernotes.attribution.indexing.EXACT_UP_TO", 100)
    large = linernotes.build_index(tmp_path / "index", model_path, many.path, queries=3)
    assert large.codes and large.record == built.record and len(large.codes) == len(many)
    linernotes.attribute(clip, tmp_path / "out", model_path, many.path, index=large.path, **LISTED)
    coded, listed = (pq.read_table(f / "scores.parquet") for f in (tmp_path / "out", both["listed"]))
    assert coded["weight"].to_pylist() == listed["weight"].to_pylist()
    said, exact = coded["score"].to_numpy(), listed["weight"].to_numpy() > 0
    assert (said[exact] == listed["score"].to_numpy()[exact]).all()
    monkeypatch.setattr("linernotes.index.search.CANDIDATES", 2)
    asked = built.vectors[:2]
    near, whole = look_up(large, asked, 10), look_up(built, asked, 10)
    for near_n, whole_n in zip(near, whole, strict=True):
        looked_at = near_n > near_n.min()  # but for the last of them, which all others are said to be like
        assert 19 <= looked_at.sum() < 40
        rounding = 1e-5 * abs(whole_n).max()  # of other blocks, in sums that cancel
        assert np.allclose(near_n[looked_at], whole_n[looked_at], rtol=0, atol=rounding)
        assert np.isclose(near_n.min(), whole_n[~looked_at], rtol=0, atol=rounding).any()
    for q, near_n in enumerate(near):  # what is found for one does not depend on the other
        assert (look_up(large, asked[q : q + 1], 10)[0] == near_n).all()
    monkeypatch.setitem(sys.modules, "faiss", None)  # as Python marks what cannot be imported
    with pytest.raises(LinernotesError, match=r"FAISS, which is not installed: pip install faiss-cpu"):
        linernotes.build_index(tmp_path / "other", model_path, many.path)
    assert not (tmp_path / "other.partial").exists()
    with pytest.raises(LinernotesError, match="FAISS, which is not installed"):
        linernotes.attribute(clip, tmp_path / "again", model_path, many.path, index=large.path, **LISTED)


def test_tracks_added_do_not_touch_the_others(
    tmp_path: Path, model: StableAudio, model_path: Path, many: Catalogue, built: Index
) -> None:
    sounds = tmp_path / "sounds"
    write_recordings(sounds, [SEGMENT_SAMPLES * EACH] * (TRACKS + 2), decoys=6)
    more = build_catalogue(read_source(sounds), tmp_path / "more", model)
    shutil.copytree(built.path, tmp_path / "index")
    with pytest.raises(LinernotesError, match="another state of the catalogue"):
        linernotes.attribute(sounds / "tone1.wav", tmp_path / "out", model_path, more.path, index=built.path)
    record = json.loads((tmp_path / "index" / "index.json").read_text())
    other = {**record, "noise": "another"}
    (tmp_path / "index" / "index.json").write_text(json.dumps(other))
    with pytest.raises(LinernotesError, match=r"other noise \(another, now .*\), .* build an index anew"):
        linernotes.build_index(tmp_path / "index", model_path, more.path)
    (tmp_path / "index" / "index.json").write_text(json.dumps(record))
    grown = linernotes.build_index(tmp_path / "index", model_path, more.path)
    assert len(grown) == len(more)
    place = {item: n for n, item in enumerate(grown.items_n)}
    kept = [(place[item], n) for n, item in enumerate(built.items_n) if item in place]
    assert len(kept) >= (TRACKS - 6) * EACH
    now, before = (np.array(side) for side in zip(*kept, strict=True))
    assert (grown.vectors.moments_nr[now] == built.vectors.moments_nr[before]).all()
    # and what is new got the vectors it would have had: those of a build in the same space
    fresh = prepare(model, more, tmp_path / "cache")
    new = np.setdiff1d(np.arange(len(more)), now)
    draws = fresh.draws(16, 0)
    space = built.space
    settings = ReadoutSettings()
    nothing = torch.zeros(0, 1, 1, 1)
    y = sweep_moments(fresh, draws, settings, space.strongest_bfk, nothing, new, tmp_path / "y")["y_nd"]
    apart = space.moments(y)[0].astype(int) - grown.vectors.moments_nr[new]
    assert np.abs(apart).max() <= 2  # its moments went through half precision here


def test_tracks_removed_cost_no_pass(
    tmp_path: Path, model_path: Path, many: Catalogue, built: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = part_of(many, 150, tmp_path / "fewer")
    shutil.copytree(built.path, tmp_path / "index")
    monkeypatch.setattr("linernotes.attribution.indexing._Sweep", None)  # what passes are made by
    left = linernotes.build_index(tmp_path / "index", model_path, fewer.path)
    place = {item: n for n, item in enumerate(built.items_n)}
    before = [place[item] for item in left.items_n]
    assert len(left) == len(fewer) < len(built)
    assert (left.vectors.moments_nr == built.vectors.moments_nr[before]).all()


@pytest.mark.parametrize("killed_after", ["plan.json", "sample"])
def test_a_killed_build_ends_in_the_same_vectors(
    tmp_path: Path, model_path: Path, many: Catalogue, built: Index, killed_after: str
) -> None:
    out = tmp_path / "index"

    class KilledError(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if killed_after in what or (killed_after == "plan.json" and done):
            raise KilledError

    with pytest.raises(KilledError):
        linernotes.build_index(out, model_path, many.path, queries=3, on_progress=stop)
    with pytest.raises(LinernotesError, match="is no index"):
        linernotes.open_index(out)
    again = linernotes.build_index(out, model_path, many.path, queries=3)
    assert (again.vectors.moments_nr == built.vectors.moments_nr).all()
    assert again.record == built.record
    assert not out.with_name("index.partial").exists()


def test_processes_make_the_same_index(
    tmp_path: Path, model_path: Path, many: Catalogue, built: Index
) -> None:
    engine = EngineSettings(engine="processes", workers=2)
    other = linernotes.build_index(tmp_path / "index", model_path, many.path, queries=3, engine=engine)
    assert (other.vectors.moments_nr == built.vectors.moments_nr).all()
    assert other.record == built.record


def test_what_does_not_fit_is_refused(
    tmp_path: Path, model: StableAudio, many: Catalogue, built: Index, clip: Path, model_path: Path
) -> None:
    other = tmp_path / "other"
    linernotes.train_model(many.path, other, model_path, steps=2, batch_size=4)
    with pytest.raises(LinernotesError, match="index of another model"):
        linernotes.build_index(built.path, other, many.path)
    with pytest.raises(LinernotesError, match="was built with --queries 3, not 5"):
        linernotes.build_index(built.path, model_path, many.path, queries=5)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "song.wav").touch()
    with pytest.raises(LinernotesError, match="is no index"):
        linernotes.build_index(tmp_path / "taken", model_path, many.path)
    with pytest.raises(UsageError, match="goes through the whole catalogue"):
        linernotes.attribute(clip, tmp_path / "out", model_path, many.path, method="latent", index=built.path)
    broken = tmp_path / "broken"
    shutil.copytree(built.path, broken)
    record = json.loads((broken / "index.json").read_text())
    (broken / "index.json").write_text(json.dumps({**record, "segments": record["segments"] + 1}))
    with pytest.raises(LinernotesError, match="holds 240 of 241 vectors"):
        _ = Index(broken).vectors


def test_a_model_is_not_asked_where_it_need_not_be(
    tmp_path: Path, model_path: Path, many: Catalogue, clip: Path
) -> None:
    built = linernotes.build_index(tmp_path / "index", model_path, many.path, moments=0, queries=2)
    assert built.vectors.moments_nr.shape == (len(many), 0) and not built.space.asks_model
    (read,) = linernotes.attribute(clip, tmp_path / "out", model_path, many.path, index=built.path, **FEW)
    by_itself = max(built.recall.size_for(TRACKS - 6), FIRST_TRACKS)
    assert read.shortlist and read.shortlist.tracks == by_itself
    assert read.shortlist.recall == built.recall.of_chosen()[0]


def test_only_methods_that_save_by_it_take_shortlists(
    tmp_path: Path, model: StableAudio, many: Catalogue, built: Index
) -> None:
    """Those that say so do less work for fewer segments; the others do not."""
    from linernotes.settings.methods import METHOD_SETTINGS

    whole = prepare(model, many, tmp_path)
    few = replace(whole, only=tuple(range(10)))
    query = segment_query(many, 0)

    def passes(prepared: Prepared, method: str) -> float:
        work = METHODS[method].work(prepared, METHOD_SETTINGS[method](), query)
        return sum(work.per_run.values()) + sum(work.per_query.values())

    for method in METHODS:
        if method != "clap":
            assert METHODS[method].shortlists == (passes(few, method) < passes(whole, method)), method


def test_what_one_shortlist_needs_is_not_kept_for_the_next(
    tmp_path: Path, model: StableAudio, many: Catalogue
) -> None:
    whole, settings = prepare(model, many, tmp_path / "cache"), AbuSettings(draws=2, gradient_draws=2)
    kept = []
    for i, only in enumerate([(0, 1, 2), (3, 4)]):
        score("abu", replace(whole, only=only), [segment_query(many, 0)], settings, tmp_path / f"run-{i}")
        kept.append(sorted(path for path in whole.folder.rglob("*") if path.is_file()))
    assert kept[0] == kept[1]


def test_a_packed_curvature_is_the_curvature(tmp_path: Path) -> None:
    drawn = torch.randn(3, 200, 40, generator=torch.Generator().manual_seed(2))
    drawn *= torch.logspace(-3, 3, 40)
    curvature = drawn.mT @ drawn
    save_packed(tmp_path / "packed.safetensors", curvature, {"model": "a"})
    read = load_packed(tmp_path / "packed.safetensors", {"model": "a"})
    scale = curvature.diagonal(dim1=1, dim2=2).sqrt()
    apart = (read - curvature).abs() / scale[:, :, None] / scale[:, None, :]
    assert 0 < float(apart.max()) <= 2**-16 * 1.1 and bool((read == read.mT).all())
    size = (tmp_path / "packed.safetensors").stat().st_size
    assert size < curvature.numel() * 4 / 3
    with pytest.raises(LinernotesError, match="'b' is in use"):
        load_packed(tmp_path / "packed.safetensors", {"model": "b"})


def test_what_is_ready_is_used_and_nothing_else(tmp_path: Path, model: StableAudio, many: Catalogue) -> None:
    prepared = prepare(model, many, tmp_path / "cache")
    draws = prepared.draws(8, 0)
    fitted = fit_curvature(prepared, draws, 8, 32)
    ready = tmp_path / "ready" / curvature_name(prepared, draws, 8)
    save_packed(ready, fitted, prepared.made_from(draws))
    shipped = replace(prepare(model, many, tmp_path / "other"), shipped=tmp_path / "ready")
    near = fit_curvature(shipped, draws, 8, 32)
    assert not (tmp_path / "other").exists()
    assert torch.allclose(near, fitted, rtol=1e-2, atol=1e-4 * float(fitted.abs().max()))
    fit_curvature(shipped, prepared.draws(8, 1), 8, 32)  # of other draws nothing is ready
    assert any((tmp_path / "other").rglob("readout-*"))


def test_settings_of_an_index_are_checked() -> None:
    with pytest.raises(ValueError, match="greater than"):
        IndexSettings(latents=0)
