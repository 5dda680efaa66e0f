"""The flows on a real Prefect server, with its scheduler, and the deployments of prefect.yaml."""

import asyncio
import html
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import forecastcore as fc
from forecastcore import doctor
from forecastcore.errors import ConfigError, PluginError
from forecastcore.host import Host
from forecastcore.messages import Decision, LeaderboardRow, PredictReport, Publication, RetrainReport, SeriesCount
from forecastcore.processes import here
from forecastcore.testing import sample_history
from forecastcore.testing.databricks import Ended
from forecastcore.testing.databricks.fixture import databricks, databricks_environments
from tests.support import prefect_server as support
from tests.support import sinks
from tests.support.azurite import server as azurite
from tests.support.chromium import Chromium

__all__ = ["databricks", "databricks_environments"]  # fixtures

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def flow_modules():
    """A flow file is a top-level module, found beside the file that is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "flows")
        yield


@pytest.fixture(scope="session")
def make_project():
    """`make_project(folder, **changes)` writes data and project file; returns the file's path."""

    def make(folder, *, data=None, **changes):
        folder.mkdir(parents=True, exist_ok=True)
        rows = sample_history(rows=30 * 24) if data is None else data
        rows.to_parquet(folder / "data.parquet", index=False)
        settings = {
            "name": "tiny",
            "source": {"type": "parquet", "path": "data.parquet"},
            "frequency": "h",
            "horizon": 24,
            "models": [{"type": "seasonal-naive"}, {"type": "theta"}],
            "backtest": {"folds": 2, "season": 24},
            "sinks": [{"type": "parquet", "path": "out"}],
            "engine": {"type": "local", "workers": 0},
            **changes,
        }
        path = folder / "forecast.yaml"
        path.write_text(json.dumps(settings))
        return path

    return make


# -- a server


Server, until = support.Server, support.until


@pytest.fixture(scope="session")
def server(tmp_path_factory, flow_modules):
    """A real server with its scheduler."""
    with support.running(tmp_path_factory.mktemp("prefect")) as running:
        yield running


def flow(name):
    """As a worker loads it."""
    from prefect.flows import load_flow_from_entrypoint

    return load_flow_from_entrypoint(f"{ROOT}/flows/{name}.py:{name}")


def run_id_of(state):
    return state.state_details.flow_run_id


@pytest.fixture(scope="session")
def trained(make_project, tmp_path_factory):
    """A project with a champion."""
    path = make_project(tmp_path_factory.mktemp("trained"))
    fc.retrain(fc.Project.load(path))
    return path


# -- runs


@pytest.mark.row(62)
def test_a_retrain_has_a_task_for_each_stage_and_shows_leaderboard_decision_and_the_way_to_mlflow(
    server, make_project, tmp_path
):
    path = make_project(tmp_path)
    state = flow("retrain")(str(path), return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "Completed")
    assert state.message.startswith("first: ")
    assert "3 series: 3 ok, 0 degraded, 0 failed" in state.message

    tasks = server.tasks(run_id_of(state))
    stages = {"load", "check quality", "backtest seasonal-naive", "backtest theta", "register", "gate"}
    assert stages < set(tasks)
    assert {task.name for task in tasks.values()} == {"Completed"}

    shown = server.artifacts(run_id_of(state))
    board = shown["forecastcore-tiny-leaderboard"]
    assert board.type == "table"
    assert {"seasonal-naive", "theta"} == {row["candidate"] for row in json.loads(board.data)}
    assert "First champion" in shown["forecastcore-tiny-decision"].data
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db" in shown["forecastcore-tiny-training"].data
    assert shown["forecastcore-tiny-progress"].data == 100.0
    worst = json.loads(shown["forecastcore-tiny-worst-trained"].data)
    assert {row["series"] for row in worst} == {"series-0", "series-1", "series-2"}
    assert [row["mase"] for row in worst] == sorted((row["mase"] for row in worst), reverse=True)
    assert all(row["times the seasonal naive"] > 0 for row in worst)
    assert "### Worst series" in shown["forecastcore-tiny-training"].data
    assert not [one for one in shown.values() if one.type == "image" or "![" in str(one.data)]
    assert server.nothing_stored()


