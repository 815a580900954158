"""Evaluation against retraining: laws of the measures on banks whose truth is
known, and retrains of a tiny model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import linernotes
from conftest import query_of
from linernotes.artefacts import load_tensors, save_tensors
from linernotes.attribution.prepare import prepare
from linernotes.catalog.store import Catalogue
from linernotes.catalog.track import Track
from linernotes.demo.benchmarks.first import RELATIONS, TRAINING_TRACKS, plan_queries, plan_tracks
from linernotes.demo.benchmarks.making import open_benchmark
from linernotes.demo.places import BENCHMARK, CATALOGUE, benchmark_parts
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.clips import read_prompts
from linernotes.evaluation.bank.folder import BANK_FILE
from linernotes.evaluation.bank.measuring import query_pass
from linernotes.evaluation.bank.retraining import RETRAIN, run_retrains
from linernotes.evaluation.bank.sanity import check_bank
from linernotes.evaluation.bank.scores import (
    BY,
    SCORES,
    SOURCE_DRAWS,
    Source,
    fewer_draws,
    read_scores,
    related_sources,
    scores_of,
    stored_scores,
)
from linernotes.evaluation.bank.setting import BankQuery, Retrain
from linernotes.evaluation.bank.store import (
    Bank,
    build_bank,
    pack_bank,
    plan_retrains,
    prepare_setting,
    read_bank,
)
from linernotes.evaluation.board import within_of
from linernotes.evaluation.counterfactual import (
    AT_RANDOM,
    POOLED_ARMS,
    RANDOM_ARMS,
    arms_of_scores,
    measure_outcomes,
    plan_arms,
    plan_pooled,
)
from linernotes.evaluation.groups import group_sums, groups_of, measure_groups, ndcg, plan_groups
from linernotes.evaluation.hubs import measure_hubs, measure_repeatability
from linernotes.evaluation.intervals import Resamples, bootstrap_correlations, bootstrap_mean
from linernotes.evaluation.lds import measure_lds, truncated
from linernotes.evaluation.planted import measure_planted
from linernotes.methods.contract import Query
from linernotes.models.contract import device_of
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import METHOD_SETTINGS, ReadoutSettings
from linernotes.version import __version__


def bank_of(
    present_mn: np.ndarray, loss_mq: np.ndarray, kinds: list[str], names: list[str] | None = None
) -> Bank:
    """A bank with known losses, the same on both of its draws; every second query is for tuning."""
    models, queries = loss_mq.shape
    listed = [
        BankQuery(f"q{i}", "x", 1.0, i, "x", "reporting" if i % 2 else "tuning", False)
        for i in range(queries)
    ]
    loss_mqk = np.repeat(loss_mq[:, :, None], 2, axis=2)
    return Bank(
        path=Path("bank"),
        header={"model": "m", "catalogue": "c"},
        queries=listed,
        names=names or [f"model-{m}" for m in range(models)],
        kinds=np.array(kinds),
        seeds=[0] * models,
        tracks=[f"t{n}" for n in range(present_mn.shape[1])],
        present_mn=present_mn,
        loss_mqk=loss_mqk,
        change_mqk=loss_mqk,
        item_loss_ms=np.zeros((models, present_mn.shape[1])),
        contrast_m=np.full(models, np.nan),
        distance_mhd=np.zeros((models, 0, 3)),
        latents_qct=np.zeros((queries, 1, 1)),
    )


def linear_world(
    noise: float, halves: int = 200, queries: int = 12, tracks: int = 40
) -> tuple[Bank, np.ndarray]:
    """A world in which each present track lowers each query's loss by its own amount, plus the noise of
    training; the first half of the halves stands there again with other noise. Returns the amounts too.
    """
    random = np.random.default_rng(5)
    value_qn = random.standard_normal((queries, tracks))
    present = np.stack([random.permutation(tracks) < tracks // 2 for _ in range(halves)])
    signal = -(present @ value_qn.T)
    again = halves // 2
    first, second = (signal + noise * random.standard_normal(signal.shape) for _ in range(2))
    names = [*(f"half-{i}" for i in range(halves)), *(f"half-{i}-again" for i in range(again))]
    kinds = ["half"] * halves + ["again"] * again
    return bank_of(
        np.concatenate([present, present[:again]]), np.concatenate([first, second[:again]]), kinds, names
    ), value_qn


def test_lds_of_the_truth_is_one_without_noise_and_of_its_opposite_minus_one() -> None:
    bank, value_qn = linear_world(noise=0.0)
    table = measure_lds(
        bank,
        {"truth": value_qn, "opposite": -value_qn, "chance": np.random.default_rng(1).random(value_qn.shape)},
    )
    by = {m.method: m for m in table.methods}
    assert [m.method for m in table.methods] == ["truth", "chance", "opposite"]
    assert by["truth"].lds.value == pytest.approx(1) and by["opposite"].lds.value == pytest.approx(-1)
    assert by["chance"].lds.low < 0 < by["chance"].lds.high
    assert table.ceiling.value == pytest.approx(1)
    assert by["opposite"].behind is not None and by["opposite"].behind.value == pytest.approx(2)
    assert table.reference == "truth"
    told = measure_lds(bank, {"truth": value_qn, "opposite": -value_qn}, reference="opposite").methods[0]
    assert told.behind is not None and told.behind.value == pytest.approx(-2)


def test_means_of_seeds_are_less_noisy_and_their_ceiling_says_by_how_much() -> None:
    random = np.random.default_rng(2)
    halves, queries, tracks, seeds, noise = 400, 24, 40, 3, 4.0
    value_qn = random.standard_normal((queries, tracks))
    present = np.stack([random.permutation(tracks) < tracks // 2 for _ in range(halves)])
    signal = -(present @ value_qn.T)
    runs = [signal + noise * random.standard_normal(signal.shape) for _ in range(seeds)]
    names = [f"half-{i}" for i in range(halves)]
    names += [f"half-{i}-again{'-3' * (s == 2)}" for s in (1, 2) for i in range(halves)]
    kinds = ["half"] * halves + ["again"] * (2 * halves)
    whole = bank_of(np.concatenate([present] * seeds), np.concatenate(runs), kinds, names)
    alone = bank_of(present, runs[0], kinds[:halves], names[:halves])
    some = halves // 2  # of two seeds, and half of these of three
    kept = [*range(halves + some), *range(2 * halves, 2 * halves + some // 2)]
    mixed = bank_of(
        whole.present_mn[kept],
        whole.loss_mqk[kept][..., 0],
        [kinds[i] for i in kept],
        [names[i] for i in kept],
    )
    assert whole.runs()[5] == [5, halves + 5, 2 * halves + 5]
    assert [len(run) for run in mixed.runs()] == [3] * (some // 2) + [2] * (some // 2) + [1] * some
    spread = signal.var(axis=0).mean()
    for bank, left in ((whole, 1 / 3), (mixed, (some // 2 / 3 + some // 2 / 2 + some) / halves)):
        found = measure_lds(bank, {"truth": value_qn})
        assert found.seeds == pytest.approx(1 / left)
        assert found.ceiling.value == pytest.approx(np.sqrt(spread / (spread + noise**2 * left)), abs=0.04)
        assert found.methods[0].lds.value == pytest.approx(found.ceiling.value, abs=0.05)
    with pytest.raises(LinernotesError, match="0 of them a second time"):
        measure_lds(alone, {"truth": value_qn})


def test_truth_reaches_the_noise_ceiling_and_not_more() -> None:
    bank, value_qn = linear_world(noise=6.0, halves=600, queries=40)
    table = measure_lds(bank, {"truth": value_qn})
    signal, noise = (
        value_qn.shape[1] / 4 * 1.0,
        36.0,
    )  # variances, about; the ceiling is the correlation of signal and run
    assert table.ceiling.value == pytest.approx(np.sqrt(signal / (signal + noise)), abs=0.06)
    assert table.methods[0].lds.value == pytest.approx(table.ceiling.value, abs=0.04)
    assert table.ceiling.low < table.ceiling.value < table.ceiling.high
    share = table.methods[0].of_ceiling
    assert share.value == pytest.approx(table.methods[0].lds.value / table.ceiling.value)
    assert share.low < 1 < share.high


def test_lds_does_not_change_with_scale_or_offset_of_scores() -> None:
    bank, value_qn = linear_world(noise=2.0)
    table = measure_lds(bank, {"a": value_qn, "b": 7 * value_qn + 3})
    assert table.methods[0].lds == table.methods[1].lds


def test_lds_within_groups_does_not_see_what_a_whole_group_has_in_common() -> None:
    """Scores that differ by a constant of each group are the same there, and the truth is still one."""
    bank, value_qn = linear_world(noise=0.0)
    groups = {name: np.arange(value_qn.shape[1]) % 4 == g for g, name in enumerate("abcd")}
    offset_n = sum(100.0 * g * members for g, members in enumerate(groups.values()))
    scores = {"truth": value_qn, "offset": value_qn + offset_n}
    plain = {m.method: m.lds.value for m in measure_lds(bank, scores).methods}
    assert plain["offset"] < 0.2
    table = measure_lds(bank, scores, within=("letter", groups))
    assert table.within == "letter" and table.ceiling.value == pytest.approx(1)
    assert [m.lds.value for m in table.methods] == pytest.approx([1, 1])
    every_track = {str(n): np.arange(value_qn.shape[1]) == n for n in range(value_qn.shape[1])}
    few, value_qn = linear_world(noise=0.0, halves=30)
    with pytest.raises(UsageError, match="40 values, too many"):
        measure_lds(few, {"truth": value_qn}, within=("title", every_track))


def test_tuning_clips_have_no_truncated_form_of_their_own_choice() -> None:
    bank, value_qn = linear_world(noise=0.0)
    assert measure_lds(bank, {"a": value_qn}).methods[0].truncated is not None
    assert measure_lds(bank, {"a": value_qn}, split="tuning").methods[0].truncated is None


def test_too_few_models_or_queries_are_refused() -> None:
    bank, value_qn = linear_world(noise=0.0, halves=6)
    with pytest.raises(LinernotesError, match="too few for an interval"):
        measure_lds(bank, {"a": value_qn})
    bank, value_qn = linear_world(noise=0.0, queries=2)
    with pytest.raises(LinernotesError, match="1 queries for reporting, too few"):
        measure_lds(bank, {"a": value_qn})


def test_unit_weights_give_the_plain_correlation() -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 5, 30))
    (value,), drawn = bootstrap_correlations([(x, y)], Resamples.draw(30, 5))
    assert value == pytest.approx(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]))
    assert np.quantile(drawn, 0.025) < value < np.quantile(drawn, 0.975)


def test_the_interval_of_a_constant_has_no_width() -> None:
    found = bootstrap_mean(np.full(9, 0.25))
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_truncated_scores_count_what_stands_above_the_next() -> None:
    scores = np.array([[0.9, 0.1, 0.5, 0.4]])
    assert np.allclose(truncated(scores, 2), [[0.5, 0, 0.1, 0]])
    assert np.array_equal(truncated(scores, 4), scores)


def test_retrains_are_halves_and_repeats_differ_only_in_seed() -> None:
    planned = plan_retrains(21, halves=9, again=3, full=2, seed=4)
    by = {retrain.name: retrain for retrain in planned}
    assert [r.kind for r in planned[:2]] == ["full", "full"] and all(r.present_n.all() for r in planned[:2])
    assert all(r.present_n.sum() == 10 for r in planned if r.kind == "half")
    for i in range(3):
        one, other = by[f"half-{i:03d}"], by[f"half-{i:03d}-again"]
        assert np.array_equal(one.present_n, other.present_n) and one.seed != other.seed
    assert len({retrain.seed for retrain in planned}) == len(planned) == 14


def test_a_leave_k_out_of_other_settings_is_left_out_whole() -> None:
    random = np.random.default_rng(2)
    bank = bank_of(np.ones((1, 20), bool), np.zeros((1, 6)), ["full"])
    bank = replace(bank, queries=[replace(query, heard=query.split == "reporting") for query in bank.queries])
    scores = {"a": random.random((6, 20)), "b": random.random((6, 20))}
    arms, _ = plan_arms(bank, scores, 10.0, [1, 3, 5])
    assert arms_of_scores(bank, scores, arms) == arms
    one_clip_differs = scores["b"].copy()
    one_clip_differs[3] *= -1
    left = arms_of_scores(bank, {"a": scores["a"], "b": one_clip_differs}, arms)
    assert left == [arm for arm in arms if arm.method != "b"]


def test_leave_k_out_leaves_out_the_first_and_measures_over_random() -> None:
    tracks, queries = 20, 6
    random = np.random.default_rng(2)
    scores = {"a": random.random((queries, tracks)), "latent": random.random((queries, tracks))}
    empty = bank_of(np.ones((1, tracks), bool), np.zeros((1, queries)), ["full"])
    arms, retrains = plan_arms(empty, scores, 10.0, [1, 3])
    assert len(arms) == RANDOM_ARMS + 4 and len({retrain.seed for retrain in retrains}) == len(retrains)
    by = {retrain.name: retrain for retrain in retrains}
    for arm in arms:
        left_out = set(np.flatnonzero(~by[arm.retrain].present_n).tolist())
        assert len(left_out) == 2
        if arm.method != AT_RANDOM:
            assert left_out == set(np.argsort(-scores[arm.method][int(arm.query[1:])])[:2].tolist())
    # a world where leaving anything out costs its score by method a, and every model has an offset of its own
    offset = random.random(len(retrains))
    loss = np.stack([1 + (scores["a"] * ~r.present_n).sum(axis=1) for r in retrains]) + offset[:, None]
    bank = bank_of(
        np.stack([r.present_n for r in retrains]),
        loss,
        ["without"] * len(retrains),
        [r.name for r in retrains],
    )
    outcomes = {o.method: o for o in measure_outcomes(bank, arms, ["latent"])}
    row = {r.name: i for i, r in enumerate(retrains)}
    base = np.mean([loss[row[a.retrain]] for a in arms if a.method == AT_RANDOM], axis=0)
    expected = []
    for arm in arms:
        if arm.method == "a":
            rise = loss[row[arm.retrain]] - base
            own = int(arm.query[1:])
            expected.append(rise[own] - np.mean([rise[q] for q in (1, 3, 5) if q != own]))
    assert outcomes["a"].specific.value == pytest.approx(np.mean(expected))
    assert outcomes["a"].specific.value > outcomes["latent"].specific.value
    assert outcomes["a"].over_likeness is not None and outcomes["latent"].over_likeness is None
    assert outcomes["a"].specific.low <= outcomes["a"].specific.value <= outcomes["a"].specific.high
    with pytest.raises(LinernotesError, match="lacks the retrain"):
        measure_outcomes(empty, arms)
    with pytest.raises(UsageError, match="choose a share"):
        plan_arms(empty, scores, 0.1, [1])


def test_the_offset_of_a_model_does_not_count_as_the_clips_own_rise() -> None:
    tracks, queries = 20, 6
    scores = {"a": np.random.default_rng(2).random((queries, tracks))}
    empty = bank_of(np.ones((1, tracks), bool), np.zeros((1, queries)), ["full"])
    arms, retrains = plan_arms(empty, scores, 10.0, [1, 3])
    loss = 1.0 + np.arange(len(retrains))[:, None] + np.zeros((1, queries))
    bank = bank_of(
        np.stack([r.present_n for r in retrains]),
        loss,
        ["without"] * len(retrains),
        [r.name for r in retrains],
    )
    for outcome in measure_outcomes(bank, arms):
        if outcome.method == "a":
            assert outcome.specific.value == pytest.approx(0) and outcome.specific.high == pytest.approx(0)


def test_pooled_arms_leave_out_what_stands_highest_for_any_clip() -> None:
    tracks, queries = 30, 6
    random = np.random.default_rng(3)
    scores = {"a": random.random((queries, tracks)), "hub": np.tile(random.random(tracks), (queries, 1))}
    bank = bank_of(np.ones((1, tracks), bool), np.zeros((1, queries)), ["full"])
    arms, retrains = plan_pooled(bank, scores, 20.0, [0, 1, 2])
    by = {retrain.name: retrain for retrain in retrains}
    assert {int((~r.present_n).sum()) for r in retrains} == {6}
    left_out = [~by[arm.retrain].present_n for arm in arms if arm.method == "a"]
    assert (
        len(left_out) == POOLED_ARMS
        and len({arm.retrain for arm in arms if arm.method == "a"}) == POOLED_ARMS
    )
    assert all(left_out[0][scores["a"][q].argmax()] for q in range(3))
    hub = next(~by[arm.retrain].present_n for arm in arms if arm.method == "hub")
    assert set(np.flatnonzero(hub)) == set(np.argsort(-scores["hub"][0])[:6])


def test_groups_that_hurt_most_are_found_by_their_sums() -> None:
    assert ndcg(np.array([3.0, 2, 1]), np.array([3.0, 2, 1])) == pytest.approx(1)
    gains = np.array([3.0, 0, 0])
    assert ndcg(np.array([1.0, 3, 2]), gains) == pytest.approx(np.log2(2) / np.log2(4))
    tracks = [Track(f"t{i}", "", "", album="abc"[i % 3]) for i in range(9)]
    groups = groups_of(tracks, "album")
    assert {name: int(members.sum()) for name, members in groups.items()} == {"a": 3, "b": 3, "c": 3}
    with pytest.raises(UsageError, match="1 different values"):
        groups_of([replace(track, album="z") for track in tracks], "album")
    value_qn = np.random.default_rng(0).random((6, 9))
    planned = plan_groups(groups)
    costs = [value_qn[:, ~r.present_n].sum(axis=1) for r in planned.values()]
    without = bank_of(
        np.stack([r.present_n for r in planned.values()]),
        np.stack(costs),
        ["group"] * 3,
        [r.name for r in planned.values()],
    )
    full = bank_of(np.ones((2, 9), bool), np.zeros((2, 6)), ["full"] * 2)
    measured, rises = measure_groups(without, full, groups, {"truth": value_qn, "opposite": -value_qn})
    assert [m.method for m in measured] == ["truth", "opposite"]
    assert measured[0].top1.value == 1 and measured[0].ndcg.value == pytest.approx(1)
    assert rises[0, 1] == pytest.approx(value_qn[0, groups["b"]].sum())


def test_a_boards_column_is_left_out_where_it_cannot_be_taken_out_and_nobody_asked() -> None:
    bank, scores_qn = linear_world(noise=1.0, halves=60, tracks=40)
    scores = {"readout": scores_qn}
    for values, measured in ((1, False), (2, True), (40, False)):  # as many as there are tracks
        tracks = [
            Track(name, "", "", extra={"instrument": f"i{i % values}"}) for i, name in enumerate(bank.tracks)
        ]
        assert (within_of(bank, tracks, scores, None) is not None) == measured
        if not measured:
            with pytest.raises(UsageError):
                within_of(bank, tracks, scores, "instrument")


def test_planted_sources_are_scored_on_as_many_draws_in_each_band() -> None:
    for draws in (1, 2, 8, 12, 16):
        for bands in (b for b in range(1, 9) if draws % b == 0):
            fewer = fewer_draws(ReadoutSettings(draws=draws, noise_bands=bands))
            assert fewer % bands == 0 and min(draws, SOURCE_DRAWS) <= fewer <= draws


def test_where_a_method_has_its_zero_does_not_matter_to_groups_of_unlike_size() -> None:
    scores_qn = np.random.default_rng(0).standard_normal((6, 20))
    groups = {"large": np.arange(20) < 15, "small": np.arange(20) >= 15}
    moved = group_sums(scores_qn + np.arange(6.0)[:, None] * 100, groups)
    np.testing.assert_allclose(moved, group_sums(scores_qn, groups), atol=1e-9)
    assert moved.sum(axis=1) == pytest.approx(0, abs=1e-9)


def test_a_hub_is_first_everywhere_and_a_method_repeats_itself() -> None:
    bank = bank_of(np.ones((1, 50), bool), np.zeros((1, 8)), ["full"])
    same = np.tile(np.arange(50.0), (8, 1))
    (hub,) = measure_hubs(bank, {"hub": same}, {"t49": "The Hub"})
    assert hub.share.value == 1 and hub.times == 4 and hub.most_common in ("The Hub", *bank.tracks)
    apart = np.zeros((8, 50))
    for q in range(8):
        apart[q, q * 5 : q * 5 + 10] = np.arange(10, 0, -1)
    (none,) = measure_hubs(bank, {"apart": apart}, {})
    assert none.share.value < 0.5
    (again,) = measure_repeatability(bank, [{"a": same}, {"a": same}])
    assert again.pearson.value == pytest.approx(1) and again.first_shared.value == 1
    random = np.random.default_rng(0)
    # half of the clips repeat, half do not at all
    noise_q = np.where(np.arange(8) // 2 % 2, 1000, 0)[:, None]
    runs = [{"a": same + noise_q * random.standard_normal(same.shape)} for _ in range(6)]
    widths = [
        i.high - i.low for i in (measure_repeatability(bank, some)[0].pearson for some in (runs[:2], runs))
    ]
    assert widths[1] > widths[0] / 2  # 15 pairs of runs are not 15 times as many clips


def test_planted_relatives_that_come_first_are_recalled_and_what_is_learned_is_measured(
    catalogue: Catalogue,
) -> None:
    tracks = [replace(t, extra={}) for t in catalogue.tracks]
    decoys = [i for i, t in enumerate(tracks) if t.split == "decoy"]
    names = [t.track_id for t in tracks if t.split == "train"]
    place = {t.track_id: i for i, t in enumerate(tracks)}
    sources = [
        Source(decoys[0], "version", place[names[0]]),
        Source(decoys[1], "transposed", place[names[1]]),
    ]
    random = np.random.default_rng(1)
    present = np.stack([random.permutation(len(names)) < len(names) // 2 for _ in range(40)])
    bank = bank_of(present, np.zeros((40, 2)), ["half"] * 40)
    bank = replace(bank, tracks=names, item_loss_ms=np.zeros((40, len(catalogue))))
    # a version lowers the source's loss by half of what it does for itself, a transposed tune by nothing
    for share, source in zip((0.5, 0.0), sources, strict=True):
        own = present[:, names.index(tracks[source.relative].track_id)]
        bank.item_loss_ms[:, catalogue.track_n == source.track] = 1 - share * own[:, None]
        bank.item_loss_ms[:, catalogue.track_n == source.relative] = 1 - own[:, None]
    scores = np.zeros((2, len(tracks)))
    scores[0, sources[0].relative] = 1
    table = measure_planted(bank, catalogue, sources, {"x": scores}, {"x": np.zeros((2, len(tracks)))})
    learned = {relation.relation: relation.learned.value for relation in table.relations if relation.learned}
    assert learned == pytest.approx({"version": 0.5, "transposed": 0.0})
    assert table.relations[0].recall["x"] == 1


# --- retraining a tiny model
# -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue, model_path: Path) -> Path:
    """A tiny model that says how it was trained."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    linernotes.train_model(catalogue, folder, model_path, steps=4, batch_size=4, seed=2)
    return folder


