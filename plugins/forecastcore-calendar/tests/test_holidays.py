import subprocess
import sys
import time
from datetime import date

import numpy as np
import pandas as pd
import pytest
from forecastcore_calendar import FEATURES, Holidays, forecastcore_assumptions
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from forecastcore.api import Assumption, Task
from forecastcore.errors import PluginError
from forecastcore.timegrid import TimeGrid


def told(features, instants, *, country="DE", frequency="D", timezone="Europe/Berlin", **parameters):
    """Each feature at the instants, which are local times."""
    ds = pd.DatetimeIndex(pd.to_datetime(list(instants)).tz_localize(timezone)).tz_convert("UTC").as_unit("ns")
    future = pd.DataFrame({"unique_id": "a", "ds": ds, "step": np.arange(1, len(ds) + 1, dtype=np.int32)})
    task = Task(origin=ds.min(), frequency=frequency, horizon=len(ds), timezone=timezone, covariates=tuple(features))
    answer = Holidays(country, **parameters).assume(future.head(0), future, task)
    assert list(answer.columns) == ["unique_id", "ds", *features]
    return answer[list(features)]


def days(first, last):
    return pd.date_range(first, last, freq="D")


def true_days(feature, first, last, **more):
    flags = told([feature], days(first, last), **more)[feature].to_numpy()
    assert set(np.unique(flags)) <= {0.0, 1.0}
    return [str(day.date()) for day in days(first, last)[flags == 1]]


def test_the_holidays_of_a_state_are_its_own():
    bavaria = true_days("is_holiday", "2024-05-01", "2024-06-30", subdivision="BY")
    assert bavaria == ["2024-05-01", "2024-05-09", "2024-05-20", "2024-05-30"]
    berlin = true_days("holiday", "2024-05-01", "2024-06-30", subdivision="BE")
    assert berlin == ["2024-05-01", "2024-05-09", "2024-05-20"]


def test_the_friday_after_ascension_day_is_a_bridge_day():
    assert true_days("is_bridge_day", "2024-05-01", "2024-05-31") == ["2024-05-10"]


def test_the_days_around_a_holiday_know_it():
    assert true_days("day_before_holiday", "2024-04-30", "2024-05-12") == ["2024-04-30", "2024-05-08"]
    assert true_days("day_after_holiday", "2024-04-30", "2024-05-12") == ["2024-05-02", "2024-05-10"]


def test_workdays_are_what_is_left():
    assert true_days("is_workday", "2024-05-06", "2024-05-13") == [
        "2024-05-06", "2024-05-07", "2024-05-08", "2024-05-10", "2024-05-13",
    ]  # fmt: skip


def test_weekends_are_the_countrys():
    week = ("2024-06-02", "2024-06-08")
    assert true_days("is_weekend", *week, country="DE") == ["2024-06-02", "2024-06-08"]
    assert true_days("is_weekend", *week, country="IL") == ["2024-06-07", "2024-06-08"]


def test_a_weekend_day_that_the_country_works_on_is_a_workday():
    # China moved Sunday 2024-02-04 to a working day before the Spring Festival.
    assert "2024-02-04" in true_days("is_workday", "2024-02-03", "2024-02-05", country="CN")


def test_school_days_are_workdays_outside_the_breaks():
    breaks = ((date(2024, 5, 21), date(2024, 6, 1)),)
    found = true_days("is_school_day", "2024-05-17", "2024-06-04", subdivision="BY", school_breaks=breaks)
    assert found == ["2024-05-17", "2024-06-03", "2024-06-04"]


def test_days_of_ones_own_are_holidays_once_or_every_year():
    found = true_days("is_holiday", "2023-08-01", "2024-08-31", subdivision="BE", extra=("08-08", "2023-08-14"))
    assert {"2023-08-08", "2023-08-14", "2024-08-08"} <= set(found)
    assert "2024-08-14" not in found
    workdays = true_days("is_workday", "2024-08-07", "2024-08-09", extra=("08-08",))
    assert workdays == ["2024-08-07", "2024-08-09"]


def test_the_distance_to_the_next_and_the_last_holiday_in_days():
    answer = told(["days_to_holiday", "days_since_holiday"], ["2024-04-28", "2024-05-01", "2024-05-05", "2024-08-15"])
    assert answer["days_to_holiday"].tolist() == [3, 0, 4, 14]
    assert answer["days_since_holiday"].tolist() == [14, 0, 4, 14]


