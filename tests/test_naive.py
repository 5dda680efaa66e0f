import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore.naive import fill_gaps, last_value, repeat_season

values = st.lists(st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)), max_size=40).map(lambda y: np.array(y, dtype=float))
seasons = st.integers(1, 12)


def filled_one_by_one(y, season):
    """The law of `fill_gaps`, word by word."""
    out = y.copy()
    for i in range(len(y)):
        if np.isnan(out[i]):
            season_before = out[i - season] if i >= season else np.nan
            out[i] = season_before if np.isfinite(season_before) else (out[i - 1] if i else np.nan)
    seen = np.flatnonzero(np.isfinite(y))
    if len(seen):
        out[: seen[0]] = y[seen[0]]
    return out


@given(values, seasons)
def test_gaps_are_filled_as_one_would_by_hand(y, season):
    np.testing.assert_array_equal(fill_gaps(y, season), filled_one_by_one(y, season))


@given(values, seasons)
def test_filling_gaps_leaves_its_argument_and_all_observations_alone(y, season):
    before = y.copy()
    filled = fill_gaps(y, season)
    np.testing.assert_array_equal(y, before)
    seen = np.isfinite(y)
    np.testing.assert_array_equal(filled[seen], y[seen])
    assert np.isfinite(filled).all() or not seen.any()


@given(values, seasons, st.integers(1, 40))
def test_a_gap_is_filled_from_the_past_alone(y, season, cut):
    if not np.isfinite(y[:cut]).any():
        return
    np.testing.assert_array_equal(fill_gaps(y, season)[:cut], fill_gaps(y[:cut], season))


def test_a_long_gap_repeats_the_season_before_it():
    y = np.r_[1.0, 2.0, 3.0, np.full(7, np.nan)]
    assert fill_gaps(y, 3).tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]


def test_a_million_points_with_half_of_them_missing_take_less_than_a_second():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(1_000_000) < 0.5, np.nan, rng.random(1_000_000))
    y[200_000:500_000] = np.nan
    started = time.process_time()
    assert np.isfinite(fill_gaps(y, 168)).all()
    assert time.process_time() - started < 1


@given(values, seasons, st.integers(0, 30))
def test_each_step_repeats_the_latest_observation_of_its_phase(y, season, horizon):
    answer = repeat_season(y, season, horizon)
    assert len(answer) == horizon
    for step in range(horizon):
        same_phase = y[::-1][season - 1 - step % season :: season]
        seen = same_phase[np.isfinite(same_phase)]
        np.testing.assert_equal(answer[step], seen[0] if len(seen) else last_value(y))


@pytest.mark.parametrize(("y", "expected"), [([], np.nan), ([np.nan], np.nan), ([1.0, 2.0, np.nan], 2.0)])
def test_the_last_value_is_the_last_one_observed(y, expected):
    np.testing.assert_equal(last_value(np.array(y, dtype=float)), expected)
