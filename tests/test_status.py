"""How a project stands, at a glance."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from forecastcore import runtime
from forecastcore.errors import StateError
from forecastcore.runs.status import status
from forecastcore.tracking import at_hand
from forecastcore.tracking.quick import glance


def grown(site, hours):
    """The source has gone on."""
    rows = pd.read_parquet(site.folder / "history.parquet")
    later = rows[rows["ds"] > rows["ds"].max() - pd.Timedelta(hours=hours)].copy()
    later["ds"] += pd.Timedelta(hours=hours)
    site.write(pd.concat([rows, later], ignore_index=True))


def test_a_project_without_model_or_forecast_is_stale_and_says_what_to_do(make_site):
    site = make_site(bare=True)
    told = site.cli("--json", "status")
    assert told.code == 3
    assert (told.document["champion"], told.document["vintage"]) == (None, None)
    assert "forecastcore retrain makes the first" in site.cli("status").out
    assert site.written == set()


def test_it_tells_champion_decision_vintage_and_degraded_share(make_site):
    site = make_site()
    rows = pd.read_parquet(site.folder / "history.parquet")
    rows.loc[rows["unique_id"] == "c", "y"] = 7.0
    site.write(rows)
    report = site.retrain()
    made = site.predict()
    told = site.cli("--json", "status")
    assert told.code == 0
    document = told.document
    assert document["champion"]["version"] == report.champion_after.version
    assert document["champion"]["trained_until"] == "2024-03-10T23:00:00+00:00"
    assert document["decision"]["reason"] == report.decision.reason
    assert (document["vintage"]["run_key"], document["vintage"]["rows"]) == (made.run_key, 18)
    assert document["degraded"] == {"series": 3, "not_ok": 1, "share": pytest.approx(1 / 3)}
    assert document["data"]["newest"] == "2024-03-10T23:00:00+00:00"
    words = site.cli("status").out
    assert "freshness  fresh: as new as it should be" in words
    assert "degraded   33.3% (1 of 3 series)" in words


def test_it_is_stale_when_newer_data_waits_or_the_last_vintage_is_old(site):
    site.retrain()
    site.predict()
    grown(site, 6)
    assert site.cli("status").code == 0  # one vintage: a horizon of six hours may pass
    grown(site, 6)
    told = site.cli("--json", "status")
    assert told.code == 3
    reason = told.document["freshness"]["reason"]
    assert "the source has data of 12.0 hours after its origin; 6.0 hours are allowed" in reason
    site.write(monitor={"stale_after": "1D"})
    assert site.cli("status").code == 0
    later = status(site.project(), datetime.now(UTC) + timedelta(hours=25))
    assert later["freshness"]["stale"]
    assert "it was made 25.0 hours ago" in later["freshness"]["reason"]


def test_the_file_and_mlflow_tell_the_same_champion(site):
    site.retrain()
    site.retrain("models=[{type: naive}]", promote=False)
    for version in ("2", "1"):
        site.cli("models", "promote", version)
        store = runtime.store(site.project())
        quick, slow = runtime.glance(site.project()), glance(store, None, "small")
        assert quick.champion.version == version
        assert quick.champion == slow.champion.model_copy(update={"aliases": quick.champion.aliases})
        assert (quick.decision, quick.since) == (slow.decision, slow.since)


@pytest.mark.parametrize(("words", "says"), [(["status"], "champion   "), (["explain", "a+1"], "a at")])
def test_it_imports_no_mlflow(words, says, site):
    site.retrain()
    site.predict()
    code = f"import sys; from forecastcore.cli import main; main({words}); sys.exit('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=site.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(says)


def test_files_at_hand_are_those_that_mlflow_would_give_and_only_if_every_digest_agrees(site):
    project = site.project()
    uri = f"sqlite:///{site.folder}/mlflow.db"
    where = {"project": "small", "uri": uri, "experiment": "x", "root": site.folder}
    assert at_hand("1", **where) is None
    site.retrain()
    assert at_hand("1", **where) is None, "the files are not at hand yet"
    store = runtime.store(project)
    folder = store.fetch(store.resolve("1"))
    version, found = at_hand("1", **where)
    assert (version, found) == (store.resolve("1").model_copy(update={"aliases": ()}), folder)
    assert at_hand("2", **where) is None
    with sqlite3.connect(site.folder / "mlflow.db") as database:
        database.execute("update model_version_tags set value = ? where key = 'forecastcore_digest'", ("0" * 64,))
    assert at_hand("1", **where) is None, "it was registered with another digest when it became champion"
    with pytest.raises(StateError, match="became champion with"):
        runtime.stored(project, "1")
