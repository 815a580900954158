"""How tracks' scores come of their segments': laws of each way, of what length costs, and of slopes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linernotes.catalog.gathering import Gatherer, gather_tracks, gathered_before, stray_of
from linernotes.settings.methods import METHOD_SETTINGS, Gather

WAYS: tuple[Gather, ...] = ("norm", "sum", "mean", "max")
SCORES = st.lists(st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-9), min_size=1, max_size=12)
STRAY = st.floats(0, 1e3)


def of_one_track(scores_n: np.ndarray, way: Gather, stray: float = 0.0) -> float:
    (score,) = gather_tracks(scores_n, np.zeros(len(scores_n), int), 1, way, stray)
    return float(score)


def gatherer_of(track_n: np.ndarray, seen_n: np.ndarray | None = None) -> Gatherer:
    n_tracks = int(track_n.max()) + 1
    seen_n = np.ones(len(track_n)) if seen_n is None else seen_n
    return Gatherer("norm", track_n, n_tracks, np.ones(len(track_n), dtype=bool), seen_n)


def test_each_way_in_numbers() -> None:
    """Tracks of two good segments, of none, of a good one and a bad one, of two bad ones, of one."""
    scores_n, track_n = np.array([3.0, 4.0, 1.0, -2.0, -5.0, -6.0, -7.0]), np.array([0, 0, 2, 2, 3, 3, 4])
    found = {way: gather_tracks(scores_n, track_n, 5, way).tolist() for way in WAYS}
    assert found["norm"] == [5.0, 0.0, 1.0, -5.0, -7.0]
    assert found["sum"] == [7.0, 0.0, -1.0, -11.0, -7.0]
    assert found["mean"] == [3.5, 0.0, -0.5, -5.5, -7.0]
    assert found["max"] == [4.0, -np.inf, 1.0, -5.0, -7.0]
    less = gather_tracks(scores_n, track_n, 5, "norm", stray=9.0).tolist()
    assert less == pytest.approx([4.0, 0.0, -(8**0.5), -(34**0.5), -7.0])


@given(SCORES, st.floats(1e-3, 1e3), st.sampled_from(WAYS))
def test_a_tracks_score_is_in_the_unit_of_its_segments(scores: list[float], unit: float, way: Gather) -> None:
    scores_n = np.array(scores)
    stray = stray_of(scores_n)
    assert stray_of(unit * scores_n) == pytest.approx(unit**2 * stray)
    assert of_one_track(unit * scores_n, way, unit**2 * stray) == pytest.approx(
        unit * of_one_track(scores_n, way, stray), rel=1e-6, abs=1e-6 * unit * np.abs(scores_n).max()
    )


@given(SCORES, STRAY, st.sampled_from(WAYS))
def test_tracks_of_one_segment_have_its_score_to_the_last_bit(
    scores: list[float], stray: float, way: Gather
) -> None:
    """So what was measured on such tracks holds whatever the way."""
    count = len(scores)
    assert gather_tracks(np.array(scores), np.arange(count), count, way, stray).tolist() == scores
    assert gatherer_of(np.arange(count)).of(np.array(scores), way=way).tolist() == scores
    assert (gatherer_of(np.arange(count)).slopes(np.array(scores)) == 1).all()


@given(SCORES)
def test_a_norm_lies_between_the_highest_and_the_sum_of_what_is_above_nothing(scores: list[float]) -> None:
    scores_n = np.array(scores)
    norm, highest = of_one_track(scores_n, "norm"), scores_n.max()
    if highest <= 0:
        assert norm == highest
    else:
        assert highest <= norm * (1 + 1e-12) and norm <= np.maximum(scores_n, 0).sum() * (1 + 1e-12)


@given(SCORES, STRAY, st.integers(0, 11), st.floats(0, 1e3), st.sampled_from(WAYS))
def test_no_track_falls_when_a_segment_of_it_rises(
    scores: list[float], stray: float, which: int, rise: float, way: Gather
) -> None:
    scores_n = np.array(scores)
    raised_n = scores_n.copy()
    raised_n[which % len(scores)] += rise
    slack = 1e-5 * max(1.0, np.abs(raised_n).max(), stray)
    assert of_one_track(raised_n, way, stray) >= of_one_track(scores_n, way, stray) - slack


@pytest.mark.parametrize("way", ["norm", "max"])
def test_length_alone_puts_no_track_above_nothing_by_its_norm(way: Gather) -> None:
    """Of segments that have nothing to do with the clip half of all tracks are above 0, long or short; by the
    highest of its segments every long one is.
    """
    random = np.random.default_rng(0)
    lengths = np.repeat([1, 2, 8, 40], 500)
    track_n = np.repeat(np.arange(len(lengths)), lengths)
    scores_t = gatherer_of(track_n).of(random.standard_normal(len(track_n)), way=way)
    above = [float((scores_t[lengths == length] > 0).mean()) for length in (1, 2, 8, 40)]
    if way == "max":
        assert above[2] > 0.95 and above[3] == 1
    else:
        assert all(abs(share - 0.5) < 0.1 for share in above)


def test_a_track_counts_as_training_saw_it_and_one_not_scored_as_its_segments_say() -> None:
    scores_n, track_n = np.array([3.0, 4.0, 1.0, 7.0, 7.0]), np.array([0, 0, 1, 2, 2])
    weight_n, seen_n = np.array([1.0, 1.0, 5.0, 0.0, 0.0]), np.array([0.5, 0.5, 2.0, 0.5, 0.5])
    found_t = gatherer_of(track_n, seen_n).of(scores_n, weight_n)
    stray = stray_of(scores_n[:3], weight_n[:3])
    assert stray == pytest.approx(1.0 / 0.45493642 / 2)  # the median of seven: one speaks for five
    assert found_t.tolist() == pytest.approx([(25 - stray) ** 0.5 / 2, 2.0, 3.5])


def test_what_must_not_be_found_stays_so() -> None:
    found_t = gatherer_of(np.array([0, 0, 1])).of(np.array([-np.inf, -np.inf, 1.0]))
    assert found_t.tolist() == [-np.inf, 1.0]


def test_slopes_are_what_a_small_step_of_a_segment_moves_its_track_by() -> None:
    random, step = np.random.default_rng(1), 1e-6
    track_n = np.sort(random.integers(0, 6, 30))
    scores_n, seen_n = random.standard_normal(30), np.where(track_n == 2, 3.0, 1.0)
    gather = gatherer_of(track_n, seen_n)
    stray = stray_of(scores_n)  # of all segments, so that one of them hardly moves it
    moved_n = [
        (
            gather_tracks(scores_n + step * (np.arange(30) == n), track_n, 6, "norm", stray)
            - gather_tracks(scores_n - step * (np.arange(30) == n), track_n, 6, "norm", stray)
        )[track_n[n]]
        / (2 * step)
        for n in range(30)
    ]
    np.testing.assert_allclose(gather.slopes(scores_n), np.array(moved_n) * seen_n, rtol=1e-4, atol=1e-4)


def test_records_from_before_norms_were_added_up() -> None:
    for method, settings in METHOD_SETTINGS.items():
        assert gathered_before(method) == ("max" if settings.gather == "max" else "sum")
