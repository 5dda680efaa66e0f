"""Whole projects on Databricks: the real wheels run there, and give what they give here; every fault is told once."""

import contextlib
import io
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from forecastcore import cluster_main
from forecastcore.engines.databricks.wait import sign_of_life
from forecastcore.engines.databricks.wheels import wheel_of, wheels_of
from forecastcore.testing.databricks import Ended
from tests.conftest import small_history
from tests.databricks.conftest import REPORT

VOLUME = "/Volumes/main/fc/jobs"
ENGINE = {"type": "databricks", "serverless": True, "volume": VOLUME, "poll": "50ms", "timeout": "2min"}
CLUSTER = {"spark_version": "16.4.x-scala2.12", "node_type": "Standard_D4ds_v5", "workers": 2, "spot": True}
PLUGIN = """
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Level:
    def fit_series(self, series, task):
        return {"level": float(series.y[-24:].mean())}
    def predict_series(self, params, series, future, task):
        return [params["level"]] * len(future.ds)

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="level", summary="the last day's mean", factory=Level)
"""


@pytest.fixture
def away(make_site, databricks):
    """The small project with its engine on Databricks, where a function stands for what the wheel does."""
    site = make_site()
    shutil.rmtree(site.folder / "mlruns", ignore_errors=True)
    return site.write(engine=ENGINE)


def ending(**how):
    def program(run):
        run.enter("RUNNING")
        raise Ended(**how)

    return program


# -- the same there and here


def test_retrain_and_predict_there_give_what_they_give_here(make_site, databricks):
    there, here = make_site(), make_site()
    for site in (there, here):
        site.plugin(PLUGIN).write(engine=ENGINE, models=[{"type": "seasonal-naive"}, {"type": "level"}])
    told = there.cli("--json", "retrain")
    assert told.code == 0, told.out
    assert told.document["where"].startswith(databricks.url)
    made = here.cli("--json", "retrain", "--on", "local")
    assert (made.code, made.document["where"]) == (0, "")
    for one, two in zip(told.document["leaderboard"], made.document["leaderboard"], strict=True):
        assert one["name"] == two["name"]
        numbers = [[row[key] for key in ("mase", "rmsse", "wql", "coverage")] for row in (one, two)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-9)
    text = there.cli("predict")
    assert (text.code, "ran on Databricks: http" in text.out) == (0, True)
    assert here.cli("predict", "--on", "local").code == 0
    same = ["unique_id", "ds", "step", "forecast", "q10", "q50", "q90", "status", "model"]
    pd.testing.assert_frame_equal(there.table()[same], here.table()[same], check_exact=False, rtol=0, atol=1e-9)
    assert len(databricks.asked("whl")) == 3 + 3 + 3, "looked for twice, uploaded once"
    assert "waiting" not in told.err


@pytest.mark.parametrize("compute", [{"serverless": True}, {"cluster": CLUSTER}])
def test_wheels_may_lie_under_a_workspace_path_and_the_run_installs_them_from_there(make_site, databricks, compute):
    engine = {**ENGINE, "serverless": False, **compute, "wheels": "/Workspace/Shared/libraries"}
    site = make_site().write(engine=engine)
    assert site.cli("retrain").code == 0
    assert site.cli("predict").code == 0
    wheels = (databricks.cluster.workspace / "Shared/libraries/forecastcore/wheels").rglob("*.whl")
    assert sorted(wheel.name.split("-")[0] for wheel in wheels) == [
        "forecastcore",
        "forecastcore_baseline",
        "forecastcore_files",
    ]
    assert len(databricks.asked("workspace/import")) == 3, "uploaded once"
    assert not list(databricks.volumes.rglob("*.whl"))
    (first, *_) = databricks.runs
    sent = json.dumps(first.payload)
    assert sent.count("/Workspace/Shared/libraries/forecastcore/wheels/") == 3


