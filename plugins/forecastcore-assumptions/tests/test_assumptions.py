"""What holds for every assumption that learns from the past, and the what-ifs."""

import numpy as np
import pandas as pd
import pytest
from forecastcore_assumptions import (
    Analogue,
    Climatology,
    Persistence,
    Scale,
    Shift,
    forecastcore_assumptions,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from forecastcore.api import Assumption
from forecastcore.errors import AssumptionUnavailable, PluginError
from forecastcore.testing import sample_future, sample_history, sample_task

FROM_THE_PAST = [
    Climatology(),
    Climatology(window_days=0),
    Climatology(anomaly_decay_hours=24),
    Climatology(quantile=0.9),
    Persistence(),
    Persistence(season=24),
    Persistence(daily=True),
    Analogue(),
    Analogue(days=2, match_days=3),
]
CASES = [
    ("h", "Europe/Berlin", 400 * 24),
    ("30min", "Australia/Lord_Howe", 40 * 48),
    ("D", "America/Sao_Paulo", 900),
    ("W-MON", "UTC", 150),
    ("MS", "Africa/Cairo", 30),
    ("7h", "UTC", 90),
]
THE_REST = ("model", "archive", "table", "shift", "scale", "chain")
learns = pytest.mark.parametrize("assumption", FROM_THE_PAST, ids=str)


def frames(frequency="h", timezone="UTC", rows=100 * 24, covariates=("temperature", "rain"), horizon=60, **more):
    history = sample_history(frequency=frequency, timezone=timezone, rows=rows, covariates=covariates, **more)
    task = sample_task(history, frequency=frequency, horizon=horizon, timezone=timezone)
    return history.drop(columns="y"), sample_future(history, task)[["unique_id", "ds", "step"]], task


@learns
@pytest.mark.parametrize(("frequency", "timezone", "rows"), CASES)
def test_every_asked_row_gets_a_number_in_its_place(assumption, frequency, timezone, rows):
    history, future, task = frames(frequency, timezone, rows)
    answer = assumption.assume(history, future, task)
    assert list(answer.columns) == ["unique_id", "ds", "temperature", "rain"]
    pd.testing.assert_frame_equal(answer[["unique_id", "ds"]], future[["unique_id", "ds"]])
    assert np.isfinite(answer[["temperature", "rain"]]).all(axis=None)


@learns
def test_nothing_later_than_the_origin_is_looked_at(assumption):
    history, future, task = frames()
    early = frames(rows=100 * 24 - 50)[2]
    cut = history[history["ds"] <= early.origin]
    later = history.copy()
    later.loc[later["ds"] > early.origin, ["temperature", "rain"]] = 1e9
    asked = sample_future(cut, early)[["unique_id", "ds", "step"]]
    expected = assumption.assume(cut, asked, early)
    pd.testing.assert_frame_equal(assumption.assume(later, asked, early), expected)
    assert not expected["temperature"].equals(assumption.assume(history, future, task)["temperature"])


@learns
def test_twice_asked_is_twice_the_same_and_the_arguments_stay_as_they_were(assumption):
    history, future, task = frames()
    history.loc[::7, "rain"] = np.nan
    before = history.copy(), future.copy()
    first, second = assumption.assume(history, future, task), assumption.assume(history, future, task)
    pd.testing.assert_frame_equal(first, second)
    pd.testing.assert_frame_equal(history, before[0])
    pd.testing.assert_frame_equal(future, before[1])


@learns
def test_each_row_is_answered_on_its_own_whatever_the_order(assumption):
    history, future, task = frames()
    every = assumption.assume(history, future, task)
    last_steps = future[future["step"] == task.horizon]
    some = pd.concat([future.sample(frac=0.3, random_state=0), last_steps]).drop_duplicates()
    pd.testing.assert_frame_equal(assumption.assume(history, some, task), every.loc[some.index])


@learns
def test_a_series_answers_alone_as_it_does_among_others(assumption):
    history, future, task = frames()
    among = assumption.assume(history, future, task)
    alone = assumption.assume(
        history[history["unique_id"] == "series-1"], future[future["unique_id"] == "series-1"], task
    )
    pd.testing.assert_frame_equal(alone, among[among["unique_id"] == "series-1"])


@learns
@pytest.mark.parametrize("rows", [1, 5, 24, 30])
def test_the_shortest_history_suffices(assumption, rows):
    history, future, task = frames(rows=rows)
    answer = assumption.assume(history, future, task)
    assert np.isfinite(answer[["temperature", "rain"]]).all(axis=None)


@learns
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.3, 0.9, 0.99]))
@settings(max_examples=10, deadline=None)
def test_missing_observations_leave_no_hole_as_long_as_there_is_one(assumption, seed, share):
    history, future, task = frames(rows=40 * 24, series=2)
    holes = np.random.default_rng(seed).random((len(history), 2)) < share
    history[["temperature", "rain"]] = history[["temperature", "rain"]].mask(holes)
    history.loc[5, ["temperature", "rain"]] = 1.0
    answer = assumption.assume(history, future, task)
    assert np.isfinite(answer[["temperature", "rain"]]).all(axis=None)


