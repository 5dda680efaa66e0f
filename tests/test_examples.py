import shutil
from pathlib import Path

import pandas as pd
import pytest

import forecastcore as fc
import forecastcore.demo
from forecastcore.runs.contest import backtest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "seasonal_drift.py"
DART = ROOT / "examples" / "dart_trees.py"
DEMO = Path(forecastcore.demo.__file__).parent / "project"
MODELS = "models=[{type: seasonal-naive}, {type: seasonal-drift, grid: {seasons: [4, 8]}}]"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(DEMO, tmp_path / "project")
    data = tmp_path / "project" / "data" / "ferrara-water.parquet"
    table = pd.read_parquet(data)
    table[table["unique_id"].isin(["DMA_01", "DMA_02"])].to_parquet(data, index=False)
    return tmp_path / "project"


def load(folder, *overrides, plugin=EXAMPLE):
    return fc.Project.load(folder, overrides=("engine.workers=0", "backtest.folds=2", *overrides), plugins=[plugin])


@pytest.mark.parametrize(("example", "page"), [(EXAMPLE, "README.md"), (DART, "docs/how-to/plugins.md")])
def test_a_page_shows_the_example_as_it_is(example, page):
    text = example.read_text()
    assert text in (ROOT / page).read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 30


def test_the_example_competes_and_no_series_needs_a_fallback(folder):
    board = {row.name: row for row in backtest(load(folder, MODELS)).leaderboard}
    assert set(board) == {"seasonal-naive", "seasonal-drift-1", "seasonal-drift-2"}
    assert all(row.status == "ok" for row in board.values())
    assert board["seasonal-drift-1"].mase != board["seasonal-drift-2"].mase


@pytest.mark.slow
def test_the_example_is_trained_stored_and_serves(folder):
    project = load(folder, "models=[{type: seasonal-drift}]")
    fc.retrain(project, "2022-10-01T00:00Z")
    report = fc.predict(project)
    assert (report.model, report.series.ok) == ("seasonal-drift", 2)
    table = fc.forecasts(project)
    assert set(table["model"]) == {"seasonal-drift"}
    assert table[["forecast", "q10", "q90"]].notna().all(axis=None)


@pytest.mark.slow
def test_a_global_example_on_the_toolkit_is_trained_stored_and_serves(folder):
    project = load(folder, "models=[{type: seasonal-naive}, {type: dart, rounds: 20}]", plugin=DART)
    report = fc.retrain(project, "2022-10-01T00:00Z")
    assert report.challenger.model == "dart"
    assert fc.predict(project).series.ok == 2
    assert set(fc.forecasts(project)["model"]) == {"dart"}