@pytest.mark.row(62)
def test_a_predict_shows_what_was_published_and_a_second_one_writes_nothing_twice(server, trained):
    first, again = (flow("predict")(str(trained), scenarios=["base"], return_state=True) for _ in range(2))
    assert [s.name for s in (first, again)] == ["Completed", "Completed"]
    assert first.message.startswith("72 rows from 2024-01-30 23:00 UTC by ")
    assert "published before" not in first.message
    assert "published before" in again.message
    stages = {"load", "check quality", "load model", "forecast base", "publish base"}
    assert stages <= set(server.tasks(run_id_of(first)))
    told = server.artifacts(run_id_of(again))["forecastcore-tiny-summary"].data
    assert "there already: nothing written" in told
    assert "| 3 | 3 | 0 | 0 |" in told
    assert len(fc.forecasts(fc.Project.load(trained))) == 72
    assert server.nothing_stored()


@pytest.mark.slow
def test_whoever_looks_at_prefects_pages_finds_the_finished_runs_and_what_they_say(server, trained):
    retrained = flow("retrain")(str(trained), return_state=True)
    predicted = flow("predict")(str(trained), scenarios=["base"], return_state=True)
    pages = server.environment["PREFECT_API_URL"].removesuffix("/api")
    with Chromium() as browser:
        for state, keys in ((retrained, ("leaderboard", "decision")), (predicted, ("summary",))):
            seen = browser.look(f"{pages}/runs/flow-run/{run_id_of(state)}", wait="Completed")
            assert seen["errors"] == []
            shown = server.artifacts(run_id_of(state))
            for key in keys:
                artifact = shown[f"forecastcore-tiny-{key}"]
                words = re.search(r"[A-Za-z][a-z -]{9,}", str(artifact.data))
                browser.look(f"{pages}/artifacts/artifact/{artifact.id}", wait=words.group().strip())


@pytest.mark.slow
def test_on_databricks_the_same_flow_shows_the_run_there_and_why_it_failed(server, trained, databricks):
    engine = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "200ms"}
    where = [f"engine={json.dumps(engine)}"]
    done = flow("predict")(str(trained), overrides=where, return_state=True)
    assert (done.name, done.message.split()[0]) == ("Completed", "72")
    (run,) = databricks.runs
    page = run.as_json(databricks.url)["run_page_url"]
    assert f"[the run](<{page}>)" in server.artifacts(run_id_of(done))["forecastcore-tiny-summary"].data
    assert {"submit to Databricks", f"Databricks run {run.run_id}"} <= set(server.tasks(run_id_of(done)))
    bar = server.artifacts(run_id_of(done))["forecastcore-tiny-progress"]
    assert re.search(r": \d+ of \d+$", bar.description), "how far the cluster is, as it says itself"

    def program(run):
        raise Ended("FAILED", "The spark driver has stopped unexpectedly", code="DRIVER_ERROR")

    databricks.runs.program = program
    failed = flow("predict")(str(trained), overrides=where, return_state=True)
    assert failed.name == "Failed"
    assert failed.message.startswith(
        f"Databricks run {databricks.runs.newest.run_id} ran out of memory: The spark driver"
    )
    assert databricks.url in failed.message
    assert flow("reconcile")(str(trained), overrides=where, return_state=True).message == "nothing is left over"
    assert "node_type" in failed.message
    assert server.nothing_stored()


def test_a_run_with_a_series_that_no_model_can_serve_is_completed_by_the_name_of_degraded(
    server, make_project, tmp_path
):
    data = sample_history(rows=30 * 24)
    data.loc[data["unique_id"] == "series-1", "y"] = 7.0
    path = make_project(tmp_path, data=data, models=[{"type": "seasonal-naive"}])
    fc.retrain(fc.Project.load(path))
    state = flow("predict")(str(path), return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "Degraded")
    assert state.message.startswith("constant-history; 72 rows from ")
    assert "3 series: 2 ok, 1 degraded, 0 failed" in state.message
    shown = server.artifacts(run_id_of(state))
    assert "| 1 | constant-history |" in shown["forecastcore-tiny-summary"].data
    first, *rest = json.loads(shown["forecastcore-tiny-worst-forecast"].data)
    assert (first["series"], first["not served by the model because"]) == ("series-1", "constant-history")
    assert {row["series"] for row in rest} == {"series-0", "series-2"}
    assert all(row["mase"] > 0 and not row["not served by the model because"] for row in rest)


