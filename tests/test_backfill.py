import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake  # noqa: TID253 - a source that keeps its older states

import forecastcore as fc
from forecastcore.errors import UsageError
from forecastcore.messages import LedgerEntry, ModelVersion
from forecastcore.runs.backfill import champion_at

SPAN = {"first": "2024-03-08T00:00Z", "last": "2024-03-08T12:00Z"}


def days(*numbers):
    return [datetime(2024, 3, number, tzinfo=UTC) for number in numbers]


def entry(seq, day, champion):
    [at] = days(day)
    return LedgerEntry(seq=seq, at=at, action="manual", version=champion, champion=champion, previous=None)


def version(number, until):
    [trained] = days(until)
    return ModelVersion(version=number, model="naive", created_at=trained, trained_until=trained)


@pytest.mark.parametrize(
    ("day", "champion"),
    [(1, None), (2, "1"), (9, "1"), (10, "1"), (15, "1"), (20, "2"), (25, "1"), (28, "1")],
)
def test_the_champion_of_then_is_the_ledgers_and_before_the_ledger_one_that_had_not_seen_more(day, champion):
    ledger = [entry(1, 10, "1"), entry(2, 20, "2"), entry(3, 25, "1")]
    versions = {"1": version("1", 2), "2": version("2", 12)}
    [origin] = days(day)
    assert champion_at(ledger, versions, pd.Timestamp(origin)) == champion


def test_a_vintage_per_origin_is_what_predict_would_have_made_then(make_site):
    site = make_site()
    site.retrain(as_of="2024-03-07T00:00Z")
    report = fc.backfill(site.project(), **SPAN, every=6)
    assert [o.as_of.hour for o in report.origins] == [0, 6, 12]
    assert (report.made, report.already, report.failed) == (3, 0, 0)
    for origin in report.origins:
        again = site.predict(as_of=origin.as_of)
        assert again.run_key == origin.run_keys["base"]
        assert all(p.already for p in again.published)
    table = site.table(None)
    assert table.groupby("issued_at").size().eq(3 * 6).all()
    assert table["issued_at"].nunique() == 3


def test_a_second_backfill_finds_what_is_there_and_makes_the_rest(make_site):
    site = make_site()
    site.retrain(as_of="2024-03-07T00:00Z")
    site.predict(as_of="2024-03-08T06:00Z")
    report = fc.backfill(site.project(), **SPAN, every=6)
    assert [origin.status for origin in report.origins] == ["made", "already", "made"]
    report = fc.backfill(site.project(), **SPAN, every=6)
    assert (report.made, report.already) == (0, 3)


def by_key(table):
    """Rows that two runs must have in common, whoever made them when."""
    return table.drop(columns="created_at").sort_values(["issued_at", "unique_id", "step"], ignore_index=True)


def test_several_origins_at_a_time_give_the_table_of_one_after_the_other(make_site):
    sinks = [{"type": kind, "path": f"out/{kind}"} for kind in ("delta", "parquet")]
    site, alone = make_site(sinks=sinks), make_site()
    for one in (site, alone):
        one.retrain(as_of="2024-03-07T00:00Z")
    site.predict(as_of="2024-03-08T06:00Z")
    span = ("--from", "2024-03-08T00:00Z", "--to", "2024-03-08T12:00Z", "--every", "6")
    told = site.cli("--json", "backfill", *span, "--jobs", "2")
    assert told.code == 0, told.err
    one_by_one = fc.backfill(alone.project(), **SPAN, every=6).to_json()
    assert told.document.keys() == one_by_one.keys()
    assert [o["as_of"] for o in told.document["origins"]] == [o["as_of"] for o in one_by_one["origins"]]
    assert [o["status"] for o in told.document["origins"]] == ["made", "already", "made"]
    for sink in sinks:
        site.write(sinks=[sink])
        everything = site.table(None)
        assert not everything.duplicated(["unique_id", "issued_at", "step"]).any()
        pd.testing.assert_frame_equal(by_key(everything), by_key(alone.table(None)), check_dtype=False)
        assert set(site.table()["issued_at"]) == {pd.Timestamp(SPAN["last"])}


@pytest.mark.slow
def test_one_killed_again_and_again_makes_each_vintage_once(make_site):
    """The command is killed at a moment of a seeded draw, with the jobs it has going, until it comes to its end."""
    sinks = [{"type": kind, "path": f"out/{kind}"} for kind in ("delta", "parquet")]
    site, alone = make_site(sinks=sinks), make_site()
    for one in (site, alone):
        one.retrain(as_of="2024-03-07T00:00Z")
    span = {"first": "2024-03-07T00:00Z", "last": "2024-03-09T12:00Z"}
    words = ["backfill", "--from", span["first"], "--to", span["last"], "--every", "4", "--jobs", "3", "--json"]
    command = [sys.executable, "-m", "forecastcore.cli", "-p", str(site.folder), *words]
    draw, killed = random.Random(65), 0
    while True:
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            out, err = run.communicate(timeout=draw.uniform(4, 10) if killed < 10 else None)
            break
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate(timeout=30)  # its pipes end when the last of its processes has
            killed += 1
    assert run.returncode == 0, err
    assert killed >= 3
    document = json.loads(out)
    assert (len(document["origins"]), document["failed"]) == (16, 0)
    assert fc.backfill(alone.project(), **span, every=4).made == 16
    for sink in sinks:
        site.write(sinks=[sink])
        everything = site.table(None)
        assert not everything.duplicated(["unique_id", "issued_at", "step"]).any()
        pd.testing.assert_frame_equal(by_key(everything), by_key(alone.table(None)), check_dtype=False)


