"""A predict whose history stays on a Spark cluster: the rows, reasons and run keys of one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecastcore import runtime
from forecastcore.audit import AuditError
from forecastcore.errors import QualityError
from forecastcore.runs import sharded
from tests.conftest import small_history
from tests.support import prefect_server
from tests.support.azurite import server as azurite
from tests.support.spark import cluster, connect_server

__all__ = ["cluster", "connect_server"]

ROOT = Path(__file__).parents[1]
ENGINE = {"type": "spark", "master": "local[2,4]", "conf": {"spark.driver.memory": "1g"}}
SINKS = [{"type": "parquet", "path": "there/forecasts"}]


@pytest.fixture(scope="module")
def session():
    """One Spark session for the module, which ends with it."""
    from forecastcore.engines.spark.session import open_session

    opened = open_session(ENGINE["master"], None, ENGINE["conf"])
    yield opened
    opened.stop()


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of a hundred rows or so, cut where they should be."""
    monkeypatch.setattr(sharded, "_SMALL", 100)


def hard_history(series=8, days=20):
    """Rows in no order, with everything that a quality check repairs, and series that no model can serve."""
    rng = np.random.default_rng(7)
    whole = small_history(series, days)
    whole["unique_id"] = "s" + whole["unique_id"]
    ahead = whole[whole["ds"] >= whole["ds"].max() - pd.Timedelta("11h")].copy()  # promo is known, nothing else is
    ahead["ds"] += pd.Timedelta("12h")
    ahead[["y", "temp"]] = np.nan
    ahead = ahead[(ahead["unique_id"] != "sf") | (ahead["ds"] < ahead["ds"].max() - pd.Timedelta("9h"))]
    whole.loc[whole["unique_id"] == "sc", "y"] = 5.0
    whole.loc[whole["unique_id"] == "sd", "y"] = np.nan
    whole = whole[(whole["unique_id"] != "se") | (whole["ds"] < "2024-03-18")]
    whole = whole[rng.random(len(whole)) > 0.01]
    twice = whole.sample(20, random_state=1).assign(y=lambda rows: rows["y"] + 1.0)
    return pd.concat([whole, ahead, twice]).sample(frac=1.0, random_state=2).reset_index(drop=True)


def hard_site(make_site, model, **quality):
    """Trained on what there was some days before, without the first series and the last."""
    history = hard_history()
    known = (history["ds"] < "2024-03-17") & ~history["unique_id"].isin(["sa", "sh"])
    site = make_site(
        history[known].reset_index(drop=True),
        models=[{"type": model}],
        horizon=6,
        quality={"duplicates": "last", **quality},
        covariates={"temp": {"assume": "w", "issued": "issued.csv"}, "promo": {"known": True}},
        assumptions={"w": {"type": "climatology"}},
        scenarios={"heat": {"w": {"type": "shift", "of": "w", "add": 5.0}}},
        audit={"max_degraded": 1.0},
    )
    moments = pd.date_range("2024-03-20T23:00", periods=3, freq="h")
    issued = pd.DataFrame({"ds": moments, "issued_at": "2024-03-20T12:00", "value": [1.0, 2.0, 3.0]})
    issued.to_csv(site.folder / "issued.csv", index=False)
    site.retrain()
    site.write(history)
    return site


def on_spark(site, **settings):
    """The same project on Spark, delivering elsewhere."""
    site.write(engine=settings.pop("engine", ENGINE), sinks=settings.pop("sinks", SINKS), **settings)
    return site


def facts(report):
    return report.model_dump(include={"run_keys", "issued_at", "rows", "series", "reasons", "worst", "assumptions"})


def assert_same(table, other):
    texts = ["unique_id", "scenario", "ds", "step", "model", "status", "reason", "assumed_by", "run_key"]
    pd.testing.assert_frame_equal(table[texts], other[texts])
    numbers = ["forecast", "q10", "q50", "q90"]
    np.testing.assert_allclose(table[numbers], other[numbers], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "gaps"), [("autoregression", "fill"), ("ridge", "fill"), ("autoregression", "zero")])
