"""Comparing methods, planning their cost, searching their settings."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import optuna
import pyarrow.parquet as pq
import pytest
import soundfile

import linernotes
from conftest import RATE_HZ, SEGMENT_SAMPLES, tone
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import segment_query
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.agreement import (
    concentration,
    hub_share,
    measure_agreement,
    overlap,
    rank_biased_overlap,
)
from linernotes.evaluation.cost.units import UNITS, Units, seconds_of_units
from linernotes.evaluation.search import Metric, read_grid, search
from linernotes.evaluation.self_influence import rank_of
from linernotes.methods.all import METHODS
from linernotes.methods.contract import Prepared
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, AbuSettings, MethodSettings
from linernotes.settings.reading import read_settings

QUICK = {
    "draws": 2,
    "gradient_draws": 8,
    "fisher_draws": 1,
    "projection": 2,
    "max_steps": 2,
    "retain_batch": 4,
}


def test_overlaps_by_hand() -> None:
    assert overlap(np.array([1, 2, 3]), np.array([3, 9, 1])) == pytest.approx(2 / 3)
    one, two = np.array([0, 1, 2]), np.array([1, 0, 2])
    weights = np.array([1, 0.9, 0.81])
    assert rank_biased_overlap(one, two) == pytest.approx((weights * [0, 1, 1]).sum() / weights.sum())
    assert rank_biased_overlap(one, one) == pytest.approx(1)
    assert concentration(np.array([0.0, 0.0, 0.0, 3.0, 1.0]), 1) == pytest.approx(0.75)
    assert hub_share(np.array([[0, 1], [1, 2], [3, 4]])) == pytest.approx((0.5 + 0 + 0) / 3)


def test_agreement_leaves_decoys_out_and_counts_them() -> None:
    scores_qn = np.array([[3.0, 2.0, 1.0, 9.0]])
    found = measure_agreement(
        {"a": scores_qn, "b": -scores_qn}, ["q"], np.array([False, False, False, True]), first=1
    )
    assert found.pearson[0, 1] == pytest.approx(-1) and found.spearman[0, 1] == pytest.approx(-1)
    assert found.overlap.tolist() == [[1, 0], [0, 1]]
    assert found.decoys_first.tolist() == [1, 0]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        linernotes.generate(f"tone {i}", folder / f"clip{i}.flac", seed=i, model=model_path) for i in range(2)
    ]


def test_a_comparison_goes_on_where_it_was(
    tmp_path: Path, clips: list[Path], model_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (clips, tmp_path / "out", ["abu", "trak", "tonal", "random"], model_path, catalogue.path)
    settings = {"draws": 2, "gradient_draws": 8}
    done = linernotes.compare(*arguments, **settings)
    page = done.page.read_text()
    assert all(f"<th>{method}</th>" in page for method in done.attributions) and "data:audio/mpeg" in page
    assert json.loads((tmp_path / "out" / "agreement.json").read_text())["methods"] == list(done.attributions)
    assert np.diagonal(done.agreement.spearman) == pytest.approx(1)

    def never(*_: object) -> None:
        raise AssertionError("a finished method ran again")

    monkeypatch.setattr("linernotes.attribution.filing.attribute_clips", never)
    assert linernotes.compare(*arguments, **settings).attributions == done.attributions
    with pytest.raises(LinernotesError, match="holds another attribution"):
        linernotes.compare(*arguments, **{**settings, "draws": 3})
    clips = [
        linernotes.generate("tone 0", tmp_path / f"{clip.name}", seed=0, seconds=0.3, model=model_path)
        for clip in clips
    ]
    with pytest.raises(LinernotesError, match="holds another attribution"):  # other clips of the same names
        linernotes.compare(clips, *arguments[1:], **settings)


def test_a_set_of_clips_gets_one_attribution(
    tmp_path: Path, clips: list[Path], model_path: Path, catalogue: Catalogue
) -> None:
    (one,) = linernotes.attribute(
        clips, tmp_path / "set", model_path, catalogue.path, together=True, **_quick()
    )
    assert one.query.name == "clip0+clip1" and one.query.prompt == "tone 0 | tone 1"
    assert one.query.windows == 2 and "unlearned as one" in (tmp_path / "set" / "report.html").read_text()
    again = linernotes.attribute(
        clips, tmp_path / "set", model_path, catalogue.path, together=True, **_quick()
    )
    assert again == [one]  # found there
    assert linernotes.replay(tmp_path / "set").same


def _quick() -> dict[str, int]:
    return {
        name: value for name, value in QUICK.items() if name in METHOD_SETTINGS[DEFAULT_METHOD].model_fields
    }


@pytest.mark.parametrize("method", [m for m in METHOD_SETTINGS if m != "clap"])
def test_every_method_writes_a_report(
    tmp_path: Path, clips: list[Path], model_path: Path, catalogue: Catalogue, method: str
) -> None:
    kind = METHOD_SETTINGS[method]
    settings = {name: value for name, value in QUICK.items() if name in kind.model_fields}
    (done,) = linernotes.attribute(clips[0], tmp_path, model_path, catalogue.path, method=method, **settings)
    assert done.method == method and len(done.tracks) == len(catalogue.tracks)
    assert kind.__doc__
    page = html.unescape((tmp_path / "report.html").read_text())
    assert " ".join(kind.__doc__.split()) in " ".join(page.split())


@pytest.mark.parametrize("method", ["readout", "grad-dot", "trak", "latent", "random"])
def test_a_clip_longer_than_the_model_hears_gets_a_page_by_every_family(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, method: str
) -> None:
    """Found by a reader: only unlearning says whether windows are one, and other methods had no page."""
    longer = tmp_path / "longer.wav"
    soundfile.write(longer, tone(440.0, 2 * SEGMENT_SAMPLES), RATE_HZ)
    (done,) = linernotes.attribute(longer, tmp_path, model_path, catalogue.path, method=method)
    assert done.query.windows == 2
    assert "heard in 2 windows, whose scores are averaged" in (tmp_path / "report.html").read_text()


def test_a_comparison_of_one_clip_says_nothing_of_hubs_and_how_it_is_repeated(
    tmp_path: Path, clips: list[Path], model_path: Path, catalogue: Catalogue
) -> None:
    for some in (clips[:1], clips):
        with linernotes.Workspace(model_path, catalogue.path, drawn="segments") as work:
            done = work.compare(some, tmp_path / str(len(some)), ["latent", "random"])
        page = done.page.read_text()
        assert "nan" not in page and ("shared between clips" in page) == (len(some) > 1)
        for attribution in done.attributions["latent"]:
            assert "--drawn segments" in attribution.sources.command


def test_comparisons_that_make_no_sense_are_refused(tmp_path: Path, clips: list[Path]) -> None:
    with pytest.raises(UsageError, match="at least two methods"):
        linernotes.compare(clips, tmp_path, ["abu"])
    with pytest.raises(UsageError, match="setting projection = 3 fits none of the methods abu, tonal"):
        linernotes.compare(clips, tmp_path, ["abu", "tonal"], projection=3)
    with pytest.raises(UsageError, match="there is no method 'tuba'"):
        linernotes.compare(clips, tmp_path, ["abu", "tuba"])


def test_a_workspace_says_what_the_functions_say(
    tmp_path: Path, clips: list[Path], model_path: Path, catalogue: Catalogue
) -> None:
    """Of one model, opened once: its other verbs too."""
    where = {"model": model_path, "catalogue": catalogue.path}
    grid = ["draws=1,2"]
    fixed = {"method": "activations", "segments": 2, "candidates": 4}
    with linernotes.open(**where) as work:
        ranks = work.self_influence("latent", segments=2)
        done = work.compare(clips, tmp_path / "one", ["latent", "random"])
        found = work.search(tmp_path / "s1", grid, **fixed)
        assert [plan.method for plan in work.plan(["latent", "random"], queries=2)] == ["latent", "random"]
    assert ranks == linernotes.self_influence(method="latent", segments=2, **where)
    again = linernotes.compare(clips, tmp_path / "two", ["latent", "random"], **where)
    assert done.agreement.record() == again.agreement.record() and done.page.is_file()
    other = linernotes.search(tmp_path / "s2", grid, **fixed, **where)
    assert [(t.chosen, t.values) for t in found.trials] == [(t.chosen, t.values) for t in other.trials]


def test_a_plan_counts_passes_exactly(model: StableAudio, catalogue: Catalogue, tmp_path: Path) -> None:
    prepared = Prepared(model, catalogue, tmp_path)
    query = segment_query(catalogue, 0)
    n, trained = len(catalogue), len(catalogue.training_rows)
    work = METHODS["abu"].work(
        prepared, AbuSettings(draws=5, gradient_draws=7, steps=3, fisher_draws=2), query
    )
    assert work.once == {"forward": 5 * n, "square": 2 * trained}
    assert work.per_query == {"gradient": 21, "forward": 5 * n}


def test_every_method_can_be_planned(model_path: Path, catalogue: Catalogue) -> None:
    plans = {p.method: p for p in linernotes.plan(queries=2, model=model_path, catalogue=catalogue.path)}
    assert plans.keys() == METHOD_SETTINGS.keys() - {"clap"}
    assert plans["abu"].queries_s > 0 and plans["random"].queries_s == 0
    assert plans["trak"].disk_mib > 0 and plans["mucs"].queries_s > 0


@pytest.mark.parametrize("slow", [False, True])
def test_a_unit_is_measured_once_where_it_is_slow_and_often_where_it_is_not(
    model_path: Path, catalogue: Catalogue, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of one pass, whatever the number of passes that were timed."""
    prepared = prepare(linernotes.load_model(model_path), catalogue)
    seen: list[int] = []
    at = [0.0]

    def forward(units: Units) -> int:
        seen.append(units.pairs)
        at[0] += (20.0 if slow else 0.001) * units.pairs
        assert units.batch_size * units.workers <= max(units.pairs, units.workers)
        return units.pairs

    monkeypatch.setattr("linernotes.evaluation.cost.units.time.perf_counter", lambda: at[0])
    monkeypatch.setitem(UNITS, "forward", forward)
    query = segment_query(catalogue, 0)
    seconds = seconds_of_units(prepared, AbuSettings(), query, {"forward"})
    assert seconds["forward"] == pytest.approx(20.0 if slow else 0.001)
    assert len(seen) == (1 if slow else 5) and seen == sorted(seen) and seen[-1] <= 256


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a process forget its peak"
)
def test_a_plan_is_not_charged_for_what_ran_before_it(model_path: Path, catalogue: Catalogue) -> None:
    def planned_mib() -> float:
        return linernotes.plan(["random"], model=model_path, catalogue=catalogue.path)[0].memory_mib

    before_mib = planned_mib()
    np.ones(1024 * 2**17)  # 1 GiB, let go at once
    assert planned_mib() < before_mib + 512


