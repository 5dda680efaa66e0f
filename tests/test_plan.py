"""`plan`: what a run would do, word for word what it then does, and nothing is written."""

from __future__ import annotations

import hashlib
import json

import pytest

from forecastcore.cli import main
from forecastcore.templates import write

MODELS = (
    "models=[{type: seasonal-naive}, {type: ridge, grid: {alpha: [0.1, 1.0]}}, {type: ensemble}]",
    "backtest.folds=2",
)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    folder = write("minimal", tmp_path / "shop")

    def run(*words):
        overrides = [word for model in MODELS for word in ("--set", model) if "--set" not in words]
        code = main(["--json", *words, "-p", str(folder), *overrides])
        return code, json.loads(capsys.readouterr().out)

    return run


def everything(folder):
    return {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in [folder, *folder.rglob("*")]
        if "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_before_and_after_each_run_the_plan_is_what_comes_and_nothing_changes(cli, tmp_path, capsys):
    before = everything(tmp_path)
    code, plan = cli("plan", "retrain")
    assert (code, plan["schema"], plan["command"]) == (0, "forecastcore/plan-retrain/1", "plan retrain")
    assert plan["promotes"]["champion"] is None
    assert plan["costs"]["seconds"] is None
    fits = {one["name"]: one["fits"] for one in plan["fits"]["candidates"]}
    assert fits == {"seasonal-naive": 2 * 3, "ridge-1": 2, "ridge-2": 2, "ensemble": 0}
    assert plan["fits"]["total"] == 10
    code, refused = cli("plan", "predict")
    assert (code, "retrain" in refused["error"]["hint"]) == (2, True)
    assert everything(tmp_path) == before

    _, trained = cli("retrain")
    assert trained["as_of"].replace("Z", "+00:00") == plan["reads"]["origin"]
    assert trained["folds"] == len(plan["fits"]["folds"])
    assert {row["name"] for row in trained["leaderboard"]} == set(fits)

    before = everything(tmp_path)
    code, plan = cli("plan", "predict")
    (sink,) = plan["writes"]["sinks"]
    assert (code, sink["already"]) == (0, False)
    code, again = cli("plan", "retrain", "--no-promote")
    assert (again["promotes"]["mode"], again["promotes"]["champion"]) == ("--no-promote", "1")
    assert 0 < again["costs"]["seconds"] <= trained["seconds"] + 0.1
    assert everything(tmp_path) == before

    _, predicted = cli("predict")
    assert predicted["run_key"] == sink["run_key"]
    assert predicted["rows"] == plan["writes"]["rows"]
    assert predicted["model_version"] == plan["writes"]["model"]["version"]
    before = everything(tmp_path)
    _, plan = cli("plan", "predict")
    assert [(s["already"], s["run_key"]) for s in plan["writes"]["sinks"]] == [(True, predicted["run_key"])]
    assert everything(tmp_path) == before

    for words in (["plan", "retrain"], ["plan", "predict"]):
        assert main([*words, "-p", str(tmp_path / "shop")]) == 0
        said = capsys.readouterr().out
        assert all(word in said for word in ("reads ", "fits ", "writes ", "submits ", "costs "))


def test_a_search_is_planned_with_its_whole_budget(cli, tmp_path):
    searched = "models=[{type: ridge, search: {space: {alpha: {low: 0.1, high: 10.0}}, trials: 7}}]"
    code, plan = cli("plan", "retrain", "--set", searched, "--set", "backtest.folds=2")
    assert code == 0
    (ridge,) = plan["fits"]["candidates"]
    assert (ridge["trials"], ridge["fits"]) == (7, 2 * 7)


def test_what_is_planned_and_is_no_run_is_refused(cli):
    assert cli("plan", "predict", "--scenario", "heatwav")[0] == 2
