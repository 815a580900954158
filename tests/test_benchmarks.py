"""The benchmarks beside the first one: plans, names, refusals, one table over all."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import linernotes
from linernotes.attribution.prepare import prepare
from linernotes.audio import SILENCE_PEAK
from linernotes.catalog.cutting import cut_blocks
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.demo import places
from linernotes.demo.benchmarks import first
from linernotes.demo.benchmarks.all import benchmark_of
from linernotes.demo.benchmarks.description import Planned
from linernotes.demo.benchmarks.long import FEWEST, MOST, OF_A_SPLIT, segments_in
from linernotes.demo.benchmarks.making import open_benchmark, write_prompts, write_untrained
from linernotes.demo.places import CATALOGUE, SIZES, require_bank
from linernotes.demo.sounds import builtin_sound
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.clips import read_prompts
from linernotes.evaluation.bank.scores import GATHERS, Scored, of_columns, scores_of, stored_scores
from linernotes.evaluation.benchmarks import Case, measure_across
from linernotes.evaluation.lds import measure_lds
from linernotes.models.opening import open_model
from linernotes.models.parts import OBJECTIVE
from linernotes.models.stable_audio import StableAudio
from linernotes.report.benchmarks import across_page, across_table
from linernotes.settings.methods import METHOD_SETTINGS
from test_truth import linear_world

FURTHER = ("deep", "long")


@pytest.fixture(scope="module")
def builtin() -> Catalogue:
    return Catalogue(CATALOGUE)


@pytest.fixture(scope="module")
def planned(builtin: Catalogue) -> dict[str, list[Planned]]:
    return {name: benchmark_of(name).tracks(builtin) for name in FURTHER}


def test_no_work_of_a_decoy_is_trained_on(planned: dict[str, list[Planned]]) -> None:
    for name, tracks in planned.items():
        works = {split: {p.track.work_id for p in tracks if p.track.split == split} for split in OF_A_SPLIT}
        related = {p.track.work_id for p in tracks if p.track.extra.get("relation")}
        assert works["train"] & works["decoy"] <= related, name  # the first one's planted relatives
        assert len({p.track.track_id for p in tracks}) == len(tracks)


def test_long_has_whole_tunes_of_two_to_twelve_segments(
    builtin: Catalogue, planned: dict[str, list[Planned]]
) -> None:
    """One of each work, as many as are asked for, and not too many of one length."""
    segment_s, tracks = builtin.encoding.segment_s, [p.track for p in planned["long"]]
    assert all(p.origin is None for p in planned["long"])
    assert len({track.work_id for track in tracks}) == len(tracks)
    for split, (count, of_a_length) in OF_A_SPLIT.items():
        seconds = [float(track.extra["seconds"]) for track in tracks if track.split == split]
        assert len(seconds) == count
        assert (FEWEST - 1) * segment_s < min(seconds) and max(seconds) < (MOST + 0.1) * segment_s
        assert max(Counter(int(s / segment_s) for s in seconds).values()) <= of_a_length + 2
    assert sum(s > 9 * segment_s for s in seconds) and sum(s < 5 * segment_s for s in seconds)


def test_half_of_the_clips_are_by_new_captions_and_none_is_for_tuning(
    planned: dict[str, list[Planned]],
) -> None:
    for name, tracks in planned.items():
        queries = benchmark_of(name).queries(tracks)
        trained = {p.track.caption for p in tracks if p.track.split == "train"}
        assert Counter(query.kind for query in queries) == {"caption": 12, "recombined": 12}
        assert all((query.prompt in trained) == (query.kind == "caption") for query in queries)
        assert {query.split for query in queries} == {"reporting"}
        for distinct in ("name", "seed", "prompt"):
            assert len({getattr(query, distinct) for query in queries}) == 24
        assert Counter(query.kind for query in queries if query.heard) == {"caption": 3, "recombined": 3}


def test_nothing_is_asked_for_that_methods_were_developed_on(planned: dict[str, list[Planned]]) -> None:
    seen = {
        query.prompt for query in first.plan_queries(planned["deep"])
    }  # the same tracks as the first one's
    for name, tracks in planned.items():
        assert not seen & {query.prompt for query in benchmark_of(name).queries(tracks)}


def test_sized_benchmarks_hold_each_other_and_ask_the_same(builtin: Catalogue) -> None:
    """As many steps a track, the same prompts: captions in all of them, and captions in none."""
    sized = {count: benchmark_of(f"tracks-{count}") for count in SIZES}
    plans = {count: each.tracks(builtin) for count, each in sized.items()}
    trained = {n: [p.track for p in plan if p.track.split == "train"] for n, plan in plans.items()}
    for one, other in pairwise(SIZES):
        assert trained[other][:one] == trained[one] and plans[other][other:] == plans[one][one:]
        assert sized[one].training.steps / one == pytest.approx(sized[other].training.steps / other, rel=0.01)
    assert [len(tracks) for tracks in trained.values()] == list(SIZES)
    (queries, *others) = [sized[count].queries(plan) for count, plan in plans.items()]
    assert others == [queries] * len(others) and len(queries) == 24
    captions = [{track.caption for track in tracks} for tracks in trained.values()]
    for query in queries:
        assert query.prompt in captions[0] if query.kind == "caption" else query.prompt not in captions[-1]


def test_benchmarks_of_other_kinds_ask_what_nothing_was_developed_on(builtin: Catalogue) -> None:
    """Clips, half by new captions; an adapter's tracks are of works that its base model never heard."""
    developed_on = {query.prompt for query in first.plan_queries(first.plan_tracks(builtin))}
    counts = {"flow": (256, 48), "adapter": (128, 48), "codec-lm": (512, 144)}
    for name, (trained, decoys) in counts.items():
        plan = benchmark_of(name).tracks(builtin)
        splits = [p.track.split for p in plan]
        assert splits == ["train"] * trained + ["decoy"] * decoys
        queries = benchmark_of(name).queries(plan)
        captions = {p.track.caption for p in plan if p.track.split == "train"}
        assert Counter(query.kind for query in queries) == {"caption": 12, "recombined": 12}
        assert all((query.prompt in captions) == (query.kind == "caption") for query in queries)
        if name == "codec-lm":
            assert not developed_on & {query.prompt for query in queries}
    known = {p.track.work_id for p in first.plan_tracks(builtin)}
    assert not known & {p.track.work_id for p in benchmark_of("adapter").tracks(builtin)}


