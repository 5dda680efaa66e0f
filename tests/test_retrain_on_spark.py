"""A retrain whose history stays on a Spark cluster: leaderboard, decision, model and notes are those of one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import pytest

from forecastcore import runtime, units
from forecastcore.errors import DataError, EngineError, QualityError
from forecastcore.ports import Steps, Unit
from forecastcore.runs.contest import backtest
from forecastcore.runs.history import opened
from tests.conftest import small_history
from tests.support import prefect_server
from tests.support.spark import cluster, connect_server
from tests.test_predict_on_spark import ENGINE, ROOT, assert_same, hard_history, session, small_shards

__all__ = ["cluster", "connect_server", "session", "small_shards"]

OWN = """
from dataclasses import dataclass

import numpy as np

from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Level:
    def fit_series(self, series, task):
        return {"level": float(np.nanmedian(series.y[-48:]))}

    def predict_series(self, params, series, future, task):
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="own-level", summary="the median of two days", factory=Level)
"""
COVARIATES = {"covariates": {"temp": {"assume": "w"}}, "assumptions": {"w": {"type": "climatology"}}}
#: of each scope, and together
MODELS = [
    {"type": "own-level"},
    {"type": "ridge"},
    {"type": "ridge", "scope": "segment"},
    {"type": "ensemble", "method": "mean"},
]


@contextmanager
def off_the_driver():
    """Whoever reads the history here fails."""

    def refuse(*_, **__):
        raise AssertionError("the driver reads the panel")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "history", refuse)
        patch.setattr("forecastcore_files.parquet_source.ParquetSource.read", refuse)
        yield


@pytest.fixture
def small_chunks(monkeypatch):
    """Units whose series lie in several pieces, and pieces whose series are of several units."""
    monkeypatch.setattr(units.chunks, "__defaults__", (1100,))


def hard_site(make_site, **settings):
    """A site with everything that a quality check repairs, and a champion that was trained some days before."""
    history = hard_history()
    site = make_site(
        history,
        horizon=6,
        models=[{"type": "naive"}],
        quality={"duplicates": "last"},
        covariates={"temp": {"assume": "w"}, "promo": {"known": True}},
        assumptions={"w": {"type": "climatology"}},
        segments="^s([a-d])?",
        backtest={"folds": 3},
        promotion={"data": {"check": True}},
        **settings,
    ).plugin(OWN)
    site.retrain(as_of="2024-03-18")
    site.write(models=[{"type": "seasonal-naive"}]).retrain(as_of="2024-03-18T12:00")
    return site.write(models=MODELS)


def facts(report):
    told = report.model_dump(include={"folds", "decision", "challenger", "champion_after", "series", "worst", "as_of"})
    board = [row.model_dump(exclude={"seconds"}) for row in report.leaderboard]
    return {**told, "board": board, "quality": report.quality}


def close(one, other, path=""):
    """The same words, and numbers to 1e-9."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            close(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            close(*pair, f"{path}[{number}]")
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-9, abs=1e-9, nan_ok=True), path
    else:
        assert one == other, path


def served(site):
    """What the newest version forecasts, here."""
    site.write(engine={"type": "local", "workers": 0}, audit={"max_degraded": 1.0})
    site.predict(model="challenger")
    return site.table()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_board_decision_and_model_are_those_of_this_machine(make_site, session, small_shards, small_chunks):
    here, there = hard_site(make_site), hard_site(make_site)
    alone = here.retrain()
    there.write(engine=ENGINE)
    with off_the_driver():
        spread = there.retrain()
    assert spread.notes == alone.notes  # it was not brought to the driver
    assert spread.decision.verdict in {"promote", "hold"}
    close(facts(alone), facts(spread))
    assert_same(served(there).assign(run_key=""), served(here).assign(run_key=""))


