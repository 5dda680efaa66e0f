"""The Spark engine: the same answers as on this machine, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecastcore.engines.local import LocalEngine
from forecastcore.engines.spark import SparkEngine
from forecastcore.errors import EngineError
from forecastcore.ports import Unit
from forecastcore.testing import sample_history
from tests.support.spark import cluster, connect_server

__all__ = ["cluster", "connect_server"]

PANEL = sample_history(series=5, rows=30, covariates=("temp",))
ENGINE = {"type": "spark", "master": "local[2,4]", "conf": {"spark.driver.memory": "1g"}}


@pytest.fixture(scope="module")
def engine():
    """Makes an engine; all share one session, which ends with the module."""
    from pyspark import cloudpickle

    this = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(this)  # a test is no module that workers could import
    yield lambda **more: SparkEngine(ENGINE["master"], None, ENGINE["conf"], **more)
    cloudpickle.unregister_pickle_by_value(this)
    from pyspark.sql import SparkSession

    if session := SparkSession.getActiveSession():
        session.stop()


def units(*groups, **request):
    return [Unit(group, json.dumps({"n": n, **request})) for n, group in enumerate(groups)]


def echo(chunk, request):
    """What a worker is given."""
    chunk.attrs = {"request": json.loads(request), "dtypes": [str(t) for t in chunk.dtypes]}
    return chunk


def test_a_unit_is_given_what_the_local_engine_gives_it(engine):
    holed = PANEL.assign(y=PANEL["y"].where(PANEL.index % 7 != 0))
    asked = [
        *units(("series-0", "series-1"), ("series-2",), ("series-4", "series-3"), None),
        Unit(None, "{}", {"a": "b"}),
    ]
    here = dict(LocalEngine(2).map(echo, holed, asked))
    there = dict(engine(tasks=3).map(echo, holed, asked))
    assert there.keys() == here.keys()
    for number, frame in here.items():
        pd.testing.assert_frame_equal(there[number], frame, check_exact=True)
        assert there[number].attrs == frame.attrs
    assert there[4].attrs["request"] == {"barred": {"a": "b"}}


def sized(chunk, request):
    """Bytes, more than fit into a row of Spark's, made of a file in the unit's folder."""
    folder = Path(json.loads(request)["folder"])
    return str(folder).encode() + b"|" + (folder / "deep" / "seed").read_bytes() * 2_000_000


def test_a_folder_comes_to_the_worker_and_bytes_come_back(engine, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "seed").write_bytes(b"0123456789")
    ((_, answer),) = engine().map(sized, PANEL, [Unit(("series-0",), "{}", folder=tmp_path)])
    path, _, rest = answer.partition(b"|")
    assert path.decode() != str(tmp_path)
    assert rest == b"0123456789" * 2_000_000


def meeting(chunk, request):
    """Comes back once all the others are under way too."""
    asked = json.loads(request)
    room = Path(asked["room"])
    (room / str(asked["n"])).touch()
    deadline = time.monotonic() + 100
    while len(list(room.iterdir())) < asked["guests"]:
        if time.monotonic() > deadline:
            raise TimeoutError("nobody came")
        time.sleep(0.1)
    return pd.DataFrame({"threads": [int(os.environ["OMP_NUM_THREADS"])]})


def test_units_of_few_bytes_are_not_put_into_one_task(engine, tmp_path):
    groups = [(uid,) for uid in PANEL["unique_id"].unique()[:2]]
    got = dict(engine().map(meeting, PANEL, units(*groups, room=str(tmp_path), guests=2)))
    assert {frame["threads"].item() for frame in got.values()} == {1}


def losing_its_worker(chunk, request):
    """Ends the Spark worker that started this process, once."""
    import signal

    mark = Path(json.loads(request)["mark"])
    first = not mark.exists()
    with mark.open("a") as kept:
        kept.write(f"{os.getpid()}\n")
    if first:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return chunk


def test_a_killed_worker_neither_fails_the_run_nor_doubles_a_row_nor_leaves_its_process(engine, tmp_path):
    mark = tmp_path / "began"
    got = list(engine().map(losing_its_worker, PANEL, units(None, mark=str(mark))))
    assert [(number, len(frame)) for number, frame in got] == [(0, len(PANEL))]
    began = mark.read_text().split()
    assert len(began) == 2
    deadline = time.monotonic() + 10
    while Path(f"/proc/{began[0]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def dawdling(chunk, request):
    """Answers at once, or not within the test."""
    asked = json.loads(request)
    if asked["n"]:
        Path(asked["mark"]).write_text(str(os.getpid()))
        time.sleep(600)
    return chunk


@pytest.mark.slow
def test_what_nobody_waits_for_is_ended(engine, tmp_path):
    mark = tmp_path / "pid"
    stream = engine(tasks=1).map(dawdling, PANEL, units(("series-0",), ("series-1",), mark=str(mark)))
    next(stream)
    deadline = time.monotonic() + 60
    while not mark.exists() or not mark.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    stream.close()
    while Path(f"/proc/{mark.read_text()}").exists():
        assert time.monotonic() < deadline + 30
        time.sleep(0.2)


def raising(chunk, request):
    raise ValueError("the work itself is wrong")


def wordy(chunk, request):
    return ["neither a frame", "nor bytes"]


@pytest.mark.parametrize(
    ("work", "words"), [(raising, "ValueError: the work itself"), (wordy, "carries frames and bytes")]
)
def test_what_goes_wrong_in_a_worker_is_told_in_a_sentence(engine, work, words):
    with pytest.raises(EngineError, match=f"on a Spark worker: .*{words}"):
        list(engine().map(work, PANEL, units(("series-0",))))


def test_without_a_session_nothing_is_started(monkeypatch):
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    monkeypatch.setattr("pyspark.sql.SparkSession.getActiveSession", staticmethod(lambda: None))
    with pytest.raises(EngineError, match=r"names no session.*master: 'local\[2\]'"):
        list(SparkEngine().map(echo, PANEL, units(None)))


def of_the_healthy(chunk, request):
    """Ends or holds up its process as the series' names say, unless they are barred."""
    given = set(chunk["unique_id"]) - set(json.loads(request).get("barred", {}))
    if "series-1" in given:
        os._exit(3)
    if "series-3" in given:
        time.sleep(600)
    return echo(chunk[chunk["unique_id"].isin(list(given))].reset_index(drop=True), request)