def test_an_adapter_and_a_flow_start_as_what_they_are(tmp_path: Path) -> None:
    for name in ("adapter", "flow"):
        write_untrained(benchmark_of(name), tmp_path / name / "untrained", 0)
        model = open_model(tmp_path / name / "untrained")
        assert ("adapter" in model.layer_kinds) == (name == "adapter")
        assert (tmp_path / name / "untrained" / OBJECTIVE).exists() == (name == "flow")
    base = StableAudio(tmp_path / "adapter" / "base")
    assert base.weights_hash == linernotes.load_model("benchmark").weights_hash


def test_a_plan_is_the_same_every_time(builtin: Catalogue, planned: dict[str, list[Planned]]) -> None:
    deep = benchmark_of("deep")
    assert deep.tracks(builtin) == planned["deep"]
    assert deep.queries(planned["deep"]) == deep.queries(planned["deep"])


def test_a_whole_tune_sounds_as_long_as_it_says_and_from_anywhere(
    builtin: Catalogue, planned: dict[str, list[Planned]]
) -> None:
    """What a page plays of a long track is what was encoded, and cutting it gives the planned segments."""
    shape = builtin.encoding
    for track in [p.track for p in planned["long"]][::120]:
        whole = builtin_sound(track, 0.0, shape)
        assert whole.samples.shape[1] == round(float(track.extra["seconds"]) * shape.rate_hz)
        cut = sum(len(some.seconds_n) for some in cut_blocks([whole.samples], shape))
        assert cut == segments_in(whole.seconds, shape) and FEWEST <= cut <= MOST
        assert np.abs(whole.samples[:, -shape.rate_hz :]).max() > SILENCE_PEAK  # it ends with music
        later = builtin_sound(track, shape.segment_s, shape)
        np.testing.assert_array_equal(later.samples, whole.samples[:, shape.segment_samples :])


