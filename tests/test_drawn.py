"""The page that a predict draws where the project file asks for one, as a person meets it in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from forecastcore import runtime
from tests.conftest import small_history
from tests.support.chromium import Chromium
from tests.support.prefect_server import answers, end, free_port, until

COVARIATES = {"covariates": {"temp": {"assume": "w"}}, "assumptions": {"w": {"type": "persistence"}}}


@pytest.fixture
def drawn(make_site):
    site = make_site().write(small_history(series=4), report="out/report.html", **COVARIATES)
    site.retrain()
    return site, site.predict()


def test_a_forecast_gets_its_page_beside_the_table_and_in_mlflow(drawn):
    site, told = drawn
    page = site.folder / "out" / "report.html"
    assert Path(told.page) == page
    text = page.read_text()
    assert "The decision" in text
    assert "How the candidates did" in text, "of the retrain that made the model"
    kept = runtime.store(site.project())._connection.call("l", lambda c: c.list_artifacts(told.run_id))
    assert "report.html" in [one.path for one in kept]
    again = site.cli("predict")
    assert (again.code, f"to look at: {page}" in again.out) == (0, True)


PAGED = """
from dataclasses import dataclass
from pathlib import Path
from forecastcore.api import Published, SinkSpec, hookimpl


@dataclass(frozen=True)
class Paged:
    path: Path
    full: bool = False

    def publish(self, vintage, run_key):
        return Published(location=str(self.path), rows=vintage.num_rows, already=False)

    def read(self, issued_at=None):
        raise AssertionError("nobody reads it")

    def show(self, page):
        if self.full:
            raise OSError("no space left")
        self.path.write_bytes(page)


@hookimpl
def forecastcore_sinks():
    yield SinkSpec(name="paged", summary="keeps pages", factory=Paged)
"""


def test_the_page_goes_wherever_the_table_went_and_one_place_that_takes_none_keeps_no_other(make_site, caplog):
    sinks = [{"type": "paged", "path": "full", "full": True}, {"type": "paged", "path": "page.html"}]
    site = make_site().plugin(PAGED).write(sinks=sinks, report="out/report.html")
    site.retrain()
    told = site.predict()
    assert not any(p.error for p in told.published)
    assert (site.folder / "page.html").read_bytes() == Path(told.page).read_bytes()
    assert not (site.folder / "full").exists()
    assert "its page is not beside it: no space left" in caplog.text


def test_none_is_drawn_where_none_is_asked_for(make_site):
    site = make_site()
    site.retrain()
    assert site.predict().page == ""
    assert not list(site.folder.rglob("*.html"))


def test_a_page_that_cannot_be_drawn_costs_no_forecast(make_site, monkeypatch, caplog):
    site = make_site().write(report="out/report.html")
    site.retrain()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = site.predict()
    assert (told.page, told.published[0].error, len(site.table())) == ("", "", 18)
    assert "delivered, but its page could not be drawn" in caplog.text


@pytest.mark.slow
def test_the_page_can_be_read_by_anybody_on_any_screen(drawn, tmp_path):
    _, told = drawn
    with Chromium() as browser:
        for width in (380, 1600):
            for scheme in ("light", "dark"):
                seen = browser.look(Path(told.page).as_uri(), width=width, scheme=scheme, axe=True)
                assert seen["violations"] == [], (width, scheme)
                assert seen["wide"] <= width, "nothing has to be scrolled sideways"
                assert (seen["errors"], len(seen["asked"])) == ([], 1), "the page fetches nothing"
                assert "The decision" in seen["text"]


@pytest.mark.slow
def test_mlflows_page_compares_three_candidates_side_by_side(make_site, tmp_path):
    site = make_site().write(models=[{"type": "seasonal-naive"}, {"type": "naive"}, {"type": "theta"}])
    told = site.retrain()
    port = free_port()
    place = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "mlflow", "server"]
    process = subprocess.Popen(
        [*words, "--port", str(port), "--backend-store-uri", f"sqlite:///{site.folder}/mlflow.db"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answers(f"{place}/health"), 120, process)
        client = runtime.store(site.project())._connection
        parent = client.call("look", lambda c: c.get_run(told.run_id))
        asked = f"tags.mlflow.parentRunId = '{told.run_id}'"
        runs = client.call("look", lambda c: c.search_runs([parent.info.experiment_id], asked))
        ids = quote(json.dumps([run.info.run_id for run in runs]))
        experiments = quote(json.dumps([parent.info.experiment_id]))
        with Chromium() as browser:
            seen = browser.look(f"{place}/#/compare-runs?runs={ids}&experiments={experiments}", wait="mase")
        for name in ("seasonal-naive", "naive", "theta"):
            assert name in seen["text"]
        assert "coverage" in seen["text"]
    finally:
        end(process)
