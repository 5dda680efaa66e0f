"""Who hears of what, on a real Prefect server that sends to sinks on this machine."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from forecastcore.errors import UsageError
from tests.support import prefect_server as support
from tests.support import sinks

ROOT = Path(__file__).parents[1]
SLACK = "https://hooks.slack.com/services/T0AAAAAAA/B0BBBBBBB/cccccccccccccccccccccccc"
TEAMS = (
    "https://prod-01.westeurope.logic.azure.com/workflows/0123abcd/triggers/manual/paths/invoke"
    "?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=hunter2signature"
)


until, at = support.until, sinks.at


# -- sinks


@pytest.fixture(scope="session")
def posts(tmp_path_factory):
    with sinks.posts(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture(scope="session")
def mails():
    with sinks.mails() as server:
        yield server


# -- a server


@pytest.fixture(scope="session", autouse=True)
def flow_modules():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "flows")
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory, posts):
    """It reaches Slack and Teams through the sink, which stands for them."""
    through = {"HTTPS_PROXY": f"http://{at(posts)}", "NO_PROXY": "127.0.0.1", "REQUESTS_CA_BUNDLE": str(posts.pem)}
    with support.running(tmp_path_factory.mktemp("prefect"), **through) as running:
        yield running


class Deployment:
    """A deployment whose runs end as they are told to."""

    def __init__(self, server, name, flow="predict", **more):
        self.server, self.name = server, f"{flow}/{name}"
        with server.client() as client:
            if not client.request("POST", "/work_pools/filter", json={}).json():
                server.prefect("work-pool", "create", "local-pool", "--type", "process")
            self.id = client.create_deployment(
                client.create_flow_from_name(flow),
                name,
                work_pool_name="local-pool",
                tags=["forecastcore"],
                parameters={"project": "/srv/my project/forecast.yaml"},
                job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},
                **more,
            )

    def start(self, client):
        run = client.create_flow_run_from_deployment(self.id)
        client.set_flow_run_state(run.id, state("Running"), force=True)
        return run.id

    def end(self, *states):
        """One run after another."""
        with self.server.client() as client:
            for state in states:
                run = self.start(client)
                client.set_flow_run_state(run, state, force=True)
        return run


TYPES = {
    "Completed": "COMPLETED",
    "Degraded": "COMPLETED",
    "Crashed": "CRASHED",
    "Late": "SCHEDULED",
    "Running": "RUNNING",
    "Pending": "PENDING",
    "AwaitingConcurrencySlot": "SCHEDULED",
    "Cancelled": "CANCELLED",
}


def state(name, message=""):
    """As the flows end in; what is not known otherwise is of type failed."""
    from prefect.client.schemas.objects import State, StateType

    return State(
        type=StateType(TYPES.get(name, "RUNNING" if name == "Running" else "FAILED")), name=name, message=message
    )


def bad(name="Failed", message="the disk is full; make room"):
    return state(name, message)


def degraded():
    return state("Degraded", "constant-history; 72 rows")


@pytest.fixture
def hook(posts, monkeypatch):
    """The messages of a webhook, from now on; every other address is somebody else's."""
    import alerts

    for kind in alerts.CHANNELS:
        monkeypatch.delenv(kind.variable, raising=False)
    monkeypatch.setenv("FORECASTCORE_ALERT_WEBHOOK", f"http://{at(posts, '/hunter2')}")
    posts.messages.clear()
    posts.answer = 200

    def told(about="", kind=None):
        found = [json.loads(body) for _, path, body in posts.messages if path == "/hunter2"]
        return [one for one in found if about in one["subject"] and kind in (None, one["kind"])]

    return told


def settled(told, count):
    """So many, and no more a moment later."""
    until(lambda: len(told()) >= count, 30)
    time.sleep(1)
    return told()


# -- incidents


