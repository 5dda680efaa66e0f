import time

import numpy as np
import pandas as pd
import pytest
from forecastcore_assumptions import Climatology

from forecastcore.api import Task
from forecastcore.testing import sample_future, sample_history, sample_task


def frames(frequency="h", timezone="UTC", rows=100 * 24, covariates=("temperature", "rain"), horizon=60, **more):
    history = sample_history(frequency=frequency, timezone=timezone, rows=rows, covariates=covariates, **more)
    task = sample_task(history, frequency=frequency, horizon=horizon, timezone=timezone)
    return history.drop(columns="y"), sample_future(history, task)[["unique_id", "ds", "step"]], task


def place_in_leap_year(instant):
    return pd.Timestamp(year=2024, month=instant.month, day=instant.day).dayofyear


def usual_by_hand(history, asked, timezone, window, covariate):
    """The definition, one asked row at a time, on pandas' own local clock."""
    local = history["ds"].dt.tz_convert(timezone)
    places = local.map(place_in_leap_year)
    values = []
    for unique_id, instant in zip(asked["unique_id"], asked["ds"].dt.tz_convert(timezone), strict=True):
        apart = (places - place_in_leap_year(instant)).abs()
        near = np.minimum(apart, 366 - apart) <= window
        same_time = (local.dt.hour == instant.hour) & (local.dt.minute == instant.minute)
        values.append(history.loc[near & same_time & (history["unique_id"] == unique_id), covariate].mean())
    return np.array(values)


def test_it_is_the_mean_of_what_was_observed_at_the_same_time_near_the_same_day_of_the_year():
    history, future, task = frames("3h", rows=8 * 728, series=2)
    history.loc[history.index % 11 == 0, "rain"] = np.nan
    answer = Climatology(window_days=10).assume(history, future, task)
    for covariate in ("temperature", "rain"):
        expected = usual_by_hand(history, future, "UTC", 10, covariate)
        np.testing.assert_allclose(answer[covariate], expected)


@pytest.mark.parametrize("timezone", ["Europe/Berlin", "Australia/Sydney", "UTC"])
@pytest.mark.parametrize("origin", ["2024-02-26", "2024-03-29", "2023-12-30", "2024-10-25"])
def test_hourly_data_follow_the_local_clock_over_new_year_leap_day_and_clock_changes(timezone, origin):
    rows = 500 * 24
    start = str((pd.Timestamp(origin) - pd.Timedelta(hours=rows)).date())
    history, future, task = frames("h", timezone, rows=rows, series=1, start=start, covariates=("temperature",))
    answer = Climatology(window_days=7).assume(history, future, task)
    expected = usual_by_hand(history, future, timezone, 7, "temperature")
    np.testing.assert_allclose(answer["temperature"], expected)


def test_monthly_data_take_the_mean_of_the_same_month():
    history, future, task = frames("MS", "Europe/Berlin", rows=50, series=2, horizon=14)
    answer = Climatology().assume(history, future, task)
    months = history.assign(month=history["ds"].dt.tz_convert("Europe/Berlin").dt.month)
    means = months.groupby(["unique_id", "month"])["rain"].mean()
    keys = zip(answer["unique_id"], answer["ds"].dt.tz_convert("Europe/Berlin").dt.month, strict=True)
    np.testing.assert_allclose(answer["rain"], [means[key] for key in keys])


def test_daily_data_have_one_time_of_day_even_where_the_clocks_skip_midnight():
    history, future, task = frames("D", "America/Sao_Paulo", rows=800, series=1, start="2016-08-22", horizon=10)
    assert pd.Timestamp("2018-11-04T03:00Z") in set(future["ds"])
    answer = Climatology(window_days=5).assume(history, future, task)
    places = history["ds"].dt.tz_convert("America/Sao_Paulo").map(place_in_leap_year)
    for instant, value in zip(answer["ds"].dt.tz_convert("America/Sao_Paulo"), answer["rain"], strict=True):
        near = (places - place_in_leap_year(instant)).abs() <= 5
        assert value == pytest.approx(history["rain"][near].mean())


def test_less_than_a_year_of_history_falls_back_to_the_last_days_at_the_same_time():
    history, future, task = frames(rows=100 * 24, series=1, horizon=40 * 24)
    answer = Climatology(window_days=15).assume(history, future, task)
    far = answer["ds"] > task.origin + pd.Timedelta(days=16)  # where no past day is near in the year
    last_days = history.tail(15 * 24)
    means = last_days.groupby(last_days["ds"].dt.hour)["rain"].mean()
    np.testing.assert_allclose(answer["rain"][far], answer["ds"][far].dt.hour.map(means))


def test_a_time_of_day_never_observed_takes_the_mean_of_the_series():
    history, future, task = frames(rows=6, series=1, horizon=24, covariates=("rain",))
    answer = Climatology().assume(history, future, task)
    unseen = ~answer["ds"].dt.hour.isin(history["ds"].dt.hour)
    assert unseen.any()
    np.testing.assert_allclose(answer["rain"][unseen], history["rain"].mean())


def test_the_last_days_anomaly_is_added_and_fades():
    history, future, task = frames(rows=800 * 24, series=1, horizon=96, covariates=("temperature",))
    clock = history["ds"].dt.hour
    history["temperature"] = 10.0 + clock
    history.loc[history.index[-24:], "temperature"] += 4.0
    history.loc[0, "temperature"] = 60.0
    usual = Climatology().assume(history, future, task)["temperature"]
    blended = Climatology(anomaly_decay_hours=36).assume(history, future, task)["temperature"]
    added = (blended - usual).to_numpy()
    lead = future["step"].to_numpy()
    np.testing.assert_allclose(np.log(added[1:] / added[0]), -(lead[1:] - 1) / 36)
    assert 3.5 < added[0] < 4.0


def test_a_blend_never_leaves_the_range_that_was_observed():
    history, future, task = frames(rows=400 * 24, series=1, covariates=("rain",))
    history["rain"] = np.where(history.index % 97 == 0, 5.0, 0.0)
    history.loc[history.index[-24:], "rain"] = 0.0
    answer = Climatology(anomaly_decay_hours=1000).assume(history, future, task)
    assert answer["rain"].between(0.0, 5.0).all()


def test_a_week_of_ten_series_with_four_covariates_takes_less_than_a_third_of_a_second():
    names = ("temperature", "rain", "humidity", "wind")
    history, future, task = frames(rows=16_000, series=10, covariates=names, horizon=168, timezone="Europe/Rome")
    Climatology().assume(history, future, task)
    started = time.process_time()
    Climatology().assume(history, future, task)
    assert time.process_time() - started < 0.3


@pytest.mark.slow
def test_thousands_of_series_are_answered_in_blocks():
    days = pd.date_range("2022-01-01", periods=760, freq="D", tz="UTC", unit="ns")
    count = 3000
    history = pd.DataFrame(
        {
            "unique_id": np.repeat([f"s{n:05d}" for n in range(count)], len(days)),
            "ds": np.tile(days, count),
            "price": np.repeat(np.arange(count, dtype=float), len(days)),
        }
    ).astype({"ds": "datetime64[ns, UTC]"})
    task = Task(origin=days[-1], frequency="D", horizon=365, covariates=("price",))
    answer = Climatology().assume(history, sample_future(history, task)[["unique_id", "ds", "step"]], task)
    np.testing.assert_allclose(answer["price"], np.repeat(np.arange(count, dtype=float), 365))
