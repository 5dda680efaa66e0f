"""Prefect's server dies while flow runs are in the middle of their work, and comes back a minute later."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from forecastcore.testing.databricks.fixture import databricks, databricks_environments
from tests.support import prefect_server as support

__all__ = ["databricks", "databricks_environments"]  # fixtures

ROOT = Path(__file__).parents[1]
#: outages, of so many flow runs at a time that are in the middle of each kind of work; more of both by hand
OUTAGES = int(os.environ.get("FORECASTCORE_ROUNDS", "1"))
RUNS = int(os.environ.get("FORECASTCORE_RUNS", "2"))
#: seconds that the server is away for, and in which it then has to know how all of them stand
AWAY, CONVERGED = 60, 120
#: seconds in which a run on Databricks has to be cancelled whose flow run is
CANCELLED = 15
ENGINE = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "1s", "timeout": "15min"}
REPORT = {"schema": "forecastcore/run-report/1", "command": "predict", "engine": "local", "python": "3", "version": "0"}
GATED = """
import time
from forecastcore.api import SinkSpec, hookimpl
from forecastcore_files import ParquetSink

class Gated(ParquetSink):
    def publish(self, vintage, run_key):
        (self.path.parents[1] / "at-the-gate").touch()
        while not (self.path.parents[1] / "open").exists():
            time.sleep(0.1)
        return super().publish(vintage, run_key)