def test_the_rows_reasons_and_keys_are_those_of_this_machine(make_site, session, small_shards, model, gaps):
    site = hard_site(make_site, model, gaps=gaps)
    here, table = site.predict(scenarios=("base", "heat")), site.table()
    there = on_spark(site).predict(scenarios=("base", "heat"))
    assert there.notes == here.notes == ()  # it was not brought to the driver
    assert set(table["status"]) == {"degraded", "ok", *(["failed"] if gaps == "fill" else [])}
    assert facts(there) == facts(here)
    assert there.quality == here.quality
    assert_same(site.table(), table)


@pytest.mark.slow
def test_what_a_plan_and_validate_see_is_seen_there_as_it_is_here(make_site, session, small_shards, monkeypatch):
    site = hard_site(make_site, "ridge")
    looks = ["validate --data", "plan retrain", "plan predict --scenario base --scenario heat"]
    seen = ("data", "reads", "fits", "writes", "promotes")

    def looked():
        told = [site.cli("--json", *look.split()).document for look in looks]
        return [{name: one[name] for name in seen if name in one} for one in told]

    here = looked()
    assert here[0]["data"]["served_by_fallback"] == {"sd": "no-history"}
    assert any("known is true, but the source lacks" in note for note in here[0]["data"]["notes"])
    on_spark(site, sinks=site.settings["sinks"])
    with monkeypatch.context() as patched:
        patched.setattr(runtime, "history", lambda *_, **__: pytest.fail("the history came to the driver"))
        assert looked() == here
    site.write(quality={"duplicates": "last", "ambiguous": "infer"})
    (read,) = {note for one in looked() for note in one.get("data", one.get("reads"))["notes"] if "driver" in note}
    assert read == "the history passes through the driver: quality.ambiguous: infer looks at all rows"


