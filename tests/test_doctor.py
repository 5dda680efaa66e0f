"""`doctor`: every planted fault is named by exactly its check, the exit code is true, and nothing is written."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import socket
import time
from datetime import datetime

import pytest
import yaml

from forecastcore import doctor, runtime
from forecastcore.cli import main
from forecastcore.doctor import machine, models, site
from forecastcore.project import Project
from forecastcore.testing.databricks import FakeWorkspace

WORKSPACES = []
STATUSES = {"ok", "failed", "skipped"}


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith(("PREFECT_API", "DATABRICKS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    yield
    while WORKSPACES:
        WORKSPACES.pop().stop()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained project, to be copied."""
    from forecastcore.templates import write

    folder = write("minimal", tmp_path_factory.mktemp("doctor") / "shop")
    project = Project.load(folder, overrides=["models=[{type: seasonal-naive}]", "backtest.folds=1"])
    from forecastcore.runs.retrain import retrain

    retrain(project)
    return folder


@pytest.fixture
def shop(trained):
    """The trained project itself; what a test changes it puts back."""
    kept = (trained / "forecast.yaml").read_bytes()
    yield trained
    (trained / "forecast.yaml").write_bytes(kept)


def findings(path, **more):
    return {finding.name: finding for finding in doctor.examine(path, **more)}


def failed(found):
    return {name: one for name, one in found.items() if one.status == "failed"}


def change(folder, **keys):
    file = folder / "forecast.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **keys}))


def everything(*folders):
    return {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for folder in folders
        for path in [folder, *folder.rglob("*")]
        if path.exists() and "__pycache__" not in path.parts
    }


def test_a_sound_project_is_found_sound_and_nothing_is_written(shop, tmp_path, capsys):
    before = everything(shop, tmp_path)
    code = main(["--json", "doctor", "-p", str(shop)])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, [one for one in told["checks"] if one["status"] == "failed"]
    assert told["schema"] == "forecastcore/doctor/1"
    assert len(told["checks"]) >= 18
    assert all(set(one) == {"name", "status", "detail", "mend"} for one in told["checks"])
    assert all(one["status"] in STATUSES and one["detail"] for one in told["checks"])
    status = {one["name"]: one["status"] for one in told["checks"]}
    assert {status[name] for name in ("source", "sinks", "tracking", "registry", "champion", "clock")} == {"ok"}
    assert everything(shop, tmp_path) == before


