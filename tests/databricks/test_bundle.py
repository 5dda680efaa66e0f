"""The asset bundle: what Databricks' own schema knows, the machines that `plan` shows, and jobs that run."""

import json

import pytest
import yaml
from databricks.sdk.service import jobs

from forecastcore import cluster_main
from forecastcore.engines.databricks.quartz import quartz
from forecastcore.errors import UsageError

VOLUME = "/Volumes/main/fc/jobs"
ENGINE = {"type": "databricks", "volume": VOLUME, "timeout": "2min"}
CLUSTER = {"spark_version": "16.4.x-scala2.12", "node_type": "Standard_D4ds_v5", "workers": 2, "spot": True}
WAYS = [
    {"serverless": True, "packages": ["holidays==0.60"]},
    {"existing_cluster": "c1"},
    {"cluster": {**CLUSTER, "tags": {"team": "grid"}, "env": {"KEY": "{{secrets/s/k}}"}}},
]
PREFECT = """
deployments:
  - name: retrain
    parameters: {project: small/forecast.yaml}
    schedules: [{cron: "30 4 * * 0", timezone: Europe/Rome}]
  - name: predict
    parameters: {project: small}
    schedules: [{interval: 86400, anchor_date: "2026-01-01T06:00:00+01:00", timezone: Europe/Rome, active: false}]
  - {name: monitor, parameters: {project: another/forecast.yaml}, schedules: [{cron: "@daily"}]}
"""


@pytest.fixture
def made(make_site):
    """Write a bundle with an engine; the site, what was told, and the file."""

    def make(site=None, **engine):
        site = (site or make_site()).write(engine={**ENGINE, **engine})
        told = site.cli("--json", "bundle")
        assert told.code == 0, told.err
        return site, told.document, yaml.safe_load((site.folder / "bundle/databricks.yml").read_text())

    return make


def put_in(value, variables):
    """The bundle's variables in the place of their names."""
    text = json.dumps(value)
    for name, said in variables.items():
        text = text.replace(f"${{var.{name}}}", said.get("default", name))
    return json.loads(text)


@pytest.mark.parametrize("way", WAYS)
def test_every_job_is_what_the_sdk_knows_on_the_machines_that_plan_shows(made, way):
    site, told, bundle = made(**way)
    assert list(bundle) == ["bundle", "include", "variables", "resources", "targets"]
    assert {name: target.get("mode") for name, target in bundle["targets"].items()} == {
        "dev": "development",
        "staging": None,
        "prod": "production",
    }
    sent = site.cli("--json", "plan", "retrain").document["submits"]["payload"]
    for command, raw in bundle["resources"]["jobs"].items():
        job = put_in(raw, bundle["variables"])
        assert jobs.JobSettings.from_dict(job).as_dict() == job, "every field is one that the SDK knows"
        (task,), (planned,) = job["tasks"], sent["tasks"]
        machine = ("new_cluster", "existing_cluster_id", "environment_key", "timeout_seconds", "max_retries")
        assert [task.get(key) for key in machine] == [planned.get(key) for key in machine]
        asked, shown = (one["python_wheel_task"] for one in (task, planned))
        assert [asked[key] for key in ("package_name", "entry_point")] == ["forecastcore", "forecastcore-run"]
        assert asked["parameters"][::2] == shown["parameters"][::2]
        assert asked["parameters"][5] == shown["parameters"][5]
        assert asked["parameters"][1] == f"${{workspace.file_path}}/requests/{command}.json"
        assert job["schedule"]["pause_status"] == "PAUSED"
        installed = [wheel.rpartition("/")[2] for wheel in _installs(job)]
        assert installed == [wheel.rpartition("/")[2] for wheel in _installs(sent)]
        assert all((site.folder / "bundle" / one).is_file() for one in _installs(job) if one.endswith(".whl"))
    assert bundle["targets"]["prod"]["variables"] == {"schedules": "UNPAUSED"}
    assert any("history.parquet" in note for note in told["notes"])


def _installs(job):
    if "environments" in job:
        return job["environments"][0]["spec"]["dependencies"]
    return [one.get("whl") or one["pypi"]["package"] for one in job["tasks"][0]["libraries"]]


@pytest.mark.slow
def test_its_jobs_run(made, tmp_path):
    site, _, bundle = made(serverless=True)
    for command in ("retrain", "predict"):
        (task,) = bundle["resources"]["jobs"][command]["tasks"]
        words = dict(zip(*[iter(task["python_wheel_task"]["parameters"])] * 2, strict=True))
        report = tmp_path / words["--report"].replace("${var.volume}", "volume").replace("{{job.run_id}}", "7")
        request = site.folder / "bundle/requests" / f"{command}.json"
        cluster_main.main(["--request", str(request), "--report", str(report), "--home", str(tmp_path)])
        assert json.loads(report.read_text())["report"]["command"] == command
    assert len(site.table()) > 0
    request = site.folder / "bundle/requests/monitor.json"
    with pytest.raises(UsageError, match="no vintage was delivered before"):  # it is the only one so far
        cluster_main.main(["--request", str(request), "--report", str(tmp_path / "r.json"), "--home", str(tmp_path)])