def test_bad_data_holds_the_run_says_why_first_and_writes_nothing(server, make_project, tmp_path):
    from flow_stages import run_script

    data = sample_history(rows=30 * 24)
    path = make_project(tmp_path, data=pd.concat([data, data.tail(2)]))
    retrain = flow("retrain")
    ended = []
    retrain.on_failure(lambda flow, run, state: ended.append(state))
    assert run_script(retrain, {"project": str(path), "as_of": None}) == 4
    (state,) = ended
    assert (state.type, state.name) == ("FAILED", "Held")
    assert re.match(r"duplicates: .*series-2", state.message, re.DOTALL)
    assert "Error" not in state.message
    tasks = server.tasks(run_id_of(state))
    assert {name: task.type for name, task in tasks.items()} == {"load": "COMPLETED", "check quality": "FAILED"}
    assert tasks["check quality"].message == state.message
    assert {file.name for file in tmp_path.iterdir()} == {"data.parquet", "forecast.yaml", ".forecastcore"}
    assert {file.name for file in (tmp_path / ".forecastcore").iterdir()} == {"logs"}
    assert server.nothing_stored()


def test_a_block_that_is_not_there_fails_the_run_with_file_line_and_key(server, make_project, tmp_path):
    path = make_project(tmp_path, source={"type": "parquet", "path": "${block:secret/nowhere}"})
    state = flow("predict")(str(path), return_state=True, overrides=["models=[{type: naive}]"])
    assert (state.type, state.name) == ("FAILED", "Failed")
    assert server.nothing_stored()
    with pytest.raises(ConfigError, match=r"forecast\.yaml:1:\d+: source\.path: the block secret/nowhere cannot be"):
        load_project(path).source()


def test_a_sink_that_fails_beside_one_that_does_not_fails_the_run_and_shows_both(server, trained):
    sinks = "sinks=[{type: parquet, path: out}, {type: csv, path: data.parquet/no}]"
    state = flow("predict")(str(trained), as_of="2024-01-27T23:00Z", overrides=[sinks], return_state=True)
    assert (state.type, state.name) == ("FAILED", "Failed")
    assert state.message.startswith("csv ")
    assert "run it again" in state.message
    told = server.artifacts(run_id_of(state))["forecastcore-tiny-summary"].data
    assert "| 72 | written |" in told
    assert "| 0 | FAILED: " in told


def test_an_error_that_nobody_foresaw_is_told_and_a_bar_that_cannot_be_shown_stops_nothing(server):
    import flow_stages
    from prefect import flow

    steps = flow_stages.PrefectSteps("no key of Prefect's")

    def work():
        assert steps.run("fine", lambda: steps.progress("fine", 1, 2) or 42) == 42
        return steps.run("odd", lambda: {}["token=hunter2"])

    state = flow(name="surprise", **flow_stages.PLAIN)(lambda: flow_stages.truthfully(work))(return_state=True)
    assert state.message.startswith("KeyError: ")
    assert "hunter2" not in state.message
    assert {name: task.name for name, task in server.tasks(run_id_of(state)).items()} == {
        "fine": "Completed",
        "odd": "Failed",
    }
    assert server.nothing_stored()


def load_project(path):
    import flow_stages

    return flow_stages.load_project(path, ())


def test_a_block_is_read_as_it_was_typed_in_every_process_that_makes_the_project(server, make_project, tmp_path):
    from flow_stages import read_block
    from prefect.blocks.system import Secret

    Secret(value="1e5").save("number-like")
    Secret(value={"a": 1}).save("structured")
    Secret(value="data.parquet").save("place")
    assert read_block("secret/number-like") == "1e5"
    assert read_block("secret/structured") == '{"a": 1}'
    project = load_project(make_project(tmp_path, source={"type": "parquet", "path": "${block:secret/place}"}))
    for made in (project, fc.Project.from_recipe(project.recipe())):
        assert "y" in made.source().schema().names
    assert "data.parquet" not in project.recipe()