def test_no_job_is_no_number_of_jobs(make_site):
    with pytest.raises(UsageError, match="--jobs 0"):
        fc.backfill(make_site(bare=True).project(), **SPAN, jobs=0)


@pytest.mark.slow
def test_on_spark_several_origins_share_the_session(make_site):
    there, here = make_site(), make_site()
    for site in (there, here):
        site.retrain(as_of="2024-03-07T00:00Z")
    there.write(engine={"type": "spark", "master": "local[2]", "conf": {"spark.driver.memory": "1g"}})
    try:
        assert fc.backfill(there.project(), **SPAN, every=3, jobs=3).made == 5
    finally:
        from pyspark.sql import SparkSession

        if session := SparkSession.getActiveSession():
            session.stop()
    assert fc.backfill(here.project(), **SPAN, every=3).made == 5
    pd.testing.assert_frame_equal(by_key(there.table(None)), by_key(here.table(None)), rtol=0, atol=1e-9)


def test_without_a_champion_of_then_an_origin_fails_unless_a_model_is_named(make_site):
    site = make_site()
    site.retrain()
    told = site.cli("--json", "backfill", "--from", "2024-03-08T00:00Z", "--to", "2024-03-08T02:00Z")
    assert told.code == 1
    assert {o["status"] for o in told.document["origins"]} == {"failed"}
    assert "no model was champion then" in told.document["origins"][0]["note"]
    assert not site.table(None).size
    told = site.cli("backfill", "--from", "2024-03-08T00:00Z", "--to", "2024-03-08T00:00Z", "--model", "1")
    assert told.code == 0
    assert "1 made, 0 there before, 0 failed" in told.out
    assert "has learned from data until 2024-03-10" in " ".join(told.out.split())


def test_a_source_that_keeps_its_states_is_read_as_it_was_then(make_site, tmp_path):
    site = make_site()
    rows = pd.read_parquet(site.folder / "history.parquet")
    rows["ds"] = rows["ds"].dt.tz_localize("UTC") + (
        pd.Timestamp.now("UTC").floor("h") - rows["ds"].max().tz_localize("UTC")
    )
    table = pa.Table.from_pandas(rows, preserve_index=False)
    write_deltalake(tmp_path / "history", table)
    site.write(source={"type": "delta", "path": str(tmp_path / "history")})
    now = rows["ds"].max()
    site.retrain(as_of=str(now - timedelta(days=3)))
    report = fc.backfill(site.project(), str(now - timedelta(hours=2)), str(now - timedelta(hours=2)))
    assert "keeps no state that old" in report.origins[0].note
    future = pd.Timestamp.now("UTC").ceil("h")
    more = rows[rows["ds"] == now].assign(ds=future)
    write_deltalake(tmp_path / "history", pa.Table.from_pandas(more, preserve_index=False), mode="append")
    report = fc.backfill(site.project(), str(future), str(future))
    assert report.origins[0].note == ""


def delta_of_then(site, where):
    """The site's history as a Delta table whose log is older than its last rows; the rows."""
    rows = pd.read_parquet(site.folder / "history.parquet")
    rows["ds"] = rows["ds"].dt.tz_localize("UTC")
    write_deltalake(where, pa.Table.from_pandas(rows, preserve_index=False))
    (log,) = (where / "_delta_log").glob("*.json")
    lines, written = [json.loads(line) for line in log.read_text().splitlines()], days(1)[0].timestamp()
    for line in lines:
        line.get("commitInfo", {})["timestamp"] = int(written * 1000)
    log.write_text("\n".join(map(json.dumps, lines)))
    os.utime(log, (written, written))
    site.write(source={"type": "delta", "path": str(where)})
    return rows


def revise(rows, where):
    """All values are others since."""
    revised = pa.Table.from_pandas(rows.assign(y=rows["y"] + 5.0), preserve_index=False)
    write_deltalake(where, revised, mode="overwrite")


@pytest.mark.row(45)
@pytest.mark.slow
def test_a_history_that_was_revised_since_gives_the_forecast_of_then_again(make_site, tmp_path):
    """The table's log is older than the origin, the revision younger: the backfill finds its own vintage."""
    site, where = make_site(), tmp_path / "history"
    rows = delta_of_then(site, where)
    site.retrain(as_of="2024-03-07T00:00Z")
    first = site.predict(as_of="2024-03-08T00:00Z")
    before = site.table()
    revise(rows, where)
    (again,) = fc.backfill(site.project(), "2024-03-08T00:00Z", "2024-03-08T00:00Z").origins
    assert (again.status, again.run_keys["base"], again.note) == ("already", first.run_key, "")
    pd.testing.assert_frame_equal(site.table(), before)
    late = site.predict(as_of="2024-03-08T00:00Z")
    assert late.run_key != first.run_key
    assert not any(p.already for p in late.published)
    told = site.cli("--json", "diff", first.run_key[:12], late.run_key[:12])
    assert {mover["change"] != 0 for mover in told.document["movers"]} == {True}


def test_a_span_without_an_origin_is_refused(make_site):
    site = make_site()
    site.retrain(as_of="2024-03-07T00:00Z")
    with pytest.raises(UsageError, match="swap them"):
        fc.backfill(site.project(), SPAN["last"], SPAN["first"])
    with pytest.raises(UsageError, match="no number of steps"):
        fc.backfill(site.project(), **SPAN, every=0)
    with pytest.raises(UsageError, match="no value lies between"):
        fc.backfill(site.project(), "2025-01-01T00:00Z", "2025-01-02T00:00Z")