@pytest.mark.slow
def test_a_backtest_reads_a_table_of_the_catalog_as_the_file_it_was_made_of(make_site, session, small_shards):
    from pyspark.sql import functions as sql

    site = make_site(models=MODELS[:2]).plugin(OWN)
    here = backtest(site.project())
    session.sql(f"CREATE DATABASE IF NOT EXISTS far LOCATION '{site.folder}/warehouse'")
    rows = session.createDataFrame(pd.read_parquet(site.folder / "history.parquet"))
    rows.withColumn("ds", sql.to_utc_timestamp("ds", "UTC")).write.saveAsTable("far.history")
    site.write(engine={"type": "spark"}, source={"type": "spark-table", "table": "far.history"})
    with off_the_driver():
        there = backtest(site.project())
    assert there.notes == ()
    close(boards(here), boards(there))


@pytest.mark.slow
def test_faults_hold_a_retrain_on_a_cluster_as_they_do_here(make_site, session, small_shards):
    history = small_history(8)
    site = make_site(history, engine=ENGINE)
    site.write(pd.concat([history, history[history["ds"] == "2024-03-05T10:00"]]))
    with pytest.raises(QualityError, match="duplicates: 16 rows share series and time") as told:
        site.retrain()
    assert (told.value.check, told.value.rows) == ("duplicates", 16)
    late = history["ds"] >= "2024-03-09"
    site.write(history.assign(y=history["y"].where(~late)), backtest={"folds": 1}, horizon=12)
    with pytest.raises(
        DataError, match=r"no value to compare forecasts with after .* the newest is of 2024-03-08 23:00"
    ):
        backtest(site.project("quality.max_missing=1.0"), as_of="2024-03-10T12:00")
    assert not runtime.store(site.project()).versions()


@pytest.mark.slow
def test_what_cannot_stay_there_is_learned_from_by_way_of_the_driver(make_site, session, monkeypatch):
    history = small_history(3)
    site = make_site(history)
    here = backtest(site.project())
    history.to_csv(site.folder / "history.csv", index=False)
    site.write(engine=ENGINE, source={"type": "csv", "path": "history.csv"})
    there = backtest(site.project())
    assert there.notes == ("the history passes through the driver: the source csv cannot be read in parts",)
    close(boards(here), boards(there))
    site.write(source={"type": "parquet", "path": "history.parquet"})

    def refuse(*_):
        raise RuntimeError("[NOT_SUPPORTED_WITH_SERVERLESS] PERSIST TABLE is not supported on serverless compute.")

    monkeypatch.setattr(type(session.range(1)), "persist", refuse)
    there = backtest(site.project())
    assert there.notes == (
        "the history passes through the driver: this cluster holds nothing from one step to the next",
    )
    close(boards(here), boards(there))


@pytest.mark.slow
def test_a_history_there_is_the_one_here_and_says_when_a_part_of_it_is_another_than_it_was(
    make_site, session, small_shards, by_value
):
    site = hard_site(make_site)
    here = runtime.history(site.project())
    project = site.write(engine=ENGINE).project()
    engine = runtime.engine(project)
    with opened(project, engine, None, Steps()) as there:
        assert (there.ids, there.digest, there.counts) == (here.ids, here.digest, here.counts)
        assert (there.origin, there.first, there.newest) == (here.origin, here.first, here.newest)
        assert there.sizes.tolist() == here.sizes.tolist()
        some = there.of(["sb", "sg"])
        pd.testing.assert_frame_equal(some.here.panel, here.of(["sb", "sg"]).panel)
        assert len(some.panel.pieces) > 2
        asked = [Unit(None, "{}"), Unit(("sg",), "{}")]
        got = dict(engine.map(echo, some.panel, asked))
        assert [frame["unique_id"].unique().tolist() for _, frame in sorted(got.items())] == [["sb", "sg"], ["sg"]]
        lost = replace(there.panel, pieces=[f"{kind}, made anew" for kind in there.panel.pieces])
        with pytest.raises(EngineError, match="the source was changed since it was read"):
            list(engine.map(echo, lost, asked))
        with pytest.raises(EngineError, match="the source was changed since it was read"):
            list(replace(there, panel=lost).ask(first_values))


@pytest.fixture
def by_value():
    """This module's functions go to workers as they are: a test is no module that they could import."""
    from pyspark import cloudpickle

    this = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(this)
    yield
    cloudpickle.unregister_pickle_by_value(this)