@learns
def test_infinite_observations_count_as_missing(assumption):
    history, future, task = frames()
    holes, infinite = history.copy(), history.copy()
    holes.loc[::5, "rain"] = np.nan
    infinite.loc[::5, "rain"] = np.inf
    pd.testing.assert_frame_equal(assumption.assume(infinite, future, task), assumption.assume(holes, future, task))


@learns
def test_what_is_constant_stays_so(assumption):
    history, future, task = frames()
    answer = assumption.assume(history.assign(temperature=3.5, rain=0.0), future, task)
    np.testing.assert_allclose(answer["temperature"], 3.5, rtol=1e-12)
    assert (answer["rain"] == 0).all()


@learns
def test_a_series_never_observed_takes_what_the_others_say(assumption):
    history, future, task = frames(series=2)
    history.loc[history["unique_id"] == "series-1", ["temperature", "rain"]] = np.nan
    strangers = future[future["unique_id"] == "series-0"].assign(unique_id="stranger")
    answer = assumption.assume(history, pd.concat([future, strangers], ignore_index=True), task)
    rain = answer.pivot_table(index="ds", columns="unique_id", values="rain")
    np.testing.assert_allclose(rain["series-1"], rain["series-0"])
    np.testing.assert_allclose(rain["stranger"], rain["series-0"])


@learns
def test_a_covariate_never_observed_is_named(assumption):
    history, future, task = frames()
    with pytest.raises(AssumptionUnavailable, match="'rain' has no observation up to"):
        assumption.assume(history.assign(rain=np.nan), future, task)


@learns
def test_an_empty_history_cannot_answer(assumption):
    history, future, task = frames()
    with pytest.raises(AssumptionUnavailable, match="'temperature' has no observation"):
        assumption.assume(history.head(0), future, task)


@learns
def test_nothing_asked_is_nothing_answered(assumption):
    history, future, task = frames()
    answer = assumption.assume(history, future.head(0), task)
    assert list(answer.columns) == ["unique_id", "ds", "temperature", "rain"]
    assert len(answer) == 0


def test_persistence_repeats_the_last_observation():
    history, future, task = frames(series=1)
    history.loc[history.index[-3:], "rain"] = [7.0, np.nan, np.nan]
    assert (Persistence().assume(history, future, task)["rain"] == 7.0).all()


def test_persistence_of_a_season_repeats_it_step_by_step():
    history, future, task = frames(series=1)
    answer = Persistence(season=24).assume(history, future, task)
    np.testing.assert_array_equal(answer["rain"], np.resize(history["rain"].to_numpy()[-24:], len(answer)))


def test_daily_persistence_follows_the_local_clock_through_a_clock_change():
    # Berlin goes from 23 to 24 h days and back on 2024-03-31; the history ends two days before.
    history, future, task = frames(timezone="Europe/Berlin", rows=88 * 24, series=1, start="2024-01-01")
    history["rain"] = history["ds"].dt.tz_convert("Europe/Berlin").dt.hour.astype(float)
    answer = Persistence(daily=True).assume(history, future, task)
    assert answer["ds"].iloc[-1] > pd.Timestamp("2024-03-31T04:00Z")
    np.testing.assert_array_equal(answer["rain"], answer["ds"].dt.tz_convert("Europe/Berlin").dt.hour)


