"""`init`: every template is a project that works as it is written."""

from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import pytest
import yaml

from forecastcore.cli import main
from forecastcore.errors import UsageError
from forecastcore.templates import TEMPLATES, data, write

LOCAL = ("--set", "engine={type: local, workers: 0}")


@pytest.fixture
def cli(capsys):
    def run(*words):
        code = main(["--json", *map(str, words)])
        return code, json.loads(capsys.readouterr().out)

    return run


QUICK = {"minimal"}


@pytest.mark.parametrize(
    "template", [pytest.param(t, marks=[] if t in QUICK else [pytest.mark.slow]) for t in TEMPLATES]
)
def test_a_template_validates_retrains_and_predicts_as_it_is_written(template, cli, tmp_path):
    folder = tmp_path / "My Project"
    code, told = cli("init", folder, "--template", template)
    assert code == 0
    assert {"forecast.yaml", "forecast.schema.json", "README.md"} < set(told["files"])
    code, valid = cli("-p", folder, "validate", "--data")
    assert (code, valid["project"]) == (0, "my-project")
    assert valid["data"]["notes"] == []
    assert any("my-model" in c["name"] or "team-model" in c["name"] for c in valid["candidates"])
    code, trained = cli("-p", folder, "retrain", *LOCAL)
    assert code == 0, trained
    assert all(row["status"] == "ok" for row in trained["leaderboard"])
    assert trained["champion_after"]["model"] != "seasonal-naive"
    code, predicted = cli("-p", folder, "predict", *LOCAL)
    assert code == 0, predicted
    assert predicted["series"]["ok"] == predicted["series"]["total"] > 0


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_project_file_keeps_to_the_schema_beside_it_and_names_it_for_editors(template, tmp_path):
    folder = write(template, tmp_path / "project")
    text = (folder / "forecast.yaml").read_text()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=forecast.schema.json"
    jsonschema.validate(yaml.safe_load(text), json.loads((folder / "forecast.schema.json").read_text()))


def test_a_template_holds_the_same_data_every_time(tmp_path):
    for template in TEMPLATES:
        once, again = tmp_path / f"{template}-1", tmp_path / f"{template}-2"
        data.write(template, once)
        data.write(template, again)
        (file,) = once.iterdir()
        assert file.read_bytes() == (again / file.name).read_bytes()
        assert file.stat().st_size < 1_000_000


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="is not empty"):
        write("minimal", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UsageError, match="is a file"):
        write("minimal", tmp_path / "mine.txt")


def test_a_template_that_is_none_is_told_with_those_there_are(tmp_path, capsys):
    assert main(["init", str(tmp_path / "x"), "--template", "energyload"]) == 2
    assert "did you mean 'energy-load'?" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no template"):
        write("none", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("template", "tests"), [("minimal", "tests"), ("plugin-team", "forecastcore-team-model")])
def test_the_sample_plugin_passes_its_own_test(template, tests, tmp_path):
    folder = write(template, tmp_path / "project")
    inside = {"PYTHONPATH": str(folder / "forecastcore-team-model"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(folder / tests)],
        cwd=folder,
        env=inside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
