"""The local engine: any number of workers, the same answer."""

from __future__ import annotations

import json

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
    alone = dict(LocalEngine(1).map(described, PANEL, asked))
    together = dict(LocalEngine(2).map(described, PANEL, asked))
    assert alone == together
    assert alone[2][1] == ["series-3"] * 30 + ["series-4"] * 30
    assert len(alone[3][1]) == len(PANEL)


def test_missing_values_arrive_as_they_are():
    holed = PANEL.assign(y=PANEL["y"].where(PANEL.index % 7 != 0))
    for workers in (1, 2):
        got = dict(LocalEngine(workers).map(described, holed, units(("series-0",), ("series-1",))))
        assert got[0][2] == [str(t) for t in PANEL.dtypes]


@pytest.mark.parametrize("work", [dying, aborting])
def test_a_worker_that_dies_is_told_in_a_sentence_and_the_next_run_works(work):
    with pytest.raises(EngineError, match="worker process died"):
        list(LocalEngine(2).map(work, PANEL, units(("series-0",), ("series-1",))))
    assert len(list(LocalEngine(2).map(described, PANEL, units(("series-0",), ("series-1",))))) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_work_raises_comes_through(workers):
    with pytest.raises(ValueError, match="itself is wrong"):
        list(LocalEngine(workers).map(raising, PANEL, units(("series-0",), ("series-1",))))


def test_two_workers_give_the_leaderboard_and_forecasts_of_one(make_site):
    found = []
    for workers in (1, 2):
        site = make_site(
            models=[{"type": "ridge"}, {"type": "gradient-boosting", "max_iter": 10}, {"type": "seasonal-naive"}],
            engine={"type": "local", "workers": workers},
            covariates={"temp": {"assume": "w"}},
            assumptions={"w": {"type": "persistence"}},
        )
        board = [row.model_dump(exclude={"seconds"}) for row in site.retrain().leaderboard]
        site.predict()
        found.append((board, site.table().drop(columns=["created_at", "run_key"])))
    assert found[0][0] == found[1][0]
    assert found[0][1].equals(found[1][1])
