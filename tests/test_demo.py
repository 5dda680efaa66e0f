import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import forecastcore as fc
from forecastcore.demo import closing, run_demo, tour
from forecastcore.errors import UsageError
from forecastcore.ports import Steps

QUICK = ("models=[{type: seasonal-naive}, {type: naive}]", "backtest.folds=2", "engine.workers=0")


class Seen(Steps):
    def __init__(self):
        self.names = []

    def run(self, name, work):
        self.names.append(name)
        return work()


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    """The demo, run twice in one folder."""
    folder = tmp_path_factory.mktemp("demo") / "it is here"
    runs = []
    for _ in range(2):
        seen = Seen()
        runs.append((run_demo(folder, seen, overrides=QUICK), seen.names))
    return folder, *runs


def test_the_demo_leaves_a_project_with_a_champion_two_vintages_and_a_picture(toured):
    folder, (told, _), _ = toured
    project = fc.Project.load(folder)
    table = fc.forecasts(project, None)
    assert table.groupby("scenario")["issued_at"].nunique().to_dict() == {"base": 2, "heatwave": 1}
    assert len(table) == 3 * 10 * 168
    assert told["retrain"]["champion_before"]["version"] == "1"
    assert told["predict"]["series"] == {"total": 10, "ok": 10, "degraded": 0, "failed": 0}
    assert Path(told["page"]).is_file()
    assert Path(told["table"]).exists()
    json.dumps(told, allow_nan=False)


def test_the_stages_say_which_part_of_the_tour_they_belong_to(toured):
    _, (_, names), _ = toured
    assert {name.split("/")[0] for name in names if "/4 " in name} == {"1", "2", "3", "4"}
    assert names[-1] == "draw the page"


def test_the_page_shows_the_earlier_forecast_against_what_came(toured):
    _, (told, _), _ = toured
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "An earlier forecast, and what came" in page
    assert "heatwave" in page
    assert len(page.encode()) < 2_000_000


def test_a_second_run_trains_nothing_and_writes_nothing_twice(toured):
    folder, (first, _), (second, names) = toured
    assert all(published["already"] for published in second["predict"]["published"])
    assert second["predict"]["run_keys"] == first["predict"]["run_keys"]
    assert second["retrain"] == first["retrain"]
    assert not [name for name in names if "backtest" in name]
    assert len(fc.forecasts(fc.Project.load(folder), None)) == 3 * 10 * 168
    assert any("nothing was written twice" in line for line in second["lines"])


def test_what_is_said_is_narrow_aligned_and_complete(toured):
    folder, (told, _), _ = toured
    lines = told["lines"]
    assert [line for line in lines if len(line) > 80 and str(folder.parent) not in line] == []
    text = "\n".join(lines)
    assert told["retrain"]["decision"]["reason"].split(":")[0] in text
    assert str(folder / "out" / "report.html") in text
    assert f"--backend-store-uri 'sqlite:///{folder}/mlflow.db' --host 127.0.0.1" in text
    assert "?workflowType=machine_learning" in text
    start = next(number for number, line in enumerate(lines) if line.startswith("  unique_id"))
    rows = lines[start + 1 : start + 7]
    assert all(row.endswith("ok") and len(row) == len(rows[0]) for row in rows)


def test_the_commands_that_are_shown_can_be_run_as_they_stand(toured):
    _, _, (told, _) = toured
    line = next(line for line in told["lines"] if " predict -p " in line)
    done = subprocess.run(
        [*shlex.split(line.split("   ")[0]), "--help"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    mlflow = next(line for line in told["lines"] if "--backend-store-uri" in line)
    assert os.access(Path(shlex.split(mlflow)[0]), os.X_OK) or closing.command("mlflow") == "mlflow"


def test_a_command_is_shown_as_it_is_called_from_here(tmp_path, monkeypatch):
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    script = folder / "forecastcore"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert closing.command("forecastcore") == ".venv/bin/forecastcore"
    monkeypatch.chdir("/")
    assert closing.command("forecastcore") == str(script).lstrip("/")
    monkeypatch.setenv("PATH", str(folder))
    assert closing.command("forecastcore") == "forecastcore"


def test_prefects_command_names_the_flow_of_the_checkout_and_a_wheel_says_where_flows_are(toured, tmp_path):
    _, (told, _), _ = toured
    from_checkout = "\n".join(closing._servers(told, tmp_path))
    assert f"{tmp_path}/flows/predict.py --project" in from_checkout
    assert "prefect server start --host 127.0.0.1" in from_checkout
    assert "source tree" in closing._servers(told, None)[-1]


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty, and no demo project"):
        run_demo(tmp_path, Steps())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("text", ["name: somebody-elses\n", "- a list\n", "{broken", "\udcff"])
def test_another_project_is_left_alone(tmp_path, text):
    (tmp_path / "forecast.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match="not empty, and no demo project"):
        run_demo(tmp_path, Steps())


def test_a_file_in_the_folders_place_is_left_alone(tmp_path):
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(UsageError, match="is a file"):
        run_demo(tmp_path / "demo", Steps())


def test_a_copy_that_was_interrupted_is_completed(tmp_path):
    tour._copy(tmp_path)
    (tmp_path / "data" / "ferrara-water.parquet").unlink()
    mine = (tmp_path / "forecast.yaml").read_text() + "# mine\n"
    (tmp_path / "forecast.yaml").write_text(mine)
    tour._copy(tmp_path)
    assert (tmp_path / "data" / "ferrara-water.parquet").is_file()
    assert (tmp_path / "forecast.yaml").read_text() == mine


@pytest.mark.slow
def test_the_whole_demo_promotes_the_boosted_model(tmp_path):
    command = [str(Path(sys.executable).with_name("forecastcore")), "--json", "demo", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["retrain"]["champion_before"]["model"] == "ridge"
    assert all(row["status"] == "ok" for row in told["retrain"]["leaderboard"])
    assert told["retrain"]["leaderboard"][0]["skill"] > 0.1
    assert told["predict"]["series"]["ok"] == 10
