"""A run that starts while Databricks is out waits for it; what is the caller's own mistake is told within seconds."""

import logging
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from forecastcore.engines.databricks.answers import Refused, Unavailable
from forecastcore.engines.databricks.signin import _no_token
from forecastcore.engines.databricks.workspace import Workspace
from forecastcore.errors import DatabricksRunError
from tests.support import prefect_server as support

ROOT = Path(__file__).parents[2]
#: seconds in which a mistake has to be told, on a busy machine too
AT_ONCE = 20
#: how a workspace is out, for four questions
OUTAGES = {
    "500": lambda there: there.fault(".", 500, times=4),
    "502": lambda there: there.fault(".", 502, times=4),
    "503": lambda there: there.fault(".", 503, times=4),
    "429": lambda there: there.rate_limit(".", retry_after=1, times=4),
    "reset": lambda there: there.reset(".", times=4),
    "silent": lambda there: there.latency(".", 0.7, times=4),
}


@pytest.fixture(params=["token", "principal"])
def identity(request, databricks, monkeypatch):
    if request.param == "principal":
        monkeypatch.delenv("DATABRICKS_TOKEN")
        monkeypatch.setenv("DATABRICKS_CLIENT_ID", databricks.client[0])
        monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", databricks.client[1])
    return request.param


def reach(**how):
    return Workspace(**{"pause": 0.05, "request": 0.3, "patience": 60.0, **how})


@pytest.mark.row(7, trials=12)
@pytest.mark.parametrize("outage", OUTAGES)
def test_a_workspace_that_is_out_from_the_start_is_waited_for_and_the_log_says_so(databricks, identity, caplog, outage):
    OUTAGES[outage](databricks)
    with caplog.at_level(logging.WARNING, "forecastcore"):
        there = reach()
    assert there.user == databricks.user
    told = [record.getMessage() for record in caplog.records if record.name.startswith("forecastcore")]
    assert len(told) == 2, told
    assert told[0].startswith(f"Databricks: {databricks.url} does not answer (")
    assert "waiting for it for up to " in told[0]
    assert told[1].startswith(f"Databricks: {databricks.url} answers again after ")


def test_whoever_sits_before_the_command_line_sees_that_it_waits_and_for_what(databricks, make_site):
    databricks.fault(".", 500, times=5)
    databricks.runs.program = lambda run: None
    engine = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "50ms"}
    site = make_site().write(engine=engine)
    command = [Path(sys.executable).with_name("forecastcore"), "-p", site.folder / "forecast.yaml", "retrain"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False).stderr
    assert told.count(f"Databricks: {databricks.url} does not answer (") == 1, told
    assert "waiting for it for up to" in told
    assert "left no report" in told, "it went on from there"
    assert len(list(databricks.runs)) == 1


def test_whoever_only_looks_does_not_wait_and_is_told_what_it_is(databricks, identity):
    databricks.rate_limit(".", retry_after=3600)  # nor as long as it is asked to
    began = time.monotonic()
    with pytest.raises(DatabricksRunError, match=r"does not answer.*it is there, and in trouble") as told:
        reach(patience=0.0)
    assert told.value.fault == "unreachable"
    assert time.monotonic() - began < AT_ONCE


def test_a_workspace_that_stays_away_is_given_up_with_one_message(databricks, identity):
    databricks.fault(".", 500)
    with pytest.raises(DatabricksRunError, match=r"does not answer.*in trouble: run it again later"):
        reach(patience=1.0)


def _closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("host", [_closed_port(), "http://no-workspace.invalid"], ids=["closed port", "no such name"])
def test_a_wrong_host_is_told_at_once_whoever_asks(databricks, identity, monkeypatch, host):
    monkeypatch.setenv("DATABRICKS_HOST", host)
    began = time.monotonic()
    with pytest.raises(DatabricksRunError, match=r"does not answer.*is DATABRICKS_HOST right") as told:
        reach()
    assert host in str(told.value)
    assert time.monotonic() - began < AT_ONCE


