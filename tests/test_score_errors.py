"""Standard errors of scores: held against how scores differ from seed to seed, and against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import linernotes
from conftest import RATE_HZ, SEGMENT_SAMPLES, query_of
from linernotes.attribution.result import RECORD, Attribution, ScoreError
from linernotes.attribution.score_errors import score_errors
from linernotes.catalog.store import Catalogue
from linernotes.draws import noise_contrasts
from linernotes.losses import items_of
from linernotes.methods import readout as readout_method
from linernotes.methods.all import score
from linernotes.methods.contract import Deviations, Prepared, Scores
from linernotes.methods.items import whole_items
from linernotes.methods.rescoring import rescore
from linernotes.models.stable_audio import StableAudio
from linernotes.report.page import ranking_table
from linernotes.settings.methods import AbuSettings, ReadoutSettings

SEEDS = 24


@pytest.fixture(scope="module")
def prepared(model: StableAudio, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(model, catalogue, tmp_path_factory.mktemp("prepared"))


def test_neighbouring_draws_say_what_a_mean_owes_to_chance() -> None:
    values = np.random.default_rng(0).standard_normal((1000, 16))
    for count in (2, 3, 7, 16):
        contrasts_rk = noise_contrasts(count)
        variance = np.square(values[:, :count] @ contrasts_rk.T).sum(axis=1).mean()
        assert variance == pytest.approx(1 / count, rel=0.1)
        np.testing.assert_allclose(contrasts_rk.sum(axis=1), 0, atol=1e-12)  # of equal draws: nothing
    level = np.repeat(np.arange(8.0), 2)  # differs from pair to pair only
    np.testing.assert_allclose(noise_contrasts(16) @ level, 0, atol=1e-12)
    assert len(noise_contrasts(1)) == 0


def spread_over_error(found: list[Scores]) -> tuple[float, float]:
    """How far scores lie apart from seed to seed, and how far their errors say, mean over segments."""
    count = found[0].scores_qn.shape[1]
    errors = [score_errors(one.deviations, np.ones(1), 1.0, np.arange(count), count) for one in found]
    said = np.mean([each.total**2 for own in errors for each in own if each])
    return float(np.sqrt(np.var([one.scores_qn[0] for one in found], axis=0, ddof=1).mean())), said**0.5


def test_the_errors_are_as_large_as_scores_differ_from_seed_to_seed(
    prepared: Prepared, tmp_path: Path
) -> None:
    query, settings = query_of(prepared.catalogue, 2), {"gradient_draws": 64, "step_size": 0.02}
    found = [
        score("readout", prepared, [query], ReadoutSettings(seed=seed, **settings), tmp_path / str(seed))
        for seed in range(SEEDS)
    ]
    spread, said = spread_over_error(found)
    assert 0.8 < said / spread < 1.5  # neighbours differ by their noise levels, too


def test_the_errors_of_compared_losses_are_as_large_as_other_draws_make_them(
    prepared: Prepared, tmp_path: Path
) -> None:
    query = query_of(prepared.catalogue, 2)
    layers = prepared.model.layers("output")
    after = {name: p.detach() + 0.03 * torch.sign(p) for name, p in layers.items()}

    def scored(seed: int, bands: int) -> Scores:
        """With weights that owe nothing to chance, and are the same for all bands."""
        draws, settings = prepared.draws(16, seed), AbuSettings()
        folder = tmp_path / f"{seed} {bands}"
        return rescore(prepared, [query], lambda *_: after, settings, draws, folder, bands=bands)

    spread, said = spread_over_error([scored(seed, 1) for seed in range(SEEDS)])
    assert 0.8 < said / spread < 1.5
    whole, parted = scored(0, 1).deviations, scored(0, 4).deviations
    assert whole and parted and whole.clip_rqn is None
    largest = np.abs(whole.items_rqn).max()
    np.testing.assert_allclose(parted.items_rqn, whole.items_rqn, atol=1e-4 * largest)


def test_the_clips_part_is_half_of_what_its_draws_two_halves_differ_by(
    prepared: Prepared, tmp_path: Path
) -> None:
    """To first order; the smaller the step, the less is beyond."""
    settings, bands = ReadoutSettings(draws=4, gradient_draws=12, noise_bands=2, step_size=1e-5), 2
    query, readout = query_of(prepared.catalogue, 1), readout_method.readout_of(prepared.model)
    draws = prepared.draws(4, 0)
    curvature_bff = readout_method.fit_curvature(prepared, draws, bands, 32)
    found = score("readout", prepared, [query], settings, tmp_path).deviations
    assert found and found.clip_rqn is not None
    for band in range(bands):
        half_hcf = readout_method.query_moments_of(prepared, query, settings, (band, bands))[0] / 3
        steps_hbcf = torch.zeros(2, bands, *half_hcf.shape[1:])
        for half in (0, 1):
            solved = readout_method.solve_damped(curvature_bff[band], half_hcf[half], settings.damping)
            steps_hbcf[half, band] = settings.step_size * solved / prepared.n_training
        pairs = next(whole_items(prepared.model, items_of(prepared.model, prepared.catalogue, [3]), draws, 4))
        seen = readout_method.read_bands(prepared.model, readout, pairs, bands, 4)
        first, second = readout_method.rises_of(*seen, steps_hbcf, 4)[0].mean(dim=1).tolist()
        assert found.clip_rqn[band, 0, 3] == pytest.approx((first - second) / 2, rel=1e-3)


def test_segments_and_windows_of_one_noise_err_together() -> None:
    deviations = Deviations(np.ones((4, 2, 3), np.float32), np.full((1, 2, 3), 2.0, np.float32))
    track_n = np.array([0, 1, 1])
    errors = score_errors(deviations, np.array([0.25, 0.75]), np.array([1.0, 1.0, 2.0]), track_n, 2)
    assert [e.total for e in errors if e] == pytest.approx([8**0.5, 3 * 8**0.5])
    assert [e.clip for e in errors if e] == pytest.approx([2.0, 6.0])
    opposed = Deviations(np.array([[[1.0, -1.0]]], np.float32))
    assert score_errors(opposed, np.ones(1), 1.0, np.zeros(2, int), 1) == [ScoreError(total=0.0, clip=None)]
    assert score_errors(None, np.ones(1), 1.0, track_n, 2) == [None, None]


def test_record_table_and_page_say_how_sure_a_score_is(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    clip = linernotes.generate("tone", tmp_path / "clip.flac", seed=1, model=model_path)
    few = {"draws": 8, "gradient_draws": 16}
    found = {
        method: linernotes.attribute(
            clip, tmp_path / method, model_path, catalogue.path, method=method, **own
        )[0]
        for method, own in {
            "readout": {**few, "noise_bands": 4},
            "abu": {**few, "fisher_draws": 1},
            "latent": {},
        }.items()
    }
    lengths = {
        f"Tone {i}": k / 4 * SEGMENT_SAMPLES / RATE_HZ for i, k in enumerate((4, 8, 5, 4, 6, 4, 9, 4, 4, 3))
    }
    for method, one in found.items():
        for track in one.tracks:
            assert track.seconds == pytest.approx(lengths[track.title], abs=1e-3)
            assert (track.error is None) == (method == "latent")
            if track.error:
                assert 0 < track.error.total < np.inf and (track.error.clip is None) == (method == "abu")
                assert track.error.clip is None or track.error.clip < track.error.total
        assert Attribution.load(tmp_path / method / RECORD) == one
        (row, *_) = ranking_table(one, 10).cells()
        assert ("±" in row[3]) == (method != "latent")
        page = (tmp_path / method / "report.html").read_text()
        (first,) = one.first_trained(1)
        assert (f"± {first.error.total:.1g}" in page) if first.error else ("±" not in page)
        assert ("the clip's own noise" in page.replace("&#39;", "'")) == (method == "abu")