QUERIES = [
    BankQuery("one", "tone 0", 0.5, 3, "caption", "reporting", True),
    BankQuery("two", "tone 1", 0.5, 4, "caption", "tuning", False),
]


def test_a_finished_bank_grows_to_what_it_would_have_been(
    tmp_path: Path,
    trained: Path,
    catalogue: Catalogue,
    one_thread: Callable[[], AbstractContextManager[None]],
) -> None:
    def plan(halves: int, seeds: int) -> list[Retrain]:
        return plan_retrains(7, halves=halves, again=1, full=1, seed=0, seeds=seeds)

    few, more = plan(1, 2), plan(2, 3)
    assert {r.name for r in few} < {r.name for r in more} and len({r.seed for r in more}) == len(more)
    with one_thread():
        setting = prepare_setting(trained, catalogue.path, QUERIES, 3, 0, tmp_path / "small")
        build_bank(setting, few, tmp_path / "small")
        shutil.rmtree(tmp_path / "small" / "retrains")  # only the finished bank is left
        (tmp_path / "small" / "queries.safetensors").unlink()
        again = prepare_setting(trained, catalogue.path, QUERIES, 3, 0, tmp_path / "small")
        trains: list[int] = []
        grown = build_bank(again, more, tmp_path / "small", lambda _what, done, _total: trains.append(done))
        assert trains[0] == len(few)  # those were not trained again
        whole = build_bank(setting, more, tmp_path / "whole")
        assert grown.path.read_bytes() == whole.path.read_bytes()
        shutil.rmtree(tmp_path / "small" / "retrains")
        asked_for_less = build_bank(again, few, tmp_path / "small")  # what it holds, it keeps
        assert set(asked_for_less.names) == {r.name for r in more}
        np.testing.assert_array_equal(
            asked_for_less.loss_mqk[[asked_for_less.names.index(name) for name in grown.names]],
            grown.loss_mqk,
        )
        with pytest.raises(LinernotesError, match="was built with other draws and noise"):
            build_bank(replace(setting, draws=5), more, tmp_path / "small")


