"""What a notebook shows: a series drawn from the table, and projects, reports and leaderboards as they look."""

import copy
import pickle
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

import forecastcore as fc
from forecastcore.errors import UsageError
from forecastcore.messages import Leaderboard, RetrainReport
from forecastcore.notebook import Forecasts, Picture
from forecastcore.templates import TEMPLATES

NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"

ORIGIN = pd.Timestamp("2025-03-31", tz="UTC")
VERSION = {"version": "1", "model": "seasonal-naive"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A project, and its table as a sink gives it back; the page work-in-a-notebook has both from real runs."""
    folder = tmp_path_factory.mktemp("shown")
    days = pd.date_range("2025-01-01", periods=90, freq="D")
    names = ["a<b>", "plain"]
    pd.concat([pd.DataFrame({"unique_id": name, "ds": days, "y": days.dayofweek * 10.0 + 5}) for name in names]).to_csv(
        folder / "data.csv", index=False
    )
    (folder / "forecast.yaml").write_text(
        "name: shown\nsource: {type: csv, path: data.csv}\nfrequency: D\nhorizon: 7\nmodels: [{type: seasonal-naive}]\n"
        "sinks: [{type: parquet, path: out}]\n"
    )
    project = fc.Project.load(folder)
    step = np.tile(np.arange(1, 8), 2)
    rows = pd.DataFrame({"unique_id": np.repeat(names, 7), "step": step, "ds": ORIGIN + pd.to_timedelta(step, "D")})
    rows = rows.assign(forecast=20.0 + step, q10=15.0, q90=30.0, issued_at=ORIGIN, scenario="base", project="shown")
    rows = rows.assign(
        model="seasonal-naive", model_version="1", status="ok", reason="", run_key="k", created_at=ORIGIN
    )
    table = Forecasts(rows)
    table._project = project
    return project, table


def test_a_series_is_drawn_with_its_history_by_its_name(shown, tmp_path):
    _, table = shown
    picture = table.plot("plain")
    assert isinstance(picture, Picture)
    assert "plain: forecast of 2025-03-31" in picture.caption
    assert "band of 80" in picture.caption
    page = picture._repr_html_()
    assert "<svg" in page
    assert "src=" not in page
    drawn = ET.parse(picture.save(tmp_path / "plain.svg")).getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in (tmp_path / "plain.svg").read_text()


@pytest.mark.row(54)
def test_a_name_that_is_markup_is_shown_as_text(shown):
    _, table = shown
    assert "<b>" not in table.plot("a<b>")._repr_html_()
    assert "a&lt;b&gt;" in table.plot("a<b>")._repr_html_()


def test_a_part_of_the_table_can_be_drawn_too(shown):
    _, table = shown
    part = table[table["unique_id"] == "plain"]
    assert isinstance(part, Forecasts)
    assert isinstance(part.plot("plain"), Picture)


def test_a_series_that_is_none_is_told_with_the_nearest(shown):
    _, table = shown
    with pytest.raises(UsageError, match="no series 'plane'") as error:
        table.plot("plane")
    assert error.value.hint == "did you mean 'plain'?"
    with pytest.raises(UsageError, match="knows no project"):
        Forecasts(pd.DataFrame(table)).plot("plain")


def test_the_rest_of_plot_is_pandas(shown):
    _, table = shown
    import matplotlib as mpl

    mpl.use("Agg")
    axes = table.plot("ds", "forecast")
    assert axes.get_xlabel() == "ds"
    assert callable(table.plot.line)
    mpl.pyplot.close("all")


def test_the_table_is_a_data_frame_that_travels_without_its_project(shown):
    _, table = shown
    assert isinstance(table, pd.DataFrame)
    sent = pickle.loads(pickle.dumps(table))
    assert type(sent) is pd.DataFrame
    pd.testing.assert_frame_equal(sent, pd.DataFrame(table))
    assert copy.copy(table).plot("plain").caption == table.plot("plain").caption


def test_project_reports_and_leaderboard_show_themselves(shown):
    project, _ = shown
    assert "7 steps of D" in project._repr_html_()
    row = {"name": "naive<1>", "model": "naive", "params": {}, "status": "ok", "mase": 0.9}
    told = {"leaderboard": [row], "challenger": VERSION, "champion_before": None, "champion_after": VERSION}
    told |= {"project": "shown", "run_id": "r", "as_of": ORIGIN, "folds": 2, "seconds": 1.0}
    told |= {"decision": {"verdict": "first", "reason": "there was none"}}
    told |= {"series": {"total": 2, "ok": 2, "degraded": 0, "failed": 0}}
    report = RetrainReport.model_validate(told)
    page = report._repr_html_()
    assert "first: there was none" in page
    assert "naive&lt;1&gt;" in page
    assert "2 ok" in page
    assert isinstance(report.leaderboard, Leaderboard)
    assert "0.9" in report.leaderboard._repr_html_()
    assert RetrainReport.model_validate_json(report.model_dump_json(by_alias=True)) == report


# -- the example notebooks


def test_every_template_has_its_notebook_executed_and_without_a_fault():
    for template in TEMPLATES:
        text = (NOTEBOOKS / f"{template}.ipynb").read_text(encoding="utf-8")
        cells = nbformat.reads(text, as_version=4)["cells"]
        outputs = [out for cell in cells if cell["cell_type"] == "code" for out in cell["outputs"]]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code"), template
        assert not [out for out in outputs if out["output_type"] == "error"]
        assert "<svg" in outputs[-1]["data"]["text/html"]
        assert "/tmp" not in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("template", TEMPLATES)
def test_an_example_notebook_runs_from_its_first_cell_to_its_picture(template, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    book = nbformat.read(NOTEBOOKS / f"{template}.ipynb", as_version=4)
    NotebookClient(book, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "<svg" in book["cells"][-1]["outputs"][0]["data"]["text/html"]