def test_the_prompts_of_a_benchmark_come_back_from_their_file(
    tmp_path: Path, planned: dict[str, list[Planned]]
) -> None:
    """A bank built from the folder that ``rebuild`` made is the bank that is built by the name."""
    for name in FURTHER:
        queries = benchmark_of(name).queries(planned[name])
        write_prompts(tmp_path / "prompts.csv", queries)
        read = read_prompts(tmp_path / "prompts.csv", 1.0, 0)
        assert [{**asdict(query), "seconds": 1.0} for query in queries] == [asdict(query) for query in read]


def test_names_that_are_none_are_refused(tmp_path: Path) -> None:
    for words in (
        ["rebuild", "--benchmark", "wide", "-o", str(tmp_path / "out")],
        ["evaluate", "benchmarks", "--benchmarks", "wide", "-o", str(tmp_path / "page.md")],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2
        assert "there is no benchmark 'wide': choose one of benchmark, deep, long" in " ".join(
            done.output.split()
        )
    assert not list(tmp_path.iterdir())


def test_what_the_package_does_not_hold_is_said_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "BUNDLE", tmp_path)
    with pytest.raises(LinernotesError, match=r"no model of the benchmark long.*rebuild --benchmark long"):
        open_benchmark("long")
    with pytest.raises(LinernotesError, match=r"no retrain bank of the benchmark deep.*bank build"):
        require_bank("deep")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapter").mkdir()  # as people call theirs
    for asked in (open_benchmark, require_bank):
        with pytest.raises(LinernotesError, match=f"the folder adapter here .* {tmp_path / 'adapter'}"):
            asked("adapter")


# --- one table over benchmarks
# -----------------------------------------------------------------------------------------------------


def worlds(noise: float = 0.5) -> list[Case]:
    """Two banks with two seeds a half. On the second all clips are for reporting, and every track is two
    segments.
    """
    cases = []
    for name in ("one", "other"):
        bank, value_qn = linear_world(noise=noise, halves=24)
        if name == "other":
            bank = replace(bank, queries=[replace(query, split="reporting") for query in bank.queries])
        spoilt = np.random.default_rng(3).standard_normal(value_qn.shape)
        scored = {}
        for method, share in (("readout", 0.0), ("abu", 0.7), ("latent", 0.9), ("random", 1.0)):
            scores = (1 - share) * value_qn + share * spoilt
            decoys = np.full((len(scores), 3), 1e6)  # nothing of these may count
            all_qt = np.concatenate([scores, decoys], axis=1)
            ways = {way: all_qt if way == "sum" else -all_qt for way in GATHERS} if name == "other" else {}
            if ways:
                ways["norm"] = all_qt + 2 * np.random.default_rng(4).standard_normal(all_qt.shape)
            scored[method] = Scored(method, {}, all_qt, 1.0, ways)
        cases.append(Case(name, bank, scored))
    return cases


def test_one_table_over_benchmarks() -> None:
    across = measure_across(worlds())
    one, other = across.benchmarks
    for each in (one, other):
        assert [m.method for m in each.lds.methods] == ["readout", "abu", "latent", "random"]
        assert each.twice == 12 and each.tracks == 40 and each.lds.methods[0].lds.value > 0.9
    assert one.gathered is None and other.gathered is not None
    by = {m.method: m.lds.value for m in other.gathered.methods}
    assert by["readout, sum"] == other.lds.methods[0].lds.value == pytest.approx(-by["readout, mean"])
    assert one.over_sum == {} and other.over_sum["readout, mean"].value == pytest.approx(
        -2 * by["readout, sum"]
    )
    over = other.over_sum["readout, norm"].value
    assert over == pytest.approx(by["readout, norm"] - by["readout, sum"]) and -1 < over < 0
    those = [other.over_sum[f"{method}, max"].value for method in ("readout", "abu")]
    assert other.over_sum["together, max"].value == pytest.approx(np.mean(those))
    kept = {m.method: m.kept for m in one.lds.methods}
    assert {m.method: m.kept for m in other.gathered.methods} == {
        f"{method}, {way}": kept[method] for method in kept for way in GATHERS
    }
    assert across.kept_on == "one"  # on the other nothing was chosen
    assert [m.kept for m in one.lds.methods] == [m.kept for m in other.lds.methods]
    page = across_page(across, "command")
    table = page[page.index("Over the same method's sum:") :].splitlines()
    assert table[2] == "| method | norm | mean | highest |"
    row = next(line for line in table if line.startswith("| `readout` |")).split(" | ")
    assert row[1].startswith(f"{over:.2f} [") and row[2].startswith(f"{-2 * by['readout, sum']:.2f} [")
    for method in ("readout", "abu", "latent", "random"):
        assert page.count(f"| `{method}` |") == 6
    record = across_table(across).json()
    assert {"lds_one", "lds_other"} <= record["methods"][0].keys() and record["concord"][0]["tau"] == 1