def test_a_killed_bank_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path,
    trained: Path,
    catalogue: Catalogue,
    one_thread: Callable[[], AbstractContextManager[None]],
) -> None:
    planned = plan_retrains(7, halves=2, again=1, full=1, seed=0)
    setting = prepare_setting(trained, catalogue.path, QUERIES, 3, 0, tmp_path)
    torch.set_num_threads(2)
    whole = build_bank(setting, planned, tmp_path / "whole")  # two processes of their own

    def killed(what: str, done: int, total: int) -> None:
        if what == "retraining" and done == 2:
            raise KeyboardInterrupt

    with one_thread():  # in this process, one after the other
        with pytest.raises(KeyboardInterrupt):
            build_bank(setting, planned, tmp_path / "parts", killed)
        assert not (tmp_path / "parts" / BANK_FILE).exists()
        again = build_bank(setting, planned, tmp_path / "parts")
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert (
        whole.loss_mqk.shape == (4, 2, 3)
        and np.isfinite(whole.contrast_m).all()
        and whole.distance_mhd.shape == (4, 1, 3)
    )
    assert (whole.change_mqk > 0).all() and [len(whole.rows(s)) for s in ("tuning", "reporting")] == [1, 1]

    lines = check_bank(
        whole, catalogue.track_n, np.flatnonzero([t.split == "train" for t in catalogue.tracks])
    )
    assert [line.name for line in lines] == whole.names and not any(line.wrong for line in lines)