def test_a_host_that_is_no_workspace_is_told_at_once(databricks, identity, monkeypatch):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        do_POST = do_GET  # noqa: N815 - the standard library's name

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
        try:
            with pytest.raises(DatabricksRunError, match=r"does not answer.*is DATABRICKS_HOST right"):
                reach()
        finally:
            server.shutdown()
            thread.join()


def test_a_wrong_secret_is_told_at_once_with_what_the_endpoint_says(databricks, monkeypatch):
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", databricks.client[0])
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "hunter2-of-yesterday")
    with pytest.raises(DatabricksRunError, match=r"answers 401: Client authentication failed.*sign in again") as told:
        reach()
    assert told.value.fault == "unauthenticated"
    assert "hunter2" not in str(told.value)


def test_a_principals_token_is_replaced_before_its_end_and_outlives_an_endpoint_that_is_away(databricks, monkeypatch):
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", databricks.client[0])
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", databricks.client[1])
    databricks.lifetime = 4
    there = reach()
    databricks.fault("oidc", 503)
    time.sleep(2.2)
    ask = ("GET", "/api/2.0/preview/scim/v2/Me")
    assert there.call(*ask)["userName"] == databricks.user, "the old one is still good"
    time.sleep(2.0)
    with pytest.raises(Unavailable, match=r"oidc.*answers 503"):
        there.call(*ask)
    databricks.faults.clear()
    assert there.call(*ask)["userName"] == databricks.user


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("invalid_client: AADSTS7000215: Invalid client secret provided"), Refused),
        (ValueError("temporarily_unavailable: AADSTS90033: A transient error"), Unavailable),
        (ConnectionResetError("reset"), Unavailable),
    ],
)
def test_what_another_endpoint_of_tokens_says_is_a_no_or_a_not_now(error, kind):
    assert type(_no_token(error)) is kind


@pytest.mark.row(1, 7)
@pytest.mark.parametrize("stage", ["PUT .*fs/files", "HEAD .*fs/files", "runs/submit"])
def test_an_outage_that_begins_at_any_stage_of_the_submission_is_told_and_waited_out(caller, caplog, stage):
    boss = caller.boss()
    caller.workspace.fault(stage, 500)
    threading.Timer(2.0, caller.workspace.faults.clear).start()
    with caplog.at_level(logging.WARNING, "forecastcore"):
        caller.run(boss=boss)
    assert len(caller.workspace.runs) == 1
    assert stage.startswith("HEAD") or "waiting for it for up to " in caplog.text


@pytest.mark.row(1, 7)
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_flow_that_starts_in_an_outage_ends_well_having_submitted_once(
    tmp_path, make_site, databricks, record_property
):
    site = make_site()
    site.retrain()
    site.write(engine={"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "500ms"})
    (tmp_path / "prefect").mkdir()
    outage = [databricks.fault(".", 503, share=0.5), databricks.reset(".")]
    with support.running(tmp_path / "prefect") as server, (tmp_path / "flow.log").open("w") as log:
        flow = subprocess.Popen(
            [sys.executable, ROOT / "flows" / "predict.py", "--project", site.folder / "forecast.yaml"],
            cwd=ROOT,
            env={**server.environment, **databricks.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            support.until(lambda: sum(rule.struck for rule in outage) >= 8, 240, flow)  # well beyond three tries
            assert list(databricks.runs) == []
            with server.client() as client:
                (run,) = client.read_flow_runs()
                assert run.state.name == "Running"
                said = [line.message for line in client.read_logs() if "waiting for it for up to" in line.message]
            assert said, "whoever looks at the flow run's log sees that it waits, for what and how long"
            assert databricks.url in said[0]
            began = time.monotonic()
            databricks.faults.clear()
            assert flow.wait(300) == 0, (tmp_path / "flow.log").read_text()
            record_property("seconds", round(time.monotonic() - began, 1))
            assert {"reach Databricks", "submit to Databricks"} <= set(server.tasks(run.id))
        finally:
            flow.kill()
            flow.wait()
    assert len(databricks.asked("runs/submit")) == len(list(databricks.runs)) == 1