def test_a_number_of_tracks_that_is_given_is_kept_in_place_of_one_that_is_chosen() -> None:
    (one, _) = worlds()
    scores = {method: of_columns(scored.scores_qt, one.bank) for method, scored in one.scored.items()}
    found = measure_lds(one.bank, scores, kept=dict.fromkeys(scores, 3))
    assert {m.kept for m in found.methods} == {3}
    assert {m.kept for m in measure_lds(one.bank, scores).methods} != {3}


def test_benchmarks_agree_by_kendalls_tau_exactly() -> None:
    """Three methods in the same order: 1, by chance one time in six; chance itself is not asked."""
    (concord,) = measure_across(worlds()).concord
    assert concord.methods == 3 and concord.tau.value == 1
    assert concord.probability == pytest.approx(1 / len(list(permutations(range(3)))))
    one, other = worlds()
    turned = {
        name: replace(scored, scores_qt=-scored.scores_qt) if name != "random" else scored
        for name, scored in other.scored.items()
    }
    (concord,) = measure_across([one, replace(other, scored=turned)]).concord
    assert concord.tau.value == -1 and concord.probability == pytest.approx(1)


def test_benchmarks_with_other_methods_are_refused() -> None:
    one, other = worlds()
    fewer = {name: scored for name, scored in other.scored.items() if name != "abu"}
    with pytest.raises(LinernotesError, match="abu is not scored on both one and other"):
        measure_across([one, replace(other, scored=fewer)])


def test_scores_are_kept_gathered_in_every_way_and_found_without_a_model(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    bank, _ = linear_world(noise=1.0, queries=2)
    prepared, settings = prepare(model, catalogue), METHOD_SETTINGS["latent"]()
    header = {"model": model.weights_hash, "catalogue": catalogue.hash, "clips": "c"}
    bank = replace(bank, header={**bank.header, **header})
    from conftest import query_of

    names = [query.name for query in bank.queries]
    queries = [query_of(catalogue, row) for row in (0, 1)]
    assert stored_scores(bank, [tmp_path], "latent", settings) is None
    scored = scores_of(names, lambda: queries, prepared, bank, "latent", settings, [tmp_path])
    found = stored_scores(bank, [tmp_path / "nowhere", tmp_path], "latent", settings)
    assert found is not None
    np.testing.assert_array_equal(found.scores_qt, scored.scores_qt)
    segments = np.bincount(catalogue.track_n)
    assert set(found.gathered) == set(GATHERS) and segments.max() > 1
    np.testing.assert_array_equal(found.gathered["max"], found.scores_qt)  # as likenesses gather
    np.testing.assert_allclose(found.gathered["mean"] * segments, found.gathered["sum"], rtol=1e-5)
    assert stored_scores(bank, [tmp_path], "latent", METHOD_SETTINGS["latent"](seed=1)) is None


def test_the_table_says_of_the_shipped_benchmark_what_its_opened_bank_says(tmp_path: Path) -> None:
    """The same scores, found with and without model and catalogue."""
    page, methods = tmp_path / "page.md", ["latent", "random"]
    words = ["evaluate", "benchmarks", "--benchmarks", "benchmark", "--methods", ",".join(methods), "--json"]
    done = CliRunner().invoke(app, [*words, "-o", str(page)])
    assert done.exit_code == 0, done.output
    told = {row["method"]: row["lds_benchmark"] for row in json.loads(done.output)["methods"]}
    found = linernotes.evaluate_lds(linernotes.open_bank(), methods)
    assert told == {m.method: pytest.approx(m.lds.value) for m in found.methods}
    assert "## Leave-k-out on `benchmark`" in page.read_text()