def test_a_workspace_path_that_may_not_be_written_to_is_named_with_who_asked(away, databricks):
    away.write(engine={**ENGINE, "wheels": "/Workspace/Shared/libraries"})
    databricks.deny("workspace/mkdirs")
    told = away.cli("--json", "retrain")
    assert told.code == 1
    words = told.document["error"]["message"]
    assert "refused writing to /Workspace/Shared/libraries or /Volumes/main/fc/jobs as someone@example.com" in words
    assert list(databricks.runs) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_spark_session_of_the_runtime_gives_what_processes_give_here(make_site, databricks):
    databricks.bring_spark()
    there, here = make_site(), make_site()
    assert there.write(engine={**ENGINE, "timeout": "8min"}).cli("retrain").code == 0
    assert here.cli("retrain").code == 0
    reports = list(databricks.volumes.rglob("report.json"))
    assert [json.loads(report.read_text())["engine"] for report in reports] == ["spark"]
    assert (there.cli("predict").code, here.cli("predict").code) == (0, 0)
    same = ["unique_id", "ds", "forecast", "q10", "q90"]
    pd.testing.assert_frame_equal(there.table()[same], here.table()[same], check_exact=False, rtol=0, atol=1e-9)
    span = ["backfill", "--from", "2024-03-09T00:00Z", "--to", "2024-03-09T12:00Z", "--every", "6", "--model", "1"]
    told, made = there.cli("--json", *span, "--jobs", "2"), here.cli("--json", *span)
    assert (told.code, made.code) == (0, 0), told.err
    origins = [[(o["as_of"], o["status"], o["rows"]) for o in one.document["origins"]] for one in (told, made)]
    assert origins[0] == origins[1]
    every = [
        site.table(None).sort_values(["issued_at", "unique_id", "ds"])[["issued_at", *same]] for site in (there, here)
    ]
    one, two = (frame.reset_index(drop=True) for frame in every)
    pd.testing.assert_frame_equal(one, two, check_exact=False, rtol=0, atol=1e-9)


def test_the_wheels_are_whole_and_the_same_code_gives_the_same_bytes():
    core, *plugins = wheels_of({"forecastcore-baseline"})
    assert [w.name for w in (core, *plugins)] == [
        "forecastcore-0.1.0-py3-none-any.whl",
        "forecastcore_baseline-0.1.0-py3-none-any.whl",
    ]
    assert (core.digest, wheel_of("forecastcore").place) == (wheel_of("forecastcore").digest, core.place)
    assert wheel_of("pluggy").name.startswith("pluggy-"), "what was installed from a wheel is put together again"


def test_where_the_projects_folder_is_not_seen_its_files_and_plugins_are_in_the_volume(away, databricks):
    def program(run):
        words = [word.replace("/Volumes/", f"{databricks.volumes}/") for word in run.parameters]
        place = Path(words[1])
        place.write_text(place.read_text().replace(str(away.folder), "/not/seen"))
        with contextlib.redirect_stdout(log):
            cluster_main.main(words)

    log, databricks.runs.program = io.StringIO(), program
    away.plugin(PLUGIN, "plugins/own.py").write(models=[{"type": "level"}])
    told = away.cli("--json", "backtest")
    assert told.code == 0, told.out
    home = databricks.volumes / "main/fc/jobs/forecastcore/projects/small"
    assert (home / "history.parquet").read_bytes() == (away.folder / "history.parquet").read_bytes()
    assert [row["model"] for row in told.document["leaderboard"]] == ["level"], "its plugin, whose file is not there"
    assert "forecastcore: load" in log.getvalue()
    assert away.cli("backtest").code == 0
    assert len(databricks.asked("projects/small/history.parquet")) == 1, "sent once per content"


BREAKS = """
import os, pathlib, time
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl
HERE = pathlib.Path({folder!r})

@dataclass(frozen=True)
class Level:
    level: float
    def predict(self, context, future, task):
        return future[["unique_id", "ds", "step"]].assign(forecast=self.level)

@dataclass(frozen=True)
class Mean:
    def fit(self, history, task):
        done = sorted(HERE.glob("fit-*"))
        if len(done) == 6 and not (HERE / "mended").exists():
            time.sleep(60)  # until somebody ends the machine
        (HERE / f"fit-{{time.time_ns()}}").touch()
        return Level(float(history["y"].mean()))

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="mean", summary="one mean for all", factory=Mean, capabilities={{"scope": "global"}})
"""


