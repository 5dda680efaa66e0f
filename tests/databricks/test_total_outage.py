"""The workspace answers nobody for ten minutes, on the clocks that users have: no flow fails, no run is there twice."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.databricks.conftest import REPORT
from tests.support import prefect_server as support

ROOT = Path(__file__).parents[2]
#: seconds; ten minutes is what is promised
AWAY = float(os.environ.get("FORECASTCORE_AWAY", "600"))
ENGINE = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs"}
#: seconds between two polls where the project file says nothing
POLL = 15.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with support.running(tmp_path_factory.mktemp("prefect")) as running:
        yield running


class Scene:
    """Flows of predict, each with a project and a run of its own, which ends with a report once it is let."""

    def __init__(self, server, databricks, make_site):
        self.server, self.databricks, self.make_site = server, databricks, make_site
        here = make_site()
        here.retrain()
        self.report, self.let, self.flows = here.predict().to_json(), {}, {}
        databricks.runs.program = self.work

    def work(self, run):
        run.enter("RUNNING")
        while not self.let[self.project(run)].is_set():
            run.pause(0.2)
        said = json.dumps({**REPORT, "seconds": 0.1, "report": self.report})
        self.databricks.cluster.place(run.parameters[3]).write_text(said)

    def project(self, run):
        return run.payload["run_name"].split("/")[1]

    def run(self, name):
        return next((run for run in self.databricks.runs if self.project(run) == name), None)

    def begin(self, name):
        site = self.make_site().write(name=name, engine=ENGINE)
        shutil.rmtree(site.folder / "mlruns", ignore_errors=True)
        self.let[name] = threading.Event()
        command = [sys.executable, ROOT / "flows" / "predict.py", "--project", site.folder / "forecast.yaml"]
        environment = {**self.server.environment, **self.databricks.environment}
        with (site.folder / "flow.log").open("w") as log:
            self.flows[name] = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def waited_for(self, name):
        """Whether its run has been asked for twice."""
        run = self.run(name)
        return run is not None and run.reads > 1

    def states(self):
        with self.server.client() as client:
            return [run.state.name for run in client.read_flow_runs()]

    def close(self):
        for flow in self.flows.values():
            flow.kill()
            flow.wait()


@pytest.fixture
def scene(server, databricks, make_site):
    made = Scene(server, databricks, make_site)
    yield made
    made.close()


@pytest.mark.row(7, trials=4)
def test_ten_minutes_without_the_workspace_fail_no_flow_wherever_it_is(scene, record_property):
    workspace, faults = scene.databricks, []
    for name in ("goes-on", "ends-meanwhile"):
        scene.begin(name)
    support.until(lambda: scene.waited_for("goes-on") and scene.waited_for("ends-meanwhile"), 240)
    faults.append(workspace.fault("GET .*report.json", 503))
    scene.begin("is-over")
    scene.let["is-over"].set()
    support.until(lambda: faults[0].struck, 240)
    faults.append(workspace.fault("runs/submit", 503, after=True))  # it is there, and nobody heard
    scene.begin("submits")
    support.until(lambda: faults[1].struck, 240)

    faults += [workspace.fault(".", 503, share=0.5), workspace.reset(".")]
    began, asked = time.monotonic(), len(workspace.requests)
    time.sleep(AWAY / 2)
    scene.let["ends-meanwhile"].set()
    time.sleep(max(0.0, began + AWAY - time.monotonic()))
    assert [flow.poll() for flow in scene.flows.values()] == [None] * 4
    workspace.faults.clear()
    away, tried = round(time.monotonic() - began, 1), len(workspace.requests) - asked
    for name in ("goes-on", "submits"):
        support.until(lambda name=name: scene.waited_for(name), 120)
        scene.let[name].set()
    support.until(lambda: all(flow.poll() is not None for flow in scene.flows.values()), 240)
    record_property("seconds", away)
    sys.stderr.write(f"{tried} requests in {away} s without an answer\n")

    assert {name: flow.returncode for name, flow in scene.flows.items()} == dict.fromkeys(scene.flows, 0)
    assert scene.states() == ["Completed"] * 4
    assert sorted(map(scene.project, workspace.runs)) == sorted(scene.flows)
    assert len({one.body["idempotency_token"] for one in workspace.asked("runs/submit")}) == 4
    polls = {}
    for request in workspace.asked("runs/get"):
        polls.setdefault(request.query["run_id"], []).append(request.at)
    waits = [polls[str(scene.run(name).run_id)] for name in ("goes-on", "ends-meanwhile")]
    assert min(b - a for asked in waits for a, b in itertools.pairwise(asked[1:])) >= POLL
    assert tried <= 4 * 3 * away / POLL, "nobody is pestered: how it is, how far, and a sign of life in each interval"