def test_query_losses_are_the_models_own(trained: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    setting = prepare_setting(trained, catalogue.path, QUERIES, 5, 0, tmp_path)
    loaded = StableAudio(trained)
    bank = setting.drawn(loaded)
    loss_k, _ = query_pass(loaded, setting, 1, bank)
    item = loaded.items(
        torch.from_numpy(setting.latents_qct[1])[None], loaded.embed_text(["tone 1"]), torch.tensor([0.5])
    )
    for k in range(5):
        alone = loaded.loss_bt(item, bank[k : k + 1]).mean()
        assert float(loss_k[k]) == pytest.approx(float(alone), rel=1e-4)


def test_a_bank_of_another_model_or_a_damaged_one_is_refused(
    trained: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    setting = prepare_setting(trained, catalogue.path, QUERIES, 2, 0, tmp_path)
    planned = plan_retrains(7, halves=1, again=0, full=0, seed=0)
    run_retrains(setting, planned, tmp_path / "retrains")
    bank = pack_bank(setting, planned, tmp_path / BANK_FILE, tmp_path / "retrains")
    with pytest.raises(LinernotesError, match="bank of another model"):
        bank.require("someone else", catalogue.hash)
    with pytest.raises(LinernotesError, match="bank of another catalogue"):
        bank.require(bank.header["model"], "other")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / BANK_FILE).write_bytes(bank.path.read_bytes()[:2000])
    with pytest.raises(LinernotesError, match="not a readable safetensors file"):
        read_bank(tmp_path / "cut")
    with pytest.raises(LinernotesError, match="no finished bank"):
        read_bank(tmp_path / "nowhere")
    with pytest.raises(LinernotesError, match="was made with queries"):
        prepare_setting(trained, catalogue.path, QUERIES[:1], 2, 0, tmp_path)


def test_a_damaged_retrain_is_trained_anew_and_one_of_another_version_named(
    trained: Path, catalogue: Catalogue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setting = prepare_setting(trained, catalogue.path, QUERIES, 2, 0, tmp_path)
    planned = plan_retrains(7, halves=2, again=0, full=0, seed=0)
    run_retrains(setting, planned, tmp_path / "retrains")
    one, other = (tmp_path / "retrains" / f"{retrain.name}.safetensors" for retrain in planned)
    before, kept = one.read_bytes(), other.stat().st_mtime_ns
    one.write_bytes(before[:500])
    run_retrains(setting, planned, tmp_path / "retrains")
    assert one.read_bytes() == before and other.stat().st_mtime_ns == kept
    assert f"{one} is not a readable" in caplog.text and "it is trained anew now" in caplog.text
    tensors, header = load_tensors(other, RETRAIN)
    save_tensors(other, tensors, RETRAIN, {**header, "linernotes": "0.0.1"})
    kept = other.stat().st_mtime_ns
    run_retrains(setting, planned, tmp_path / "retrains")
    assert f"({planned[1].name}, ...) were trained by linernotes 0.0.1" in caplog.text
    assert other.stat().st_mtime_ns == kept
    save_tensors(other, tensors, RETRAIN, {**header, "seed": 99})  # not damaged: another one
    with pytest.raises(LinernotesError, match="was made with seed 99"):
        run_retrains(setting, planned, tmp_path / "retrains")
    save_tensors(other, tensors, RETRAIN, {**header, "linernotes": "0.0.1"})
    pack_bank(setting, planned, tmp_path / BANK_FILE, tmp_path / "retrains")
    one.unlink()
    other.unlink()
    build_bank(setting, planned, tmp_path)  # which version trained which outlives the packing
    assert [r["linernotes"] for r in read_bank(tmp_path).header["retrains"]] == [__version__, "0.0.1"]


def test_scores_from_elsewhere_must_be_whole(tmp_path: Path) -> None:
    bank = bank_of(np.ones((1, 3), bool), np.zeros((1, 2)), ["full"])

    def write(rows: list[tuple[str, str, float]]) -> Path:
        names = ("query", "track_id", "score")
        pq.write_table(
            pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]), tmp_path / "s.parquet"
        )
        return tmp_path / "s.parquet"

    everything = [(f"q{q}", f"t{n}", float(q + n)) for q in range(2) for n in range(3)]
    assert np.array_equal(read_scores(write(everything), bank), [[0, 1, 2], [1, 2, 3]])
    with pytest.raises(LinernotesError, match="no finite score of 1 training tracks for q1"):
        read_scores(write(everything[:-1]), bank)
    with pytest.raises(LinernotesError, match=r"query 'q7' .* is not in the bank"):
        read_scores(write([*everything, ("q7", "t0", 1.0)]), bank)
    with pytest.raises(LinernotesError, match="scores track 't0' for q0 twice"):
        read_scores(write([*everything, ("q0", "t0", 1.0)]), bank)
    with pytest.raises(LinernotesError, match="of type string"):
        read_scores(write([(q, t, str(s)) for q, t, s in everything]), bank)
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(LinernotesError, match="is no table of scores"):
        read_scores(tmp_path / "bad.parquet", bank)


