"""Credits that are put to the test by retraining: right ones are borne out, made-up ones are not, and too few
retrains cannot tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import linernotes
from linernotes.attribution.result import RECORD, Attribution
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.store import plan_retrains
from linernotes.evaluation.challenge import SEED, Claim, Forecast, challenge_claims, judge_claims
from linernotes.settings.places import cache_folder
from test_page import naming

TRACKS = 60


@pytest.fixture(scope="module", autouse=True)
def one_after_the_other(one_thread: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Retrains run in this process, as in test_bank_cli."""
    with one_thread():
        yield


def world(halves: int, clips: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects of the named tracks, halves, and the clips' losses in them: what the named tracks do, and as
    much again that nobody can be named for.
    """
    random = np.random.default_rng(seed)
    effect_qn = np.where(np.arange(TRACKS) < 8, random.uniform(0.005, 0.02, (clips, TRACKS)), 0)
    effect_qn = random.permuted(effect_qn, axis=1)
    present_hn = np.stack([r.present_n for r in plan_retrains(TRACKS, halves, again=0, full=0, seed=seed)])
    lacking_hq = (effect_qn @ ~present_hn.T).T
    noise_hq = lacking_hq.std() * random.standard_normal((halves, clips))
    return effect_qn, present_hn, 1 + lacking_hq + noise_hq


def test_right_credits_are_borne_out_and_made_up_ones_are_not() -> None:
    effect_qn, present_hn, loss_hq = world(halves=32, clips=6)
    right = judge_claims(effect_qn, present_hn, loss_hq)
    assert right.borne_out is True and "bear the named tracks out" in right.sentence
    assert right.correlation.low < right.if_right < right.correlation.high and right.chance < 0.01
    made_up = judge_claims(np.roll(effect_qn, 7, axis=1), present_hn, loss_hq)
    assert made_up.borne_out is False and "do not bear the named tracks out" in made_up.sentence
    opposite = judge_claims(-effect_qn, present_hn, loss_hq)
    assert opposite.borne_out is False and opposite.correlation.value == pytest.approx(
        -right.correlation.value
    )


def test_who_is_right_is_seldom_told_that_he_is_wrong() -> None:
    """Nor is what nobody's tracks do taken for a proof."""
    right, made_up = [], []
    for seed in range(40):
        effect_qn, present_hn, loss_hq = world(halves=12, clips=1, seed=seed)
        right.append(judge_claims(effect_qn, present_hn, loss_hq))
        made_up.append(judge_claims(np.roll(effect_qn, 7, axis=1), present_hn, loss_hq))
    of_right, of_made_up = ([each.borne_out for each in found] for found in (right, made_up))
    assert of_right.count(False) <= 2 and of_right.count(True) >= 12
    assert of_made_up.count(True) <= 4 and of_made_up.count(False) >= 8
    assert sum(0.05 < each.chance < 0.95 for each in made_up) > 30  # as evenly as chance has it


def test_few_retrains_cannot_tell_however_well_they_agree() -> None:
    effect_qn, present_hn, _ = world(halves=6, clips=4)
    found = judge_claims(effect_qn, present_hn, (effect_qn @ ~present_hn.T).T + 1)
    assert found.correlation.value == pytest.approx(1) and found.borne_out is None
    assert "6 models trained again on random halves cannot tell" in found.sentence


def test_nobody_waits_for_more_than_a_day() -> None:
    Forecast(8, 23 * 3600, 2).require_short()
    with pytest.raises(LinernotesError, match=r"would take 25 hours here: ask for fewer halves"):
        Forecast(8, 25 * 3600, 2).require_short()
    assert "Training 8 models again, 2 at once, will take about 12 minutes" in Forecast(8, 700, 2).sentence


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue, model_path: Path) -> Path:
    """A clip of a model that can be trained again, attributed; two tracks are named."""
    folder = tmp_path_factory.mktemp("challenged")
    linernotes.train_model(catalogue, folder / "model", model_path, steps=3, batch_size=4)
    clip = linernotes.generate("tone 1", folder / "clip.flac", folder / "model", seed=5)
    linernotes.attribute(clip, folder / "out", folder / "model", catalogue.path)
    naming(Attribution.load(folder / "out" / RECORD), [0, 1]).save(folder / "out" / RECORD)
    return folder / "out"


def audited(*words: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, words)])


def outcome(done: Result) -> tuple[str, str]:
    """Of the challenge, which is the last check."""
    (*_, last) = json.loads(done.stdout)
    assert last["what"] == "named tracks predict retraining"
    return last["outcome"], last["detail"]


def test_an_audit_trains_again_and_says_what_it_cannot_tell(named: Path, catalogue: Catalogue) -> None:
    done = audited(named, "--challenge", 3, "--json")
    assert done.exit_code == 0, done.output
    assert "Training 3 models again, " in done.stderr
    said, detail = outcome(done)
    assert said == "not checked" and "3 models trained again on random halves cannot tell (1 clip;" in detail
    (kept,) = cache_folder().glob("challenge-*")
    files = {file: file.stat().st_mtime_ns for file in kept.glob("*.safetensors")}
    assert {file.stem for file in files} == {"half-000", "half-001", "half-002"}
    again = audited(named, "--challenge", 4, "--json")  # trains one more
    assert outcome(again)[0] == "not checked"
    assert files.items() <= {f: f.stat().st_mtime_ns for f in kept.glob("*.safetensors")}.items()


def test_a_long_clips_loss_is_its_windows_mean_by_their_seconds(
    named: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    read = Attribution.load(named / RECORD)
    with linernotes.open(named.parent / "model", catalogue.path) as work:
        (clip,) = work.load_clips([named.parent / "clip.flac"])
    (window,) = clip.windows
    names = [t.track_id for t in read.first_trained(3)]

    def challenged(windows: list, effects: dict[str, float]) -> float:
        claim = Claim("clip", "tone 1", windows, effects, loss=0.5)
        found = challenge_claims([claim], named.parent / "model", catalogue.path, 6, tmp_path)
        return found.if_right

    effects = dict(zip(names, (3e-6, 2e-6, 1e-6), strict=True))
    one = challenged([window], effects)
    assert 0 < one < 1 and challenged([window, window], effects) == pytest.approx(one)
    with pytest.raises(LinernotesError, match=r"nobody is no training track of .*: give its own catalogue"):
        challenged([window], {"nobody": 0.1})
    with pytest.raises(LinernotesError, match="nothing is claimed"):
        challenged([window], {})
    seeds = [retrain.seed for retrain in plan_retrains(7, 6, again=0, full=0, seed=SEED)]
    assert min(seeds) > 10_000  # no bank's own


def test_what_fails_already_or_claims_nothing_is_not_trained_for(named: Path, tmp_path: Path) -> None:
    kept = sorted(cache_folder().glob("challenge-*/*"))
    read = Attribution.load(named / RECORD)
    for name in ("scores.parquet", "evidence.parquet"):
        (tmp_path / name).write_bytes((named / name).read_bytes())
    assert read.verdict
    naming(read, []).save(tmp_path / RECORD)
    said, detail = outcome(audited(tmp_path, "--challenge", 3, "--json"))
    assert said == "not checked" and "no track is named" in detail
    wrong = read.model_copy(update={"verdict": read.verdict.model_copy(update={"named": 5})})
    wrong.save(tmp_path / RECORD)
    done = audited(tmp_path, "--challenge", 3, "--json")
    assert done.exit_code == 1
    assert outcome(done) == ("not checked", "another check fails")
    assert sorted(cache_folder().glob("challenge-*/*")) == kept
