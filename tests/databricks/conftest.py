"""The fake workspace for every test of this folder, and somebody who sends runs there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forecastcore.config.engines import DatabricksEngine
from forecastcore.engines.databricks.submit import submit
from forecastcore.engines.databricks.supervise import supervise
from forecastcore.engines.databricks.supervisor import Supervisor
from forecastcore.engines.databricks.tickets import Tickets
from forecastcore.engines.databricks.workspace import Workspace
from forecastcore.messages import RunRequest
from forecastcore.ports import Steps
from forecastcore.testing.databricks.fixture import databricks, databricks_environments

__all__ = ["databricks", "databricks_environments"]

ENGINE = {"existing_cluster": "c1", "volume": "/Volumes/main/fc/jobs", "poll": "20ms", "timeout": "60s"}
REPORT = {"schema": "forecastcore/run-report/1", "command": "predict", "engine": "local", "python": "3", "version": "0"}


class Caller:
    """Sends runs of a made-up use case to the workspace; what they do there is a Python function, and quick."""

    def __init__(self, workspace, root):
        self.workspace, self.root = workspace, root
        workspace.runs.program = self.program()

    def program(self, seconds=0.0, *, report=True):
        """A program that takes a while and leaves a report."""

        def work(run):
            run.enter("RUNNING")
            run.pause(seconds)
            if report:
                self.leave_report(run)

        return work

    def leave_report(self, run, **said):
        place = self.workspace.cluster.place(run.parameters[3])
        place.write_text(json.dumps({**REPORT, "seconds": 0.1, "report": {"run": run.run_id}, **said}))

    def boss(self, root=None, request=30.0, **engine):
        workspace = Workspace(pause=0.02, request=request)
        settings = DatabricksEngine(**{**ENGINE, **engine})
        return Supervisor(workspace, Tickets(root or self.root), settings, "small")

    def request(self, **options):
        return RunRequest(command="predict", options=options, recipe="{}", version="0")

    def submit(self, which="a", boss=None):
        return submit(boss or self.boss(), f"predict-{which}", self.request(model=str(which)), [])

    def run(self, which="a", *, boss=None, steps=None):
        """From submission to report; the number of the run."""
        request = self.request(model=str(which))
        report, url, took = supervise(boss or self.boss(), f"predict-{which}", request, [], steps or Steps())
        assert url.startswith(self.workspace.url)
        assert took >= 0
        return report.report["run"]

    @property
    def tokens(self):
        return [request.body["idempotency_token"] for request in self.workspace.asked("runs/submit")]


@pytest.fixture
def caller(databricks, tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    return Caller(databricks, root)


class Forks:
    """Processes of their own that send runs away, to be killed."""

    def __init__(self):
        script = Path(__file__).parents[1] / "support" / "databricks_caller.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=None
        )
        self.child = None

    def begin(self, root, which="a", **engine):
        """Number of a process that is about to begin."""
        asked = {"root": str(root), "engine": {**ENGINE, **engine}, "options": {"model": str(which)}}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        self.child = int(self._process.stdout.readline())
        return self.child

    def go(self):
        os.kill(self.child, signal.SIGCONT)

    def ended(self):
        code = int(self._process.stdout.readline())
        self.child = None
        return code

    def close(self):
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture
def forks(databricks):  # after the workspace, whose address is in the environment
    made = Forks()
    yield made
    made.close()


def until(condition, seconds=20.0):
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


@pytest.fixture(name="until")
def _until():
    return until