def measured_by_layers(_method: str, settings: MethodSettings, _folder: Path) -> dict[str, float]:
    assert isinstance(settings, AbuSettings)
    return {"mean_rank": {"mlp": 2.0, "all": 1.0}[settings.layers] * (1 + settings.damping), "harm": 0.0}


METRIC = Metric("minimize", "rank", measured_by_layers)
GRID = {"layers": ["mlp", "all"], "damping": [0.1, 0.2, 0.4]}


def test_a_grid_search_tries_all_and_keeps_the_best(tmp_path: Path) -> None:
    found = search("abu", GRID, {"seed": 3}, "rank", METRIC, "grid", None, tmp_path)
    assert len(found.trials) == 6 and len({json.dumps(t.chosen) for t in found.trials}) == 6
    assert found.trials[0].chosen == {"layers": "all", "damping": 0.1}
    method, settings = read_settings(None, tmp_path / "best.toml", {})
    assert (method, settings) == ("abu", AbuSettings(layers="all", damping=0.1, seed=3))
    assert pq.read_table(tmp_path / "trials.parquet").num_rows == 6
    studies = optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 'trials.db'}")
    assert studies[0].n_trials == 6


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    calls = []

    def counted(method: str, settings: MethodSettings, folder: Path) -> dict[str, float]:
        calls.append(settings)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measured_by_layers(method, settings, folder)

    metric = Metric("minimize", "rank", counted)
    with pytest.raises(KeyboardInterrupt):
        search("abu", GRID, {}, "rank", metric, "grid", None, tmp_path)
    found = search("abu", GRID, {}, "rank", metric, "grid", None, tmp_path)
    assert len(found.trials) == 6 and len({json.dumps(t.chosen) for t in found.trials}) == 6
    assert len(calls) == 7
    with pytest.raises(UsageError, match="holds another search"):
        search("abu", {"layers": ["all"]}, {}, "rank", metric, "grid", None, tmp_path)
    other_model = Metric("minimize", "rank", counted, {"model": "another"})
    with pytest.raises(UsageError, match="holds another search"):
        search("abu", GRID, {}, "rank", other_model, "grid", None, tmp_path)


