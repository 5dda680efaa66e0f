"""Metrics against hand-made and published numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore.metrics import coverage, group_mean, naive_scale, pinball, score, smape

FLOATS = st.floats(-1e6, 1e6, allow_nan=False)


def test_mase_of_a_worked_example():
    # In-sample |y_t - y_(t-1)| = 2, 2, 2 -> scale 2; errors 1 and 3 -> MASE (1/2 + 3/2) / 2 = 1.
    history = np.array([0.0, 2.0, 4.0, 6.0])
    starts, ends = np.array([0, 4]), np.array([[4]])
    scale, scale2 = (naive_scale(history, starts, 1, ends, power=p).ravel() for p in (1, 2))
    y, forecast = np.array([8.0, 10.0]), np.array([9.0, 7.0])
    got = score(y, forecast, np.column_stack([forecast, forecast]), (0.1, 0.9), np.zeros(2, dtype=int), scale, scale2)
    assert got.mase == pytest.approx(1.0)
    assert got.rmsse == pytest.approx(np.sqrt(5) / 2)
    assert got.bias == pytest.approx(-2 / 18)


def test_smape_of_the_m4_formula():
    assert smape(np.array([100.0]), np.array([110.0])) == pytest.approx(200 * 10 / 210)


def test_scale_uses_only_rows_before_each_end():
    y = np.array([0.0, 1.0, 2.0, 100.0, 7.0, 7.0])
    got = naive_scale(y, np.array([0, 4, 6]), 1, np.array([[3, 4], [6, 6]]))
    assert got[0].tolist() == [1.0, pytest.approx(100 / 3)]
    assert np.isnan(got[1]).all(), "a constant history has no scale"


def test_a_missing_actual_is_left_out():
    assert group_mean(np.array([1.0, np.nan, 3.0]), np.array([0, 0, 1]), 3)[:2].tolist() == [1.0, 3.0]
    assert coverage(np.array([1.0, np.nan, 9.0]), np.zeros(3), np.full(3, 5.0)) == 0.5


@given(st.lists(FLOATS, min_size=1, max_size=30), FLOATS, st.floats(0.05, 0.95))
def test_the_sample_quantile_minimises_the_pinball_loss(sample, other, level):
    y = np.array(sample)
    best = np.quantile(y, level, method="inverted_cdf")

    def mean(q):
        return pinball(y, np.full((len(y), 1), q), (level,)).mean()

    assert mean(best) <= mean(other) + 1e-6 * (1 + np.abs(y).max() + abs(other))
