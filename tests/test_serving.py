"""A stored model applied by an engine: any chunks, the same forecasts; what a model breaks costs its series only."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from forecastcore import runtime, serving, units
from forecastcore.engines.local import LocalEngine
from forecastcore.package import Package
from forecastcore.parcel import unwrap, wrap
from forecastcore.serving import Stored, serve

COVARIATES = {"covariates": {"temp": {"assume": "w"}}, "assumptions": {"w": {"type": "persistence"}}}
ENSEMBLE = [{"type": "ridge"}, {"type": "naive"}, {"type": "seasonal-naive"}, {"type": "ensemble", "method": "mean"}]


@pytest.mark.parametrize(
    "models",
    [
        ENSEMBLE[2:3],
        pytest.param(ENSEMBLE[:1], marks=pytest.mark.slow),
        pytest.param([{"type": "gradient-boosting", "max_iter": 10}], marks=pytest.mark.slow),
        ENSEMBLE,
    ],
)
def test_chunks_forecast_as_the_whole_and_read_only_their_own_parameters(models, make_site, monkeypatch):
    monkeypatch.setattr(serving, "SERVED_POINTS", 400)  # a series and a half
    monkeypatch.setattr(units.chunks, "__defaults__", (300,))  # several parts, where parameters are each series' own
    site = make_site(models=models, backtest={"folds": 1}, **COVARIATES)
    site.retrain(as_of="2024-03-08")
    frame = pd.read_parquet(site.folder / "history.parquet")
    twin = frame[frame["unique_id"] == "a"].assign(unique_id="aa")
    site.write(pd.concat([frame, twin]))
    project = site.project()
    history, store = runtime.history(project), runtime.store(project)
    future = runtime.future(project, history).frame
    folder = store.fetch(store.versions()[0])
    stored = Stored(Package.outline(folder, project.host), folder)
    chunks = stored.units(history, {})
    assert sorted(uid for unit in chunks for uid in unit.ids) == ["a", "aa", "b", "c"]
    assert len(chunks) > 1
    parts = [json.loads(unit.request)["parts"] for unit in chunks]
    assert set().union(*parts) == set(stored.package.series_of(folder))
    if models == ENSEMBLE[2:3]:
        assert min(map(len, parts)) < len(set().union(*parts))
    told = []
    got = serve(project, stored, history, future, LocalEngine(0), lambda done, total: told.append((done, total)))
    expected = Package.load(folder, project.host).forecast(history.panel, future, history.origin)
    numbers = expected.columns.drop(["unique_id", "ds", "step", "model", "status", "reason"])
    assert got.drop(columns=numbers).equals(expected.drop(columns=numbers))
    np.testing.assert_allclose(got[numbers], expected[numbers], rtol=1e-12)
    assert told == [(done, len(chunks)) for done in range(1, len(chunks) + 1)]


def test_a_unit_needs_no_more_of_the_folder_than_it_says(make_site, tmp_path, monkeypatch):
    monkeypatch.setattr(units, "CHUNK_POINTS", 200)
    monkeypatch.setattr(serving, "SERVED_POINTS", 200)
    site = make_site(models=ENSEMBLE[2:3], backtest={"folds": 1})
    site.retrain()
    project = site.project()
    history, store = runtime.history(project), runtime.store(project)
    folder = store.fetch(store.versions()[0])
    stored = Stored(Package.outline(folder, project.host), folder)
    request = units.request_of(project, history.grid, origins=[(0, history.origin.isoformat())])
    chunks = stored.units(history, request)
    assert len(chunks) == 3
    for number, unit in enumerate(chunks):
        unwrap(wrap(folder, unit.reads), tmp_path / str(number))
        assert len(list((tmp_path / str(number) / "state").iterdir())) == 1
        moved = replace(unit, folder=tmp_path / str(number))
        (_, here), (_, there) = LocalEngine(0).map(units.package_unit, history.panel, [unit, moved])
        assert here.equals(there)


SPOILER = """
import os, time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Spoiler:
    how: str = "abort"

    def fit_series(self, series, task):
        return {"level": float(series.y[-1])}

    def predict_series(self, params, series, future, task):
        if series.unique_id == "b" and task.origin > pd.Timestamp("2024-03-09", tz="UTC"):
            if self.how == "hang":
                time.sleep(600)
            os.abort()
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="spoiler", summary="fine in training; spoils one series in service", factory=Spoiler)
"""


@pytest.mark.row(39)
@pytest.mark.slow
@pytest.mark.parametrize(("how", "timeout", "reason"), [("abort", "1h", "worker-died"), ("hang", "6s", "timed-out")])
def test_what_a_model_breaks_in_service_costs_that_series_only(how, timeout, reason, make_site):
    site = make_site(
        models=[{"type": "spoiler", "how": how}],
        engine={"type": "local", "workers": 2, "timeout": timeout},
        backtest={"folds": 1},
    ).plugin(SPOILER)
    assert site.retrain(as_of="2024-03-08").series.degraded == 0
    report = site.predict()
    assert report.series.model_dump() == {"total": 3, "ok": 2, "degraded": 1, "failed": 0}
    table = site.table()
    spoilt = table[table["status"] != "ok"]
    assert set(spoilt["unique_id"]) == {"b"}
    assert set(spoilt["reason"]) == {reason}
    assert set(spoilt["model"]) == {"seasonal-naive"}
    assert table["forecast"].notna().all()
