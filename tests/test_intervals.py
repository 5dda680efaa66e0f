"""Conformal quantiles: ordered, calibrated by step, honest about folds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.intervals import Errors, calibrate, down_to_zero, least, noise, without_each
from forecastcore.metrics import coverage

LEVELS = (0.1, 0.5, 0.9)


def errors(rng, series=20, folds=6, horizon=24):
    shape = (folds, series, horizon)
    spread = np.linspace(1, 4, horizon) * 10.0 ** (np.arange(series) % 4)[:, None]
    fold, which, step = (axis.ravel() for axis in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return (rng.normal(size=shape) * spread).ravel(), fold, which, step + 1


def rows(error, step, series, ids, *, level=100.0, own=None, fold=None, noise=None, season=1, place=None):
    forecast = np.full(len(error), level)
    base = nothing(len(error)) if own is None else own
    made = np.ones(len(error), dtype=bool)
    fold = np.zeros(len(error), dtype=int) if fold is None else fold
    noise = np.ones((fold.max() + 1, len(ids))) if noise is None else noise
    return Errors(
        y=forecast + error,
        forecast=forecast,
        own=base,
        made=made,
        step=step,
        series=series,
        ids=ids,
        fold=fold,
        noise=noise,
        season=season,
        place=np.zeros(len(noise), dtype=int) if place is None else place,
    )


def nothing(count):
    return np.full((count, len(LEVELS)), np.nan)


def by_the_others(given):
    """Quantiles of all rows, those of each origin from the errors of the others."""
    out = nothing(len(given.y))
    for some in without_each(given, int(given.step.max()), LEVELS):
        for number, learned in some.items():
            here = given.fold == number
            out[here] = learned.of_errors(np.arange(len(given.ids)), given.take(here), number)
    return out


def test_eighty_percent_bands_cover_eighty_percent_out_of_fold_at_every_step():
    rng = np.random.default_rng(1)
    error, fold, series, step = errors(rng)
    ids = [f"s{n}" for n in range(20)]
    forecast = np.full(len(error), 100.0)
    got = by_the_others(rows(error, step, series, ids, fold=fold))
    assert coverage(forecast + error, got[:, 0], got[:, -1]) == pytest.approx(0.8, abs=0.02)
    for bucket in np.array_split(np.arange(1, 25), 4):
        hit = np.isin(step, bucket)
        assert coverage((forecast + error)[hit], got[hit, 0], got[hit, -1]) == pytest.approx(0.8, abs=0.05)


def test_each_series_has_a_band_of_its_own_size():
    rng = np.random.default_rng(2)
    error, _, series, step = errors(rng)
    ids = [f"s{n}" for n in range(20)]
    learned = calibrate(rows(error, step, series, ids), 24, LEVELS)
    small, large = learned.quantiles(["s0", "s3"], np.array([1, 1]), np.zeros(2), nothing(2))
    assert (large[-1] - large[0]) / (small[-1] - small[0]) > 100


def test_a_new_series_takes_a_band_relative_to_its_level():
    one = np.ones(3, dtype=int)
    learned = calibrate(rows(np.array([-1.0, 1.0, 2.0]), one, 0 * one, ["a"], level=10.0), 1, LEVELS)
    band = learned.quantiles(["new"], np.array([1]), np.array([1000.0]), nothing(1))[0]
    assert band[0] < 1000 < band[-1]


def test_a_models_own_quantiles_are_widened_where_they_cover_too_little():
    rng = np.random.default_rng(3)
    error, fold, series, step = errors(rng)
    ids = [f"s{n}" for n in range(20)]
    narrow = 100.0 + np.array([-0.01, 0.0, 0.01])[None, :] * np.ones((len(error), 1))
    given = rows(error, step, series, ids, own=narrow, fold=fold)
    assert coverage(given.y, narrow[:, 0], narrow[:, -1]) < 0.1
    got = by_the_others(given)
    assert coverage(given.y, got[:, 0], got[:, -1]) == pytest.approx(0.8, abs=0.02)


def test_own_quantiles_that_are_too_wide_are_not_narrowed_further_where_a_series_has_become_restless():
    rng = np.random.default_rng(2)
    error, fold, series, step = errors(rng, series=1)
    own = 100.0 + np.array([-30.0, 0.0, 30.0]) * np.ones((len(error), 1))
    learned = calibrate(rows(error, step, series, ["s0"], own=own, fold=fold), 24, LEVELS)
    asked = ["s0"] * 24, np.arange(1, 25), np.full(24, 100.0), own[:24]
    calm, restless = (learned.quantiles(*asked, noise={"s0": noise}) for noise in (1.0, 4.0))
    assert (calm[:, 2] - calm[:, 0] < 40).all(), "it was 60"
    assert (restless[:, 2] - restless[:, 0] > calm[:, 2] - calm[:, 0]).all()


def test_a_small_series_with_few_errors_is_not_given_the_band_of_a_large_one():
    error = np.r_[np.random.default_rng(4).normal(size=400) * 1e6, [0.1, -0.1, 0.1]]
    series = np.r_[np.zeros(400, dtype=int), np.ones(3, dtype=int)]
    y = np.where(series == 0, 1e8, 10.0)
    given = replace(rows(error, np.ones(403, dtype=int), series, ["large", "small"]), y=y, forecast=y - error)
    assert calibrate(given, 1, LEVELS).sizes[1] < 1


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 12))
def test_quantiles_never_cross(seed, count, horizon):
    rng = np.random.default_rng(seed)
    step = rng.integers(1, horizon + 1, count)
    series = rng.integers(0, 3, count)
    error = np.where(rng.random(count) < 0.2, np.nan, rng.standard_cauchy(count))
    own = np.where(rng.random((count, 1)) < 0.5, np.nan, rng.normal(size=(count, len(LEVELS))))
    learned = calibrate(rows(error, step, series, ["a", "b", "c"], own=own), horizon, LEVELS)
    own = np.array([[np.nan] * 3, [0.0, 1.0, 2.0]])
    band = learned.quantiles(["a", "z"], np.array([1, horizon]), rng.normal(size=2), own, {"a": np.nan})
    assert np.isfinite(band).all()
    assert (np.diff(band, axis=1) >= 0).all()


def test_errors_that_hang_together_within_an_origin_count_for_fewer():
    """Eight origins, each with an error of its own beside that of every row: coverage of the next origin holds."""
    rng = np.random.default_rng(6)
    hits = []
    for _ in range(60):
        shape = (9, 3, 24)
        error = (rng.normal(size=(9, 1, 1)) + 0.5 * rng.normal(size=shape)).ravel()
        fold, series, step = (axis.ravel() for axis in np.meshgrid(*map(np.arange, shape), indexing="ij"))
        given = rows(error, step + 1, series, ["a", "b", "c"], fold=fold)
        learned, asked = calibrate(given.take(fold < 8), 24, LEVELS), given.take(fold == 8)
        band = learned.of_series(np.arange(3), asked.series, asked.step, asked.forecast, asked.own, asked.noise[8], 0)
        hits.append(coverage(asked.y, band[:, 0], band[:, -1]))
    assert np.mean(hits) == pytest.approx(0.8, abs=0.06)


def test_a_band_follows_the_noise_before_its_origin():
    """Calm and restless months: bands of one width hold too much in the ones and too little in the others."""
    rng = np.random.default_rng(7)
    error, fold, series, step = errors(rng, folds=40)
    noise = np.where(np.arange(40)[:, None] % 2, 4.0, 1.0) * np.ones((40, 20))
    given = rows(error * noise[fold, series], step, series, [f"s{n}" for n in range(20)], fold=fold, noise=noise)
    blind = replace(given, noise=np.ones_like(noise))
    got, one = by_the_others(given), by_the_others(blind)
    for restless in (False, True):
        hit = (fold % 2 == 1) == restless
        held, told = (coverage(given.y[hit], band[hit, 0], band[hit, -1]) for band in (one, got))
        assert abs(told - 0.8) < 0.75 * abs(held - 0.8)


def test_a_step_of_few_errors_borrows_how_its_neighbours_err_and_not_how_much():
    rng, folds, horizon = np.random.default_rng(4), 40, 24
    fold, step = (axis.ravel() for axis in np.meshgrid(np.arange(folds), np.arange(horizon), indexing="ij"))
    size = np.where((step >= 8) & (step < 18), 10.0, 0.1)  # as the sun: by night there is little to err about
    learned = calibrate(rows(rng.normal(size=len(step)) * size, step + 1, 0 * step, ["a"], fold=fold), horizon, LEVELS)
    steps = np.arange(1, horizon + 1)
    band = learned.quantiles(["a"] * horizon, steps, np.full(horizon, 100.0), nothing(horizon))
    width = (band[:, -1] - band[:, 0]) / (2 * 1.2816 * size[:horizon])
    assert (np.abs(np.log(width[8:18])) < np.log(1.5)).all()
    assert width[[7, 18]].max() < 0.3 * 100, "at dusk it was two thirds of noon's"
    assert np.median(width[[*range(4), *range(22, 24)]]) < 1.5


def test_a_band_keeps_to_its_time_of_day_wherever_the_origin_stands():
    """Nights are quiet: learned at midnights, asked at six in the morning."""
    rng = np.random.default_rng(8)
    error, fold, series, step = errors(rng, folds=20, horizon=12)
    spread = np.where((step - 1) % 6 < 3, 0.01, 1.0)
    given = rows(error * spread, step, series, [f"s{n}" for n in range(20)], fold=fold, season=6)
    learned = calibrate(given, 12, LEVELS)

    def widths(place):
        band = learned.quantiles(["s0"] * 12, np.arange(1, 13), np.zeros(12), nothing(12), place=place)
        return band[:, -1] - band[:, 0]

    at_midnight = widths(0)
    for late in range(6):
        wanted = (np.arange(12) + late) % 6 < 3
        assert (widths(late)[wanted] < at_midnight.mean() / 5).all()
        assert (widths(late)[~wanted] > at_midnight.mean() / 5).all()
    mixed = replace(given, place=np.arange(20) % 6)
    assert calibrate(mixed, 12, LEVELS).place is None


def test_noise_is_seen_in_the_newest_rows_alone_and_is_unknown_where_nothing_moves():
    y = np.r_[np.tile([1.0, 2.0], 50), np.tile([1.0, 2.0], 50) + np.repeat(10.0 * np.arange(50), 2), np.ones(100)]
    ends = np.array([[100, 60], [200, 150], [300, 260]])
    found = noise(y, np.array([0, 100, 200, 300]), ends, (2,), 5)
    np.testing.assert_array_equal(found, [[np.nan, np.nan], [10, 10], [np.nan, np.nan]])
    late = y.copy()
    late[150:] += 1000.0
    assert noise(late, np.array([0, 100, 200, 300]), ends, (2,), 5)[1, 1] == 10


NAN = float("nan")
SOLD = {
    "now and then": ([0, 3, 0, NAN, 2, 1], [3, 3, 2, 1]),
    "not yet nothing": ([4, 5, 0, 6], [0, 4, 4, 4]),
    "always": ([4, 5, 6], [0, 0, 0, 0]),
    "never": ([0, 0, NAN], [0, 0, 0, 0]),
    "given back once": ([0, 2, -1, 3], [2, 0, 0, 0]),
}


@pytest.mark.parametrize("how", SOLD)
def test_the_least_is_known_of_series_that_are_zero_at_times_and_as_of_each_origin(how):
    """As of its second, third, fifth and sixth row, or its last."""
    y, wanted = SOLD[how]
    y = np.array([7.0, *y, 0.0, 0.5], dtype=float)  # between neighbours that are none of its business
    starts = np.array([0, 1, len(y) - 2, len(y)])
    last = len(y) - 2
    ends = np.array([min(1 + seen, last) for seen in (2, 3, 5, 6)])
    got = least(y, starts, np.stack([np.ones(4, dtype=int), ends, np.full(4, len(y))]))
    assert got[1].tolist() == wanted
    assert got[0].tolist() == [0] * 4
    assert got[2].tolist() == [0.5] * 4


@given(seed=st.integers(0, 2**32 - 1), smallest=st.floats(0, 100))
def test_only_lower_ends_and_what_is_less_than_nothing_move_and_quantiles_still_do_not_cross(seed, smallest):
    rng = np.random.default_rng(seed)
    levels = (0.05, 0.1, 0.3, 0.5, 0.9)
    given_ = np.sort(rng.normal(0, 50, (20, len(levels))), axis=1)
    got = down_to_zero(given_, levels, np.full(20, smallest))
    assert (np.diff(got, axis=1) >= 0).all()
    moved = got != given_
    assert (given_[:, 3:][moved[:, 3:]] < 0).all()
    assert (got[moved] == 0).all()
    assert (given_[moved] < smallest / 2).all()
    assert not ((got[:, :3] > 0) & (got[:, :3] < smallest / 2)).any()
    assert (got >= 0).all() or smallest == 0
    assert smallest > 0 or not moved.any()
