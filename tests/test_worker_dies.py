"""A worker dies with runs that it has taken up and not started: the place that each holds is free for the next one."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forecastcore import doctor
from tests.support import prefect_server as support

ROOT = Path(__file__).parents[1]
#: how often a worker is killed, and with how many runs at a time; more of both by hand
ROUNDS = int(os.environ.get("FORECASTCORE_ROUNDS", "1"))
RUNS = int(os.environ.get("FORECASTCORE_RUNS", "5"))
#: seconds until the next run of a schedule is due, after which the doctor has to see it, and in which it has to start
DUE, SEEN, STARTED = 180, 130, 600
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With a pool that the runs of one try fill."""
    with support.as_shipped(tmp_path_factory.mktemp("prefect"), limit=RUNS) as running:
        yield running


class Worker:
    """It is killed with all that it has started, as by a machine that loses its power, and started again."""

    def __init__(self, server, log):
        self.server, self.log = server, log
        self.start()

    def start(self):
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local-pool", "--type", "process"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.server.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self):
        self.process.send_signal(signal.SIGSTOP)  # so that nobody is born meanwhile
        for pid in (self.process.pid, *_children(self.process.pid)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _children(pid):
    """Processes below one, and below those."""
    told = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in told.read_text().split()] if told.exists() else []
    return [one for child in found for one in (child, *_children(child))]


@pytest.fixture
def worker(server, tmp_path):
    made = Worker(server, tmp_path / "worker.log")
    yield made
    support.end(made.process)


class Deployed:
    """A deployment as prefect.yaml has it, with a limit of one run: one is asked for, and the next one is due soon."""

    def __init__(self, server, name, **parameters):
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.client.schemas.schedules import IntervalSchedule

        self.server = server
        due = datetime.now(UTC) + timedelta(seconds=DUE)
        every = IntervalSchedule(interval=timedelta(hours=1), anchor_date=due)
        with server.client() as client:
            like = client.read_deployment_by_name("predict/predict")
            self.id = client.create_deployment(
                like.flow_id,
                name,
                entrypoint=like.entrypoint,
                pull_steps=like.pull_steps,
                job_variables=like.job_variables,
                work_pool_name=like.work_pool_name,
                tags=like.tags,
                concurrency_limit=1,
                parameters=parameters,
                schedules=[DeploymentScheduleCreate(schedule=every, active=True)],
            )

    def ask(self):
        with self.server.client() as client:
            self.asked = client.create_flow_run_from_deployment(self.id).id

    def lost(self):
        """The run that is asked for, and that nobody will start."""
        with self.server.client() as client:
            return client.read_flow_run(self.asked)

    def next(self):
        """The run that the schedule has made, once it has begun."""
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[self.id]))
        with self.server.client() as client:
            found = client.read_flow_runs(deployment_filter=wanted)
        return next((run for run in found if run.auto_scheduled and run.start_time), None)

    def remove(self):
        with self.server.client() as client:
            client.delete_deployment(self.id)


def seen(project):
    """What the doctor says of slots."""
    (told,) = [one for one in doctor.examine(project) if one.name == "prefect-slots"]
    return told


@pytest.mark.row(10)
def test_a_worker_that_dies_between_taking_runs_up_and_starting_them_does_not_stop_the_schedule(
    server, worker, make_site, monkeypatch, record_property
):
    monkeypatch.syspath_prepend(ROOT / "flows")
    import reconcile

    monkeypatch.setattr(reconcile, "_STARTS", timedelta(minutes=1))
    monkeypatch.setenv("PREFECT_API_URL", server.api)
    site, took = make_site(), []
    site.retrain()
    project = site.folder / "forecast.yaml"
    record_property("trials", ROUNDS * RUNS)
    for number in range(ROUNDS):
        made = [
            Deployed(server, f"due-{number}-{one}", project=str(project), as_of=f"2024-03-10T{one:02}:00Z")
            for one in range(RUNS)
        ]
        for one in made:
            one.ask()
        support.until(lambda made=made: all(one.lost().state.is_pending() for one in made), 120, worker.process)
        worker.kill()
        killed, lost = time.monotonic(), [one.lost() for one in made]
        assert all(run.state.is_pending() for run in lost), "too late: nothing was tried"

        worker.start()
        back = datetime.now(UTC)
        time.sleep(max(0.0, killed + SEEN - time.monotonic()))
        told = seen(project)
        assert told.status == "failed"
        assert any(f"0 runs; {run.name} was taken up" in told.detail for run in lost), told.detail

        support.until(lambda made=made: all(one.next() for one in made), STARTED + 60, worker.process)
        took += [round((one.next().start_time - back).total_seconds(), 1) for one in made]
        sys.stderr.write(f"{took[-RUNS:]} s from the start of the new worker to the next run of each schedule\n")
        support.until(lambda made=made: all(one.next().state.is_final() for one in made), 240, worker.process)
        assert {one.next().state.name for one in made} == {"Completed"}
        ended = [run.state.message for run in map(Deployed.lost, made) if run.state.is_crashed()]
        assert len(ended) > RUNS / 2, "the automation is told by events, and SQLite loses some of many"
        assert {words[:37] for words in ended} == {"taken up, and not started in 420 s: t"}
        told, _ = reconcile._flow_runs(fix=True)
        assert len(told) == RUNS - len(ended)
        assert all(run.state.is_crashed() for run in map(Deployed.lost, made))
        assert seen(project).status == "ok"
        for one in made:
            one.remove()
    record_property("seconds", json.dumps(took))
    assert max(took) <= STARTED