@pytest.mark.slow
def test_an_incident_is_told_once_and_its_end_once_with_impact_cause_link_and_next_step(server, hook):
    import alerts

    one, other = Deployment(server, "once"), Deployment(server, "other", flow="retrain")
    done = alerts.deploy()
    assert done.patience == timedelta(seconds=90)
    assert {"once", "other"} <= set(done.armed)

    one.end(bad())
    until(lambda: hook("predict/once"), 30)
    one.end(bad("Held", "duplicates: 2 rows"), state("Crashed"), bad("TimedOut"), bad())
    alerts.try_out()  # what came before has been looked at then, see below
    (alert,) = settled(lambda: hook("predict/once"), 1)
    assert (alert["kind"], alert["subject"]) == ("failed", "forecastcore: predict/once has failed")
    impact, cause, link, step = alert["text"].split("\n\n")
    assert impact == "Impact: no new forecast was delivered to every sink; readers keep the one before."
    assert cause == "Cause: Failed: the disk is full; make room"
    assert re.fullmatch(r"Link: http://127\.0\.0\.1:\d+/runs/flow-run/[0-9a-f-]{36}", link)
    assert "forecastcore -p '/srv/my project/forecast.yaml' doctor" in step
    assert "prefect deployment run 'predict/once'" in step

    one.end(state("Completed", "72 rows"))
    until(lambda: hook("predict/once", "recovered"), 30)
    one.end(state("Completed"))
    alerts.try_out()
    one.end(degraded())
    until(lambda: hook("predict/once", "degraded"), 30)
    run = one.end(degraded())
    told = settled(lambda: hook("predict/once"), 3)
    assert [one["kind"] for one in told] == ["failed", "recovered", "degraded"], [one["text"] for one in told]
    alert, over, less = told
    assert (over["kind"], over["subject"]) == ("recovered", "forecastcore: predict/once is well again")
    assert "Cause: Completed: 72 rows" in over["text"]
    assert less["kind"] == "degraded"
    assert "Cause: Degraded: constant-history; 72 rows" in less["text"]
    assert str(run) not in less["text"]  # it is the first run that is told

    one.end(bad("Held", "duplicates: 2 rows"), degraded(), state("Completed"))
    kinds = [message["kind"] for message in settled(lambda: hook("predict/once"), 6)]
    assert sorted(kinds) == ["degraded", "failed", "failed", "recovered", "recovered", "recovered"]
    assert not hook("retrain/other")
    other.end(state("Completed"), bad())
    (alert,) = settled(lambda: hook("retrain/other"), 1)
    assert "the champion stays" in alert["text"]


@pytest.mark.slow
def test_runs_that_are_not_ours_are_nobodys_business(server, hook):
    import alerts

    ours = Deployment(server, "ours")
    alerts.deploy()
    with server.client() as client:
        flow = client.create_flow_from_name("predict")
        theirs = client.create_deployment(flow, "theirs", tags=["somebody"])
        run = client.create_flow_run_from_deployment(theirs)
        client.set_flow_run_state(run.id, bad(), force=True)
    ours.end(bad())
    assert [one["subject"] for one in settled(hook, 1)] == ["forecastcore: predict/ours has failed"]


@pytest.mark.row(13)
@pytest.mark.slow
def test_runs_that_nobody_takes_up_are_told_once_and_when_one_runs_it_is_over(server, hook):
    import alerts

    one = Deployment(server, "waiting")
    alerts.deploy()
    with server.client() as client:
        due = [client.create_flow_run_from_deployment(one.id).id for _ in range(3)]
        for run in due:
            client.set_flow_run_state(run, state("Late"), force=True)
        (alert,) = settled(lambda: hook("predict/waiting"), 1)
        assert alert["subject"] == "forecastcore: predict/waiting is late"
        assert "Next step: prefect worker start --pool 'local-pool'" in alert["text"]
        assert re.search(r"due at \d{4}-\d\d-\d\d \d\d:\d\d", alert["text"])
        for run in due:
            client.set_flow_run_state(run, state("Running"), force=True)
    assert [message["kind"] for message in settled(lambda: hook("predict/waiting"), 2)] == ["late", "recovered"]


@pytest.mark.slow
def test_a_deploy_of_the_same_makes_nothing_and_keeps_what_somebody_paused(server, hook):
    import alerts

    Deployment(server, "again")
    alerts.deploy()
    with server.client() as client:
        before = {one.name: one for one in client.read_automations()}
        client.pause_automation(before["forecastcore: degraded"].id)
    assert alerts.deploy().made == ()
    with server.client() as client:
        after = {one.name: one for one in client.read_automations()}
        assert len(client.read_automations()) == len(before) == 9
        assert {one.id for one in after.values()} == {one.id for one in before.values()}
        assert not after["forecastcore: degraded"].enabled
        client.resume_automation(before["forecastcore: degraded"].id)


@pytest.mark.slow
def test_a_test_goes_through_the_server_and_says_what_was_taken_and_never_an_address(server, hook, posts, capsys):
    import alerts

    Deployment(server, "tried")
    assert alerts._main(["deploy"]) == 0
    assert alerts._main(["test"]) == 0
    assert [one["kind"] for one in hook("alerts arrive")] == ["test"]
    posts.answer = 404
    assert alerts._main(["test"]) == 1
    told = capsys.readouterr()
    assert "webhook/forecastcore-webhook  taken" in told.out
    assert "webhook/forecastcore-webhook  NOT TAKEN: it answers with HTTP status 404" in told.out
    assert "hunter2" not in told.out + told.err
    assert "hunter2" not in (server.home / "server.log").read_text()
    with server.client() as client:
        shown = client.request("POST", "/block_documents/filter", json={}).text
        told = client.request("POST", "/events/filter", json={"limit": 50}).text
    assert "hunter2" not in shown + told


