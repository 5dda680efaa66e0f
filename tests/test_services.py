"""`make up` and `make down` on ports of their own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from forecastcore.processes import here
from forecastcore.runs.deployments import ask

ROOT = Path(__file__).parents[1]


def free_port():
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


@pytest.fixture
def services(tmp_path):
    """`services("up")` in a folder that holds what prefect.yaml names."""
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    environment = {
        **os.environ,
        "SERVICES_ROOT": str(tmp_path),
        "SERVICES_HOME": str(tmp_path / "services"),
        "PREFECT_PORT": free_port(),
        "MLFLOW_PORT": free_port(),
    }

    def call(word):
        command = [sys.executable, ROOT / "scripts" / "services.py", word]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=900, check=False
        ), environment

    yield call
    call("down")


def answers(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as told:
            return told.status == 200
    except OSError:
        return False


def test_without_a_project_nothing_is_started_and_it_says_what_to_do(services, tmp_path):
    done, _ = services("up")
    assert done.returncode == 1
    assert "make demo writes it" in done.stderr
    assert not (tmp_path / "services").exists()
    done, _ = services("down")
    assert done.returncode == 0
    assert "prefect does not run" in done.stdout


def test_a_process_that_took_over_the_number_of_one_that_was_started_is_left_alone(services, tmp_path):
    (tmp_path / "services").mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        noted = {"pid": other.pid, "born": "1"}
        (tmp_path / "services" / "worker.json").write_text(json.dumps(noted))
        done, _ = services("down")
        assert "worker does not run" in done.stdout
        assert other.poll() is None
        other.terminate()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_up_starts_deploys_and_answers_a_second_one_starts_nothing_and_down_ends_all(services, tmp_path):
    (tmp_path / "demo-project").mkdir()
    (tmp_path / "demo-project" / "forecast.yaml").write_text("name: demo\n")
    done, environment = services("up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert answers(environment["PREFECT_PORT"], "/api/health")
    assert answers(environment["MLFLOW_PORT"], "/health")
    assert "end as Crashed after 270 s without a heartbeat" in done.stdout
    again, _ = services("up")
    assert "prefect runs already" in again.stdout
    assert "automations  as they should be" in again.stdout
    pids = [json.loads(file.read_text())["pid"] for file in (tmp_path / "services").glob("*.json")]
    assert len(pids) == 3
    done, _ = services("down")
    assert done.stdout.split("\n")[:3] == ["worker ended", "mlflow ended", "prefect ended"]
    assert not answers(environment["PREFECT_PORT"], "/api/health")
    assert not answers(environment["MLFLOW_PORT"], "/health")


@pytest.mark.row(3)
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_where_the_worker_died_up_begins_its_runs_again_before_the_next_worker_is_there(services, tmp_path):
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Running

    (tmp_path / "demo-project").mkdir()
    text = "name: demo\nsource: {type: csv, path: none.csv}\nfrequency: h\nhorizon: 24\n"
    (tmp_path / "demo-project" / "forecast.yaml").write_text(text)
    done, environment = services("up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the worker had died" not in done.stdout
    worker = json.loads((tmp_path / "services" / "worker.json").read_text())["pid"]
    os.kill(worker, signal.SIGKILL)
    api = f"http://127.0.0.1:{environment['PREFECT_PORT']}/api"
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("predict/predict")
        run = client.create_flow_run_from_deployment(deployment.id)
        client.set_flow_run_state(run.id, Running(), force=True)
        labels = {"forecastcore.host": here()[0], "forecastcore.process": "4194305/1"}  # no process has such a number
        client.update_flow_run_labels(run.id, labels)
        again, _ = services("up")
        assert again.returncode == 0, again.stdout + again.stderr
        assert again.stdout.index("the worker had died") < again.stdout.index("worker started")
        names = [state.name for state in client.read_flow_run_states(run.id)]
    assert names[:2] == ["Scheduled", "Running"]
    assert "AwaitingRetry" in names, names


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_first_scheduled_run_begins_within_a_minute_and_a_half_of_up(services, tmp_path, record_property):
    (tmp_path / "demo-project").mkdir()
    (tmp_path / "demo-project" / "forecast.yaml").write_text("name: demo\n")
    plan = (tmp_path / "prefect.yaml").read_text()
    (tmp_path / "prefect.yaml").write_text(plan.replace("interval: 86400", "interval: 15"))  # one is always due
    began = time.monotonic()
    done, environment = services("up")
    up = round(time.monotonic() - began, 1)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = {"flow_runs": {"start_time": {"is_null_": False}}}
    url = f"http://127.0.0.1:{environment['PREFECT_PORT']}/api"
    while not (runs := ask(url, "flow_runs/filter", wanted, 15)):  # it lets in whoever asks for leave first
        assert time.monotonic() - began < 900
        time.sleep(0.5)
    took = round(time.monotonic() - began, 1)
    record_property("seconds", took)
    sys.stderr.write(f"make up returned after {up} s, and the first scheduled run began after {took} s\n")
    assert all(run["auto_scheduled"] for run in runs)
    crowd = os.getloadavg()[0] / os.cpu_count()  # how many wait for each processor: their time is none of ours
    assert took <= 90 * max(1.0, crowd)
