"""Which series failed, and why."""

import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import forecastcore as fc
from forecastcore.cli import main
from forecastcore.runs.failures import failures
from tests.conftest import small_history


@pytest.fixture
def broken(make_site):
    """Six series: one is constant, two have no values."""
    history = small_history(6)
    history.loc[history["unique_id"] == "b", "y"] = 7.0
    history.loc[history["unique_id"].isin(["d", "e"]), "y"] = np.nan
    site = make_site(history)
    assert site.cli("retrain").code == 0
    assert site.cli("predict").code == 3
    return site


def test_series_are_told_by_reason_with_the_mend_and_a_command_that_runs(broken, monkeypatch):
    told = broken.cli("--json", "failures")
    assert told.code == 0
    document = told.document
    assert document["series"] == {"total": 6, "ok": 3, "degraded": 1, "failed": 2}
    reasons = {one["reason"]: one for one in document["reasons"]}
    assert [*reasons] == ["no-history", "constant-history"], "the most frequent first"
    assert (reasons["no-history"]["series"], reasons["no-history"]["status"]) == (["d", "e"], "failed")
    assert (reasons["constant-history"]["series"], reasons["constant-history"]["count"]) == (["b"], 1)
    assert all(one["cause"] and one["mend"] for one in reasons.values())
    table = fc.forecasts(broken.project())
    assert set(table.loc[table["status"] != "ok", "unique_id"]) == {"b", "d", "e"}

    words = broken.cli("failures", "latest").out
    assert words.startswith("1 of 6 series degraded, 2 failed in ")
    assert "no-history: 2 failed: d, e\n" in words
    monkeypatch.chdir(broken.folder)
    assert main(document["rerun"].split()[1:]) == 3


def test_a_vintage_that_is_not_there_is_told_and_a_whole_one_too(site):
    site.retrain()
    told = site.cli("--json", "failures")
    assert (told.code, told.document["error"]["code"]) == (2, "usage")
    site.predict()
    assert site.cli("failures").out.startswith("all 3 series of ")


@pytest.mark.slow
def test_a_hundred_thousand_series_are_told_within_a_second(site):
    site.retrain()
    site.predict()
    one = site.table().iloc[[0]]
    many = one.loc[one.index.repeat(100_000)].reset_index(drop=True)
    many["unique_id"] = [f"shop-{n}" for n in range(len(many))]
    many["run_key"], many["issued_at"] = "f" * 16, (many["issued_at"] + pd.Timedelta(hours=1)).dt.as_unit("us")
    many.loc[::20, "status"] = "degraded"
    many.loc[::20, "reason"] = [f"model-error: {n} is no number" for n in range(0, len(many), 20)]
    (_, sink), *_ = site.project().sinks()
    sink.publish(pa.Table.from_pandas(many, preserve_index=False), run_key="f" * 16)
    project, started = site.project(), time.process_time()
    told = failures(project)
    assert time.process_time() - started <= 1
    assert (told["series"]["degraded"], [one["count"] for one in told["reasons"]]) == (5000, [5000])