def test_the_local_day_counts_not_the_utc_day():
    # Melbourne is 11 h ahead: Christmas there begins on 24 December, 13:00 UTC, and ends a day later.
    ds = pd.date_range("2023-12-24T12:00Z", "2023-12-26T14:00Z", freq="h", unit="ns")
    future = pd.DataFrame({"unique_id": "a", "ds": ds})
    names = {"xmas": "is_holiday"}
    task = Task(origin=ds[0], frequency="h", horizon=9, timezone="UTC", covariates=("xmas",))
    answer = Holidays("AU", "VIC", timezone="Australia/Melbourne", names=names).assume(future.head(0), future, task)
    free = answer["ds"][answer["xmas"] == 1]
    assert free.min() == pd.Timestamp("2023-12-24T13:00Z")
    assert free.max() == pd.Timestamp("2023-12-26T12:00Z")  # Boxing Day ends


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-10-03", 24)])
def test_a_day_of_a_clock_change_has_all_its_hours(day, hours):
    start = pd.Timestamp(day, tz="Europe/Berlin")
    ds = pd.date_range(start - pd.Timedelta(hours=30), periods=90, freq="h").tz_convert("UTC").as_unit("ns")
    future = pd.DataFrame({"unique_id": "a", "ds": ds})
    task = Task(origin=ds[0], frequency="h", horizon=9, timezone="Europe/Berlin", covariates=("is_holiday", "hour"))
    answer = Holidays("DE", extra=("03-31", "10-27")).assume(future.head(0), future, task)
    assert ((answer["is_holiday"] == 1) & (ds.tz_convert("Europe/Berlin").date == start.date())).sum() == hours
    np.testing.assert_array_equal(answer["hour"], ds.tz_convert("Europe/Berlin").hour)


def test_daily_data_belong_to_the_day_that_begins_at_their_local_midnight():
    grid = TimeGrid("D", "America/Sao_Paulo")
    # 2018-11-04 had no midnight in Brazil; its day began at one.
    ds = grid.between(pd.Timestamp("2018-11-01T03:00Z"), pd.Timestamp("2018-11-16T02:00Z"))
    future = pd.DataFrame({"unique_id": "a", "ds": ds})
    task = Task(
        origin=ds[0], frequency="D", horizon=9, timezone="America/Sao_Paulo", covariates=("is_holiday", "weekday")
    )
    answer = Holidays("BR").assume(future.head(0), future, task)
    assert [at.day for at in ds.tz_convert("America/Sao_Paulo")[answer["is_holiday"] == 1]] == [2, 15]
    assert answer["weekday"].tolist() == [(3 + n) % 7 for n in range(len(ds))]


def test_a_week_counts_its_holidays_and_workdays():
    answer = told(
        ["is_holiday", "is_workday", "is_weekend"], ["2024-04-29", "2024-05-06", "2024-05-13"], frequency="W-MON"
    )
    assert answer["is_holiday"].tolist() == [1, 1, 0]
    assert answer["is_workday"].tolist() == [4, 4, 5]
    assert answer["is_weekend"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("frequency", "instants", "holidays"),
    [
        ("MS", ["2024-04-01", "2024-05-01", "2024-12-01"], [1, 3, 2]),
        ("ME", ["2024-04-30", "2024-05-31", "2024-12-31"], [1, 3, 2]),
        ("QS", ["2024-04-01", "2024-10-01"], [4, 3]),
        ("YS", ["2024-01-01"], [9]),
        ("2D", ["2024-05-08", "2024-05-10"], [1, 0]),
        ("B", ["2024-05-08", "2024-05-09", "2024-05-10"], [0, 1, 0]),
    ],
)
def test_a_period_counts_the_holidays_of_all_its_days(frequency, instants, holidays):
    assert told(["is_holiday"], instants, frequency=frequency)["is_holiday"].tolist() == holidays


instants = st.lists(st.datetimes(pd.Timestamp("1995-01-01"), pd.Timestamp("2060-01-01")), min_size=1, max_size=20)
NEVER_MOVED = "Asia/Kolkata"  # no clock changes, half an hour off the full ones


@given(instants)
@settings(max_examples=25, deadline=None)
def test_the_clock_features_are_those_of_pandas(times):
    local = pd.DatetimeIndex(times)
    features = ["weekday", "month", "hour", "weekday_sin", "weekday_cos", "hour_sin", "hour_cos", "day_of_year_sin"]
    answer = told(features, local, frequency="min", timezone=NEVER_MOVED)
    hour = (local - local.normalize()) / pd.Timedelta(hours=1)
    np.testing.assert_array_equal(answer["weekday"], local.dayofweek)
    np.testing.assert_array_equal(answer["month"], local.month)
    np.testing.assert_allclose(answer["hour"], hour)
    np.testing.assert_allclose(answer["hour_sin"], np.sin(hour / 24 * 2 * np.pi), atol=1e-9)
    np.testing.assert_allclose(answer["hour_cos"], np.cos(hour / 24 * 2 * np.pi), atol=1e-9)
    np.testing.assert_allclose(np.hypot(answer["weekday_sin"], answer["weekday_cos"]), 1)
    year = (local.dayofyear - 1) / np.where(local.is_leap_year, 366, 365)
    np.testing.assert_allclose(answer["day_of_year_sin"], np.sin(year * 2 * np.pi), atol=1e-9)


