"""A global model fitted segment by segment: what one segment holds is nothing to another's model."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore import runtime
from forecastcore.errors import ConfigError
from forecastcore.package import Package
from forecastcore.segments import by_segment, segment_of
from tests.conftest import small_history

PATTERN = "^([^/]+)/"
MEAN = """
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl

@dataclass
class Level:
    level: float
    def predict(self, context, future, task):
        return future[["unique_id", "ds"]].assign(forecast=self.level)

@dataclass
class Mean:
    def fit(self, history, task):
        return Level(float(history["y"].mean()))

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="mean", summary="one mean for all", factory=Mean, capabilities={"scope": "global"})
"""


@given(st.lists(st.text(max_size=8), unique=True))
def test_each_series_is_in_one_segment(ids):
    found = by_segment(PATTERN, ids)
    assert sorted(uid for some in found.values() for uid in some) == sorted(ids)
    assert all(segment_of(PATTERN, uid) == name for name, some in found.items() for uid in some)


def regions(days=10):
    """Two regions at levels of their own, and one series of none."""
    names = {"a": "north/a", "b": "north/b", "c": "south/c", "d": "alone"}
    frame = small_history(series=4, days=days)
    frame["y"] += frame["unique_id"].map({"a": 100.0, "b": 110.0, "c": 5000.0, "d": 9.0})
    return frame.assign(unique_id=frame["unique_id"].map(names))


def means(frame):
    segment = frame["unique_id"].map(lambda uid: segment_of(PATTERN, uid))
    return frame.groupby(segment)["y"].mean().to_dict()


@pytest.fixture
def site(make_site):
    def made(engine=None, **more):
        site = (
            make_site()
            .plugin(MEAN)
            .write(regions(), segments=PATTERN, engine=engine or {"type": "local", "workers": 0})
        )
        return site.write(models=[{"type": "mean", "scope": "segment"}], backtest={"folds": 2, "season": 24}, **more)

    return made


def test_each_segment_has_a_model_of_its_own_in_backtest_and_in_service(site):
    made = site()
    report = made.retrain()
    assert report.leaderboard[0].status == "ok"
    made.predict()
    got = made.table().groupby("unique_id")["forecast"].unique()
    expected = means(regions())
    for uid, levels in got.items():
        np.testing.assert_allclose(levels, [expected[segment_of(PATTERN, uid)]])
    store = runtime.store(made.project())
    folder = store.fetch(store.versions()[0])
    package = Package.load(folder, made.project().host)
    assert package.manifest.segments == PATTERN
    assert {part.segment.name for part in package.series_of(folder).values()} == {"", "north", "south"}
    told = made.cli("--json", "plan", "retrain").document
    assert [(c["scope"], c["fits"]) for c in told["fits"]["candidates"]] == [("segment", 6)]


SPARK = {"type": "spark", "master": "local[2]", "conf": {"spark.driver.memory": "1g"}}


@pytest.mark.parametrize("engine", [{"type": "local", "workers": 2}, pytest.param(SPARK, marks=pytest.mark.slow)])
def test_workers_give_what_one_process_gives(engine, site):
    one, many = site(), site(engine)
    for made in (one, many):
        made.retrain()
        made.predict()
    here, there = (made.table().drop(columns=["created_at", "run_key"]) for made in (one, many))
    pd.testing.assert_frame_equal(here, there, rtol=0, atol=1e-9)


def test_a_new_series_is_served_by_its_segments_model(site):
    made = site()
    made.retrain()
    more = regions()
    twin = more[more["unique_id"] == "south/c"].tail(30).assign(unique_id="south/new")
    made.write(pd.concat([more, twin]))
    made.predict()
    new = made.table().query("unique_id == 'south/new'")
    np.testing.assert_allclose(new["forecast"], means(regions())["south"])
    assert set(new["status"]) == {"ok"}


def test_the_gate_looks_at_each_segment_and_compares_recipes_with_their_segments(site):
    made = site()
    made.retrain()
    report = made.retrain("promotion.min_gain=0.5")
    assert report.decision.verdict == "hold"
    assert len(report.leaderboard) == 1, "the champion's recipe is the candidate's own"
    made.write(models=[{"type": "mean"}])
    report = made.retrain()
    assert len(report.leaderboard) == 2, "one mean of all is another recipe"
    slices = next(guard.detail for guard in report.decision.guards if guard.name == "slices")
    assert re.search(r"segment (north|south|of the others): ", slices)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"models": [{"type": "mean", "scope": "segment"}]}, "models.0.scope: the project names no segments"),
        ({"models": [{"type": "naive", "scope": "segment"}], "segments": "x"}, "naive learns each series by itself"),
        (
            {"models": [{"type": "mean"}, {"type": "ensemble", "scope": "segment"}], "segments": "x"},
            "models.1.scope: an ensemble is not fitted",
        ),
        ({"segments": "(north"}, "segments: expected a regular expression, got '(north'"),
    ],
)
def test_what_cannot_be_segmented_is_told_at_its_line(settings, words, make_site):
    with pytest.raises(ConfigError, match=re.escape(words)):
        make_site(bare=True).plugin(MEAN).write(**settings).project()
