"""Conformal quantiles: ordered, calibrated by step, honest about folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.intervals import calibrate, leave_one_fold_out
from forecastcore.metrics import coverage

LEVELS = (0.1, 0.5, 0.9)


def errors(rng, series=20, folds=6, horizon=24):
    shape = (folds, series, horizon)
    spread = np.linspace(1, 4, horizon) * 10.0 ** (np.arange(series) % 4)[:, None]
    fold, which, step = (axis.ravel() for axis in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return (rng.normal(size=shape) * spread).ravel(), fold, which, step + 1


def test_eighty_percent_bands_cover_eighty_percent_out_of_fold_at_every_step():
    rng = np.random.default_rng(1)
    error, fold, series, step = errors(rng)
    ids = [f"s{n}" for n in range(20)]
    forecast = np.full(len(error), 100.0)
    got = leave_one_fold_out(forecast, forecast + error, step, series, fold, ids, LEVELS)
    assert coverage(forecast + error, got[:, 0], got[:, -1]) == pytest.approx(0.8, abs=0.02)
    for bucket in np.array_split(np.arange(1, 25), 4):
        hit = np.isin(step, bucket)
        assert coverage((forecast + error)[hit], got[hit, 0], got[hit, -1]) == pytest.approx(0.8, abs=0.05)


def test_each_series_has_a_band_of_its_own_size():
    rng = np.random.default_rng(2)
    error, _, series, step = errors(rng)
    ids = [f"s{n}" for n in range(20)]
    learned = calibrate(error, step, series, ids, 24, LEVELS, level_of=np.full(20, 100.0))
    small, large = learned.quantiles(["s0", "s3"], np.array([1, 1]), np.zeros(2))
    assert (large[-1] - large[0]) / (small[-1] - small[0]) > 100


def test_a_new_series_takes_a_band_relative_to_its_level():
    learned = calibrate(
        np.array([-1.0, 1.0, 2.0]),
        np.ones(3, dtype=int),
        np.zeros(3, dtype=int),
        ["a"],
        1,
        LEVELS,
        level_of=np.array([10.0]),
    )
    band = learned.quantiles(["new"], np.array([1]), np.array([1000.0]))[0]
    assert band[0] < 1000 < band[-1]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 12))
def test_quantiles_never_cross(seed, rows, horizon):
    rng = np.random.default_rng(seed)
    step = rng.integers(1, horizon + 1, rows)
    series = rng.integers(0, 3, rows)
    error = np.where(rng.random(rows) < 0.2, np.nan, rng.standard_cauchy(rows))
    learned = calibrate(error, step, series, ["a", "b", "c"], horizon, LEVELS, level_of=np.ones(3))
    band = learned.quantiles(["a", "z"], np.array([1, horizon]), rng.normal(size=2))
    assert np.isfinite(band).all()
    assert (np.diff(band, axis=1) >= 0).all()