@pytest.mark.row(66)
@pytest.mark.slow
def test_a_run_that_is_repaired_has_its_parameters_and_does_what_is_left(make_site, databricks, until):
    site = make_site()
    site.plugin(BREAKS.format(folder=str(site.folder))).write(
        small_history(series=3, days=20), engine=ENGINE, models=[{"type": "mean"}], backtest={"folds": 9, "stride": 6}
    )

    def end_the_machine():
        until(lambda: len(list(site.folder.glob("fit-*"))) == 6, 60)
        until(lambda: len(list((site.folder / ".forecastcore" / "kept").glob("*"))) == 6, 60)
        (run,) = databricks.runs
        run.process.kill()

    killer = threading.Thread(target=end_the_machine)
    killer.start()
    told = site.cli("backtest")
    killer.join()
    assert told.code == 1, told.out
    (run,) = databricks.runs
    before = list(run.parameters)
    (site.folder / "mended").touch()
    databricks.runs.repair(run.run_id)
    until(lambda: not run.live, 60)
    assert (run.result, run.parameters, run.attempt) == ("SUCCESS", before, 1)
    assert len(list(site.folder.glob("fit-*"))) == 9, "each fold once"
    report = json.loads(next(databricks.volumes.rglob("report.json")).read_text())["report"]
    assert any(note.startswith("6 pieces of work were done already") for note in report["notes"])


# -- what is sent


def test_plan_shows_the_payload_and_asks_nobody(away, databricks):
    told = away.write(engine={**ENGINE, "serverless": False, "cluster": CLUSTER}).cli("--json", "plan", "retrain")
    assert told.code == 0, told.out
    submits = told.document["submits"]
    (task,) = submits["payload"]["tasks"]
    assert task["new_cluster"] == {
        "spark_version": "16.4.x-scala2.12",
        "node_type_id": "Standard_D4ds_v5",
        "num_workers": 2,
        "data_security_mode": "SINGLE_USER",
        "custom_tags": {"forecastcore": "small"},
        "azure_attributes": {"availability": "SPOT_WITH_FALLBACK_AZURE", "first_on_demand": 1},
    }
    assert submits["payload"]["timeout_seconds"] == 120
    assert [wheel["wheel"].split("-")[0] for wheel in submits["wheels"]] == [
        "forecastcore",
        "forecastcore_baseline",
        "forecastcore_files",
    ]
    assert databricks.requests == []
    assert '"entry_point": "forecastcore-run"' in away.cli("plan", "retrain").out


