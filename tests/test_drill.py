"""Rehearsals on a copy: they hold, they find what would not, and they leave the project as it is."""

from hashlib import sha256

import pytest

WEATHER = {
    "covariates": {"temp": {"assume": "weather"}},
    "assumptions": {
        "weather": {"type": "chain", "links": ["service", "usual"]},
        "service": {"type": "persistence"},
        "usual": {"type": "climatology"},
    },
    "models": [{"type": "linear"}],
}
LINEAR = """
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Linear:
    def fit_series(self, series, task):
        return {"line": np.polyfit(series.x[:, 0], series.y, 1)}

    def predict_series(self, params, series, future, task):
        return np.polyval(params["line"], future.x[:, 0])

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="linear", summary="a line", factory=Linear, capabilities={"covariates": True})
"""


def everything(folder):
    return {p.relative_to(folder): sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def reigning(make_site):
    site = make_site().plugin(LINEAR).write(**WEATHER)
    site.retrain()
    site.retrain("models=[{type: seasonal-naive}]", promote=False)
    site.cli("models", "promote", "2")
    site.cli("models", "promote", "1")
    return site


@pytest.mark.row(37)
@pytest.mark.parametrize(
    "kind", [*(pytest.param(k, marks=pytest.mark.slow) for k in ("weather-outage", "registry-loss")), "sink-outage"]
)
def test_a_drill_holds_and_leaves_the_project_as_it_is(reigning, kind):
    before = everything(reigning.folder)
    told = reigning.cli("--json", "drill", kind)
    assert (told.code, told.document["passed"]) == (0, True), told.out
    checks = {check["name"]: check["detail"] for check in told.document["checks"]}
    assert "18 of 18 rows" in checks["delivered"]
    if kind == "weather-outage":
        assert "temp by weather(usual): service: " in checks["stood-in-for"]
    if kind == "registry-loss":
        made = [check["detail"] for check in told.document["checks"] if check["name"] == "every-row-marked"]
        assert "made by seasonal-naive version 1" in made[0]  # the champion before, as it is numbered in the copy
        assert "made by seasonal-naive version none" in made[1]
    if kind == "sink-outage":
        assert "written" in checks["caught-up"]
        assert "there already" in checks["caught-up"]
    assert everything(reigning.folder) == before


@pytest.mark.row(37)
def test_a_drill_says_what_would_not_hold(reigning):
    alone = "assumptions.weather={type: shift, of: service, add: 1}"
    told = reigning.cli("drill", "weather-outage", "--set", "audit.max_degraded=0.1", "--set", alone)
    assert told.code == 1
    assert "FAILS  delivered: " in told.out
    assert "the forecast would not be delivered" in told.out


def test_without_a_champion_or_anything_to_break_it_says_so(make_site):
    told = make_site().cli("drill", "sink-outage")
    assert (told.code, "there is no champion to rehearse with" in told.err) == (2, True)
    site = make_site()
    site.retrain()
    told = site.cli("drill", "weather-outage")
    assert (told.code, "assumes no covariate" in told.err) == (2, True)
    assert site.cli("drill", "weather-outrage").code == 2