@pytest.mark.row(39, trials=2)
@pytest.mark.slow
def test_the_series_that_ends_a_worker_and_the_one_that_hangs_are_found_and_the_others_answered(engine):
    got = dict(engine(timeout=6.0).map(of_the_healthy, PANEL, units(None, ("series-0", "series-2"))))
    assert got[0].attrs["request"]["barred"] == {"series-1": "worker-died", "series-3": "timed-out"}
    assert sorted(got[0]["unique_id"].unique()) == ["series-0", "series-2", "series-4"]
    assert len(got[1]) == 60


OWN = """
from dataclasses import dataclass

import numpy as np

from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Level:
    def fit_series(self, series, task):
        return {"level": float(np.median(series.y[-48:]))}

    def predict_series(self, params, series, future, task):
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="own-level", summary="the median of two days", factory=Level)
"""


def of_project(make_site):
    """A project with a model of each scope, an ensemble of them, covariates, and a plugin of its own."""
    site = make_site(
        models=[
            {"type": "own-level"},
            {"type": "ridge"},
            {"type": "gradient-boosting", "max_iter": 10},
            {"type": "ensemble", "method": "mean"},
        ],
        covariates={"temp": {"assume": "w"}, "promo": {"assume": "w"}},
        assumptions={"w": {"type": "persistence"}},
        plugins={"load": ["own.py"]},
    )
    site.plugin(OWN)
    return site


def board_of(report):
    return [row.model_dump(exclude={"seconds"}) for row in report.leaderboard]


def assert_same(table, other):
    texts = ["unique_id", "scenario", "ds", "step", "model", "status", "reason", "assumed_by"]
    pd.testing.assert_frame_equal(table[texts], other[texts])
    numbers = ["forecast", "q10", "q50", "q90"]
    np.testing.assert_allclose(table[numbers], other[numbers], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_retrain_and_predict_on_spark_are_those_of_this_machine(engine, make_site, monkeypatch):
    found = []
    for kind in ({"type": "local", "workers": 0}, ENGINE):
        site = of_project(make_site)
        site.write(engine=kind)
        report = site.retrain()
        site.predict()
        found.append((board_of(report), site.table()))
    assert found[0][0] == found[1][0]
    assert_same(found[0][1], found[1][1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_spark_connect_server_gives_the_forecasts_of_this_machine(connect_server, make_site):
    here, there = of_project(make_site), of_project(make_site)
    here.retrain()
    here.predict()
    engine = f"engine={{type: spark, remote: '{connect_server}'}}"
    for word in ("retrain", "predict"):
        command = [sys.executable, "-m", "forecastcore.cli", "-p", there.folder, word, "--set", engine]
        # A process of its own: one that has had a classic session is refused one of Connect.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert_same(here.table(), there.table())


LOST = """
import json, os, signal, time
from pathlib import Path


def losing_its_executor(chunk, request):
    asked = json.loads(request)
    with Path(asked["mark"]).open("a") as kept:
        kept.write(f"{asked['n']}\\n")
    if asked["n"] == 0 and Path(asked["mark"]).read_text().split().count("0") == 1:
        pid = os.getpid()
        while "CoarseGrainedExecutorBackend" not in Path(f"/proc/{pid}/cmdline").read_text():
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(pid, signal.SIGKILL)
        time.sleep(60)
    return chunk


if __name__ == "__main__":
    import sys

    import lost
    from forecastcore.engines.spark import SparkEngine
    from forecastcore.ports import Unit
    from forecastcore.testing import sample_history

    master, mark = sys.argv[1:]
    panel = sample_history(series=6, rows=30)
    conf = {"spark.driver.memory": "1g", "spark.executor.memory": "1g", "spark.executor.cores": "1"}
    units = [Unit((uid,), json.dumps({"n": n, "mark": mark})) for n, uid in enumerate(panel["unique_id"].unique())]
    engine = SparkEngine(master, None, {**conf, "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false"})
    answers = engine.map(lost.losing_its_executor, panel, units)
    print(json.dumps(sorted((number, len(frame)) for number, frame in answers)))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_executor_neither_fails_the_run_nor_doubles_a_row(cluster, tmp_path):
    (tmp_path / "lost.py").write_text(LOST)
    command = [sys.executable, "lost.py", cluster.address, str(tmp_path / "mark")]
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [[number, 30] for number in range(6)]
    assert (tmp_path / "mark").read_text().split().count("0") >= 2