@hookimpl
def forecastcore_sinks():
    yield SinkSpec(name="gated", summary="waits to be let", factory=Gated)
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One that is soon away."""
    with support.as_shipped(tmp_path_factory.mktemp("prefect")) as running:
        yield running


@pytest.fixture
def worker(server, databricks, tmp_path):
    """It runs what the server hands out, all at once."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local-pool", "--type", "process"]
    environment = {**server.environment, **databricks.environment, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    yield process
    support.end(process)


class Scene:
    """Deployments of predict as prefect.yaml has it, one a flow run, so that none waits for another."""

    def __init__(self, server):
        self.server, self.made = server, 0
        with server.client() as client:
            self.like = client.read_deployment_by_name("predict/predict")

    def begin(self, site, **parameters):
        """A flow run of a deployment of its own, which lets one run at a time."""
        self.made += 1
        with self.server.client() as client:
            one = client.create_deployment(
                self.like.flow_id,
                f"outage-{self.made}",
                entrypoint=self.like.entrypoint,
                pull_steps=self.like.pull_steps,
                job_variables=self.like.job_variables,
                work_pool_name=self.like.work_pool_name,
                tags=self.like.tags,
                concurrency_limit=1,
            )
            given = {"project": str(site.folder / "forecast.yaml"), **parameters}
            return client.create_flow_run_from_deployment(one, parameters=given).id

    def state(self, flow_run):
        with self.server.client() as client:
            return client.read_flow_run(flow_run).state

    def slots(self):
        """How many places of deployments are taken."""
        with self.server.client() as client:
            limits = [one for one in client.read_global_concurrency_limits() if one.name.startswith("deployment:")]
        return sum(one.active_slots for one in limits)

    def renew(self, flow_run):
        """Go on holding the place of a deployment, as a run does every four minutes or is cancelled."""
        lease = self.state(flow_run).state_details.deployment_concurrency_lease_id
        with self.server.client() as client:
            client.renew_concurrency_lease(lease_id=lease, lease_duration=300)

    def names(self, flow_run):
        """Of all states that it has been in."""
        with self.server.client() as client:
            return [state.name for state in client.read_flow_run_states(flow_run)]


class Gate:
    """Runs on Databricks that end once it is opened, with a report."""

    def __init__(self, databricks, report):
        self.databricks, self.report, self.opened = databricks, report, threading.Event()
        databricks.runs.program = self.work

    def work(self, run):
        run.enter("RUNNING")
        while not self.opened.is_set():
            run.pause(0.2)
        said = json.dumps({**REPORT, "seconds": 0.1, "report": self.report})
        self.databricks.cluster.place(run.parameters[3]).write_text(said)


def absence(scene, holders, meanwhile=lambda: None):
    """The server dies and comes back; how long it was away, and when it was back."""
    scene.server.kill()
    down = time.monotonic()
    meanwhile()
    time.sleep(AWAY)
    scene.server.start()
    back = time.monotonic()
    for flow_run in holders:
        scene.renew(flow_run)
    return back - down, back


def one_outage(scene, worker, databricks, sites):
    """Kill the server in the midst of commits and of waits; flow runs, and seconds until it knew how all have ended."""
    there, away = sites[:RUNS], sites[RUNS:]
    gate = Gate(databricks, there[0].predict("sinks=[{type: parquet, path: elsewhere}]").to_json())
    before = len(databricks.runs)
    committing = [scene.begin(site.write(sinks=[{"type": "gated", "path": "out/forecasts"}])) for site in there]
    waiting = [scene.begin(site.write(engine=ENGINE)) for site in away]
    support.until(lambda: all((site.folder / "at-the-gate").exists() for site in there), 240, worker)
    support.until(lambda: len(databricks.runs) == before + RUNS, 240, worker)
    watched = list(databricks.runs)[before:]
    support.until(lambda: all(run.reads > 1 for run in watched), 60, worker)

    away_for, back = absence(scene, waiting, lambda: [(site.folder / "open").touch() for site in there])
    reads = [run.reads for run in watched]
    support.until(lambda: all(run.reads > read for run, read in zip(watched, reads, strict=True)), 60, worker)
    gate.opened.set()
    runs = [*committing, *waiting]
    support.until(lambda: all(scene.state(one).is_final() for one in runs), CONVERGED + 60, worker)
    took = round(time.monotonic() - back, 1)
    sys.stderr.write(f"away for {away_for:.0f} s; all known to have ended {took} s after it was back\n")
    return runs, took


@pytest.mark.row(15)
@pytest.mark.timeout(3600)
def test_a_server_that_is_away_for_a_minute_loses_no_run_and_none_is_submitted_again(
    server, worker, databricks, make_site, record_property
):
    scene, took = Scene(server), []
    record_property("trials", 2 * RUNS * OUTAGES)
    for outage in range(1, OUTAGES + 1):
        sites = [make_site().plugin(GATED) for _ in range(2 * RUNS)]
        for site in sites:
            site.retrain()
        runs, seconds = one_outage(scene, worker, databricks, sites)
        took.append(seconds)
        assert [scene.names(one)[-2:] for one in runs] == [["Running", "Completed"]] * len(runs)
        assert len(databricks.runs) == RUNS * outage
        assert all(len(site.table()) == 18 for site in sites[:RUNS])
        keys = [set(server.artifacts(one)) for one in runs]
        assert all("forecastcore-small-summary" in shown for shown in keys)
    record_property("seconds", json.dumps(took))
    assert max(took) <= CONVERGED
    support.until(lambda: scene.slots() == 0, 30)
    again = scene.begin(sites[0])
    support.until(lambda: scene.state(again).is_final(), 120, worker)
    assert "published before" in scene.state(again).message


@pytest.mark.row(5, 15)
@pytest.mark.timeout(3600)
def test_a_run_that_is_cancelled_after_the_server_was_away_ends_itself(
    server, worker, databricks, make_site, tmp_path, record_property
):
    scene, took = Scene(server), []
    record_property("trials", (RUNS + 1) * OUTAGES)
    databricks.runs.program = lambda run: (run.enter("RUNNING"), run.pause(600))
    for outage in range(1, OUTAGES + 1):
        local, *away = [make_site().plugin(GATED) for _ in range(RUNS + 1)]
        local.retrain()
        here = scene.begin(local.write(sinks=[{"type": "gated", "path": "out/forecasts"}]))
        waiting = [scene.begin(site.write(engine=ENGINE)) for site in away]
        support.until((local.folder / "at-the-gate").exists, 240, worker)
        support.until(lambda outage=outage: len(databricks.runs) == RUNS * outage, 240, worker)
        watched = list(databricks.runs)[-RUNS:]
        support.until(lambda watched=watched: all(run.reads > 1 for run in watched), 60, worker)
        absence(scene, [here, *waiting])
        support.until(lambda outage=outage: deaf(tmp_path) >= (RUNS + 1) * outage, 120, worker)
        assert len(databricks.live()) == RUNS

        asked, everyone = time.time(), [here, *waiting]
        for flow_run in everyone:
            server.cancel(flow_run)
        support.until(lambda runs=everyone: all(scene.state(one).is_final() for one in runs), 60, worker)
        assert [scene.state(one).name for one in everyone] == ["Cancelled"] * len(everyone)
        assert [run.result for run in watched] == ["CANCELED"] * RUNS
        took += [round(run.ended - asked, 1) for run in watched]
        sys.stderr.write(f"{took[-RUNS:]} s from cancelling to the end of the run on Databricks\n")
        assert statuses(local) == ["KILLED"]
        assert not list(local.folder.glob("out/forecasts/**/*.parquet"))
    record_property("seconds", json.dumps(took))
    assert max(took) <= CANCELLED
    support.until(lambda: scene.slots() == 0, 30)


def deaf(folder):
    """Of how many runs Prefect's own worker has said that it no longer hears whether they are cancelled."""
    return (folder / "worker.log").read_text().count("Cancellation polling task failed")


def statuses(site):
    """How the MLflow runs of predicts have ended."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{site.folder}/mlflow.db")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return [run.info.status for run in runs if run.info.run_name.startswith("predict")]