def test_without_a_project_the_machine_is_looked_at(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = main(["--json", "doctor"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, [one for one in told["checks"] if one["status"] == "failed"]
    status = {one["name"]: one["status"] for one in told["checks"]}
    assert status["python"] == status["plugins"] == "ok"
    assert status["project-file"] == status["source"] == status["tracking"] == "skipped"


def _unset(folder, monkeypatch):
    change(folder, sinks=[{"type": "sql", "url": "${env:NO_SUCH_DATABASE}", "table": "forecasts"}])


def _wrong_key(folder, monkeypatch):
    change(folder, horizont=3)


def _no_source(folder, monkeypatch):
    change(folder, source={"type": "csv", "path": "data/nothing.csv"})


def _no_column(folder, monkeypatch):
    change(folder, source={"type": "csv", "path": "data/sales.csv", "id": "shop", "time": "day", "target": "soldd"})


def _duplicates(folder, monkeypatch):
    rows = (folder / "data" / "sales.csv").read_text().splitlines()
    (folder.parent / "twice.csv").write_text("\n".join([*rows, rows[1]]))
    change(folder, source={"type": "csv", "path": "../twice.csv", "id": "shop", "time": "day", "target": "sold"})


def _stale(folder, monkeypatch):
    change(folder, audit={"max_age": "2D"})


def _sink_behind_a_file(folder, monkeypatch):
    change(folder, sinks=[{"type": "parquet", "path": "README.md/out"}])


def _no_server(folder, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    change(folder, tracking={"uri": f"postgresql://me:secret@127.0.0.1:{port}/mlflow"})


def _no_prefect(folder, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")


def _no_workspace(folder, monkeypatch):
    monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi0123456789abcdef0123")


def _on_databricks(folder, monkeypatch, **changes):
    workspace = FakeWorkspace(folder.parent / "databricks")
    workspace.start()
    WORKSPACES.append(workspace)
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    (workspace.volumes / "main" / "fc" / "jobs").mkdir(parents=True, exist_ok=True)
    engine = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "50ms"}
    change(folder, engine={**engine, **changes})
    return workspace


def _no_volume(folder, monkeypatch):
    _on_databricks(folder, monkeypatch, volume="/Volumes/main/fc/none")


def _no_right_to_submit(folder, monkeypatch):
    _on_databricks(folder, monkeypatch).deny("runs/submit")


def _engine(folder, monkeypatch):
    change(folder, engine={"type": "spark"})


def _open_cache(folder, monkeypatch):
    cache = folder.parent / "open-cache"
    cache.mkdir(exist_ok=True)
    cache.chmod(0o777)
    monkeypatch.setenv("FORECASTCORE_CACHE", str(cache))


def _old_library(folder, monkeypatch):
    monkeypatch.setitem(machine.SAFE, "urllib3", ("9999", "CVE-0000-0000"))


def _beyond_a_cap(folder, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.9.0" if name == "sqlalchemy" else real(name))


def _broken_plugin(folder, monkeypatch):
    (folder.parent / "broken.py").write_text("import nothing_of_that_name\n")
    monkeypatch.setattr(site.Host, "discover", staticmethod(_with_broken(site.Host.discover, folder)))


def _with_broken(discover, folder):
    return lambda **given: discover(**{**given, "files": [*given.get("files", ()), folder.parent / "broken.py"]})


def _nobody(folder, monkeypatch):
    change(folder, plugins={"load": ["plugins/my_model.py"], "block": ["no-such-plugin"]})


def _empty_credential(folder, monkeypatch):
    change(folder, sinks=[{"type": "delta", "path": "out/f", "credential": {"connection_string": ""}}])


def _full_disk(folder, monkeypatch):
    monkeypatch.setattr(site, "ROOM", 10**18)


def _clock(folder, monkeypatch):
    class Early(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2020, 1, 1, tzinfo=tz)

    monkeypatch.setattr(models, "datetime", Early)


FAULTS = {
    "project-file": _wrong_key,
    "references": _unset,
    "source": _no_source,
    "source-columns": _no_column,
    "history": _duplicates,
    "freshness": _stale,
    "sinks": _sink_behind_a_file,
    "tracking": _no_server,
    "prefect": _no_prefect,
    "databricks": _no_workspace,
    "databricks-volume": _no_volume,
    "databricks-jobs": _no_right_to_submit,
    "engine": _engine,
    "cache": _open_cache,
    "vulnerabilities": _old_library,
    "dependencies": _beyond_a_cap,
    "plugins": _broken_plugin,
    "plugins-allowed": _nobody,
    "credentials": _empty_credential,
    "disk": _full_disk,
    "clock": _clock,
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_is_named_by_exactly_its_check_and_the_exit_code_says_so(check, shop, monkeypatch, capsys):
    FAULTS[check](shop, monkeypatch)
    code = main(["--json", "doctor", "-p", str(shop)])
    out = capsys.readouterr().out
    lame = {one["name"]: one for one in json.loads(out)["checks"] if one["status"] == "failed"}
    assert (code, list(lame)) == (1, [check]), lame
    assert len(lame[check]["detail"]) > 15
    assert lame[check]["mend"]
    assert "secret" not in out
    assert "dapi0123" not in out


CLUSTER = {"spark_version": "16.4.x-scala2.12", "node_type": "D4", "workers": 1}
#: what is wrong with a workspace: the engine's settings, what is planted, the check, what it names, and the mend
WORKSPACE_FAULTS = {
    "token": ({}, lambda there: setattr(there, "token", "another"), "databricks", "refused asking who", "sign in"),
    "out": ({}, lambda there: there.fault(".", 503), "databricks", "does not answer", "in trouble"),
    "may not read": ({}, lambda there: there.deny("directories"), "databricks-volume", "not have perm", "READ VOLUME"),
    "volume out": ({}, lambda there: there.fault("directories", 500), "databricks-volume", "does not say", "try again"),
    "submit out": ({}, lambda there: there.fault("submit", 500), "databricks-jobs", "no answer", "try again"),
    "no such runtime": (
        {"cluster": {**CLUSTER, "spark_version": "15.4.x-cpu"}},
        lambda there: None,
        "databricks-jobs",
        "has no runtime 15.4.x-cpu",
        "write one of 16.4.x-scala2.12, 17.3.x-scala2.13",
    ),
    "old runtime": (
        {"cluster": {**CLUSTER, "spark_version": "13.3.x"}},
        lambda there: setattr(there, "spark_versions", ("13.3.x",)),
        "databricks-jobs",
        "13.3.x has a Python older than 3.11",
        "15 or newer",
    ),
    "old cluster": (
        {"existing_cluster": "c2"},
        lambda there: there.clusters.update(c2="14.3.x"),
        "databricks-jobs",
        "14.3.x has a Python older than 3.11",
        "15 or newer",
    ),
    "no such cluster": (
        {"existing_cluster": "c9"},
        lambda there: None,
        "databricks-jobs",
        "c9 does not exist",
        "engine.existing_cluster",
    ),
}


@pytest.mark.parametrize("fault", WORKSPACE_FAULTS)
def test_what_is_wrong_with_a_workspace_is_named_with_whom_it_was_asked_as_and_its_mend(fault, shop, monkeypatch):
    changes, plant, check, words, mend = WORKSPACE_FAULTS[fault]
    workspace = _on_databricks(shop, monkeypatch, **({"serverless": False} if changes else {}), **changes)
    plant(workspace)
    started = time.monotonic()
    lame = failed(findings(shop))
    assert list(lame) == [check], lame
    assert words in lame[check].detail
    assert workspace.url in lame[check].detail or "runtime" in lame[check].detail
    assert mend in lame[check].mend
    assert time.monotonic() - started < 60
    assert list(workspace.runs) == []


def test_a_workspace_where_all_is_well_is_told_with_its_user_and_runtime(shop, monkeypatch):
    workspace = _on_databricks(shop, monkeypatch, serverless=False, existing_cluster="c1")
    told = {name: one.detail for name, one in findings(shop).items() if name.startswith("databricks")}
    assert told["databricks"] == f"{workspace.url} knows this as someone@example.com"
    assert told["databricks-jobs"] == "someone@example.com may submit runs; runtime 16.4.x-scala2.12"


@pytest.fixture
def copied(shop, tmp_path):
    """A copy whose model store is its own, for faults planted in it."""
    folder = tmp_path / "copied"
    shutil.copytree(shop, folder)
    return folder


def test_an_alias_set_behind_the_ledgers_back_is_named(copied):
    from mlflow import MlflowClient

    uri = f"sqlite:///{copied / 'mlflow.db'}"
    MlflowClient(uri, uri).delete_registered_model_alias("shop", "champion")
    lame = failed(findings(copied))
    assert list(lame) == ["registry"]
    assert "champion should be 1" in lame["registry"].detail


def test_a_champion_whose_files_were_changed_is_named(shop):
    (file,) = (shop / "mlartifacts").rglob("model.json")
    kept = file.read_bytes()
    file.write_bytes(kept + b" ")
    try:
        lame = failed(findings(shop))
    finally:
        file.write_bytes(kept)
    assert list(lame) == ["champion"]
    assert "model.json" in lame["champion"].detail


def test_a_run_after_the_doctor_finds_the_store_as_it_was(shop):
    findings(shop)
    assert runtime.store(Project.load(shop)).resolve("champion").version == "1"


def test_it_answers_within_five_seconds_of_work(shop):
    findings(shop)  # libraries imported
    started = time.process_time()
    findings(shop)
    assert time.process_time() - started < 5
