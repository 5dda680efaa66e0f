"""A flow run that is cancelled, or whose worker dies, takes its run on Databricks with it: a real server and worker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from forecastcore.processes import gone
from tests.databricks.conftest import REPORT
from tests.support import prefect_server as support

ROOT = Path(__file__).parents[2]
ENGINE = {
    "type": "databricks",
    "serverless": True,
    "volume": "/Volumes/main/fc/jobs",
    "poll": "500ms",
    "timeout": "10min",
}
#: how often each way to cancel is tried; more of them by hand
ROUNDS = int(os.environ.get("FORECASTCORE_ROUNDS", "1"))
#: seconds in which a cancelled run has to be seen cancelled, and in which the reaper has to cancel one without an owner
CANCELLED, REAPED = 15, 120
#: seconds in which a new flow run has to wait for the run of one that died
REATTACHED = 60
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with support.running(tmp_path_factory.mktemp("prefect")) as running:
        running.prefect("work-pool", "create", "local-pool", "--type", "process")
        running.prefect("deploy", "--name", "predict", "--name", "reconcile")
        yield running


class Scene:
    """A project on the fake workspace, and a worker that runs its deployments."""

    def __init__(self, server, site, workspace):
        self.server, self.site, self.workspace, self.worker = server, site, workspace, None
        workspace.runs.program = lambda run: (run.enter("RUNNING"), run.pause(300))

    def start_worker(self):
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local-pool", "--type", "process"]
        environment = {**self.server.environment, **self.workspace.environment, "PREFECT_WORKER_QUERY_SECONDS": "2"}
        with (self.site.folder / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ask(self, deployment="predict", **parameters):
        """A flow run of a deployment."""
        given = {"project": str(self.site.folder / "forecast.yaml"), **parameters}
        with self.server.client() as client:
            found = client.read_deployment_by_name(f"{deployment}/{deployment}")
            return client.create_flow_run_from_deployment(found.id, parameters=given).id

    def submitted(self, number):
        """The number-th run on Databricks, once it is watched."""
        support.until(lambda: len(self.workspace.runs) >= number, 120, self.worker)
        run = list(self.workspace.runs)[number - 1]
        support.until(lambda: run.reads > 1, 60, self.worker)
        return run

    def flow_run(self, flow_run):
        with self.server.client() as client:
            return client.read_flow_run(flow_run)

    def state(self, flow_run):
        return self.flow_run(flow_run).state

    def states(self, flow_run):
        with self.server.client() as client:
            return client.read_flow_run_states(flow_run)

    def reconcile(self):
        """What is run before a worker is started."""
        project = self.site.folder / "forecast.yaml"
        return self.server.run("flows/reconcile.py", "--project", project, "--fix", **self.workspace.environment)

    def process(self, flow_run):
        """Number of the process that the flow run says it is."""
        support.until(lambda: self.flow_run(flow_run).labels.get("forecastcore.process"), 60)
        return int(self.flow_run(flow_run).labels["forecastcore.process"].partition("/")[0])

    def end(self, flow_run, run):
        """Cancel a flow run, and see it end: one that is left holds the place of its deployment."""
        self.server.cancel(flow_run)
        support.until(lambda: not run.live and self.state(flow_run).is_final(), 90, self.worker)

    def close(self):
        if self.worker is not None and self.worker.poll() is None:
            support.end(self.worker)


@pytest.fixture
def scene(server, make_site, databricks):
    site = make_site()
    shutil.rmtree(site.folder / "mlruns", ignore_errors=True)
    made = Scene(server, site.write(engine=ENGINE), databricks)
    made.start_worker()
    yield made
    made.close()


@pytest.mark.row(5, trials=3)
def test_a_flow_run_that_is_cancelled_cancels_the_run_on_databricks(scene, record_property, capsys):
    ways = {
        "page": scene.server.cancel,
        "command line": lambda flow_run: scene.server.prefect("flow-run", "cancel", str(flow_run)),
        "SIGTERM": lambda flow_run: os.kill(scene.process(flow_run), signal.SIGTERM),
    }
    took = {}
    for number, (way, cancel) in enumerate([*ways.items()] * ROUNDS, 1):
        flow_run = scene.ask()
        run = scene.submitted(number)
        started = time.monotonic()
        cancel(flow_run)
        support.until(lambda run=run: not run.live, 60)
        took.setdefault(way, []).append(round(time.monotonic() - started, 1))
        with capsys.disabled():  # as it comes: many rounds take long
            sys.stderr.write(f"{way}: {took[way][-1]} s from cancelling to the end of the run on Databricks\n")
        assert run.result == "CANCELED", way
        support.until(lambda flow_run=flow_run: scene.state(flow_run).is_final(), 90)
        assert scene.state(flow_run).name in ({"Cancelled"} if way != "SIGTERM" else {"Crashed", "Failed"}), way
    record_property("seconds", json.dumps(took))
    assert max(second for some in took.values() for second in some) <= CANCELLED
    assert scene.workspace.live() == []


@pytest.mark.row(3)
def test_a_new_flow_run_waits_again_for_the_run_of_one_whose_process_died(scene, record_property):
    first = scene.ask()
    run = scene.submitted(1)
    process = scene.process(first)
    started = time.monotonic()
    os.kill(process, signal.SIGKILL)
    again = scene.ask(overrides=[])
    support.until(lambda: scene.state(first).is_final(), 60, scene.worker)
    before = run.reads
    support.until(lambda: run.reads > before + 1, REATTACHED, scene.worker)
    took = round(time.monotonic() - started, 1)
    record_property("seconds", took)
    sys.stderr.write(f"seconds from the kill to the second wait for the run on Databricks: {took}\n")
    assert (scene.state(first).name, scene.state(again).name) == ("Crashed", "Running")
    assert took <= REATTACHED
    assert len(scene.workspace.runs) == 1
    scene.end(again, run)


#: where worker and flow process die: at a request, which of its kind, and whether after its effect
DEATHS = {
    "who this is was asked": ("scim", 1, False),
    "what the run needs was brought": ("PUT .*request.json", 1, True),
    "the submission is on its way": ("runs/submit", 1, False),
    "submitted, and nothing heard": ("runs/submit", 1, True),
    "asked how it is for the first time": ("runs/get$", 1, False),
    "said that somebody waits": ("PUT .*owner.json", 2, True),
    "asked how it goes": ("runs/get$", 4, True),
    "its report was on its way": ("GET .*report.json", 1, True),
}


@pytest.mark.row(3, trials=8 * ROUNDS)
@pytest.mark.timeout(7200)
def test_where_worker_and_flow_process_die_the_next_worker_begins_the_flow_run_again_and_that_finds_its_run(
    scene, make_site, record_property
):
    """What begins it again is `flows/reconcile.py --fix`, which whoever starts a worker runs first (docs/how-to)."""
    here, took = make_site(), {}
    here.retrain()
    report = json.dumps({**REPORT, "seconds": 0.1, "report": here.predict().to_json()})
    over = threading.Event()

    def looks():
        return scene.workspace.asked("runs/get")

    def program(run):
        run.enter("RUNNING")
        while not over.is_set():
            run.pause(0.2)
        scene.workspace.cluster.place(run.parameters[3]).write_text(report)

    scene.workspace.runs.program = program
    for number, (point, (pattern, nth, after)) in enumerate([*DEATHS.items()] * ROUNDS, 1):
        over.clear()
        if "report" in pattern:
            over.set()
        hold = scene.workspace.latency(pattern, 3.0, offset=nth - 1, times=1, after=after)
        flow_run = scene.ask()
        support.until(lambda hold=hold: hold.struck, 120, scene.worker)
        for pid in (scene.worker.pid, scene.process(flow_run)):
            os.kill(pid, signal.SIGKILL)
        scene.worker.wait()
        scene.workspace.faults.clear()

        began, asked = time.monotonic(), len(looks())
        done = scene.reconcile()
        assert done.returncode == 0, done.stderr
        scene.start_worker()
        done = scene.reconcile()  # as its schedule would have it, in the middle of the beginning
        assert done.returncode == 0, done.stderr
        support.until(lambda asked=asked: len(looks()) > asked, 120, scene.worker)
        took.setdefault(point, []).append(round(looks()[asked].at - began, 1))
        sys.stderr.write(f"{point}: looked after its run again {took[point][-1]} s after the restart began\n")
        over.set()
        support.until(lambda flow_run=flow_run: scene.state(flow_run).is_final(), 120, scene.worker)
        names = [state.name for state in scene.states(flow_run) if state.name != "Submitting"]
        assert names[-5:] == ["Running", "AwaitingRetry", "Pending", "Running", "Completed"], (point, names)
        assert len(scene.workspace.runs) == number, point
    record_property("seconds", json.dumps(took))
    crowd = os.getloadavg()[0] / os.cpu_count()  # how many wait for each processor: their time is none of ours
    assert max(second for some in took.values() for second in some) <= REATTACHED * max(1.0, crowd)


@pytest.mark.row(3, 5)
def test_a_flow_run_whose_worker_died_goes_on_and_can_still_be_cancelled_by_its_process(scene):
    flow_run = scene.ask()
    run = scene.submitted(1)
    os.kill(scene.worker.pid, signal.SIGKILL)
    scene.worker.wait()
    before = run.reads
    support.until(lambda: run.reads > before + 3, 60)
    assert len(scene.workspace.live()) == 1
    os.kill(scene.process(flow_run), signal.SIGTERM)
    support.until(lambda: not run.live, CANCELLED)
    support.until(lambda: scene.state(flow_run).is_final(), 60)
    assert run.result == "CANCELED"


@pytest.mark.row(5, 19)
def test_where_worker_and_flow_process_are_dead_the_reaper_ends_all_that_they_left(scene, record_property):
    flow_run = scene.ask()
    run = scene.submitted(1)
    process = scene.process(flow_run)
    labels = scene.flow_run(flow_run).labels
    for pid in (scene.worker.pid, process):
        os.kill(pid, signal.SIGKILL)
    scene.worker.wait()
    support.until(lambda: gone(labels["forecastcore.host"], labels["forecastcore.process"]), 20)
    scene.server.cancel(flow_run)  # nobody is there who could do it
    started = time.monotonic()
    scene.start_worker()
    reaper = scene.ask("reconcile", fix=True)
    support.until(lambda: not run.live, REAPED, scene.worker)
    took = round(time.monotonic() - started, 1)
    support.until(lambda: scene.state(reaper).is_final(), 120, scene.worker)
    assert scene.state(reaper).name == "Completed", scene.state(reaper).message
    assert f"run {run.run_id}" in scene.state(reaper).message
    assert f"flow run {scene.flow_run(flow_run).name} is Cancelling" in scene.state(reaper).message
    assert (run.result, scene.state(flow_run).name) == ("CANCELED", "Cancelled")
    assert took <= REAPED
    record_property("seconds", took)
    sys.stderr.write(f"seconds from the start of a new worker to the end of the run on Databricks: {took}\n")
    again = scene.ask("reconcile", fix=True)
    support.until(lambda: scene.state(again).is_final(), 120, scene.worker)
    assert scene.state(again).message == "nothing is left over"