def test_a_parzen_search_stays_between_the_values(tmp_path: Path) -> None:
    found = search("abu", GRID, {}, "rank", METRIC, "tpe", 8, tmp_path)
    assert len(found.trials) == 8
    assert all(
        0.1 <= t.chosen["damping"] <= 0.4 and t.chosen["layers"] in GRID["layers"] for t in found.trials
    )


def test_a_parzen_search_that_goes_on_does_not_repeat_itself(tmp_path: Path) -> None:
    search("abu", GRID, {}, "rank", METRIC, "tpe", 3, tmp_path)
    found = search("abu", GRID, {}, "rank", METRIC, "tpe", 6, tmp_path)
    assert len({t.chosen["damping"] for t in found.trials}) == 6
    with pytest.raises(UsageError, match="holds another search"):
        search("abu", GRID, {}, "rank", METRIC, "grid", None, tmp_path)


def test_a_grid_of_one_choice_named_twice(tmp_path: Path) -> None:
    grid = read_grid("abu", ["damping=0.1,1e-1", "layers=all"])
    found = search("abu", grid, {}, "rank", METRIC, "grid", None, tmp_path)
    assert [t.chosen for t in found.trials] == [{"damping": 0.1, "layers": "all"}]


def test_a_search_in_which_all_trials_fail_says_why(tmp_path: Path) -> None:
    def broken(_method: str, _settings: MethodSettings, _folder: Path) -> dict[str, float]:
        raise LinernotesError("the step is too large")

    with pytest.raises(LinernotesError, match="all 6 trials failed, the first because the step is too large"):
        search("abu", GRID, {}, "rank", Metric("minimize", "rank", broken), "grid", None, tmp_path)
    assert not (tmp_path / "best.toml").exists()


