"""The local engine: any number of workers, the same answer."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from forecastcore.engines.local import LocalEngine
from forecastcore.errors import EngineError
from forecastcore.ports import Unit
from forecastcore.testing import sample_history

PANEL = sample_history(series=5, rows=30, covariates=("temp",))


def described(chunk, request):
    """What a worker sees of its part of the panel."""
    asked = json.loads(request)
    return (
        asked,
        chunk["unique_id"].tolist(),
        [str(t) for t in chunk.dtypes],
        float(chunk["y"].sum()),
        list(chunk.index),
    )


def dying(chunk, request):
    import os

    os._exit(3)


def aborting(chunk, request):
    import os

    os.abort()


def raising(chunk, request):
    raise ValueError("the work itself is wrong")


def units(*groups):
    return [Unit(group, json.dumps({"n": n})) for n, group in enumerate(groups)]


def test_workers_change_nothing():
    asked = units(("series-0", "series-1"), ("series-2",), ("series-4", "series-3"), None)
    alone = dict(LocalEngine(0).map(described, PANEL, asked))
    for workers in (1, 2):
        assert alone == dict(LocalEngine(workers).map(described, PANEL, asked))
    assert alone[2][1] == ["series-3"] * 30 + ["series-4"] * 30
    assert len(alone[3][1]) == len(PANEL)


def test_missing_values_arrive_as_they_are():
    holed = PANEL.assign(y=PANEL["y"].where(PANEL.index % 7 != 0))
    for workers in (0, 2):
        got = dict(LocalEngine(workers).map(described, holed, units(("series-0",), ("series-1",))))
        assert got[0][2] == [str(t) for t in PANEL.dtypes]


def of_the_healthy(chunk, request):
    """Ends or holds up its process as the series' names say, unless they are barred."""
    import os
    import time

    given = set(chunk["unique_id"]) - set(json.loads(request).get("barred", {}))
    if "series-1" in given:
        os._exit(3)
    if "series-3" in given:
        time.sleep(600)
    return sorted(given), json.loads(request).get("barred", {})


@pytest.mark.parametrize("work", [dying, aborting])
def test_a_worker_that_dies_whatever_is_barred_is_told_in_a_sentence_and_the_next_run_works(work):
    with pytest.raises(EngineError, match="worker process died, whichever series"):
        list(LocalEngine(2).map(work, PANEL, units(("series-0",), ("series-1",))))
    assert len(list(LocalEngine(2).map(described, PANEL, units(("series-0",), ("series-1",))))) == 2


@pytest.mark.row(39, trials=2)
@pytest.mark.slow
def test_the_series_that_ends_a_worker_and_the_one_that_hangs_are_found_and_the_others_answered():
    engine, started = LocalEngine(2, timeout=6.0), time.monotonic()
    got = dict(engine.map(of_the_healthy, PANEL, units(("series-0", "series-1", "series-2"), ("series-3", "series-4"))))
    assert got == {
        0: (["series-0", "series-2"], {"series-1": "worker-died"}),
        1: (["series-4"], {"series-3": "timed-out"}),
    }
    assert time.monotonic() - started < 120


@pytest.mark.row(39, trials=2)
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_unit_of_the_whole_panel_loses_only_its_culprits(workers):
    got = dict(LocalEngine(workers, timeout=6.0).map(of_the_healthy, PANEL, units(None)))
    assert got == {0: (["series-0", "series-2", "series-4"], {"series-1": "worker-died", "series-3": "timed-out"})}


def test_an_answer_that_nobody_waits_for_leaves_no_worker_behind():
    stream = LocalEngine(2).map(pid_of_the_first, PANEL, units(("series-0",), ("series-1",), ("series-2",)))
    _, pid = next(stream)
    stream.close()
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_that_are_ended_while_more_is_on_its_way_are_ended_in_silence(monkeypatch):
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    for _ in range(5):
        stream = LocalEngine(2).map(pid_of, PANEL, units(*[("series-0",), ("series-1",), ("series-2",)] * 3))
        next(stream)
        stream.close()
    assert said == []


def test_workers_whose_last_answer_was_taken_wait_for_the_next_map():
    stream = LocalEngine(2).map(pid_of, PANEL, units(("series-0",), ("series-1",)))
    pids = [next(stream)[1], next(stream)[1]]
    stream.close()
    assert all(alive(pid) for pid in pids)
    assert len(list(LocalEngine(2).map(described, PANEL, units(("series-0",))))) == 1
    assert all(alive(pid) for pid in pids)


def pid_of_the_first(chunk, request):
    import os
    import time

    if chunk["unique_id"].iloc[0] != "series-0":
        time.sleep(600)
    return os.getpid()


def pid_of(chunk, request):
    import os

    return os.getpid()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_work_raises_comes_through(workers):
    with pytest.raises(ValueError, match="itself is wrong"):
        list(LocalEngine(workers).map(raising, PANEL, units(("series-0",), ("series-1",))))


@pytest.mark.slow  # units of all kinds in two workers, and Spark against one, have quick tests
def test_two_workers_give_the_leaderboard_and_forecasts_of_this_process(make_site):
    found = []
    for workers in (0, 2):
        site = make_site(
            models=[{"type": "ridge"}, {"type": "seasonal-naive"}],
            engine={"type": "local", "workers": workers},
            covariates={"temp": {"assume": "w"}},
            assumptions={"w": {"type": "persistence"}},
        )
        board = [row.model_dump(exclude={"seconds"}) for row in site.retrain().leaderboard]
        site.predict()
        found.append((board, site.table().drop(columns=["created_at", "run_key"])))
    assert found[0][0] == found[1][0]
    assert found[0][1].equals(found[1][1])


KILLER = """
import os
from dataclasses import dataclass

import numpy as np

from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Killer:
    def fit_series(self, series, task):
        if series.unique_id == "b":
            os.abort()
        return {"level": float(series.y[-1])}

    def predict_series(self, params, series, future, task):
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="killer", summary="aborts on one series", factory=Killer)
"""


@pytest.mark.row(39)
@pytest.mark.slow  # the search for it has quick tests, here and in test_serving
def test_a_model_that_aborts_on_one_series_costs_that_series_only(make_site):
    site = make_site(models=[{"type": "killer"}], engine={"type": "local", "workers": 2})
    site.plugin(KILLER)
    report = site.retrain()
    (line,) = report.leaderboard
    assert (line.status, report.series.degraded) == ("degraded", 1)
    assert "worker-died" in line.reason
    site.predict()
    table = site.table()
    assert set(table.loc[table["status"] == "degraded", "unique_id"]) == {"b"}
    assert table.loc[table["status"] == "degraded", "reason"].str.contains("worker-died").all()
    assert table["forecast"].notna().all()
