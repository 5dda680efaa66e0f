import os

import numpy as np
import pandas as pd
import pytest
from forecastcore_assumptions import Table
from pydantic import TypeAdapter

from forecastcore.api import Task
from forecastcore.errors import AssumptionUnavailable

ORIGIN = pd.Timestamp("2024-10-26T00:00Z")
DS = pd.date_range("2024-10-26T01:00Z", periods=3, freq="h", unit="ns")
FUTURE = pd.DataFrame({"unique_id": np.repeat(["001", "002"], 3), "ds": list(DS) * 2, "step": [1, 2, 3] * 2})
FUTURE["ds"] = FUTURE["ds"].astype("datetime64[ns, UTC]")


def task(*covariates, timezone="UTC", origin=ORIGIN):
    return Task(origin=origin, frequency="h", horizon=3, timezone=timezone, covariates=covariates or ("temperature",))


def csv(folder, text):
    path = folder / "plan.csv"
    path.write_text(text, encoding="utf-8")
    return path


def answered(table, of=None, future=FUTURE):
    of = of or task()
    answer = table.assume(future.head(0), future, of)
    assert list(answer.columns) == ["unique_id", "ds", *of.covariates]
    pd.testing.assert_frame_equal(answer[["unique_id", "ds"]], future[["unique_id", "ds"]])
    return answer[of.covariates[0]].tolist()


PLAN = "ds,temperature\n2024-10-26T03:00Z,3\n2024-10-26T01:00Z,1\n2024-10-26T02:00Z,2\n"


def test_the_values_of_the_file_hold_for_every_series_in_the_order_asked(tmp_path):
    assert answered(Table(csv(tmp_path, PLAN))) == [1, 2, 3, 1, 2, 3]
    backwards = FUTURE.iloc[::-1]
    assert answered(Table(csv(tmp_path, PLAN)), future=backwards) == [3, 2, 1, 3, 2, 1]


def test_a_file_may_tell_the_series_apart_even_by_ids_that_look_like_numbers(tmp_path):
    rows = "".join(f"{uid},{at.isoformat()},{uid}\n" for uid in ("002", "001") for at in DS)
    assert answered(Table(csv(tmp_path, "unique_id,ds,temperature\n" + rows))) == [1, 1, 1, 2, 2, 2]


def test_parquet_is_read_as_well(tmp_path):
    path = tmp_path / "plan.parquet"
    pd.DataFrame({"ds": DS, "temperature": [1, 2, 3]}).to_parquet(path)
    assert answered(Table(path)) == [1, 2, 3, 1, 2, 3]
    pd.DataFrame({"ds": DS.tz_localize(None).as_unit("us"), "temperature": [1, 2, 3]}).to_parquet(path)
    assert answered(Table(path)) == [1, 2, 3, 1, 2, 3]


def test_a_column_of_another_name_is_named(tmp_path):
    path = csv(tmp_path, PLAN.replace("temperature", "T2m"))
    assert answered(Table(path, column="T2m")) == [1, 2, 3, 1, 2, 3]
    with pytest.raises(AssumptionUnavailable, match="cannot fill 'temperature', 'rain' all at once"):
        answered(Table(path, column="T2m"), task("temperature", "rain"))


def test_times_without_an_offset_are_on_the_projects_clock(tmp_path):
    path = csv(tmp_path, "ds,temperature\n2024-10-26 03:00,1\n2024-10-26 04:00,2\n2024-10-26 05:00,3\n")
    assert answered(Table(path), task(timezone="Europe/Berlin")) == [1, 2, 3, 1, 2, 3]
    assert answered(Table(path, timezone="Europe/Berlin")) == [1, 2, 3, 1, 2, 3]


def test_dates_are_local_midnights(tmp_path):
    path = csv(tmp_path, "ds,temperature\n2024-10-27,1\n2024-10-28,2\n")
    ds = pd.DatetimeIndex(["2024-10-26T22:00Z", "2024-10-27T23:00Z"]).as_unit("ns")
    future = pd.DataFrame({"unique_id": "a", "ds": ds, "step": [1, 2]})
    assert answered(Table(path), task(timezone="Europe/Berlin"), future) == [1, 2]