def test_prompts_are_read_and_mistakes_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,split,seed,heard\na tone,tuning,9,yes\nanother,,,\n")
    first, second = read_prompts(path, 2.0, 50)
    assert (first.split, first.seed, first.heard) == ("tuning", 9, True)
    assert (second.split, second.seed, second.heard) == ("reporting", 51, False)
    path.write_bytes(b"\xef\xbb\xbfprompt;split\r\na tone;tuning\r\n")  # as Excel saves it
    (only,) = read_prompts(path, 2.0, 50)
    assert (only.prompt, only.split) == ("a tone", "tuning")
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"prompt": "a tone"}\n{"name": "b"}\n')
    with pytest.raises(LinernotesError, match="has no prompt"):
        read_prompts(lines, 2.0, 0)
    for text, sentence in (
        ("prompt,seed\nx,4294967296\n", "give a whole number below"),
        ("prompt\n", r"has no rows: give a row for every clip"),
        ("what\nx\n", r"has no column that holds prompts \(its columns: what\): add a column prompt"),
        ("prompt,split\nx,both\n", r"line 2 of prompts.csv has split 'both'"),
        ("prompt,seed\nx,-1\n", "has seed '-1'"),
        ("prompt,seed\nx,²\n", "has seed '²'"),
        ('prompt,kind\n"a,one\nb,two\nc,three\n', "line 2 .* quote"),
        ("prompt,kind\na reel, in D,x\n", "has 3 fields, its header 2"),
        ("prompt,name\nx,a\ny,a\n", "the same name"),
    ):
        path.write_text(text)
        with pytest.raises(LinernotesError, match=sentence):
            read_prompts(path, 2.0, 0)


