"""Archived forecasts: the newest that could be had at the origin, instant by instant."""

import numpy as np
import pandas as pd
import pytest
from forecastcore_assumptions import Archive
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.api import Task
from forecastcore.errors import AssumptionUnavailable

ORIGIN = pd.Timestamp("2024-06-01T12:00Z")
HOUR = pd.Timedelta("1h")
DS = pd.date_range(ORIGIN + HOUR, periods=4, freq="h", unit="ns")
FUTURE = pd.DataFrame({"unique_id": np.repeat(["a", "b"], 4), "ds": list(DS) * 2, "step": [1, 2, 3, 4] * 2})
FUTURE["ds"] = FUTURE["ds"].astype("datetime64[ns, UTC]")


def task(*covariates):
    return Task(origin=ORIGIN, frequency="h", horizon=4, covariates=covariates or ("temp",))


def run(issued, *, rain=0.0):
    """One run of a weather model: 100 times the hour of issue, plus the lead."""
    at = ORIGIN + issued * HOUR
    ds = pd.date_range(at, periods=12, freq="h")
    return pd.DataFrame({"ds": ds, "issued_at": at, "temp": 100.0 * issued + np.arange(12), "rain": rain})


def kept(folder, *frames, name="weather.parquet"):
    path = folder / name
    pd.concat(frames).to_parquet(path)
    return path


def test_of_each_instant_the_run_issued_last_before_the_origin_counts(tmp_path):
    archive = Archive(kept(tmp_path, run(1), run(-6), run(0), run(-3)))
    answer = archive.assume(FUTURE.head(0), FUTURE, task())
    assert answer["temp"].tolist() == [1, 2, 3, 4] * 2
    assert (answer["issued_at"] == ORIGIN).all()
    assert answer["ds"].equals(FUTURE["ds"])


def test_a_run_counts_only_once_it_could_be_had(tmp_path):
    archive = Archive(kept(tmp_path, run(-6), run(-3), run(0)), available_after="4h")
    answer = archive.assume(FUTURE.head(0), FUTURE, task())
    assert answer["temp"].tolist() == [-600 + lead for lead in (7, 8, 9, 10)] * 2
    assert (answer["issued_at"] == ORIGIN - 6 * HOUR).all()


def test_where_the_newest_run_lacks_a_value_or_has_ended_an_older_one_counts_or_nothing(tmp_path):
    hole = run(0).assign(rain=np.nan)
    archive = Archive(kept(tmp_path, run(-9, rain=1.0), hole.head(3)))
    answer = archive.assume(FUTURE.head(0), FUTURE, task("temp", "rain")).head(4)
    assert answer["temp"].tolist()[:2] == [1, 2]
    assert answer["rain"].tolist()[:2] == [1, 1]
    assert answer["temp"].isna().tolist() == [False, False, True, True]
    assert answer["issued_at"].iloc[0] == ORIGIN - 9 * HOUR


def test_csv_and_delta_and_rows_of_one_series_are_read_as_well(tmp_path):
    from deltalake import write_deltalake

    own = run(0).assign(unique_id="b").rename(columns={"temp": "value"})
    own.to_csv(tmp_path / "w.csv", index=False)
    write_deltalake(tmp_path / "w", own)
    for path in (tmp_path / "w.csv", tmp_path / "w"):
        answer = Archive(path, column="value").assume(FUTURE.head(0), FUTURE, task())
        assert answer["temp"].isna().tolist() == [True] * 4 + [False] * 4
        assert answer["temp"].tolist()[4:] == [1, 2, 3, 4]


def test_an_archive_that_cannot_say_anything_says_so(tmp_path):
    later = kept(tmp_path, run(1))
    with pytest.raises(AssumptionUnavailable, match="no forecast for any asked row that could be had at"):
        Archive(later).assume(FUTURE.head(0), FUTURE, task())
    with pytest.raises(AssumptionUnavailable, match=r"nowhere\.parquet"):
        Archive(tmp_path / "nowhere.parquet").assume(FUTURE.head(0), FUTURE, task())
    undated = kept(tmp_path, run(0).drop(columns="issued_at"), name="plan.parquet")
    with pytest.raises(AssumptionUnavailable, match="no column 'issued_at'"):
        Archive(undated).assume(FUTURE.head(0), FUTURE, task())
    with pytest.raises(ValueError, match="available_after must be a length of time"):
        Archive(later, available_after="-1h")


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), late=st.integers(0, 5))
def test_what_is_issued_or_available_after_the_origin_changes_nothing(tmp_path_factory, seed, late):
    rng = np.random.default_rng(seed)
    rows = pd.concat([run(int(at)) for at in rng.integers(-10, 5, 6)]).assign(temp=lambda f: rng.normal(size=len(f)))
    unknown = (rows["issued_at"] + late * HOUR > ORIGIN).to_numpy()
    other = rows.assign(temp=np.where(unknown, 1e6, rows["temp"]))
    folder = tmp_path_factory.mktemp("archive")
    answers = []
    for name, frame in (("one", rows), ("two", other)):
        archive = Archive(kept(folder, frame, name=f"{name}.parquet"), available_after=f"{late}h")
        try:
            answers.append(archive.assume(FUTURE.head(0), FUTURE, task()))
        except AssumptionUnavailable:
            answers.append(None)
    if answers[0] is None:
        assert answers[1] is None
    else:
        pd.testing.assert_frame_equal(*answers)