def test_where_no_spark_is_to_be_had_validate_reads_the_data_here_and_says_why(make_site, monkeypatch):
    site = on_spark(make_site(small_history(2, 20), models=[{"type": "seasonal-naive"}], horizon=6))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    told = site.cli("--json", "validate", "--data")
    data = told.document["data"]
    assert (told.code, data["series"]) == (0, 2)
    assert data["notes"] == ["the history passes through the driver: a local Spark needs Java, and there is none"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_flow_of_prefect_forecasts_on_spark_what_the_command_does_here(make_site, tmp_path):
    """What a flow lets read secrets is not to be had on a worker; nobody there asks for it."""
    site = hard_site(make_site, "ridge")
    site.predict()
    table = site.table()
    on_spark(site)
    with prefect_server.running(tmp_path) as server:
        words = [sys.executable, ROOT / "flows" / "predict.py", "--project", site.folder / "forecast.yaml"]
        with (tmp_path / "said.log").open("w") as said:
            done = subprocess.run(words, env=server.environment, stdout=said, stderr=said, timeout=400, check=False)
    assert done.returncode in {0, 3}, (tmp_path / "said.log").read_text()[-2000:]
    assert_same(site.table(), table)


def test_a_source_is_cut_into_shards_of_whole_series_of_about_as_many_rows():
    marks = [(f"s{n:03d}", 1000) for n in range(100)]
    cuts = sharded._cuts(marks, 100_000, tasks=4)
    assert cuts == ["s025", "s050", "s075"]
    assert sharded._cuts(marks, 100_000, tasks=64) == ["s020", "s040", "s060", "s080"]  # none of less than 20,000
    assert sharded._cuts([("a", 900_000), ("b", 1)], 900_001, tasks=1) == ["b"]  # a series is never cut
    assert sharded._cuts([("a", 10)], 10, tasks=8) == []


def without_a_look(site):
    """Why the history came to the driver, as the report says."""
    (note,) = site.predict().notes
    site.table()
    return note.removeprefix("the history passes through the driver: ")


@pytest.mark.slow
def test_what_workers_cannot_do_comes_to_the_driver_and_says_so(make_site, session, small_shards, monkeypatch):
    site = make_site(
        covariates={"temp": {"assume": "w"}}, assumptions={"w": {"type": "persistence"}}, models=[{"type": "ridge"}]
    )
    site.retrain()
    history = pd.read_parquet(site.folder / "history.parquet")
    blind = history.assign(temp=history["temp"].where(history["unique_id"] != "b"))
    site.write(blind)
    site.predict()
    table = site.table()
    assert "series 'b' has never had a value of ['temp']" in without_a_look(on_spark(site))
    assert_same(site.table(), table)
    site.write(history, report="out/page.html")
    assert without_a_look(site) == "report: draws a page of all series"
    assert (site.folder / "out" / "page.html").exists()
    site.write(report=None, source={"type": "csv", "path": "history.csv"})
    history.to_csv(site.folder / "history.csv", index=False)
    assert without_a_look(site) == "the source csv cannot be read in parts"
    monkeypatch.setenv("ONLY_HERE", "history.parquet")
    site.write(source={"type": "parquet", "path": "${env:ONLY_HERE}"})
    assert without_a_look(site).startswith("a worker cannot read the source: ")
    site.write(
        source={"type": "parquet", "path": "history.parquet"},
        assumptions={"w": {"type": "chain", "links": ["v"]}, "v": {"type": "persistence"}},
    )
    assert without_a_look(site) == "the assumption w is asked for all series at once"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_blobs_are_read_by_the_workers(make_site):
    from azure.storage.blob import BlobServiceClient

    site = make_site(models=[{"type": "autoregression"}])
    site.retrain()
    site.predict()
    table = site.table()
    history = pd.read_parquet(site.folder / "history.parquet")
    with azurite.running() as text, BlobServiceClient.from_connection_string(text) as service:
        container = service.create_container("history")
        for number, some in enumerate(np.array_split(np.arange(len(history)), 3)):
            rows = history.iloc[some]
            container.upload_blob(f"in/{number}.parquet", rows.to_parquet(row_group_size=len(rows) // 2))
        blobs = {"type": "azure-blob", "container": "history", "path": "in"}
        blobs["credential"] = {"connection_string": "${env:BLOBS}"}
        on_spark(site, source=blobs)
        words = [sys.executable, "-m", "forecastcore.cli", "-p", site.folder, "--json", "predict"]
        done = subprocess.run(words, env={**os.environ, "BLOBS": text}, stdout=subprocess.PIPE, timeout=400, check=True)
    told = json.loads(done.stdout)
    assert (told["notes"], told["rows"]) == ([], len(table))  # nothing came to the driver
    keys = ["unique_id", "ds", "step", "model", "status"]
    there = site.table()
    pd.testing.assert_frame_equal(there[keys], table[keys])
    np.testing.assert_allclose(there["forecast"], table["forecast"], rtol=1e-9)


@pytest.mark.slow
def test_a_table_of_the_catalog_goes_from_read_to_write_without_coming_here(
    make_site, session, small_shards, monkeypatch
):
    from pyspark.sql import functions as sql

    site = make_site(models=[{"type": "autoregression"}])
    site.retrain()
    site.predict()
    table = site.table()
    session.sql(f"CREATE DATABASE near LOCATION '{site.folder}/warehouse'")
    rows = session.createDataFrame(pd.read_parquet(site.folder / "history.parquet"))
    rows.withColumn("ds", sql.to_utc_timestamp("ds", "UTC")).write.saveAsTable("near.history")
    on_spark(
        site,
        engine={"type": "spark"},
        source={"type": "spark-table", "table": "near.history"},
        sinks=[{"type": "delta-table", "table": "near.forecasts", "format": "parquet"}],
    )
    monkeypatch.setattr("forecastcore.engines.spark.spread.Shards.table", None)
    told = site.predict()
    assert (told.notes, told.published[0].error, told.published[0].rows) == ((), "", len(table))
    assert site.predict().published[0].already
    there = site.table()
    texts = ["unique_id", "ds", "step", "model", "status"]
    pd.testing.assert_frame_equal(there[texts].astype({"ds": table["ds"].dtype}), table[texts])
    np.testing.assert_allclose(there["forecast"], table["forecast"], rtol=1e-9)


@pytest.mark.slow
def test_faults_hold_a_run_on_a_cluster_as_they_do_here(make_site, session, small_shards):
    history = small_history(8)
    site = make_site(history)
    site.retrain()
    on_spark(site)
    site.write(pd.concat([history, history[history["ds"] == "2024-03-05T10:00"]]))
    with pytest.raises(QualityError, match="duplicates: 16 rows share series and time") as told:
        site.predict()
    assert (told.value.check, told.value.rows) == ("duplicates", 16)
    site.write(history, audit={"maximum": 1.0})
    with pytest.raises(AuditError, match="maximum: 48 rows go beyond maximum 1"):
        site.predict()
    assert site.table().empty


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_spark_connect_server_gives_the_rows_and_keys_of_this_machine(connect_server, make_site):
    from deltalake import write_deltalake

    history = small_history(60, 50)  # enough rows for several shards
    history["unique_id"] = "s" + (history.groupby("unique_id", sort=False).ngroup() + 100).astype(str)
    site = make_site(history, models=[{"type": "autoregression"}])
    site.retrain()
    write_deltalake(site.folder / "history", history.assign(ds=history["ds"].dt.tz_localize("UTC")))
    site.write(source={"type": "delta", "path": "history"})
    here, table = site.predict(), site.table()
    on_spark(site, engine={"type": "spark", "remote": connect_server})
    command = [sys.executable, "-m", "forecastcore.cli", "-p", site.folder, "--json", "predict"]
    # A process of its own: one that has had a classic session is refused one of Connect.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert (there["notes"], there["run_key"]) == ([], here.run_key)
    site.write(engine={"type": "local", "workers": 0})
    assert_same(site.table(), table)


DEADLY = """
import os
from dataclasses import dataclass

import numpy as np

from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Deadly:
    def fit_series(self, series, task):
        return {"level": float(np.median(series.y))}

    def predict_series(self, params, series, future, task):
        if series.unique_id == "b" and os.path.exists("FLAG"):
            os._exit(3)
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="deadly", summary="ends its process on one series", factory=Deadly)
"""


@pytest.mark.slow
def test_a_series_that_ends_its_process_costs_that_series_only(make_site, session, small_shards, tmp_path):
    site = make_site().plugin(DEADLY.replace("FLAG", str(tmp_path / "flag"))).write(models=[{"type": "deadly"}])
    site.retrain()
    (tmp_path / "flag").touch()
    told = on_spark(site, audit={"max_degraded": 1.0}).predict()
    assert (told.notes, told.reasons) == ((), {"worker-died": 1})
    assert told.series.model_dump() == {"total": 3, "ok": 2, "degraded": 1, "failed": 0}


SLOW = """
import os
import time
from dataclasses import dataclass

import numpy as np

from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Slow:
    def fit_series(self, series, task):
        return {"level": float(np.median(series.y))}

    def predict_series(self, params, series, future, task):
        if mark := os.environ.get("MARK"):
            with open(mark, "a") as kept:
                kept.write(series.unique_id + "\\n")
            time.sleep(0.3)
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="slow", summary="takes its time", factory=Slow)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["executor", "worker"])
def test_a_killed_executor_or_machine_neither_fails_a_predict_nor_doubles_a_row(cluster, make_site, victim, tmp_path):
    history = small_history(60, 60)  # five shards
    history["unique_id"] = "s" + (history.groupby("unique_id", sort=False).ngroup() + 100).astype(str)
    site = make_site(history).plugin(SLOW).write(models=[{"type": "slow"}])
    site.retrain()
    here, table = site.predict(), site.table()
    mark = tmp_path / "mark"
    conf = {
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "700m",
        "spark.executorEnv.MARK": str(mark),
        "spark.ui.enabled": "false",
    }
    on_spark(site, engine={"type": "spark", "master": cluster.address, "conf": conf})
    command = [sys.executable, "-m", "forecastcore.cli", "-p", site.folder, "--json", "predict"]
    env = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
    try:
        deadline = time.monotonic() + 300
        while (
            not mark.exists() or len(mark.read_text().split()) < 35
        ):  # each executor has made a shard and is at another
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(cluster.executors()[0] if victim == "executor" else cluster.workers[0].pid, signal.SIGKILL)
        told, _ = run.communicate(timeout=400)
    finally:
        run.kill()
    assert run.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    there = json.loads(told)
    assert (there["run_key"], there["rows"], there["notes"]) == (here.run_key, len(table), [])
    assert len(mark.read_text().split()) > 60  # what was lost was made again
    site.write(engine={"type": "local", "workers": 0})
    assert_same(site.table(), table)
    assert not site.table().duplicated(["unique_id", "step"]).any()