@given(instants, st.randoms())
@settings(max_examples=25, deadline=None)
def test_each_row_is_answered_on_its_own_past_or_future_in_any_order(times, random):
    features = [name for name in FEATURES if name != "is_school_day"]
    together = told(features, times, frequency="min", timezone=NEVER_MOVED)
    assert np.isfinite(together).all(axis=None)
    order = list(range(len(times)))
    random.shuffle(order)
    shuffled = told(features, [times[n] for n in order], frequency="min", timezone=NEVER_MOVED)
    np.testing.assert_array_equal(shuffled, together.iloc[order])


def test_the_arguments_stay_as_they_were_and_nothing_asked_is_nothing_answered():
    future = pd.DataFrame({"unique_id": ["a"], "ds": pd.DatetimeIndex(["2024-05-01T22:00Z"]), "step": [1]})
    before = future.copy()
    task = Task(origin=future["ds"][0], frequency="h", horizon=1, covariates=("holiday",))
    assumption = Holidays("DE")
    assert len(assumption.assume(future, future, task)) == 1
    pd.testing.assert_frame_equal(future, before)
    assert list(assumption.assume(future, future.head(0), task).columns) == ["unique_id", "ds", "holiday"]


def test_ten_series_of_two_years_take_less_than_a_third_of_a_second():
    ds = pd.date_range("2022-01-01", periods=16_000, freq="h", tz="UTC", unit="ns")
    future = pd.DataFrame({"unique_id": np.repeat(list("abcdefghij"), len(ds)), "ds": ds.append([ds] * 9)})
    task = Task(origin=ds[0], frequency="h", horizon=1, timezone="Europe/Rome", covariates=("is_holiday", "hour_sin"))
    started = time.process_time()
    Holidays("IT").assume(future.head(0), future, task)
    assert time.process_time() - started < 0.33


def test_a_covariate_that_is_no_feature_says_which_there_are_and_how_to_map_it():
    with pytest.raises(PluginError, match=r"'is_holidy' \(did you mean is_holiday\?\).*weekday.*names: \{is_holidy:"):
        told(["is_holidy"], ["2024-05-01"])


def test_school_days_without_breaks_are_asked_for():
    with pytest.raises(PluginError, match="school_breaks"):
        told(["is_school_day"], ["2024-05-01"])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"country": "de"}, "did you mean DE"),
        ({"country": "Germany"}, "did you mean DE"),
        ({"country": "Germny"}, "did you mean DE"),
        ({"country": "DE", "subdivision": "Bavaria"}, "BY"),
        ({"country": "DE", "subdivision": "by"}, "did you mean BY"),
        ({"country": "AU", "subdivision": "VCI"}, "did you mean VIC"),
        ({"country": "DE", "timezone": "Berlin"}, "IANA"),
        ({"country": "DE", "names": {"feiertag": "is_holyday"}}, "did you mean is_holiday"),
        ({"country": "DE", "extra": ["30-02"]}, "MM-DD"),
        ({"country": "DE", "extra": ["2024"]}, "MM-DD"),
        ({"country": "DE", "school_breaks": [["2024-06-01", "2024-05-01"]]}, "ends before it begins"),
        ({"subdivision": "BY"}, "country"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_in_words(parameters, words):
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Holidays).validate_python(parameters)


def test_parameters_are_read_as_yaml_gives_them():
    given_in_yaml = {
        "country": "DE",
        "subdivision": "Bayern",
        "extra": ["08-08", date(2024, 8, 14)],
        "school_breaks": [["2024-05-21", date(2024, 6, 1)]],
    }
    made = TypeAdapter(Holidays).validate_python(given_in_yaml)
    assert made.school_breaks == ((date(2024, 5, 21), date(2024, 6, 1)),)
    assert isinstance(made, Assumption)
    task = Task(origin=pd.Timestamp("2024-08-13", tz="UTC"), frequency="D", horizon=2, covariates=("is_holiday",))
    ds = pd.date_range("2024-08-13", periods=3, freq="D", tz="UTC", unit="ns")
    answer = made.assume(pd.DataFrame(), pd.DataFrame({"unique_id": "a", "ds": ds}), task)
    assert answer["is_holiday"].tolist() == [0, 1, 0]


def test_the_offer_generates_past_and_future_and_imports_no_calendar_before_it_is_needed():
    (spec,) = forecastcore_assumptions()
    assert (spec.name, spec.generates, spec.factory) == ("holidays", True, Holidays)
    code = "import sys, forecastcore_calendar; print('holidays' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
