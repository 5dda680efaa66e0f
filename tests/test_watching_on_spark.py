"""Watching, backfilling and calibrating anew on Spark: the history stays on the cluster, and it makes no difference."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

import forecastcore as fc
from forecastcore import runtime
from forecastcore.runs.recalibrate import recalibrate
from tests.test_backfill import delta_of_then, revise
from tests.test_monitor import FIRST, LAST, MODEL, TRAINED, WEATHER, broken
from tests.test_predict_on_spark import ENGINE, session, small_shards
from tests.test_retrain_on_spark import close, off_the_driver

__all__ = ["session", "small_shards"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def both(make_site, site_of, tmp_path):
    """One project twice, delivered and with later data: here, and where the history lies on a cluster."""
    here = make_site(horizon=12, models=[{"type": "weathered"}, {"type": "seasonal-naive"}], **WEATHER).plugin(MODEL)
    history = broken(shift=4.0, warmer=2.0)
    late = history[history["unique_id"] == "c"].assign(unique_id="d")
    here.write(history).retrain(as_of=TRAINED)
    fc.backfill(here.project(), FIRST, LAST, every=24)
    here.write(pd.concat([history[history["unique_id"] != "b"], late, history[history["unique_id"] == "b"][:300]]))
    shutil.copytree(here.folder, tmp_path / "there")
    there = site_of(tmp_path / "there", **here.settings).write(engine=ENGINE)
    return here, there


def test_what_was_delivered_is_watched_where_the_history_lies(both, session, small_shards):
    here, there = both
    alone = fc.monitor(here.project())
    with off_the_driver():
        spread = fc.monitor(there.project())
    assert spread.notes == alone.notes
    apart = {"seconds", "run_id", "table", "already"}
    close(alone.model_dump(exclude=apart), spread.model_dump(exclude=apart))
    assert (spread.new_series, spread.ended_series) == (("d",), ("b",))
    assert any(one.drifted for one in spread.drift)
    assert spread.split
    assert spread.assumption_errors


def test_intervals_are_learned_anew_where_the_history_lies(both, session, small_shards):
    here, there = both
    made = [recalibrate(here.project())]
    with off_the_driver():
        made.append(recalibrate(there.project()))
    kept = []
    for site, version in zip(both, made, strict=True):
        with np.load(runtime.store(site.project()).fetch(version) / "conformal.npz") as learned:
            kept.append({name: learned[name] for name in learned.files})
    one, other = kept
    assert one.keys() == other.keys()
    assert np.isfinite(one["plain"]).all()
    for name in set(one) - {"ids"}:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)


def test_origins_are_found_where_the_history_lies(both, session, small_shards):
    here, there = both
    there.write(sinks=[{"type": "parquet", "path": "out/again"}])
    with off_the_driver():
        told = fc.backfill(there.project(), FIRST, LAST, every=48, model="1")
    alone = fc.backfill(here.project("sinks=[{type: parquet, path: out/again}]"), FIRST, LAST, every=48, model="1")
    assert [one.as_of for one in told.origins] == [one.as_of for one in alone.origins]
    assert [one.run_keys for one in told.origins] == [one.run_keys for one in alone.origins]
    assert {one.status for one in told.origins} == {one.status for one in alone.origins}


def test_a_table_as_it_was_then_is_read_where_it_lies(make_site, session, small_shards, tmp_path):
    site, where, then = make_site(), tmp_path / "history", "2024-03-08T00:00Z"
    rows = delta_of_then(site, where)
    site.retrain(as_of="2024-03-07T00:00Z")
    first = site.predict(as_of=then)
    revise(rows, where)
    site.write(engine=ENGINE)
    with off_the_driver():
        (again,) = fc.backfill(site.project(), then, then).origins
    assert (again.status, again.run_keys["base"], again.note) == ("already", first.run_key, "")