def test_an_azure_block_saved_in_the_server_delivers_to_blob_storage(server, trained):
    from azure.storage.blob import BlobServiceClient
    from flow_stages import read_block
    from prefect_azure import AzureBlobStorageCredentials

    with azurite.running() as connection_string:
        AzureBlobStorageCredentials(connection_string=connection_string).save("store")
        assert json.loads(read_block("azure-blob-storage-credentials/store")) == {
            "connection_string": connection_string
        }
        with BlobServiceClient.from_connection_string(connection_string) as service:
            service.create_container("delivery").close()
        sink = {"type": "azure-blob", "container": "delivery"}
        sink["credential"] = "${block:azure-blob-storage-credentials/store}"
        overrides = (f"sinks={json.dumps([sink])}",)
        state = flow("predict")(str(trained), overrides=overrides, return_state=True)
        assert state.name == "Completed", state.message
        import flow_stages

        table = fc.forecasts(flow_stages.load_project(str(trained), overrides))
        assert len(table) == 72
        shown = json.dumps([str(artifact.data) for artifact in server.artifacts(run_id_of(state)).values()])
    assert connection_string.split("AccountKey=")[1][:20] not in shown + str(state.message)


def test_a_block_that_names_no_identity_is_refused_not_guessed(server):
    from flow_stages import read_block
    from prefect_azure import AzureBlobStorageCredentials

    AzureBlobStorageCredentials(account_url="https://a.blob.core.windows.net").save("identity-unnamed")
    sink = {
        "type": "azure-blob",
        "container": "c-1",
        "credential": read_block("azure-blob-storage-credentials/identity-unnamed"),
    }
    with pytest.raises(PluginError, match="has the keys account_url"):
        Host.discover().make("sink", "azure-blob", {k: v for k, v in sink.items() if k != "type"})


@pytest.mark.slow
def test_a_backfill_says_what_it_made_and_what_was_there(server, trained):
    span = {"first": "2024-01-20T00:00Z", "last": "2024-01-20T01:00Z", "model": "champion"}
    overrides = ("sinks=[{type: parquet, path: out/backfilled}]",)
    state = flow("backfill")(project=str(trained), **span, overrides=overrides, return_state=True)
    assert (state.name, state.message) == ("Completed", "2 made, 0 there before, 0 failed")
    state = flow("backfill")(project=str(trained), **span, overrides=overrides, return_state=True)
    assert state.message == "0 made, 2 there before, 0 failed"
    span["model"] = None
    state = flow("backfill")(project=str(trained), **span, overrides=overrides, return_state=True)
    assert state.name == "Failed"
    assert "no model was champion then" in state.message
    assert server.nothing_stored()


# -- deployments


@pytest.fixture(scope="session")
def deployed(server):
    server.prefect("work-pool", "create", "local-pool", "--type", "process")
    server.prefect("deploy", "--all")
    with server.client() as client:
        return {one.name: one for one in client.read_deployments()}


@pytest.mark.slow
def test_a_monitor_whose_policy_fires_is_degraded_starts_a_retrain_and_shows_why(server, make_project, tmp_path):
    policies = [{"when": {"bias_beyond": 0.0}, "do": "retrain"}]
    path = make_project(tmp_path, models=[{"type": "seasonal-naive"}], monitor={"policies": policies})
    project = fc.Project.load(path)
    fc.retrain(project, "2024-01-25T00:00Z")
    fc.predict(project, "2024-01-26T00:00Z")
    state = flow("monitor")(project=str(path), return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "Degraded"), state.message
    assert state.message.startswith("retrain when bias beyond 0 for 1 of 1: it held in 1 of the newest 1 vintages")
    assert "retrain done: Completed: " in state.message
    shown = server.artifacts(run_id_of(state))
    told = shown["forecastcore-tiny-monitor"].data
    assert "| fired | retrain |" in told
    assert "| all | all | 72 |" in told
    assert len(json.loads(shown["forecastcore-tiny-worst-series"].data)) == 3
    state = flow("monitor")(project=str(path), acting=False, return_state=True)
    assert "retrain done" not in state.message
    assert server.nothing_stored()