def test_the_schedules_are_those_of_prefect_yaml(made, make_site):
    site = make_site()
    (site.folder.parent / "prefect.yaml").write_text(PREFECT.replace("small", site.folder.name))
    _, told, bundle = made(site, serverless=True)
    assert told["schedules"].endswith("prefect.yaml")
    assert {name: job["schedule"] for name, job in bundle["resources"]["jobs"].items()} == {
        "retrain": {
            "quartz_cron_expression": "0 30 4 ? * SUN",
            "timezone_id": "Europe/Rome",
            "pause_status": "${var.schedules}",
        },
        "predict": {"quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "Europe/Rome", "pause_status": "PAUSED"},
    }


def test_what_a_reference_means_is_in_no_file(made, monkeypatch):
    monkeypatch.setenv("MACHINE", "canary-4711")
    site, _, bundle = made(cluster={**CLUSTER, "node_type": "${env:MACHINE}", "tags": {"for": "${env:MACHINE}"}})
    assert bundle["variables"]["MACHINE"] == {"description": "what env:MACHINE is in the project file"}
    assert bundle["variables"]["node_type"]["default"] == "${var.MACHINE}"
    files = [path for path in (site.folder / "bundle").rglob("*") if path.is_file()]
    assert not any(b"canary-4711" in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"cluster": {**CLUSTER, "workers": "${env:MANY}"}}, "engine.cluster.workers is a reference"),
        ({"cluster": {**CLUSTER, "node_type": "${block:json/node}"}}, "cannot be read by a bundle"),
        ({"cluster": {**CLUSTER, "node_type": "${env:volume}"}}, "a variable that every bundle has"),
        ({"serverless": True, "volume": None}, "engine.volume is missing"),
        ({"type": "local", "volume": None, "timeout": "1h"}, "engine.type is local"),
    ],
)
def test_what_a_bundle_cannot_say_is_refused_and_nothing_is_written(make_site, engine, words):
    settings = {key: value for key, value in {**ENGINE, **engine}.items() if value is not None}
    site = make_site().write(engine=settings)
    told = site.cli("bundle")
    assert (told.code, words in told.err) == (2, True), told.err
    assert not (site.folder / "bundle").exists()


def test_its_own_file_is_written_over_and_another_is_not(made):
    site, _, _ = made(serverless=True)
    own = site.folder / "bundle/own/hosts.yml"
    own.parent.mkdir()
    own.write_text("targets: {}\n")
    (site.folder / "bundle/wheels/forecastcore-0.0.1-py3-none-any.whl").write_bytes(b"old")
    assert site.cli("bundle").code == 0
    assert own.read_text() == "targets: {}\n"
    assert not list((site.folder / "bundle/wheels").glob("forecastcore-0.0.1*"))
    (site.folder / "bundle/databricks.yml").write_text("bundle: {name: mine}\n")
    told = site.cli("bundle")
    assert (told.code, "is there already" in told.err) == (2, True)
    assert (site.folder / "bundle/databricks.yml").read_text() == "bundle: {name: mine}\n"


@pytest.mark.parametrize(
    ("schedule", "expression"),
    [
        ({"cron": "0 4 * * 0"}, "0 0 4 ? * SUN"),
        ({"cron": "0 4 * * 7"}, "0 0 4 ? * SUN"),
        ({"cron": "*/15 6-18 * * 1-5"}, "0 */15 6-18 ? * MON-FRI"),
        ({"cron": "5 4 1,15 * *"}, "0 5 4 1,15 * ?"),
        ({"cron": "0 4 * 1-3 mon,6"}, "0 0 4 ? 1-3 MON,SAT"),
        ({"interval": 86400, "anchor_date": "2026-01-01T05:00:00"}, "0 0 6 * * ?"),
        ({"interval": 604800, "anchor_date": "2026-01-01T23:30:00Z"}, "0 30 0 ? * FRI"),
        ({"interval": 21600, "anchor_date": "2026-01-01T07:10:00+01:00"}, "0 10 1/6 * * ?"),
        ({"interval": 900, "anchor_date": "2026-01-01T07:20:00+01:00"}, "0 5/15 * * * ?"),
        ({"cron": "0 4 1 * 1"}, None),
        ({"cron": "@daily"}, None),
        ({"cron": "0 4 * * 1#2"}, None),
        ({"cron": "0 4 * * *; rm"}, None),
        ({"interval": 100000}, None),
        ({"interval": 86400, "anchor_date": "soon"}, None),
        ({"rrule": "FREQ=DAILY"}, None),
    ],
)
def test_schedules_are_said_in_quartz_or_refused(schedule, expression):
    if expression is None:
        with pytest.raises(UsageError):
            quartz(schedule, "Europe/Rome")
    else:
        assert quartz(schedule, "Europe/Rome") == expression
