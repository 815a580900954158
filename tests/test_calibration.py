"""What scores are worth: a world whose effects are known is read back from its retrains, intervals hold what
they say, and nothing is named where nothing can be.
"""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

import linernotes
from conftest import write_model, write_recordings
from linernotes.attribution.effects import Calibration, Curve, Effects, effects_of
from linernotes.attribution.filing import judged_anew
from linernotes.attribution.fitness import STRANGER, Fitness, clip_loss, likely_own, loss_draws
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import load_clip
from linernotes.attribution.result import RECORD, Attribution
from linernotes.attribution.run import attribute_clips
from linernotes.attribution.verdict import Judge, first_named, why_none
from linernotes.attribution.verdict import sentence as sentence_of
from linernotes.catalog.store import Catalogue
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import BENCHMARK
from linernotes.demo.provider import judge_for
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.calibration import LEAST_HALVES, fit_calibration, outcomes_of
from linernotes.evaluation.unseen import measure_calibration
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import METHOD_SETTINGS
from test_truth import bank_of

READOUT = METHOD_SETTINGS["readout"]()
TRUE = Curve(scale=2.0, bend=0.9, share=0.4, own=0.2)
NOISE = 0.01  # of a clip's loss, from seed to seed


def drawn_effects(f: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Effects of tracks of which f is expected."""
    multiples = random.gamma(1 / TRUE.share**2, TRUE.share**2, f.shape)
    return f * multiples + TRUE.own * random.standard_normal(f.shape)


def world(
    seed: int, tracks: int = 120, halves: int = 64, clips: int = 16, blind: bool = False
) -> tuple[Bank, np.ndarray, np.ndarray]:
    """A bank in which effects follow from scores as ``TRUE`` says, its scores and its clips' losses; in a
    ``blind`` one the scores are of other clips.
    """
    random = np.random.default_rng(seed)
    loss_q = random.uniform(0.2, 1.0, clips)
    u_qn = random.exponential(0.6, (clips, tracks)) ** 2 * random.choice(
        [1, -1], (clips, tracks), p=[0.8, 0.2]
    )
    f_qn = TRUE.scale * np.sign(u_qn) * np.abs(u_qn) ** TRUE.bend
    effect_qn = drawn_effects(f_qn, random) / tracks
    present = np.stack([random.permutation(tracks) < tracks // 2 for _ in range(halves)])
    everything = np.ones((4, tracks), dtype=bool)
    seen = np.concatenate([present, present[: halves // 2], everything])
    losses = loss_q * (1.5 - seen @ effect_qn.T + NOISE * random.standard_normal((len(seen), clips)))
    names = [f"half-{i:03d}" for i in range(halves)]
    names += [f"half-{i:03d}-again" for i in range(halves // 2)] + [f"full-{i}" for i in range(4)]
    kinds = ["half"] * halves + ["again"] * (halves // 2) + ["full"] * 4
    scores_qn = u_qn * loss_q[:, None] / tracks
    return bank_of(seen, losses, kinds, names), np.roll(scores_qn, 1, axis=0) if blind else scores_qn, loss_q


def calibrated(found: tuple[Bank, np.ndarray, np.ndarray], method: str = "readout") -> Calibration:
    bank, scores_qn, loss_q = found
    one_each = np.ones(scores_qn.shape[1], dtype=int)
    return fit_calibration(bank, scores_qn, loss_q, one_each, method, METHOD_SETTINGS[method]())


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrated(world(0))


def test_a_known_world_is_read_back_from_its_retrains(calibration: Calibration) -> None:
    u_t = np.array([0.1, 0.5, 1.0, 3.0])
    truth = TRUE.scale * u_t**TRUE.bend / 100
    found = effects_of(calibration, u_t * 0.5 / 100, np.ones(4), loss=0.5, n_training=100)
    np.testing.assert_allclose(found.expected_t, truth, rtol=0.15)
    drawn = np.array([[r.scale * u**r.bend / 100 for u in u_t] for r in calibration.resamples])
    away = (found.expected_t - truth) / drawn.std(axis=0)
    assert (np.abs(away) < 4).all()
    assert calibration.retrain_sd == pytest.approx(NOISE, rel=0.1)
    spread = np.sqrt(calibration.curve.own**2 + calibration.curve.share**2 * (truth * 100) ** 2)
    np.testing.assert_allclose(spread, np.sqrt(TRUE.own**2 + TRUE.share**2 * (truth * 100) ** 2), rtol=0.25)


def test_intervals_of_the_first_tracks_alone_are_the_same_and_no_named_track_is_without(
    calibration: Calibration,
) -> None:
    random = np.random.default_rng(8)
    scores_t = (random.exponential(0.6, 500) ** 2) / 500
    lengths_t = random.integers(1, 40, 500).astype(float)  # a long track is less certain, whatever its effect
    every = effects_of(calibration, scores_t, lengths_t, loss=1.0, n_training=500)
    some = effects_of(calibration, scores_t, lengths_t, loss=1.0, n_training=500, first=20)
    known = np.isfinite(some.low_t)
    named = every.low_t > 0
    assert 20 < known.sum() < 500 and known[np.argsort(-every.expected_t)[:20]].all() and known[named].all()
    for name in ("low_t", "high_t"):
        assert (getattr(some, name)[known] == getattr(every, name)[known]).all()
    assert (some.expected_t == every.expected_t).all() and (some.doubt_t == every.doubt_t).all()


def test_intervals_hold_what_they_say_and_named_tracks_did_something(calibration: Calibration) -> None:
    bank, scores_qn, loss_q = world(0)
    one_each = np.ones(scores_qn.shape[1])
    measured = measure_calibration(bank, scores_qn, loss_q, one_each, calibration)
    assert measured.coverage.low < 0.9 < measured.coverage.high
    half = [(each.measured.high - each.measured.low) / 2 for each in measured.bins]
    off = [abs(b.expected - b.measured.value) / h for b, h in zip(measured.bins, half, strict=True)]
    assert (
        np.mean(np.array(off) < 1) >= 0.75 and max(off) < 2.5
    )  # 90 % intervals: a bin or two outside, not far
    # effects of a world that the map has never seen
    random = np.random.default_rng(3)
    u_t = random.exponential(0.6, 4000) ** 2
    f_t = TRUE.scale * u_t**TRUE.bend
    true_t = drawn_effects(f_t, random) / 4000
    found = effects_of(calibration, u_t / 4000, np.ones(4000), loss=1.0, n_training=4000)
    inside = ((found.low_t < true_t) & (true_t < found.high_t)).mean()
    named = found.low_t > 0
    assert 0.87 < inside < 0.94
    assert named.any() and (true_t[named] <= 0).mean() < 0.05
    assert (true_t[named] <= 0).mean() == pytest.approx(found.doubt_t[named].mean(), abs=0.02)


def test_the_smallest_bank_is_measured_without_tracks_that_its_models_do_not_tell() -> None:
    """Of 400 tracks some are in all of eight unseen halves, or in none."""
    bank, scores_qn, loss_q = world(0, tracks=400, halves=LEAST_HALVES)
    found = outcomes_of(bank, loss_q, np.ones(400))
    told = [np.ptp(found.x_hn[part], axis=0) > 0 for part in found.parts()]
    assert not all(each.all() for each in told)
    measured = measure_calibration(
        bank, scores_qn, loss_q, np.ones(400), calibrated((bank, scores_qn, loss_q))
    )
    assert sum(each.pairs for each in measured.bins) == len(loss_q) * sum(int(each.sum()) for each in told)
    figures = [measured.coverage.value, measured.named_above_expected]
    figures += [n for each in measured.bins for n in (each.expected, each.measured.value, each.coverage)]
    assert np.isfinite(figures).all()


def test_what_is_looked_at_says_nothing_of_its_own_chance(calibration: Calibration) -> None:
    """The two seeds of a half are torn apart about their mean: only what is fitted on them may notice."""
    bank, scores_qn, loss_q = world(0)
    one_each = np.ones(scores_qn.shape[1])
    found = outcomes_of(bank, loss_q, one_each)
    first, second = found.parts()
    assert sorted([*first, *second]) == list(range(64))
    assert found.pairs_h[first].sum() == found.pairs_h[second].sum() == 16
    losses = bank.loss_mqk.copy()
    for half, again in (run for h, run in enumerate(bank.runs()) if h in second and len(run) > 1):
        losses[[half, again]] += 50 * NOISE * loss_q[:, None] * np.array([1, -1])[:, None, None]
    torn = replace(bank, loss_mqk=losses)
    noisy = outcomes_of(torn, loss_q, one_each)
    np.testing.assert_allclose(noisy.noise_q(first), found.noise_q(first))
    assert (noisy.noise_q(second) > 100 * found.noise_q(second)).all()
    # nothing is known from the torn ones, so that all else is in their intervals; the others know as before
    coverage = measure_calibration(torn, scores_qn, loss_q, one_each, calibration).coverage.value
    assert 0.93 < coverage < 0.97


def test_scores_that_know_nothing_name_nothing() -> None:
    bank, scores_qn, loss_q = world(0, blind=True)
    blind = calibrated((bank, scores_qn, loss_q))
    for scores_t, loss in zip(scores_qn, loss_q, strict=True):
        found = effects_of(blind, scores_t, np.ones(len(scores_t)), loss, len(scores_t))
        assert not (found.low_t > 0).any()
    chance = np.random.default_rng(0).standard_normal(scores_qn.shape)
    of_chance = calibrated((bank, chance, loss_q), "random")
    found = effects_of(of_chance, chance[0], np.ones(chance.shape[1]), 1.0, chance.shape[1])
    assert of_chance.shape == "exponential" and not (found.low_t > 0).any()


def test_effects_keep_their_order_their_unit_and_their_doubt(calibration: Calibration) -> None:
    scores_t = np.sort(np.random.default_rng(1).standard_normal(50)) * 1e-2
    ones = np.ones(50)
    found = effects_of(calibration, scores_t, ones, loss=0.4, n_training=50)
    assert (np.diff(found.expected_t) > 0).all() and (np.diff(found.doubt_t) < 0).all()
    assert ((found.low_t > 0) == (found.doubt_t < 0.05)).all()
    again = effects_of(calibration, 3 * scores_t, ones, loss=3 * 0.4, n_training=50)
    np.testing.assert_allclose(again.expected_t, found.expected_t)  # a share of the loss, whatever its unit
    larger = effects_of(calibration, scores_t / 10, ones, loss=0.4, n_training=500)
    np.testing.assert_allclose(
        larger.expected_t, found.expected_t / 10, rtol=1e-9
    )  # a tenth each of ten times
    longer = effects_of(calibration, scores_t, 9 * ones, loss=0.4, n_training=50)
    np.testing.assert_allclose(longer.expected_t, found.expected_t)
    assert (longer.high_t - longer.low_t > found.high_t - found.low_t).all()  # more segments, less certain


def test_a_bank_of_too_few_retrains_says_how_many(calibration: Calibration) -> None:
    with pytest.raises(LinernotesError, match=r"8 halves, 4 of them more than once.*at least 16 and 4"):
        calibrated(world(0, halves=8))


def test_a_calibration_is_read_as_it_was_written_or_not_at_all(
    tmp_path: Path, calibration: Calibration
) -> None:
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.load(tmp_path) == calibration and Calibration.load(path).hash == calibration.hash
    path.write_text(path.read_text().replace('"scale"', '"sc"'))
    with pytest.raises(LinernotesError, match="is damaged"):
        Calibration.load(path)
    calibration.save(path)
    content = json.loads(path.read_text())
    for wrong, sentence in (
        ([], "holds no calibration: make one with 'linernotes calibrate'"),
        ({**content, "schema_version": content["schema_version"] + 1}, "was written by a newer linernotes"),
        ({**content, "schema_version": "1"}, "does not say its schema version: make one with"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(LinernotesError, match=sentence):
            Calibration.load(path)


def test_a_record_judged_anew_lists_all_that_are_named_now(
    tmp_path: Path,
    model: StableAudio,
    model_path: Path,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("linernotes.attribution.result.KEPT_TRACKS", 1)
    clip = load_clip(linernotes.generate("tone 1", tmp_path / "clip.flac", model_path, seed=1), model, None)
    prepared = replace(prepare(model, catalogue, tmp_path / "cache"), vouched=True)
    sure = Curve(scale=9.0, bend=1.0, share=0.1, own=1e-9)
    made = calibrated(world(0)).model_copy(update={"fitness": None, "curve": sure, "resamples": [sure]})
    how = ("readout", METHOD_SETTINGS["readout"](draws=8, gradient_draws=64))
    (plain,) = attribute_clips([clip], prepared, *how, tmp_path / "plain")
    anew = judged_anew(plain, clip, prepared, Judge(made, lent=False)).attribution
    (direct,) = attribute_clips([clip], prepared, *how, tmp_path / "direct", judge=Judge(made, lent=False))
    assert len(anew.tracks) > len(plain.attribution.tracks) and anew.verdict == direct.attribution.verdict
    assert anew.verdict.named == sum(bool(track.effect and track.effect.named) for track in anew.tracks)
    lists = [
        [(t.track_id, t.rank, t.score, t.best_segment_start_s, t.effect) for t in read.tracks]
        for read in (anew, direct.attribution)
    ]
    assert lists[0] == lists[1]


def test_a_score_that_its_own_noise_could_have_made_names_no_track(
    tmp_path: Path, calibration: Calibration, model: StableAudio, model_path: Path, catalogue: Catalogue
) -> None:
    clip = linernotes.generate("tone 1", tmp_path / "clip.flac", model_path, seed=1)
    prepared = replace(prepare(model, catalogue, tmp_path / "cache"), vouched=True)
    judge = Judge(calibration.model_copy(update={"fitness": None}), lent=False)
    trained = [t for t, track in enumerate(catalogue.tracks) if track.split == "train"]
    scores_t = np.zeros(len(catalogue.tracks))
    scores_t[trained[:2]] = 1.0  # the loss many times over
    for error, named in ((None, 2), (np.nan, 2), (0.6, 2), (0.61, 0)):  # 1 / 1.645 = 0.608
        error_t = None if error is None else np.full(len(scores_t), error)
        effects, verdict = judge.judge(load_clip(clip, model, None), prepared, scores_t, error_t=error_t)
        assert verdict.named == named == sum(effect.named for effect in effects.values())
        assert effects[trained[0]].low > 0


@pytest.mark.parametrize(
    ("fitness", "vouched", "own", "said"),
    [
        (Fitness(0.4, 0.1, 0.01), True, None, None),
        (Fitness(0.4, None, None), True, 0.5, None),  # a catalogue without decoys
        (Fitness(0.4, 0.1, 0.01), True, 1e-4, "did not make this clip"),
        (Fitness(0.7, 0.1, 0.01), True, None, "has not learned its tracks"),
        (Fitness(0.4, 0.005, 0.01), False, None, "Nothing shows that the model was trained on this"),
        (Fitness(0.4, 0.005, 0.01), True, None, None),  # its training record vouches for the catalogue
        (Fitness(0.4, 0.1, 0.01), False, None, None),
    ],
)
def test_when_no_track_may_be_named(
    calibration: Calibration, fitness: Fitness, vouched: bool, own: float | None, said: str | None
) -> None:
    why = why_none(calibration.model_copy(update={"fitness": 0.4}), fitness, vouched, own)
    assert [said in sentence for sentence in why] == ([True] if said else [])


def test_a_clip_far_off_is_not_the_models_own(tmp_path: Path, model: StableAudio) -> None:
    made = linernotes.generate("tone", tmp_path / "made.flac", seed=5, model=model)
    copy = Path(shutil.copy(made, tmp_path / "copy.flac"))  # without its sidecar
    windows = load_clip(copy, model, "tone").windows
    far = [replace(window, latents_ct=9 * window.latents_ct) for window in windows]
    draws = loss_draws(model, 0)
    own, other = (
        likely_own(model, first, clip_loss(model, first, draws), draws) for first in (windows[0], far[0])
    )
    assert own is not None and other is not None and own > STRANGER > other


def test_another_calibration_judges_the_same_scores_anew(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, calibration: Calibration
) -> None:
    settings = {"draws": 8, "gradient_draws": 8}
    clip = linernotes.generate("tone", tmp_path / "clip.flac", seed=1, model=model_path)
    asked = METHOD_SETTINGS["readout"](**settings).model_dump(exclude={"seed", "batch_size"})
    mine = calibration.model_copy(update={"settings": asked, "gather": "norm"})
    mine.save(tmp_path / "mine.json")
    mine.model_copy(update={"curve": Curve(scale=9.0, bend=1.0, share=0.1, own=0.0)}).save(
        tmp_path / "other.json"
    )
    calibration.save(tmp_path / "wrong.json")
    mine.model_copy(update={"gather": None}).save(tmp_path / "single.json")  # of tracks of one segment
    with linernotes.open(model_path, catalogue.path) as work:
        (plain,) = work.attribute(clip, tmp_path / "out", **settings)
        assert plain.verdict is None  # nobody knows what scores with these settings are worth
        scores = (tmp_path / "out" / "scores.parquet").read_bytes()
        (first,) = work.attribute(clip, tmp_path / "out", calibration=tmp_path / "mine.json", **settings)
        (second,) = work.attribute(clip, tmp_path / "out", calibration=tmp_path / "other.json", **settings)
        (direct,) = work.attribute(clip, tmp_path / "new", calibration=tmp_path / "other.json", **settings)
        with pytest.raises(UsageError, match="made with other settings"):
            work.attribute(clip, tmp_path / "out", calibration=tmp_path / "wrong.json", **settings)
        with pytest.raises(UsageError, match="of tracks that are not gathered"):
            work.attribute(clip, tmp_path / "out", calibration=tmp_path / "single.json", **settings)
    assert first.verdict and second.verdict and first.verdict.lent
    assert first.verdict.calibration_hash != second.verdict.calibration_hash
    assert second.verdict == direct.verdict and second.tracks == direct.tracks
    assert [t.score for t in first.tracks] == [t.score for t in plain.tracks]
    assert (tmp_path / "out" / "scores.parquet").read_bytes() == scores
    read = Attribution.load(tmp_path / "out" / RECORD)
    assert read.verdict == second.verdict
    trained = [t for t in read.tracks if t.split == "train"]
    assert all(t.effect for t in trained) and not any(t.effect for t in read.tracks if t.split == "decoy")
    assert str(escape(second.verdict.sentence)) in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("clips", [2, 3, 5])
def test_of_few_clips_each_is_unseen_once(clips: int) -> None:
    bank, scores_qn, loss_q = world(0, clips=clips)
    found = calibrated((bank, scores_qn, loss_q))
    measured = measure_calibration(bank, scores_qn, loss_q, np.ones(scores_qn.shape[1]), found)
    outcomes = outcomes_of(bank, loss_q, np.ones(scores_qn.shape[1]))
    told = sum(int((np.ptp(outcomes.x_hn[part], axis=0) > 0).sum()) for part in outcomes.parts())
    assert sum(each.pairs for each in measured.bins) == clips * told


def test_what_is_lent_is_held_against_a_bank_as_it_is(calibration: Calibration) -> None:
    """Nothing is fitted: a curve that is ten times too low is found out, and one that is right holds."""
    bank, scores_qn, loss_q = world(0)
    one_each = np.ones(scores_qn.shape[1])
    right, low = (
        measure_calibration(
            bank, scores_qn, loss_q, one_each, calibration.model_copy(update={"curve": curve}), lent=True
        )
        for curve in (TRUE, TRUE.model_copy(update={"scale": TRUE.scale / 10, "own": TRUE.own / 10}))
    )
    assert right.coverage.low < 0.9 < right.coverage.high
    assert low.coverage.high < right.coverage.low


def test_the_interval_of_a_higher_score_is_above_nothing_wherever_a_lower_ones_is(
    calibration: Calibration,
) -> None:
    """However little is known of the curve far out: every curve that may be says that a high score is worth
    more than a low one.
    """
    vague = [
        Curve(scale=scale, bend=bend, share=0.8, own=0.3)
        for scale, bend in itertools.product((0.5, 1.0, 2.0, 4.0), (0.6, 0.9, 1.2, 1.5))
    ]
    curve = Curve(scale=1.5, bend=1.05, share=0.8, own=0.3)
    wide = calibration.model_copy(update={"curve": curve, "resamples": vague})
    u_t = np.geomspace(0.01, 100, 60)
    found = effects_of(wide, u_t * 0.5 / 60, np.ones(60), loss=0.5, n_training=60)
    assert (np.diff(found.doubt_t) <= 1e-12).all() and found.doubt_t[0] > 0.3 and found.doubt_t[-1] < 1e-3
    assert (np.diff(found.low_t[found.low_t > 0]) > 0).all() and (found.low_t > 0).sum() > 5
    assert ((found.low_t < found.expected_t) & (found.expected_t < found.high_t)).all()


def test_the_sentence_speaks_of_the_first_that_is_named() -> None:
    """And not of a higher one of which too little is known."""
    expected_t, high_t = np.array([0.2, 0.05, 0.04]), np.array([0.6, 0.09, 0.08])
    found = Effects(expected_t, np.array([-0.1, 0.01, 0.005]), high_t, np.array([0.2, 0.01, 0.02]))
    said = sentence_of([], found, np.array([False, True, True]), (0.3, 0.0), "Second", lent=False)
    assert "2 tracks can be named; they carry 30%" in said
    assert "Without the first of them, Second, the clip's loss would be 5.0% higher (1.0% to 9.0%)." in said
    assert first_named(found, np.zeros(3, dtype=bool)) == 0
    alone = sentence_of([], found, np.array([False, True, False]), (0.3, 0.0), "Second", lent=True)
    assert "Without it, Second, the clip's loss would be 5.0% higher" in alone and alone.endswith("and lent.")


def test_what_is_lent_was_measured_on_tracks_like_these(model: StableAudio, catalogue: Catalogue) -> None:
    """What the norm of several segments is worth is not what the score of a single one is."""
    single = open_catalogue(BENCHMARK)
    assert len(catalogue) > len(catalogue.tracks) and len(single) == len(single.tracks)
    for method in ("readout", "abu", "latent"):
        settings = METHOD_SETTINGS[method]()
        several, one = (judge_for(model, each, method, settings) for each in (catalogue, single))
        assert several and one and several.lent and one.lent
        assert one.calibration.gather is None
        if method == "latent":  # a likeness is the highest of its segments', however many
            assert several.calibration == one.calibration
        else:
            assert several.calibration.gather == "norm" and several.calibration.bank == "long"
    assert judge_for(model, single, "grad-dot", METHOD_SETTINGS["grad-dot"]())
    assert (
        judge_for(model, catalogue, "grad-dot", METHOD_SETTINGS["grad-dot"]()) is None
    )  # nobody measured it


def test_a_model_that_learned_nothing_names_nothing(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, calibration: Calibration
) -> None:
    settings = {"draws": 8, "gradient_draws": 8}
    asked = METHOD_SETTINGS["readout"](**settings).model_dump(exclude={"seed", "batch_size"})
    sure = Curve(scale=9.0, bend=1.0, share=0.01, own=0.01)
    update = {"settings": asked, "gather": "norm", "curve": sure, "resamples": [sure], "fitness": 0.4}
    calibration.model_copy(update=update).save(tmp_path / "c.json")
    clip = linernotes.generate("tone", tmp_path / "clip.flac", seed=1, model=model_path)
    (found,) = linernotes.attribute(
        clip, tmp_path / "out", model_path, catalogue.path, calibration=tmp_path / "c.json", **settings
    )
    assert found.verdict and found.verdict.named == 0 and "has not learned" in found.verdict.sentence
    assert not any(t.effect and t.effect.named for t in found.tracks)


def test_a_long_track_counts_as_training_drew_it(tmp_path: Path, model: StableAudio) -> None:
    lengths = [1, 1, 1, 4]  # of segments
    whole = model.encoding.segment_samples
    folder = write_recordings(tmp_path / "recordings", [n * whole for n in lengths])
    write_model(tmp_path / "model")
    catalogue = linernotes.build_catalogue(folder, tmp_path / "catalogue", tmp_path / "model")
    assert np.bincount(catalogue.track_n).tolist() == lengths
    clip = linernotes.generate("tone", tmp_path / "clip.flac", tmp_path / "model", seed=1)
    settings = {"draws": 8, "gradient_draws": 8}
    found = {
        drawn: linernotes.attribute(
            clip, tmp_path / drawn, tmp_path / "model", catalogue.path, drawn=drawn, **settings
        )[0]
        for drawn in ("segments", "tracks")
    }
    score = {d: {t.track_id: t.score for t in found[d].tracks} for d in found}
    for track, count in zip(catalogue.tracks, lengths, strict=True):
        share = sum(lengths) / len(lengths) / count  # of an even draw of segments
        assert score["tracks"][track.track_id] == pytest.approx(share * score["segments"][track.track_id])
    assert linernotes.replay(tmp_path / "tracks").worst == 0 and found["tracks"].drawn == "tracks"
    (unsaid,) = linernotes.attribute(  # whoever trained this model drew files
        clip, tmp_path / "tracks", tmp_path / "model", catalogue.path, **settings
    )
    assert unsaid == found["tracks"]
    with pytest.raises(LinernotesError, match="holds another attribution"):
        linernotes.attribute(
            clip, tmp_path / "tracks", tmp_path / "model", catalogue.path, drawn="segments", **settings
        )
