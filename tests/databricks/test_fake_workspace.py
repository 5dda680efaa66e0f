"""The fake workspace tells the truth: databricks-sdk itself drives it, and submitted wheels really run."""

import base64
import io
import time

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import DatabricksError, ResourceDoesNotExist, Unauthenticated
from databricks.sdk.service import compute, jobs, workspace

from forecastcore.testing.databricks import Ended, make_wheel

WHEEL = "/Volumes/main/fc/jobs/tiny-1.0-py3-none-any.whl"
PROGRAM = """
import os, sys, time
from pathlib import Path

def main():
    where, what = sys.argv[1:3]
    Path(where).write_text(what)
    if what == "wait":
        Path(where + ".pid").write_text(str(os.getpid()))
        time.sleep(60)
    if what == "fail":
        raise ValueError("the seventh seal")
    if what == "memory":
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def client(databricks):
    return WorkspaceClient(config=Config(host=databricks.url, token=databricks.token, retry_timeout_seconds=5))


@pytest.fixture
def submit(client, tmp_path):
    wheel = make_wheel(tmp_path, "tiny", {"tiny.py": PROGRAM}, {"go": "tiny:main"})
    client.files.upload(WHEEL, io.BytesIO(wheel.read_bytes()), overwrite=True)

    def go(*parameters, token=None, timeout=None, **cluster):
        task = jobs.SubmitTask(
            task_key="main",
            existing_cluster_id="c1",
            python_wheel_task=jobs.PythonWheelTask(package_name="tiny", entry_point="go", parameters=list(parameters)),
            libraries=[compute.Library(whl=WHEEL)],
            **cluster,
        )
        return client.jobs.submit(run_name="t", tasks=[task], idempotency_token=token, timeout_seconds=timeout)

    return go


def ended(databricks, run_id):
    run = databricks.runs.get(run_id)
    assert run.done.wait(30)
    return run


def test_a_submitted_wheel_runs_with_its_parameters_and_what_it_writes_is_in_the_volume(databricks, client, submit):
    run = ended(databricks, submit("/Volumes/main/fc/jobs/said.txt", "hello").run_id)
    assert (run.life, run.result) == ("TERMINATED", "SUCCESS"), run.error
    assert client.files.download("/Volumes/main/fc/jobs/said.txt").contents.read() == b"hello"
    told = client.jobs.get_run(run.run_id)
    assert told.status.termination_details.code is jobs.TerminationCodeCode.SUCCESS
    assert told.tasks[0].python_wheel_task.parameters == ["/Volumes/main/fc/jobs/said.txt", "hello"]


@pytest.mark.parametrize(
    ("what", "error", "code"),
    [("fail", "ValueError: the seventh seal", "RUN_EXECUTION_ERROR"), ("memory", "memory", "DRIVER_ERROR")],
)
def test_a_wheel_that_fails_says_why_in_its_output(databricks, client, submit, what, error, code):
    run = ended(databricks, submit("/Volumes/main/fc/jobs/said.txt", what).run_id)
    told = client.jobs.get_run(run.run_id)
    assert (told.state.result_state, told.status.termination_details.code.value) == (jobs.RunResultState.FAILED, code)
    output = client.jobs.get_run_output(told.tasks[0].run_id)
    assert error in output.error
    assert what == "memory" or output.error_trace.startswith("Traceback")


def test_a_wheel_that_is_none_does_not_get_as_far_as_running(databricks, client, submit):
    client.files.upload(WHEEL, io.BytesIO(b"no"), overwrite=True)
    run = ended(databricks, submit("x", "y").run_id)
    assert (run.result, run.code) == ("FAILED", "LIBRARY_INSTALLATION_ERROR")


def test_cancel_ends_the_process_and_a_timeout_does_too(databricks, client, submit, tmp_path):
    place = tmp_path / "waits"
    run = databricks.runs.get(submit(str(place), "wait").run_id)
    while not place.with_suffix(".pid").exists():
        time.sleep(0.02)
    client.jobs.cancel_run(run.run_id)
    assert ended(databricks, run.run_id).result == "CANCELED"
    assert run.process.poll() is not None
    late = ended(databricks, submit(str(place), "wait", timeout=1).run_id)
    assert (late.result, late.process.poll() is not None) == ("TIMEDOUT", True)


def test_a_repaired_run_keeps_its_number_and_its_parameters(databricks, client, submit):
    run = ended(databricks, submit("/Volumes/main/fc/jobs/said.txt", "fail").run_id)
    before = client.jobs.get_run(run.run_id).tasks[0].python_wheel_task.parameters
    client.jobs.repair_run(run.run_id, rerun_all_failed_tasks=True)
    ended(databricks, run.run_id)
    told = client.jobs.get_run(run.run_id)
    assert (told.tasks[0].attempt_number, told.tasks[0].python_wheel_task.parameters) == (1, before)


def test_a_job_that_is_created_runs_now_with_a_token_once(databricks, client):
    databricks.runs.program = lambda run: None
    job = client.jobs.create(name="nightly", tasks=[jobs.Task(task_key="main", existing_cluster_id="c1")])
    first, second = (client.jobs.run_now(job.job_id, idempotency_token="t").run_id for _ in range(2))
    assert first == second
    assert len(databricks.runs) == 1


@pytest.mark.parametrize(
    ("semantics", "again", "after_delete"),
    [("active-only", "new", "new"), ("any", "same", "new"), ("deleted-errors", "same", "error")],
)
def test_a_token_means_what_the_documentation_says_in_its_three_ways(
    databricks, client, submit, semantics, again, after_delete
):
    databricks.runs.program, databricks.runs.semantics = lambda run: run.pause(0.2), semantics
    first = submit("x", token="t").run_id
    assert submit("x", token="t").run_id == first, "while it is active, always"
    ended(databricks, first)
    second = submit("x", token="t").run_id
    assert (second == first) == (again == "same")
    ended(databricks, second)
    client.jobs.delete_run(second)
    if after_delete == "new":
        assert submit("x", token="t").run_id not in {first, second}
    else:
        with pytest.raises(DatabricksError, match="deleted"):
            submit("x", token="t")
    with pytest.raises(DatabricksError, match="64"):
        submit("x", token="t" * 65)


@pytest.mark.parametrize("life", ["PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY", "RUNNING", "TERMINATING"])
def test_a_run_can_be_seen_in_every_state_on_its_way(databricks, client, submit, life):
    def program(run):
        run.enter(life)
        run.pause(60)

    databricks.runs.program = program
    number = submit("x").run_id
    while (told := client.jobs.get_run(number)).state.life_cycle_state.value != life:
        time.sleep(0.01)
    assert told.status.state is not None
    assert [run.run_id for run in client.jobs.list_runs(active_only=True)] == [number]


@pytest.mark.parametrize("result", [result.value for result in jobs.RunResultState])
def test_a_run_can_end_with_every_result(databricks, client, submit, result):
    def program(run):
        raise Ended(result, "as it was told", life="SKIPPED" if result == "EXCLUDED" else "TERMINATED")

    databricks.runs.program = program
    number = submit("x").run_id
    ended(databricks, number)
    assert client.jobs.get_run(number).state.result_state.value == result


def test_faults_strike_as_often_and_where_they_were_told(databricks, client, submit):
    databricks.runs.program = lambda run: None
    after = databricks.fault("runs/submit", 500, after=True, times=1)
    with pytest.raises(DatabricksError, match="injected"):
        submit("x", token="a")
    assert (after.struck, len(databricks.runs)) == (1, 1), "the effect stays"
    databricks.faults.clear()
    databricks.reset("runs/submit", after=True, times=1)
    submit("x", token="b")
    assert [r.status for r in databricks.asked("runs/submit")][-2:] == [0, 200]
    assert len(databricks.runs) == 2, "the SDK tried again, the token found the run"
    databricks.rate_limit("runs/get$", retry_after=1, times=1)
    started = time.monotonic()
    client.jobs.get_run(submit("x").run_id)
    assert time.monotonic() - started >= 1
    databricks.latency("scim", 0.2)
    started = time.monotonic()
    client.current_user.me()
    assert time.monotonic() - started >= 0.2


def test_the_same_seed_strikes_the_same_requests(databricks, tmp_path):
    from forecastcore.testing.databricks import FakeWorkspace

    def struck(seed):
        workspace = FakeWorkspace(tmp_path / str(seed), seed=seed)
        rule = workspace.fault("x", share=0.3)
        found = [bool(workspace.faults.struck("GET /x")) for _ in range(50)]
        workspace.start()
        workspace.stop()
        return found, rule.struck

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)


def test_the_first_read_can_be_stale(databricks, client, submit):
    databricks.runs.program, databricks.stale_first_read = lambda run: None, True
    number = submit("x").run_id
    with pytest.raises(DatabricksError, match="does not exist"):
        client.jobs.get_run(number)
    assert client.jobs.get_run(number).run_id == number


def test_it_lets_nobody_in_without_a_credential_and_issues_tokens_to_a_principal(databricks, monkeypatch):
    monkeypatch.delenv("DATABRICKS_TOKEN")
    assert requests.get(f"{databricks.url}/api/2.0/preview/scim/v2/Me", timeout=5).status_code == 401
    name, secret = databricks.client
    client = WorkspaceClient(config=Config(host=databricks.url, client_id=name, client_secret=secret))
    assert client.current_user.me().user_name == databricks.user
    databricks.expire_tokens()
    with pytest.raises(Unauthenticated):
        client.current_user.me()


def test_a_file_is_imported_below_a_folder_that_is_there_once_and_no_larger_than_allowed(client):
    place = "/Workspace/Shared/new/a.whl"

    def bring(content, **how):
        text = base64.b64encode(content).decode()
        client.workspace.import_(place, content=text, format=workspace.ImportFormat.AUTO, **how)

    with pytest.raises(ResourceDoesNotExist, match="parent folder"):
        bring(b"one")
    client.workspace.mkdirs("/Workspace/Shared/new")
    bring(b"one")
    assert client.workspace.get_status(place).path == place
    with pytest.raises(DatabricksError, match="already exists"):
        bring(b"two")
    bring(b"two", overwrite=True)
    with pytest.raises(DatabricksError, match="exceeded max limit"):
        bring(bytes(10 * 1024 * 1024 + 1), overwrite=True)
    with pytest.raises(DatabricksError, match="doesn't start"):
        client.workspace.get_status("/Workspace/../../etc/passwd")


def test_files_stay_inside_the_volumes(databricks):
    headers = {"Authorization": f"Bearer {databricks.token}"}
    for path in ("/api/2.0/fs/files/Volumes/%2e%2e/%2e%2e/evil", "/api/2.0/fs/files/etc/passwd"):
        assert requests.put(databricks.url + path, data=b"x", headers=headers, timeout=5).status_code == 400