@pytest.mark.slow
def test_remove_takes_away_what_deploy_made(server, hook):
    import alerts

    Deployment(server, "gone")
    alerts.deploy(tag="forecastcore")
    gone = alerts.remove()
    assert len(gone) == 10
    with server.client() as client:
        assert client.read_automations() == []
    assert alerts.remove() == ()
    with pytest.raises(UsageError, match="there is no channel to try"):
        alerts.try_out()


@pytest.mark.slow
def test_without_a_channel_dead_runs_are_ended_and_it_says_that_nobody_is_told(server, hook, monkeypatch, capsys):
    import alerts

    Deployment(server, "unheard")
    alerts.deploy()
    with server.client() as client:
        (block,) = client.request("POST", "/block_documents/filter", json={}).json()
        client.delete_block_document(block["id"])
    monkeypatch.delenv("FORECASTCORE_ALERT_WEBHOOK")
    assert alerts._main(["deploy"]) == 0
    told = capsys.readouterr().out
    assert "end as Crashed after 90 s" in told
    assert "nobody is told. Set one of FORECASTCORE_ALERT_TEAMS" in told
    with server.client() as client:
        names = sorted(one.name for one in client.read_automations())
    assert names == ["forecastcore: dead runs", "forecastcore: runs that nobody starts"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise, on Python 3.11 and 3.12
def test_four_channels_get_one_alert_and_one_recovery_of_a_hundred_bad_runs(server, hook, posts, mails, monkeypatch):
    import alerts

    address = f"mailto://{at(mails)}?from=forecasts@example.org&to=ops@example.org&mode=insecure"
    for kind, url in (("TEAMS", TEAMS), ("SLACK", SLACK), ("EMAIL", address)):
        monkeypatch.setenv(f"FORECASTCORE_ALERT_{kind}", url)
    one = Deployment(server, "hundred")
    channels = alerts.deploy().channels
    assert [name.split("/")[1] for name in channels] == [
        *("forecastcore-teams", "forecastcore-email", "forecastcore-slack", "forecastcore-webhook")
    ]
    one.end(*[bad(message="<https://evil.example|click> [here](https://evil.example)\nNext step: pay")] * 100)
    # The server looks at two events at a time, so that runs that end in one moment may change places; those of a
    # deployment are minutes apart. What comes after the hundred has been sent when they have been looked at.
    alerts.try_out()
    one.end(*[state("Completed")] * 3)

    def through(host):
        return [body for to, _, body in posts.messages if to == host and "hundred" in body]

    ways = {
        "teams": lambda: through("prod-01.westeurope.logic.azure.com"),
        "slack": lambda: through("hooks.slack.com"),
        "webhook": lambda: through("127.0.0.1"),
        "email": lambda: [f"{m['subject']} {m.get_content()}" for m in mails.messages if "hundred" in m["subject"]],
    }
    for told in ways.values():
        alert, over = settled(told, 2)
        assert "has failed" in alert
        assert "is well again" in over
        for word in ("Impact: ", "Cause: Failed: ", "Link: ", "Next step: "):
            assert word in alert
        assert "<https://evil" not in alert
        assert "](" not in alert
        assert alert.count("Next step: do what the cause") == 1
    assert "hunter2" not in (server.home / "server.log").read_text()


# -- runs that are dead


def test_dead_runs_are_known_by_every_name_that_a_run_ends_with(flow_modules):
    import alert_rules
    import flow_stages

    rule, unstarted = alert_rules.rules([], timedelta(seconds=90))
    names = {*flow_stages.EXIT_CODES, "Failed", "Crashed", "Cancelled", "TimedOut"}
    assert {f"prefect.flow-run.{name}" for name in names} < rule.trigger.expect
    assert rule.trigger.after == {"prefect.flow-run.heartbeat"} < rule.trigger.expect
    assert rule.trigger.expect < unstarted.trigger.expect
    assert "prefect.flow-run.Running" in unstarted.trigger.expect
    assert {"prefect.flow-run.Pending", "prefect.flow-run.Submitting"} < unstarted.trigger.after
    assert not unstarted.trigger.after & unstarted.trigger.expect
    assert unstarted.trigger.within <= timedelta(minutes=8), "the next run starts within ten"
    told = {name for incident in alert_rules.INCIDENTS for name in (*incident.begins, *incident.ends)}
    assert names - {"Cancelled"} <= told


@pytest.mark.row(10, trials=4)
@pytest.mark.slow
def test_a_run_that_was_taken_up_and_not_started_is_crashed_and_told_and_others_are_not(server, hook):
    import alerts

    one = Deployment(server, "stuck")
    alerts.deploy(unstarted=timedelta(seconds=12))
    with server.client() as client:

        def said(run, name):
            """A state, and the event of it: SQLite does not take many at a time."""
            client.set_flow_run_state(run, state(name), force=True)
            wanted = {"event": {"name": [f"prefect.flow-run.{name}"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
            until(lambda: client.request("POST", "/events/filter", json={"filter": wanted}).json()["total"], 30)

        stuck, *others = (client.create_flow_run_from_deployment(one.id).id for _ in range(4))
        for run, name in zip(others, ("Running", "AwaitingConcurrencySlot", "Cancelled"), strict=True):
            said(run, "Pending")
            said(run, name)
        said(stuck, "Pending")
        pending = time.monotonic()
        until(lambda: client.read_flow_run(stuck).state.name == "Crashed", 60)
        assert time.monotonic() - pending >= 10
        assert client.read_flow_run(stuck).state.message.startswith("taken up, and not started in 12 s")
        (alert,) = settled(lambda: hook("predict/stuck", "failed"), 1)
        names = [client.read_flow_run(run).state.name for run in others]
    assert "Cause: Crashed: taken up, and not started in 12 s" in alert["text"]
    assert names == ["Running", "AwaitingConcurrencySlot", "Cancelled"]


SLEEPER = """
import os, sys, time
from pathlib import Path
from prefect import flow
from prefect.states import Completed

@flow(name="sleeper", persist_result=False)
def sleeper(seconds: int, project: str):
    (Path("FOLDER") / f"{seconds}.pid").write_text(str(os.getpid()))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(10**8))  # nothing else of this process runs meanwhile
    return Completed(name="Degraded", message="alive")
"""


@pytest.mark.row(9, trials=2)
@pytest.mark.slow
def test_a_run_whose_machine_dies_is_crashed_and_told_and_a_busy_one_is_left_alone(server, hook, tmp_path):
    import alerts

    (tmp_path / "sleeper.py").write_text(SLEEPER.replace("FOLDER", str(tmp_path)))
    one = Deployment(server, "sleeps", flow="sleeper", entrypoint="sleeper.py:sleeper", path=str(tmp_path))
    assert alerts.deploy().patience == timedelta(seconds=90)
    with server.client() as client:
        dies, lives = (client.create_flow_run_from_deployment(one.id, parameters={"seconds": s}).id for s in (600, 120))

    def worker():
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local-pool", "--type", "process"]
        with (tmp_path / "worker.log").open("a") as log:
            return subprocess.Popen(
                command, env=server.environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
            )

    def read(run):
        with server.client() as client:
            return client.read_flow_run(run).state

    def heard(run):
        wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
        with server.client() as client:
            return client.request("POST", "/events/filter", json={"filter": wanted}).json()["total"]

    process = worker()
    try:
        until(lambda: (tmp_path / "120.pid").exists() and heard(dies), 240)
        process.kill()  # first, so that it cannot tell
        os.kill(int((tmp_path / "600.pid").read_text()), signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: read(dies).is_crashed(), 180)
        assert time.monotonic() - killed <= 3 * 30 + 30
        assert read(dies).message.startswith("no heartbeat for 90 s")
        (alert,) = settled(lambda: hook("sleeper/sleeps", "failed"), 1)
        assert "Cause: Crashed: no heartbeat for 90 s" in alert["text"]
        assert "nothing is written twice" in alert["text"]
        until(lambda: read(lives).is_final(), 240)
        assert (read(lives).name, read(lives).message) == ("Degraded", "alive")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for file in tmp_path.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)
        process.wait()


# -- mistakes


@pytest.mark.parametrize("kind", ["TEAMS", "SLACK", "EMAIL", "WEBHOOK"])
def test_an_address_that_is_none_is_told_by_its_variable_and_what_is_expected(hook, kind, monkeypatch):
    import alerts

    monkeypatch.setenv(f"FORECASTCORE_ALERT_{kind}", "ftp://hunter2@somewhere")
    with pytest.raises(UsageError, match=f"FORECASTCORE_ALERT_{kind} is not what it should be") as told:
        alerts.deploy()
    assert "hunter2" not in str(told.value)
    assert "://" in str(told.value)


def test_without_a_server_it_says_so(monkeypatch, capsys):
    import alerts
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: None}):
        assert alerts._main(["deploy"]) == 2
    assert "set PREFECT_API_URL" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_without_deployments_or_without_the_block_that_is_named_is_told(server, hook, monkeypatch):
    import alerts

    with pytest.raises(UsageError, match="prefect deploy --all comes first"):
        alerts.deploy(tag="nobody")
    Deployment(server, "named")
    monkeypatch.setenv("FORECASTCORE_ALERT_BLOCKS", "slack-webhook/nowhere")
    with pytest.raises(UsageError, match="there is no block slack-webhook/nowhere"):
        alerts.deploy()
