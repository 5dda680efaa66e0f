"""Prefect's own server with all its services, for tests."""

import contextlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Server:
    home: Path
    environment: dict
    process: subprocess.Popen | None = None

    @property
    def api(self):
        return self.environment["PREFECT_API_URL"]

    def start(self):
        """Begin, or begin again on the same database and port, and wait until it answers."""
        port = self.api.removesuffix("/api").rpartition(":")[2]
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(lambda: answers(f"{self.api}/health"), 400, self.process)

    def kill(self):
        """As a machine that loses its power."""
        self.process.kill()
        self.process.wait()

    def client(self):
        from prefect.client.orchestration import get_client

        return get_client(sync_client=True)

    def run(self, *command, cwd=ROOT, timeout=240, **environment):
        return subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def prefect(self, *words, **options):
        done = self.run("-m", "prefect", "--no-prompt", *words, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tasks(self, flow_run_id):
        """State by name of the flow run's tasks; Prefect tells the server of them a moment later."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        for _ in range(100):
            with self.client() as client:
                runs = client.read_task_runs(flow_run_filter=wanted)
            if runs and all(run.state and run.state.is_final() for run in runs):
                break
            time.sleep(0.2)
        return {run.name: run.state for run in runs}

    def artifacts(self, flow_run_id):
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        with self.client() as client:
            found = client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
            )
        return {artifact.key: artifact for artifact in found}

    def cancel(self, flow_run_id):
        """What the button of Prefect's page does."""
        import requests

        url = f"{self.api}/flow_runs/{flow_run_id}/set_state"
        answer = requests.post(url, json={"state": {"type": "CANCELLING", "name": "Cancelling"}}, timeout=30)
        assert answer.json()["status"] == "ACCEPT", answer.text

    def nothing_stored(self):
        return not list(self.home.glob("storage/**/*"))


@contextlib.contextmanager
def running(home, **environment):
    """A real server; in-process flows use it, and would store results if any flow let them."""
    from prefect import settings

    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        **environment,
    }
    server = Server(home, environment)
    try:
        server.start()
        ours = {
            settings.PREFECT_API_URL: api,
            settings.PREFECT_HOME: home,
            settings.PREFECT_LOCAL_STORAGE_PATH: home / "storage",
            settings.PREFECT_RESULTS_PERSIST_BY_DEFAULT: True,
            settings.PREFECT_LOGGING_TO_API_ENABLED: False,
        }
        with settings.temporary_settings(ours):
            yield server
            from prefect.events.worker import EventsWorker

            EventsWorker.drain_all()
    finally:
        end(server.process)


def free_port():
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(told, seconds, process=None):
    deadline = time.monotonic() + seconds
    while not told():
        assert process is None or process.poll() is None, "it ended"
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.3)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def end(process):
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def as_shipped(home, *, limit=None):
    """One on the clocks that it has under `make up`, with the deployment of predict and the alerts.

    Args:
        home: its folder.
        limit: how many runs go on at once in its pool.
    """
    ours = runpy.run_path(str(ROOT / "scripts" / "services.py"))["ENVIRONMENT"]
    with running(home, **{k: v for k, v in ours.items() if k.startswith("PREFECT_SERVER_CONCURRENCY_")}) as server:
        server.prefect("work-pool", "create", "local-pool", "--type", "process")
        if limit is not None:
            server.prefect("work-pool", "set-concurrency-limit", "local-pool", str(limit))
        server.prefect("deploy", "--name", "predict")
        done = server.run("flows/alerts.py", "deploy")
        assert "420 s after they were taken up" in done.stdout, done.stdout + done.stderr
        yield server