# --- the benchmark
# -----------------------------------------------------------------------------------------------------


def test_the_benchmark_plants_what_it_says() -> None:
    planned = plan_tracks(Catalogue(CATALOGUE))
    tracks = {p.track.track_id: p.track for p in planned}
    assert len(tracks) == len(planned)
    training = [t for t in tracks.values() if t.split == "train"]
    assert len(training) == TRAINING_TRACKS
    works = [t.work_id for t in training]
    for relation, count in RELATIONS.items():
        found = [t for t in tracks.values() if t.extra.get("relation") == relation and t.split == "train"]
        assert len(found) == (2 * count if relation == "duplicate" else count)
        for track in found:
            other = tracks[track.extra["related_to"]]
            assert other.split == ("train" if relation == "duplicate" else "decoy")
            # no other version was trained on
            assert works.count(other.work_id) == (2 if relation == "duplicate" else 1)
    rare = [t for t in training if t.extra["instrument"] == "xylophone"]
    assert len(rare) == 10 and all(t.extra["relation"] == "rare" for t in rare)
    queries = plan_queries(planned)
    assert len({q.name for q in queries}) == len({q.seed for q in queries}) == len(queries) == 40
    assert sum(q.split == "reporting" for q in queries) == 25 and sum(q.heard for q in queries) == 8
    assert not {q.prompt for q in queries if q.split == "tuning"} & {
        q.prompt for q in queries if q.split == "reporting"
    }


