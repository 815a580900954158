"""How tracks' scores come of their segments': laws of each way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linernotes.catalog.gathering import gather_tracks, gathered_by
from linernotes.settings.methods import METHOD_SETTINGS, Gather

WAYS: tuple[Gather, ...] = ("norm", "sum", "mean", "max")
SCORES = st.lists(st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-9), min_size=1, max_size=12)


def of_one_track(scores_n: np.ndarray, way: Gather) -> float:
    (score,) = gather_tracks(scores_n, np.zeros(len(scores_n), int), 1, way)
    return float(score)


def test_each_way_in_numbers() -> None:
    """Tracks of two good segments, of none, of a good one and a bad one, of two bad ones, of one."""
    scores_n, track_n = np.array([3.0, 4.0, 1.0, -2.0, -5.0, -6.0, -7.0]), np.array([0, 0, 2, 2, 3, 3, 4])
    found = {way: gather_tracks(scores_n, track_n, 5, way).tolist() for way in WAYS}
    assert found["norm"] == [5.0, 0.0, 1.0, -5.0, -7.0]
    assert found["sum"] == [7.0, 0.0, -1.0, -11.0, -7.0]
    assert found["mean"] == [3.5, 0.0, -0.5, -5.5, -7.0]
    assert found["max"] == [4.0, -np.inf, 1.0, -5.0, -7.0]


@given(SCORES, st.floats(1e-3, 1e3), st.sampled_from(WAYS))
def test_a_tracks_score_is_in_the_unit_of_its_segments(scores: list[float], unit: float, way: Gather) -> None:
    scores_n = np.array(scores)
    assert of_one_track(unit * scores_n, way) == pytest.approx(
        unit * of_one_track(scores_n, way), rel=1e-6, abs=1e-6 * unit * np.abs(scores_n).max()
    )


@given(SCORES, st.sampled_from(WAYS))
def test_tracks_of_one_segment_have_its_score_to_the_last_bit(scores: list[float], way: Gather) -> None:
    """So what was measured on such tracks holds whatever the way."""
    assert gather_tracks(np.array(scores), np.arange(len(scores)), len(scores), way).tolist() == scores


@given(SCORES)
def test_a_norm_lies_between_the_highest_and_the_sum_of_what_is_above_nothing(scores: list[float]) -> None:
    scores_n = np.array(scores)
    norm, highest = of_one_track(scores_n, "norm"), scores_n.max()
    if highest <= 0:
        assert norm == highest
    else:
        assert highest <= norm * (1 + 1e-12) and norm <= np.maximum(scores_n, 0).sum() * (1 + 1e-12)


@given(SCORES, st.integers(0, 11), st.floats(0, 1e3), st.sampled_from(WAYS))
def test_no_track_falls_when_a_segment_of_it_rises(
    scores: list[float], which: int, rise: float, way: Gather
) -> None:
    scores_n = np.array(scores)
    raised_n = scores_n.copy()
    raised_n[which % len(scores)] += rise
    slack = 1e-6 * max(1.0, np.abs(raised_n).max())
    assert of_one_track(raised_n, way) >= of_one_track(scores_n, way) - slack


def test_what_must_not_be_found_stays_so() -> None:
    found_t = gather_tracks(np.array([-np.inf, -np.inf, 1.0]), np.array([0, 0, 1]), 2, "norm")
    assert found_t.tolist() == [-np.inf, 1.0]


def test_records_from_before_it_was_kept_were_added_up() -> None:
    for method, settings in METHOD_SETTINGS.items():
        assert gathered_by(method, settings.gather) == settings.gather
        assert gathered_by(method, None) == ("max" if settings.gather == "max" else "sum")