def test_an_hour_that_the_clocks_repeat_needs_an_offset(tmp_path):
    path = csv(tmp_path, "ds,temperature\n2024-10-27 02:30,1\n")
    with pytest.raises(AssumptionUnavailable, match="write times with an offset"):
        answered(Table(path), task(timezone="Europe/Berlin"))


ISSUED = """ds,issued_at,temperature
2024-10-26T01:00Z,2024-10-25T00:00Z,1
2024-10-26T01:00Z,2024-10-25T12:00Z,11
2024-10-26T01:00Z,2024-10-26T06:00Z,111
2024-10-26T02:00Z,2024-10-25T12:00Z,12
2024-10-26T02:00Z,2024-10-25T00:00Z,2
2024-10-26T03:00Z,2024-10-26T00:00Z,13
"""


def test_only_what_was_issued_by_the_origin_counts_and_of_that_the_newest(tmp_path):
    path = csv(tmp_path, ISSUED)
    assert answered(Table(path)) == [11, 12, 13, 11, 12, 13]
    later = task(origin=pd.Timestamp("2024-10-26T06:00Z"))
    assert answered(Table(path), later) == [111, 12, 13, 111, 12, 13]


def test_a_row_not_yet_issued_is_missing(tmp_path):
    earlier = task(origin=pd.Timestamp("2024-10-25T12:00Z"))
    with pytest.raises(AssumptionUnavailable, match=r"no value for 2 of 6 asked rows, first at 2024-10-26 03:00"):
        answered(Table(csv(tmp_path, ISSUED)), earlier)


@pytest.mark.parametrize("hole", ["", "2024-10-26T02:00Z,\n", "2024-10-26T02:00Z,inf\n"])
def test_missing_rows_are_counted_and_the_first_one_named(tmp_path, hole):
    path = csv(tmp_path, f"ds,temperature\n2024-10-26T01:00Z,1\n{hole}")
    with pytest.raises(
        AssumptionUnavailable, match=r"plan.csv has no value for 4 of 6 asked rows, first at 2024-10-26 02"
    ):
        answered(Table(path))


def test_an_instant_twice_is_refused(tmp_path):
    with pytest.raises(AssumptionUnavailable, match=r"2024-10-26 01:00:00.* more than once.*issued_at"):
        answered(Table(csv(tmp_path, PLAN + "2024-10-26T01:00Z,7\n")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ds,rain\n2024-10-26T01:00Z,1\n", "no column 'temperature'; it has 'ds', 'rain'"),
        ("when,temperature\n2024-10-26T01:00Z,1\n", "no column 'ds'"),
        ("ds,temperature\n2024-10-26T01:00Z,mild\n", "mild"),
        ("ds,temperature\nsoon,1\n", "soon"),
        ("ds,temperature\n2024-10-26T01:00Z,1\n2024-10-26 02:00,2\n", "'2024-10-26 02:00' has no offset"),
        ("", "No columns"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, words):
    with pytest.raises(AssumptionUnavailable, match=f"cannot use plan.csv: .*{words}"):
        answered(Table(csv(tmp_path, text)))


def test_a_file_that_is_not_there_or_of_another_kind_says_so(tmp_path):
    with pytest.raises(AssumptionUnavailable, match=r"cannot use nowhere\.csv"):
        answered(Table(tmp_path / "nowhere.csv"))
    path = tmp_path / "plan.xlsx"
    path.write_bytes(b"")
    with pytest.raises(AssumptionUnavailable, match=r"\.csv or \.parquet file or a Delta table, not \.xlsx"):
        answered(Table(path))


def test_an_empty_time_is_refused(tmp_path):
    path = tmp_path / "plan.parquet"
    pd.DataFrame({"ds": [pd.NaT, *DS.tz_localize(None)], "temperature": 1.0}).to_parquet(path)
    with pytest.raises(AssumptionUnavailable, match=r"cannot use plan\.parquet: a time is empty"):
        answered(Table(path))


def test_a_changed_file_is_read_anew(tmp_path):
    path = csv(tmp_path, PLAN)
    answered(Table(path))
    path.write_text(PLAN.replace(",3\n", ",30\n"), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert answered(Table(path)) == [1, 2, 30, 1, 2, 30]


def test_parameters_are_read_as_yaml_gives_them(tmp_path):
    path = csv(tmp_path, PLAN)
    assert TypeAdapter(Table).validate_python({"path": str(path)}) == Table(path)