def test_the_benchmark_takes_its_tracks_from_the_built_in_catalogue_unchanged() -> None:
    model_folder, catalogue_folder = open_benchmark(BENCHMARK)
    benchmark, builtin = Catalogue(catalogue_folder), Catalogue(CATALOGUE)
    place = {track.track_id: i for i, track in enumerate(builtin.tracks)}
    rows = [i for i, track in enumerate(benchmark.tracks) if track.track_id in place][::50]
    origins = [place[benchmark.tracks[i].track_id] for i in rows]
    one, other = benchmark.batch(rows), builtin.batch(origins)
    assert torch.equal(one.latents_nct, other.latents_nct) and torch.equal(one.text_nld, other.text_nld)
    loaded = StableAudio(model_folder)
    benchmark.require(loaded.encoding, "benchmark")
    read_bank(benchmark_parts(BENCHMARK)).require(loaded.weights_hash, benchmark.hash)
    assert len(related_sources(benchmark)) == sum(RELATIONS.values())


def test_scores_that_were_kept_are_read_and_not_computed_again(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    """Found by a planted fault: stored scores that were never looked for would have
    cost every evaluation its hours anew.
    """
    bank, _ = linear_world(noise=1.0, queries=2)
    bank = replace(bank, header={**bank.header, "clips": "c"})
    prepared, asked = prepare(model, catalogue), 0

    def queries() -> list[Query]:
        nonlocal asked
        asked += 1
        return [query_of(catalogue, row) for row in (0, 1)]

    kept = [tmp_path / "shipped", tmp_path / "own"]
    settings = METHOD_SETTINGS["random"]()
    first, second = (
        scores_of(["a", "b"], queries, prepared, bank, "random", settings, kept) for _ in range(2)
    )
    assert asked == 1
    np.testing.assert_array_equal(first.scores_qt, second.scores_qt)


@pytest.mark.parametrize("by", [{0: "0.0.9"}, {1: "abacus"}])
def test_scores_that_another_version_or_device_computed_are_computed_anew(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, by: dict[int, str]
) -> None:
    """Those of the package, which say nothing of what computed them, hold."""
    bank, _ = linear_world(noise=1.0, queries=2)
    header = {"model": model.weights_hash, "catalogue": catalogue.hash, "clips": "c"}
    bank = replace(bank, header={**bank.header, **header})
    names = [query.name for query in bank.queries]
    prepared, settings = prepare(model, catalogue), METHOD_SETTINGS["latent"]()

    def found() -> np.ndarray:
        queries = [query_of(catalogue, row) for row in (0, 1)]
        made = scores_of(names, lambda: queries, prepared, bank, "latent", settings, [tmp_path])
        return made.scores_qt

    now = found()
    (path,) = tmp_path.glob("*.safetensors")
    tensors, said = load_tensors(path, SCORES)
    assert said[BY] == [linernotes.__version__, device_of(model).type]
    other = {name: 2 * tensor for name, tensor in tensors.items()}
    save_tensors(path, other, SCORES, {name: value for name, value in said.items() if name != BY})
    np.testing.assert_array_equal(found(), 2 * now)
    assert stored_scores(bank, [tmp_path], "latent", settings) is not None
    save_tensors(path, other, SCORES, {**said, BY: [by.get(i, one) for i, one in enumerate(said[BY])]})
    assert stored_scores(bank, [tmp_path], "latent", settings) is None
    np.testing.assert_array_equal(found(), now)
    assert not list(tmp_path.glob(".*.partial"))