@pytest.mark.slow
def test_prefect_yaml_deploys_all_flows_to_run_from_this_clone_one_at_a_time(deployed):
    assert set(deployed) == {"retrain", "predict", "monitor", "backfill", "reconcile"}
    for name, one in deployed.items():
        assert one.entrypoint == f"flows/{name}.py:{name}"
        assert one.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
        assert one.work_pool_name == "local-pool"
        assert one.global_concurrency_limit.limit == 1
        patient = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "90", "PREFECT_CLIENT_MAX_RETRIES": "7"}
        assert one.job_variables == {"env": {**patient, "FORECASTCORE_ENVIRONMENT": ""}}
        more = {"fix": True} if name == "reconcile" else {}
        assert one.parameters == {"project": "demo-project/forecast.yaml", **more}


@pytest.mark.slow
def test_an_incident_of_a_deployment_is_told_once_and_its_end_once_and_deploying_alerts_again_makes_nothing(
    server, deployed, monkeypatch
):
    import alerts
    from prefect.states import Completed, Failed

    with sinks.posts(server.home) as sink:
        monkeypatch.setenv("FORECASTCORE_ALERT_WEBHOOK", f"http://127.0.0.1:{sink.server_address[1]}/here")
        first = alerts.deploy()
        assert (len(first.made), first.channels) == (9, ("webhook/forecastcore-webhook",))
        assert first.patience.total_seconds() == 270
        runs = []
        with server.client() as client:
            for state in (*[Failed(name="Held", message="duplicates: 2 rows")] * 3, Completed(), Completed()):
                runs.append(client.create_flow_run_from_deployment(deployed["reconcile"].id).id)
                client.set_flow_run_state(runs[-1], state.fresh_copy(), force=True)
            until(lambda: len(sink.messages) == 2, 30)
            for run in runs:
                client.delete_flow_run(run)
        assert alerts.deploy().made == ()
        alerts.remove()
    alert, over = (json.loads(body) for _, _, body in sink.messages)
    assert alert["subject"] == "forecastcore: reconcile/reconcile has failed"
    words = ["Impact", "Cause: Held: duplicates: 2 rows", "Link: http://127.0.0.1:", "Next step: look at the data"]
    assert all(line.startswith(word) for line, word in zip(alert["text"].split("\n\n"), words, strict=True))
    assert over["subject"] == "forecastcore: reconcile/reconcile is well again"


@pytest.mark.slow
def test_the_scheduler_makes_runs_of_every_deployment(server, deployed):
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    def scheduled(one):
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[one.id]))
        with server.client() as client:
            return client.read_flow_runs(deployment_filter=wanted)

    planned = [one for one in deployed.values() if any(schedule.active for schedule in one.schedules)]
    until(lambda: all(scheduled(one) for one in planned), 90)
    assert {run.state.name for one in planned for run in scheduled(one)} == {"Scheduled"}
    assert [one.name for one in deployed.values() if not scheduled(one)] == ["backfill", "reconcile"]


