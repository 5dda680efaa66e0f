import time

import numpy as np
import pandas as pd
import pytest
from forecastcore_baseline import FittedSeasonalNaive, Naive, SeasonalNaive, forecastcore_models
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from forecastcore.api import Fitted, Model
from forecastcore.naive import repeat_season
from forecastcore.testing import sample_future, sample_history, sample_task


def panel(*series):
    """Daily series that all end on the same day."""
    end = pd.Timestamp("2024-06-30", tz="UTC")
    parts = [
        pd.DataFrame({"unique_id": f"s{n}", "ds": pd.date_range(end=end, periods=len(y), freq="D", unit="ns"), "y": y})
        for n, y in enumerate(series)
    ]
    return pd.concat(parts, ignore_index=True)


def forecast(model, history, horizon=5, season=7):
    task = sample_task(history, frequency="D", horizon=horizon, season=season)
    return model.fit(history, task).predict(history, sample_future(history, task), task)


y_values = st.lists(st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)), min_size=1, max_size=20)


@given(st.lists(y_values, min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 12))
def test_many_series_at_once_are_forecast_as_each_one_alone(series, season, horizon):
    history = panel(*series)
    answer = forecast(SeasonalNaive(season), history, horizon)
    expected = [repeat_season(np.array(y, dtype=float), season, horizon) for y in series]
    np.testing.assert_array_equal(answer["forecast"], np.concatenate(expected))


def test_the_season_is_the_tasks_where_none_is_given():
    history = panel(np.arange(14.0))
    assert forecast(SeasonalNaive(), history, 8)["forecast"].tolist() == [7, 8, 9, 10, 11, 12, 13, 7]


def test_naive_repeats_the_last_observed_value():
    assert forecast(Naive(), panel([1.0, 2.0, np.nan]), 3)["forecast"].tolist() == [2, 2, 2]


def test_predict_repeats_what_is_newer_than_the_training():
    old, new = panel(np.arange(14.0)), panel(np.arange(100.0, 121.0))
    task = sample_task(old, frequency="D", horizon=3)
    fitted = SeasonalNaive().fit(old, task)
    assert fitted.predict(new, sample_future(new, task), task)["forecast"].tolist() == [114, 115, 116]


def test_some_rows_in_any_order_are_answered_row_by_row():
    history = panel(np.arange(10.0), np.arange(50.0, 60.0))
    task = sample_task(history, frequency="D", horizon=9, season=7)
    future = sample_future(history, task)
    all_rows = SeasonalNaive().fit(history, task).predict(history, future, task)
    some = future.sample(frac=0.5, random_state=1)
    answer = SeasonalNaive().fit(history, task).predict(history, some, task)
    pd.testing.assert_frame_equal(answer, all_rows.loc[some.index])


def test_a_series_that_was_never_seen_gets_no_number():
    history = panel([1.0], [np.nan])
    task = sample_task(history, frequency="D", horizon=1)
    future = sample_future(history, task)
    stranger = pd.concat([future, future.head(1).assign(unique_id="stranger")], ignore_index=True)
    answer = Naive().fit(history, task).predict(history, stranger, task)
    np.testing.assert_array_equal(answer["forecast"], [1.0, np.nan, np.nan])


def test_nothing_to_forecast_is_an_empty_answer():
    history = panel([1.0])
    task = sample_task(history, frequency="D", horizon=1)
    assert len(Naive().fit(history, task).predict(history, sample_future(history, task).head(0), task)) == 0


def test_the_arguments_stay_as_they_were():
    history = sample_history(series=2, rows=60)
    task = sample_task(history)
    future = sample_future(history, task)
    before = history.copy(), future.copy()
    SeasonalNaive().fit(history, task).predict(history, future, task)
    pd.testing.assert_frame_equal(history, before[0])
    pd.testing.assert_frame_equal(future, before[1])


@pytest.mark.slow
def test_ten_thousand_series_take_less_than_a_second():
    history = panel(*[np.arange(50.0)] * 10_000)
    task = sample_task(history, frequency="D", horizon=7)
    future = sample_future(history, task)
    started = time.process_time()
    answer = SeasonalNaive().fit(history, task).predict(history, future, task)
    assert time.process_time() - started < 1
    assert answer["forecast"].notna().all()


def test_the_offers_follow_the_protocols():
    specs = {spec.name: spec for spec in forecastcore_models()}
    assert set(specs) == {"seasonal-naive", "naive"}
    for spec in specs.values():
        assert isinstance(spec.factory(), Model)
        assert spec.capabilities.missing
    assert isinstance(FittedSeasonalNaive(7), Fitted)


@pytest.mark.parametrize("season", [0, -1, "often"])
def test_a_season_that_is_none_is_refused(season):
    with pytest.raises(ValidationError):
        TypeAdapter(SeasonalNaive).validate_python({"season": season})