@pytest.mark.parametrize(
    "engine",
    [
        {"serverless": True, "packages": ["holidays==0.60"]},
        {"existing_cluster": "c1", "packages": ["holidays==0.60"]},
        {"cluster": {**CLUSTER, "workers": 0, "env": {"KEY": "{{secrets/s/k}}"}, "tags": {"team": "grid"}}},
        {"cluster": {k: v for k, v in CLUSTER.items() if k != "workers"} | {"autoscale": {"min": 1, "max": 8}}},
        {"cluster": {**CLUSTER, "policy_id": "p", "init_scripts": ["/Volumes/a/b/c/i.sh", "/Workspace/i.sh"]}},
    ],
)
def test_databricks_sdk_reads_every_payload_as_it_was_meant(away, engine):
    from databricks.sdk.service import jobs

    settings = {k: v for k, v in ENGINE.items() if k != "serverless"} | engine
    body = away.write(engine=settings).cli("--json", "plan", "retrain").document["submits"]["payload"]
    read = [jobs.SubmitTask.from_dict(task).as_dict() for task in body["tasks"]]
    assert read == body["tasks"], "every field is one that the SDK knows"
    environments = [jobs.JobEnvironment.from_dict(one).as_dict() for one in body.get("environments", [])]
    assert environments == body.get("environments", [])


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (
            {"cluster": {"spark_version": "16.4.x", "node_type": "D4"}},
            "engine.cluster: expected exactly one of",
        ),
        ({"cluster": {**CLUSTER, "autoscale": {"min": 3, "max": 2}}}, "lies above max"),
        ({"cluster": {**CLUSTER, "node_typ": "D4"}}, "did you mean 'node_type'?"),
        ({"existing_cluster": "c1", "volume": "/mnt/jobs"}, "expected a volume such as /Volumes/catalog/schema/volume"),
        ({"existing_cluster": "c1", "poll": "often"}, "expected a time span"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place(away, engine, words):
    told = away.write(engine={"type": "databricks", "volume": VOLUME, **engine}).cli("validate")
    assert (told.code, words in told.err) == (2, True), told.err


# -- faults, each with one message; nothing stays behind


def _wrong_host(databricks, monkeypatch):
    monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:9")


def _expired_token(databricks, monkeypatch):
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-old")


def _no_credential(databricks, monkeypatch):
    monkeypatch.delenv("DATABRICKS_TOKEN")


def _may_not_submit(databricks, monkeypatch):
    databricks.deny("runs/submit")


def _may_not_write(databricks, monkeypatch):
    databricks.deny("PUT .*fs/files")


def _broken_wheel(databricks, monkeypatch):
    error = "Library installation failed: Invalid wheel"
    databricks.runs.program = ending(result="FAILED", error=error, code="LIBRARY_INSTALLATION_ERROR")


def _does_not_import(databricks, monkeypatch):
    databricks.runs.program = ending(result="FAILED", error="ModuleNotFoundError: No module named 'lightgbm'")


def _no_cluster(databricks, monkeypatch):
    error = "Cluster 0a was terminated: AZURE_QUOTA_EXCEEDED"
    databricks.runs.program = ending(result="FAILED", error=error, life="INTERNAL_ERROR", code="CLUSTER_ERROR")


def _no_memory(databricks, monkeypatch):
    error = "The spark driver has stopped unexpectedly"
    databricks.runs.program = ending(result="FAILED", error=error, code="DRIVER_ERROR")


def _no_report(databricks, monkeypatch):
    databricks.runs.program = lambda run: run.enter("RUNNING")


def _cancelled_there(databricks, monkeypatch):
    databricks.runs.program = lambda run: run.cancelled.set()


FAULTS = {
    "wrong-host": (_wrong_host, "does not answer", "DATABRICKS_HOST"),
    "expired-token": (_expired_token, "refused asking who this is", "sign in again"),
    "no-credential": (_no_credential, "no way to sign in", "set DATABRICKS_HOST and a credential"),
    "may-not-submit": (_may_not_submit, "refused the submission as someone@example.com", "administrator"),
    "may-not-write": (_may_not_write, f"refused writing to {VOLUME}", "administrator"),
    "broken-wheel": (_broken_wheel, "could not install its libraries", "packages"),
    "does-not-import": (_does_not_import, "No module named 'lightgbm'", "packages"),
    "no-cluster": (_no_cluster, "AZURE_QUOTA_EXCEEDED", "engine.cluster"),
    "no-memory": (_no_memory, "ran out of memory", "node_type"),
    "no-report": (_no_report, "left no report", "report.json"),
    "cancelled": (_cancelled_there, "was cancelled", "run it again"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_message_with_which_where_and_what_to_do(away, databricks, monkeypatch, fault):
    plant, which, mend = FAULTS[fault]
    databricks.runs.program = lambda run: None
    plant(databricks, monkeypatch)
    told = away.cli("--json", "retrain")
    assert told.code == 1
    (error,) = told.document["errors"]
    assert error["code"] == "databricks-run"
    assert which in error["message"]
    assert mend in error["hint"]
    assert fault == "no-credential" or "http://" in error["message"]
    assert "Traceback" not in told.err
    assert databricks.token not in told.out + told.err
    assert databricks.live() == []


@pytest.mark.slow
def test_a_plugin_that_does_not_import_there_is_told_with_its_name_and_the_run(make_site, databricks):
    """The real wheel on the stand-in for a cluster, where a library is missing that is here."""
    databricks.cluster.environment["DATABRICKS_RUNTIME_VERSION"] = "16.4"
    missing = "import os\nif os.environ.get('DATABRICKS_RUNTIME_VERSION'):\n    import nothing_of_that_name\n"
    site = make_site()
    site.plugin(missing + PLUGIN, "plugins/own.py").write(engine=ENGINE, models=[{"type": "level"}])
    told = site.cli("--json", "retrain")
    (error,) = told.document["errors"]
    assert "No module named 'nothing_of_that_name'" in error["message"], error
    assert "plugins.load.0: ModuleNotFoundError" in error["message"]
    assert databricks.url in error["message"]
    assert error["hint"]
    assert (databricks.live(), len(databricks.asked("runs/submit"))) == ([], 1)


def test_what_the_run_itself_says_is_what_the_command_says_exit_code_too(away, databricks):
    def program(run):
        failure = {"code": "quality", "message": "duplicates: two rows", "hint": "mend them", "exit_code": 4}
        place = databricks.cluster.place(run.parameters[3])
        place.write_text(json.dumps({**REPORT, "seconds": 1.0, "failure": failure}))
        raise Ended("FAILED", "QualityError: duplicates: two rows")

    databricks.runs.program = program
    told = away.cli("--json", "predict")
    (error,) = told.document["errors"]
    assert (told.code, error["code"], error["hint"]) == (4, "quality", "mend them")
    assert error["message"].startswith("duplicates: two rows; http://")


def test_a_secret_never_crosses(away, databricks, monkeypatch):
    monkeypatch.setenv("STORE_KEY", "sesame-open")
    databricks.runs.program = lambda run: None
    away.write(tracking={"uri": "postgresql://me:${env:STORE_KEY}@db/mlflow"}).cli("retrain")
    bodies = [request.body for request in databricks.requests if request.body]
    crossed = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    assert any(b"${env:STORE_KEY}" in content for content in crossed)
    assert not any(b"sesame-open" in content for content in crossed)
    kept = list((away.folder / ".forecastcore").rglob("*.json"))
    assert kept
    assert all("sesame-open" not in path.read_text() and databricks.token not in path.read_text() for path in kept)


def test_without_a_volume_the_message_says_what_to_write(away):
    told = away.write(engine={"type": "databricks", "serverless": True}).cli("retrain")
    assert (told.code, "volume: /Volumes/" in told.err) == (2, True)


def test_on_needs_settings_only_where_the_file_has_none(away):
    told = away.write(engine={"type": "local"}).cli("retrain", "--on", "databricks")
    assert (told.code, "cluster, existing_cluster and serverless" in told.err) == (2, True)


# -- what nobody waits for


def test_reconcile_finds_what_is_left_over_and_nothing_else(away, caller, forks, until):
    caller.workspace.runs.program, caller.root = (lambda run: run.pause(120)), away.folder
    child = forks.begin(away.folder, "dead")
    forks.go()
    orphan = until(lambda: caller.workspace.live() and caller.workspace.live()[0])
    until(lambda: orphan.reads)
    os.kill(child, 9)
    forks.ended()
    watched = caller.submit("watched")
    sign_of_life(caller.boss(), watched)
    far = caller.submit("far")  # its owner is on another machine, and was heard of just now
    place = caller.workspace.cluster.place(f"{far.folder}/owner.json")
    place.write_text(json.dumps({"host": "elsewhere", "pid": 1, "at": time.time(), "beat": 30.0}))
    late = caller.submit("late")  # its owner on another machine is silent
    place = caller.workspace.cluster.place(f"{late.folder}/owner.json")
    place.write_text(json.dumps({"host": "elsewhere", "pid": 1, "at": time.time() - 100, "beat": 0.5}))
    back = caller.submit("back")  # another one was silent in an outage, and is heard while it is listened for
    place = caller.workspace.cluster.place(f"{back.folder}/owner.json")
    place.write_text(json.dumps({"host": "elsewhere", "pid": 1, "at": time.time() - 100, "beat": 0.5}))
    heard = json.dumps({"host": "elsewhere", "pid": 1, "at": time.time(), "beat": 30.0})
    looked = f"GET /api/2.0/fs/files{back.folder}/owner.json"

    def come_back():
        until(lambda: any(one.status for one in caller.workspace.asked(looked)))
        place.write_text(heard)

    first_look = threading.Thread(target=come_back)
    first_look.start()

    told = away.cli("--json", "reconcile")
    first_look.join()
    assert told.code == 1
    assert {one["run_id"] for one in told.document["orphans"]} == {orphan.run_id, late.run_id}
    assert len(caller.workspace.live()) == 5, "nothing was changed"
    started = time.monotonic()
    told = away.cli("--json", "reconcile", "--fix")
    assert (told.code, [one["fixed"] for one in told.document["orphans"]]) == (0, [True, True])
    assert time.monotonic() - started < 15
    assert {run.run_id for run in caller.workspace.live()} == {watched.run_id, far.run_id, back.run_id}
    again = away.cli("--json", "reconcile", "--fix")
    assert (again.code, again.document["orphans"]) == (0, [])


def test_a_ticket_whose_run_is_over_and_whose_owner_is_no_more_is_forgotten(away, caller):
    caller.root = away.folder
    boss = caller.boss()
    ticket = caller.submit("over", boss)
    caller.workspace.runs.get(ticket.run_id).done.wait(5)
    boss.tickets.write(ticket.having(pid=2**22 + 1))
    told = away.cli("reconcile")
    assert (told.code, "ticket-without-run" in told.out, "--fix does it" in told.out) == (1, True, True)
    assert away.cli("reconcile", "--fix").code == 0
    assert away.cli("reconcile").out.strip() == "nothing is left over"