@pytest.mark.row(14, trials=3)
def test_schedules_keep_to_the_local_clock_through_two_years_of_clock_changes(deployed):
    from prefect.server.schemas import schedules

    kinds = {
        "retrain": schedules.CronSchedule,
        "predict": schedules.IntervalSchedule,
        "monitor": schedules.IntervalSchedule,
    }
    hours, days = {"retrain": 4, "predict": 6, "monitor": 7}, {"retrain": 7, "predict": 1, "monitor": 1}
    for name, kind in kinds.items():
        one = deployed[name]
        (planned,) = one.schedules
        assert planned.active
        made = kind.model_validate(planned.schedule.model_dump())
        start = datetime(2026, 12, 1, tzinfo=UTC)
        dates = asyncio.run(made.get_dates(730 // days[name], start))
        local = [date.astimezone(ZoneInfo("Europe/Rome")) for date in dates]
        assert {(moment.hour, moment.minute) for moment in local} == {(hours[name], 0)}
        gaps = {(b.date() - a.date()).days for a, b in itertools.pairwise(local)}
        assert gaps == {days[name]}


@pytest.mark.slow
def test_an_environment_is_what_a_variable_of_its_server_says(server, deployed):
    from prefect.variables import Variable

    Variable.set("forecastcore_environment", "staging", _sync=True)
    try:
        server.prefect("deploy", "--name", "predict")
        with server.client() as client:
            (one,) = [one for one in client.read_deployments() if one.name == "predict"]
        assert one.job_variables["env"]["FORECASTCORE_ENVIRONMENT"] == "staging"
    finally:
        Variable.unset("forecastcore_environment", _sync=True)


@pytest.mark.slow
def test_a_flow_file_run_as_a_script_reports_to_the_server_that_the_settings_name(server, trained):
    done = server.run("flows/predict.py", "--project", trained, "--as-of", "2024-01-29T23:00Z")
    assert done.returncode == 0, done.stderr
    assert "72 rows from 2024-01-29 23:00 UTC" in done.stderr + done.stdout
    assert "temporary server" not in done.stderr + done.stdout
    assert server.nothing_stored()


@pytest.mark.slow
def test_a_process_worker_runs_a_deployment_and_a_champion_that_stays_is_no_failure(server, deployed, trained):
    given = (f"project={trained}", 'overrides=["engine.workers=2"]')
    said = server.prefect("deployment", "run", "retrain/retrain", *(word for one in given for word in ("-p", one)))
    run_id = re.search(r"UUID: (\S+)", said)[1]
    server.prefect("worker", "start", "--pool", "local-pool", "--type", "process", "--run-once", timeout=280)

    def state():
        with server.client() as client:
            return client.read_flow_run(run_id).state

    until(lambda: state().is_final(), 120)
    assert (state().type, state().name) == ("COMPLETED", "Completed"), state().message
    assert state().message.startswith("held: ")
    assert "the champion stays" in server.artifacts(run_id)["forecastcore-tiny-decision"].data
    assert server.nothing_stored()


@pytest.mark.row(13, trials=3)
@pytest.mark.slow
def test_after_an_outage_of_three_slots_one_run_catches_up_and_the_others_end_as_skipped(server, deployed, trained):
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.schedules import IntervalSchedule

    with server.client() as client:
        every = IntervalSchedule(interval=timedelta(seconds=60), anchor_date=datetime.now(UTC))
        missed = client.create_deployment(
            client.create_flow_from_name("predict"),
            "missed",
            entrypoint="flows/predict.py:predict",
            pull_steps=deployed["predict"].pull_steps,
            work_pool_name="local-pool",
            work_queue_name="missed",
            parameters={"project": str(trained)},
            schedules=[DeploymentScheduleCreate(schedule=every, active=True)],
            concurrency_limit=1,
        )
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[missed]))

    def runs(*names):
        with server.client() as client:
            found = client.read_flow_runs(deployment_filter=of_it)
        return [run for run in found if not names or run.state.name in names]

    def missed_runs():
        return [run.state for run in runs() if run.expected_start_time < back]

    until(lambda: len(runs("Late")) >= 3, 300)
    back = datetime.now(UTC)
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local-pool", "--work-queue", "missed"]
    process = subprocess.Popen(worker, env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        until(lambda: all(state.is_final() for state in missed_runs()) and runs("Completed"), 400, process)
        states = missed_runs()
    finally:
        with server.client() as client:
            client.delete_deployment(missed)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    names = [state.name for state in states]
    assert len(names) >= 3
    assert names.count("Skipped") >= len(names) - 1, names
    assert {"Skipped"} <= set(names) <= {"Skipped", "Completed"}
    assert all("does what this one was to do" in state.message for state in states if state.name == "Skipped")


@pytest.mark.row(10)
@pytest.mark.slow
def test_the_doctor_names_a_pool_without_a_worker_a_slot_that_leaked_and_alerts_that_are_not_installed(
    server, deployed, trained, monkeypatch
):
    import alerts

    monkeypatch.setenv("PREFECT_API_URL", server.environment["PREFECT_API_URL"])

    def found(status):
        return {o.name: o for o in doctor.examine(trained) if o.name.startswith("prefect-") and o.status == status}

    assert len(found("skipped")) == 3, "no deployment is of this project yet"
    server.prefect("work-pool", "create", "asleep", "--type", "process")
    with server.client() as client:
        one = client.create_deployment(
            client.create_flow_from_name("predict"),
            "mine",
            work_pool_name="asleep",
            parameters={"project": str(trained)},
            tags=["forecastcore"],
            concurrency_limit=1,
        )
        for rule in client.request("POST", "/automations/filter", json={}).json():
            client.request("DELETE", "/automations/{id}", path_params={"id": rule["id"]})
        lame = found("failed")
        assert set(lame) == {"prefect-workers", "prefect-dead-runs"}
        assert "prefect worker start --pool 'asleep'" in lame["prefect-workers"].mend
        assert "python flows/alerts.py deploy" in lame["prefect-dead-runs"].mend

        client.send_worker_heartbeat("asleep", "awake")
        alerts.deploy()
        assert len(found("ok")) == 3

        limit = client.read_deployment(one).global_concurrency_limit
        client.request("PATCH", f"/v2/concurrency_limits/{limit.id}", json={"active_slots": 1})
        lame = found("failed")
        assert set(lame) == {"prefect-slots"}
        assert "1 of 1 slots are held, by 0 runs" in lame["prefect-slots"].detail
        assert f"prefect gcl update '{limit.name}' --active-slots 0" in lame["prefect-slots"].mend
        client.delete_deployment(one)


@pytest.mark.row(3, trials=3)
def test_a_run_whose_process_died_is_begun_again_twice_and_meanwhile_what_it_sent_away_is_no_orphan(server, deployed):
    import reconcile
    from flow_stages import HOST, PROCESS
    from prefect.states import Running

    seen = []
    with server.client() as client:
        run = client.create_flow_run_from_deployment(deployed["predict"].id)
        client.set_flow_run_state(run.id, Running(), force=True)
        for pid in (4194305, 4194306, 4194307):  # no process has such a number
            client.update_flow_run_labels(run.id, {HOST: here()[0], PROCESS: f"{pid}/1"})
            (told,), awaited = reconcile._flow_runs(fix=True)
            assert told == f"flow run {run.name} is Running, and its process ended without a word"
            seen.append((client.read_flow_run(run.id).state.name, pid in awaited))
            if pid in awaited:
                client.set_flow_run_state(run.id, Running(), force=True)
                assert reconcile._flow_runs(fix=True) == ([], {pid}), "it runs, and has not yet said who it is"
        assert reconcile._flow_runs(fix=True) == ([], set())
    assert seen == [("AwaitingRetry", True), ("AwaitingRetry", True), ("Crashed", False)]


@pytest.mark.slow
def test_without_a_server_a_flow_file_brings_its_own_for_the_run(make_project, tmp_path):
    path = make_project(tmp_path / "project", models=[{"type": "seasonal-naive"}])
    alone = Server(tmp_path / "home", {**os.environ, "PREFECT_HOME": str(tmp_path / "home")})
    done = alone.run("flows/retrain.py", "--project", path)
    assert done.returncode == 0, done.stderr
    assert "temporary server" in done.stderr + done.stdout
    missing = alone.run("flows/retrain.py", "--project", tmp_path / "nowhere.yaml")
    assert missing.returncode == 1
    assert "nowhere.yaml" in missing.stderr + missing.stdout
    assert alone.nothing_stored()


# -- what is shown


SEEN = st.sampled_from("ab .:/\\`*_[]()<>|~&@!#-+1\n") | st.characters(codec="utf-8", exclude_categories=["C", "Z"])


@pytest.mark.row(54)
@given(st.text(alphabet=SEEN, max_size=60))
def test_text_of_the_data_is_shown_as_it_is_never_as_markup(flow_modules, text):
    from flow_artifacts import plain

    page = f"| x |\n|---|\n| a{plain(text)}b |\n"
    shown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(page)
    wanted = html.escape(f"a{' '.join(text.split())}b", quote=False).replace('"', "&quot;")
    assert f"<td>{wanted}</td>" in shown


def test_text_of_the_data_cannot_hide_or_turn_around_what_is_beside_it(flow_modules):
    from flow_artifacts import plain

    assert plain("a\x00b\u202ec\x1b[2Jd") == r"a b c \[2Jd"
    assert len(plain("x" * 10_000)) == 300


@pytest.mark.parametrize("text", ["see http://evil.example", "www.evil.example", "WWW.evil.example", "a@evil.example"])
def test_text_of_the_data_makes_no_link_by_itself(flow_modules, text):
    from flow_artifacts import plain

    assert not re.search(r"://|(?i:www)\.|(?<!\\)@", plain(text))


def retrained(**changes):
    told = {
        "project": "tiny",
        "run_id": "0123",
        "as_of": datetime(2024, 1, 30, tzinfo=UTC),
        "folds": 2,
        "leaderboard": (LeaderboardRow(name="x", model="x", params={"a": 1}, status="ok", mase=0.123456),),
        "challenger": {"model": "x", "version": "2"},
        "champion_before": {"model": "y", "version": "1"},
        "champion_after": {"model": "y", "version": "1"},
        "decision": Decision(verdict="hold", reason="held: no gain", gain=-0.012, ci=(-0.05, 0.026)),
        "series": SeriesCount(total=1, ok=1, degraded=0, failed=0),
        "seconds": 1.0,
    }
    return RetrainReport(**{**told, **changes})


def test_the_decision_is_told_in_words_with_gain_and_interval(flow_modules):
    from flow_artifacts import decision

    held = decision(retrained())
    for words in ("Held: the champion stays", "held: no gain", "-1.2%", "95% interval: -5.0% to +2.6%", "version 1"):
        assert words in held
    dry = decision(retrained(decision=Decision(verdict="promote", reason="better")))
    assert "Would be: promoted; not applied" in dry
    done = decision(
        retrained(decision=Decision(verdict="promote", reason="better"), champion_after=retrained().challenger)
    )
    assert "## Promoted" in done


def test_a_cell_of_the_leaderboard_holds_no_link_and_a_number_four_decimals(flow_modules):
    from flow_artifacts import leaderboard

    row = LeaderboardRow(name="x", model="x", params={}, status="failed", mase=0.123456, reason="[a](javascript:b)")
    (line,) = leaderboard(retrained(leaderboard=(row,)))
    assert (line["mase"], line["remark"]) == (0.1235, "[a] (javascript:b)")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:hunter2@127.0.0.1:5000/", "(<http://127.0.0.1:5000/#/runs/0123?workflowType=machine_learning>)"),
        ("postgresql://me:hunter2@db/mlflow", "mlflow ui --backend-store-uri 'postgresql://***@db/mlflow'"),
        ("postgresql://me:${env:CANARY}@db/x", "'postgresql://me:${env:CANARY}@db/x'"),
        ("databricks", "run 0123 in the workspace"),
    ],
)
def test_a_summary_leads_to_mlflow_and_holds_no_password(make_project, tmp_path, monkeypatch, flow_modules, uri, shown):
    from flow_artifacts import summary

    monkeypatch.setenv("CANARY", "hunter2")
    project = fc.Project.load(make_project(tmp_path, tracking={"uri": uri}))
    report = PredictReport(
        project="tiny",
        run_id="0123",
        run_key="k",
        issued_at=datetime(2024, 1, 30, tzinfo=UTC),
        scenarios=("base",),
        model="x",
        model_version="1",
        rows=72,
        series=SeriesCount(total=3, ok=2, degraded=1, failed=0),
        published=(Publication(sink="delta", location="out", rows=0, already=False, error="disk <full>"),),
        seconds=1.0,
    )
    told = summary(report, project)
    assert shown in told
    assert "hunter2" not in told
    assert r"FAILED: disk \<full\>" in told