def echo(panel, request):
    """The rows that a unit is given."""
    return panel


def first_values(history):
    """A question."""
    return {"y": history.panel["y"].to_numpy()[:1]}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_flow_of_prefect_learns_on_spark_what_the_command_does_here(make_site, tmp_path):
    site = make_site(small_history(8), models=MODELS[:2], **COVARIATES).plugin(OWN)
    here = backtest(site.project())
    site.write(engine=ENGINE)
    with prefect_server.running(tmp_path) as server:
        words = [sys.executable, ROOT / "flows" / "retrain.py", "--project", site.folder / "forecast.yaml"]
        with (tmp_path / "said.log").open("w") as said:
            done = subprocess.run(words, env=server.environment, stdout=said, stderr=said, timeout=400, check=False)
    assert done.returncode == 0, (tmp_path / "said.log").read_text()[-2000:]
    store = runtime.store(site.project())
    there = store.document(store.resolve("champion").run_id, "report.json")
    assert there["notes"] == []
    close([row.model_dump(mode="json", exclude={"seconds"}) for row in here.leaderboard], timeless(there))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_spark_connect_server_learns_what_this_machine_does(connect_server, make_site):
    from deltalake import write_deltalake

    history = small_history(60, 50)  # enough rows for several shards
    history["unique_id"] = "s" + (history.groupby("unique_id", sort=False).ngroup() + 100).astype(str)
    site = make_site(history, models=MODELS, segments="(.)$").plugin(OWN)
    write_deltalake(site.folder / "history", history.assign(ds=history["ds"].dt.tz_localize("UTC")))
    site.write(source={"type": "delta", "path": "history"})
    here = backtest(site.project())
    site.write(engine={"type": "spark", "remote": connect_server})
    there = told(site, "retrain")
    assert there["notes"] == []
    close([row.model_dump(mode="json", exclude={"seconds"}) for row in here.leaderboard], timeless(there))


def boards(report):
    return [row.model_dump(exclude={"seconds"}) for row in report.leaderboard]


def timeless(document):
    """The leaderboard of a report as JSON, without what another machine takes."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in document["leaderboard"]]


def told(site, *words):
    """What a command answers, in a process of its own: one that has had a classic session is refused one of Connect."""
    command = [sys.executable, "-m", "forecastcore.cli", "-p", site.folder, "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


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
        if mark := os.environ.get("MARK"):
            with open(mark, "a") as kept:
                kept.write(series.unique_id + "\\n")
            time.sleep(0.1)
        return {"level": float(np.median(series.y))}

    def predict_series(self, params, series, future, task):
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="slow", summary="takes its time", factory=Slow)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_executor_neither_fails_a_retrain_nor_changes_what_it_learns(cluster, make_site, tmp_path):
    history = small_history(60, 60)  # five shards
    history["unique_id"] = "s" + (history.groupby("unique_id", sort=False).ngroup() + 100).astype(str)
    site = make_site(history, models=[{"type": "slow"}, {"type": "ridge"}], horizon=6).plugin(SLOW)
    here = backtest(site.project())
    mark = tmp_path / "mark"
    conf = {
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "700m",
        "spark.executorEnv.MARK": str(mark),
        "spark.ui.enabled": "false",
    }
    site.write(engine={"type": "spark", "master": cluster.address, "conf": conf})
    command = [sys.executable, "-m", "forecastcore.cli", "-p", site.folder, "--json", "retrain"]
    env = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
    try:
        deadline = time.monotonic() + 300
        while not mark.exists() or len(mark.read_text().split()) < 30:  # both executors hold shards and are at work
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(cluster.executors()[0], signal.SIGKILL)
        answer, _ = run.communicate(timeout=500)
    finally:
        run.kill()
    assert run.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    there = json.loads(answer)
    assert there["notes"] == []
    assert there["series"]["total"] == 60
    close([row.model_dump(mode="json", exclude={"seconds"}) for row in here.leaderboard], timeless(there))