def test_equal_scores_put_none_first() -> None:
    assert rank_of(0, np.zeros(5)) == 3
    assert rank_of(1, np.array([2.0, 1.0, 1.0, 0.0])) == 2.5
    assert rank_of(0, np.array([2.0, 1.0])) == 1


def test_a_set_of_clips_has_no_ranks_of_its_own(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    where = {"model": model_path, "catalogue": catalogue.path}
    with pytest.raises(UsageError, match="--together"):
        linernotes.self_influence(segments=2, together=True, **where)
    with pytest.raises(UsageError, match="--together"):
        linernotes.search(tmp_path, ["damping=0.1,0.2"], segments=2, candidates=3, together=True, **where)


def test_agreement_over_one_clip_is_json() -> None:
    found = measure_agreement({"a": np.eye(1, 3), "b": np.ones((1, 3))}, ["q"], np.zeros(3, dtype=bool))
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["hub_share"] == record["decoys_first"] == [None, None]


def test_a_search_by_self_influence(tmp_path: Path, model_path: Path, catalogue: Catalogue) -> None:
    """A sane step finds the segment itself; one that breaks the weights is a failed trial with its reason,
    not an end.
    """
    found = linernotes.search(
        tmp_path / "s",
        ["step_size=1e30,2e-5"],
        segments=3,
        candidates=5,
        model=model_path,
        catalogue=catalogue.path,
        **_quick(),
    )
    assert found.trials[0].chosen == {"step_size": 2e-5} and found.trials[0].values["mean_rank"] == 1
    assert "finite" in found.trials[1].failed
    assert (tmp_path / "s" / "search.svg").exists()
    assert not list((tmp_path / "s").glob(".trial-*"))


def test_a_setting_stands_in_the_grid_or_beside_it() -> None:
    with pytest.raises(UsageError, match="--fisher-draws stands beside --grid 'fisher_draws=1,2'"):
        read_grid("abu", ["layers=mlp", "fisher_draws=1,2"], {"draws": 4, "fisher_draws": 2})


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ([], "the grid is empty"),
        (["layers="], "names no values"),
        (["layers=mlp", "layers=all"], "names layers a second time"),
        (["together=true"], "one by one"),
        (["draws=0"], "setting draws = '0' for abu is refused"),
        (["projection=3"], "setting projection = '3' for abu is refused"),
    ],
)
def test_bad_grids_are_refused(grid: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        read_grid("abu", grid)