def test_persistence_of_monthly_data_repeats_the_same_month():
    history, future, task = frames("MS", "Europe/Berlin", rows=30, series=1, horizon=14)
    history["rain"] = history["ds"].dt.tz_convert("Europe/Berlin").dt.month.astype(float)
    answer = Persistence(season=12).assume(history, future, task)
    np.testing.assert_array_equal(answer["rain"], answer["ds"].dt.tz_convert("Europe/Berlin").dt.month)


def test_the_analogue_of_a_repeated_pattern_is_its_sequel():
    rng = np.random.default_rng(3)
    pattern = rng.normal(size=(5, 24))  # five kinds of day, always in the same order
    history, future, task = frames(series=1, rows=100 * 24)
    history["temperature"] = np.tile(pattern.ravel(), 20)
    history["rain"] = np.tile(pattern.ravel() ** 2, 20)
    answer = Analogue(days=3).assume(history, future, task)
    np.testing.assert_allclose(answer["temperature"], pattern.ravel()[: len(answer)])
    np.testing.assert_allclose(answer["rain"], pattern.ravel()[: len(answer)] ** 2)


def test_the_analogue_is_the_mean_over_the_nearest_days():
    history, future, task = frames(series=1, rows=30 * 24, horizon=24, covariates=("temperature",))
    days = history["temperature"].to_numpy().reshape(30, 24)
    distance = ((days[:-1] - days[-1]) ** 2).mean(axis=1)
    nearest = np.argsort(distance)[:4]
    answer = Analogue(days=4).assume(history, future, task)
    np.testing.assert_allclose(answer["temperature"], days[nearest + 1].mean(axis=0))


def wrapped(values):
    history, future, task = frames()
    return history, future.assign(**dict.fromkeys(task.covariates, values)), task


@pytest.mark.parametrize(("assumption", "expected"), [(Shift(of="x", add=5), 15.0), (Scale(of="x", factor=1.5), 15.0)])
def test_a_what_if_changes_the_values_of_another_assumption(assumption, expected):
    history, future, task = wrapped(10.0)
    before = future.copy()
    answer = assumption.assume(history, future, task)
    assert (answer[["temperature", "rain"]] == expected).all(axis=None)
    assert list(answer.columns) == ["unique_id", "ds", "temperature", "rain"]
    pd.testing.assert_frame_equal(future, before)


@pytest.mark.parametrize("assumption", [Shift(of="x", add=5), Scale(of="x", factor=1.5)])
def test_a_what_if_without_anything_to_change_says_what_to_name(assumption):
    history, future, task = frames()
    with pytest.raises(PluginError, match=r"no values of 'temperature', 'rain'.*`of:`"):
        assumption.assume(history, future, task)


def test_the_offers_follow_the_protocol():
    specs = {spec.name: spec for spec in forecastcore_assumptions()}
    assert set(specs) - set(THE_REST) == {"climatology", "persistence", "analogue"}
    assert {name for name, spec in specs.items() if spec.wraps} == {"shift", "scale", "chain"}
    assert [name for name, spec in specs.items() if spec.models] == ["model"]
    assert not any(spec.generates for spec in specs.values())
    assert all(isinstance(assumption, Assumption) for assumption in FROM_THE_PAST)


@pytest.mark.parametrize(
    ("factory", "parameters", "word"),
    [
        (Climatology, {"window_days": -1}, "window_days"),
        (Climatology, {"window_days": 400}, "window_days"),
        (Climatology, {"anomaly_decay_hours": 0}, "anomaly_decay_hours"),
        (Climatology, {"anomaly_decay_hours": float("nan")}, "anomaly_decay_hours"),
        (Persistence, {"season": 0}, "season"),
        (Persistence, {"season": 24, "daily": True}, "season or daily"),
        (Analogue, {"days": 0}, "days"),
        (Analogue, {"match_days": 0}, "match_days"),
        (Shift, {"of": "x", "add": float("nan")}, "add"),
        (Scale, {"of": "x", "factor": float("inf")}, "factor"),
        (Shift, {"add": 1.0}, "of"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_by_name(factory, parameters, word):
    with pytest.raises(ValidationError, match=word):
        TypeAdapter(factory).validate_python(parameters)
