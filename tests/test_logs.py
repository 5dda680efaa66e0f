"""`forecastcore logs`: what a run logged, from wherever it was done, found by any name that the run has."""

import json
import logging
import re
import threading
import time

import pandas as pd
import pytest

from forecastcore import logbook
from forecastcore.cli import main
from forecastcore.errors import ForecastCoreError, UsageError
from forecastcore.ports import Steps
from forecastcore.runs.logs import follow, logs
from forecastcore.testing.databricks.fixture import databricks, databricks_environments
from tests.conftest import small_history
from tests.support import prefect_server

__all__ = ["databricks", "databricks_environments"]  # fixtures


def messages(told, source="run"):
    return [line["message"] for line in told["lines"] if line["source"] == source]


def test_a_run_is_found_by_each_of_its_names_and_by_the_beginning_of_one(site):
    report = site.retrain()
    predicted = site.predict()
    for name in (report.run_id, report.run_id[:6]):
        told = logs(site.project(), name)
        assert (told["names"]["command"], told["end"], told["unasked"]) == ("retrain", "finished", [])
        assert {"load", "check quality", "backtest naive", "register", "gate"} <= set(messages(told))
    assert logs(site.project(), predicted.run_key)["names"] == logs(site.project())["names"]
    shown = site.cli("logs", report.run_id).out
    assert re.search(r"^2\d{3}-\S+Z  run {9}INFO {5}backtest naive$", shown, re.MULTILINE)
    assert shown.splitlines()[-1].startswith("finished: ")
    document = site.cli("--json", "logs").document
    assert (document["command"], document["names"]["key"]) == ("logs", predicted.run_key)


def test_a_run_that_nobody_knows_is_answered_with_those_that_are_known(site):
    with pytest.raises(UsageError, match="there is none yet"):
        logs(site.project())
    report = site.retrain()
    with pytest.raises(UsageError, match=rf"'nobody'.*{report.run_id}"):
        logs(site.project(), "nobody")
    assert site.cli("logs", report.run_id[:3]).code == 2, "three characters may begin many names"


def test_a_run_that_fails_says_how_and_no_password_is_kept(site):
    site.write(tracking={"uri": "postgresql://me:hunter2@127.0.0.1:1/x"})
    site.retrain()
    assert any("postgresql://***@127.0.0.1" in line for line in messages(logs(site.project())))
    site.write(source={"type": "parquet", "path": "gone.parquet"})
    with pytest.raises(ForecastCoreError):
        site.retrain()
    told = logs(site.project())
    assert re.match(r"\w+Error: .*gone\.parquet", told["end"])
    assert "hunter2" not in "".join(path.read_text() for path in (site.folder / ".forecastcore/logs").glob("*.jsonl"))


@pytest.mark.slow
def test_a_thousand_more_series_are_one_more_line_at_most(make_site):
    history = small_history(series=26, days=6)
    blocks = [history.assign(unique_id=history["unique_id"] + f"-{n}") for n in range(40)]
    few, many = make_site(), make_site(pd.concat(blocks, ignore_index=True))
    counts = []
    for one in (few, many):
        one.retrain()
        counts.append(len(logs(one.project())["lines"]))
    assert counts[1] - counts[0] <= 1, counts


class Slow(Steps):
    """Steps that wait at a stage until they are let."""

    def __init__(self, at):
        self.at, self.there, self.go = at, threading.Event(), threading.Event()

    def run(self, name, work):
        if name == self.at:
            self.there.set()
            assert self.go.wait(60)
        return work()


def test_a_run_is_followed_until_it_is_over(site, monkeypatch):
    monkeypatch.setattr("forecastcore.runs.logs._PAUSE", 0.05)
    steps = Slow("register")
    run = threading.Thread(target=lambda: site.retrain(steps=steps))
    run.start()
    assert steps.there.wait(60)
    coming = follow(site.project())
    seen = []
    for line in coming:
        seen.append(line.message)
        if line.message == "register":
            assert logs(site.project())["end"] == ""
            steps.go.set()
    run.join()
    assert seen.count("load") == 1
    assert seen.index("load") < seen.index("register") < seen.index("gate")


def test_what_others_are_told_stays_as_it_was(site, caplog, capsys):
    """A log is kept from INFO on, and whoever listens from WARNING on hears no more than before."""
    ours = logging.getLogger("forecastcore")
    before = (ours.level, ours.propagate, list(ours.handlers))
    with logbook.keeping_log(site.folder, "one"), logbook.keeping_log(site.folder, "within"):
        logging.getLogger("forecastcore.some").info("quiet")
        logging.getLogger("forecastcore.some").warning("password=hunter2")
    assert (ours.level, ours.propagate, list(ours.handlers)) == before
    assert [record.message for record in caplog.records] == ["password=hunter2"]
    told = logs(site.project())
    assert (messages(told), told["names"]["command"]) == (["quiet", "password=***"], "one")


def test_a_folder_that_cannot_be_written_costs_the_log_and_not_the_run(site):
    (site.folder / ".forecastcore").mkdir()
    (site.folder / ".forecastcore" / "logs").write_text("in the way")
    assert site.retrain().run_id


@pytest.mark.slow
def test_a_flow_run_on_databricks_is_told_by_all_three_in_one_order(
    make_site, databricks, tmp_path, monkeypatch, capsys
):
    site = make_site(days=12)
    site.retrain()
    engine = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "200ms"}
    home = tmp_path / "prefect"
    home.mkdir()
    protected = {"PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}  # as `make up` has it
    with prefect_server.running(home, **protected) as server:
        site.write(engine=engine)
        databricks.fault("scim", 500, times=3)
        done = server.run("flows/predict.py", "--project", site.folder / "forecast.yaml")
        assert done.returncode == 0, done.stderr
        monkeypatch.setenv("PREFECT_API_URL", server.api)
        (run,) = databricks.runs
        told = logs(site.project(), str(run.run_id))
        assert (told["end"], told["unasked"]) == ("finished", [])
        assert [line["at"] for line in told["lines"]] == sorted(line["at"] for line in told["lines"])
        assert f"Databricks run {run.run_id}" in messages(told)
        assert {"load model", "publish base"} <= set(messages(told, "databricks"))
        assert any("Finished in state Completed" in line for line in messages(told, "prefect"))
        assert ["waiting for it" in line["message"] for line in told["lines"]].count(True) == 1, "both kept it"
        by_flow_run = logs(site.project(), told["names"]["flow_run"])
        assert by_flow_run["names"] == told["names"]
        began = time.monotonic()
        assert main(["-p", str(site.folder / "forecast.yaml"), "logs", told["names"]["flow_run"], "--follow"]) == 0
        assert time.monotonic() - began < 30, "it is over"
        assert "databricks  INFO     publish base" in capsys.readouterr().out
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    (words,) = logs(site.project(), str(run.run_id))["unasked"]
    assert words.startswith("prefect: ")
    assert json.dumps(told)
