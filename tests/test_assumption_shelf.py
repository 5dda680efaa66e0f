"""The assumptions of the contract as a project names them: chains, models, archives, several what-ifs in one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from forecastcore import runtime
from forecastcore.api import ModelSpec
from forecastcore.assumptions import Forecaster
from forecastcore.errors import AssumptionUnavailable, ConfigError
from forecastcore.testing import sample_future, sample_history, sample_task

NAMES = "holidays climatology persistence analogue model archive open-meteo table shift scale chain"
PARTS: dict[str, Any] = {
    "usual": {"type": "climatology"},
    "guess": {"type": "model", "model": {"type": "seasonal-naive"}},
    "weather": {"type": "chain", "links": ["guess", {"of": "usual", "max_age": "12h"}]},
}


@pytest.fixture
def site(tmp_path, site_of):
    return site_of(tmp_path, covariates={"temp": {"assume": "weather"}}, assumptions=PARTS)


def history(days=10):
    ds = pd.date_range("2024-03-01", periods=24 * days, freq="h")
    rng = np.random.default_rng(0)
    blocks = [pd.DataFrame({"unique_id": uid, "ds": ds, "y": rng.normal(50, 1, len(ds))}) for uid in "ab"]
    return pd.concat(blocks).assign(temp=np.tile(10 + 5 * np.sin(2 * np.pi * np.arange(len(ds)) / 24), 2))


def test_every_assumption_of_the_contract_is_there(site):
    offers = {offer.name: offer for offer in site.write(history()).project().host.offers("assumption")}
    assert set(NAMES.split()) <= set(offers)
    assert {offer.health for offer in offers.values()} == {"ok"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"links": ["gues"]}, "'gues'; there are guess, usual, weather (did you mean 'guess'?)"),
        ({"links": ["usual", {"of": "nobody"}]}, "links.1.of: no assumption is called 'nobody'"),
        ({"links": ["usual", "weather"]}, "links: goes round in a circle: weather → weather"),
        ({"links": []}, "links must name at least one assumption"),
        ({"links": [{"of": "usual", "max_age": "-1h"}]}, "max_age must be a length of time"),
        ({"links": [{"of": "usual", "maxage": "1h"}]}, "maxage"),
        ({"type": "model", "model": {"type": "seasonal-naiv"}}, "did you mean 'seasonal-naive'?"),
        ({"type": "model", "model": {"type": "ets", "seasn": 3}}, "model.seasn: is no parameter"),
        ({"type": "model", "model": {"season": 3}}, "model names a model: {type: ets}"),
        (
            {"type": "archive", "path": "x.csv", "available_after": "soon"},
            "available_after must be a length of time such as 12h, not 'soon'",
        ),
        ({"type": "open-meteo", "latitude": 3.0}, "give latitude and longitude, or locations"),
    ],
)
def test_what_is_wrong_with_an_assumption_is_told_at_its_place(site, change, words):
    parts = {**PARTS, "weather": change if "type" in change else {"type": "chain", **change}}
    with pytest.raises(ConfigError) as caught:
        site.write(history(), assumptions=parts).project()
    assert words in str(caught.value)


def test_a_covariate_is_forecast_by_the_model_that_the_project_names(site):
    project = site.write(history(), covariates={"temp": {"assume": "guess"}}).project()
    found = runtime.history(project)
    future = runtime.future(project, found)
    assert set(future.assumed_by) == {"temp=guess"}
    assert np.allclose(future.frame["temp"], 10 + 5 * np.sin(2 * np.pi * (np.tile(np.arange(6), 2)) / 24))
    names = {(offer.kind, offer.name) for offer in runtime.used_offers(project)}
    assert {("assumption", "model"), ("model", "seasonal-naive")} <= names


def test_several_what_ifs_of_every_kind_stand_side_by_side(site, tmp_path):
    ahead = pd.date_range("2024-03-11", periods=6, freq="h")
    pd.DataFrame({"ds": ahead, "temp": -3.0}).to_csv(tmp_path / "plan.csv", index=False)
    scenarios = {
        "warmer": {"weather": {"type": "shift", "of": "weather", "add": 5.0}},
        "double": {"weather": {"type": "scale", "of": "weather", "factor": 2.0}},
        "hot": {"weather": {"type": "climatology", "quantile": 0.9}},
        "plan": {"weather": {"type": "table", "path": "plan.csv"}},
    }
    project = site.write(history(), scenarios=scenarios).project()
    found = runtime.history(project)
    told = {name: runtime.future(project, found, name) for name in ("base", *scenarios)}
    base = told["base"].frame["temp"]
    assert np.allclose(told["warmer"].frame["temp"], base + 5)
    assert np.allclose(told["double"].frame["temp"], base * 2)
    assert (told["plan"].frame["temp"] == -3).all()
    assert np.isfinite(told["hot"].frame["temp"]).all()
    assert told["warmer"].assumed_by[0] == "temp=weather@warmer(weather(guess))"
    assert told["hot"].assumed_by[0] == "temp=weather@hot"


def test_validate_tells_of_known_covariates_that_end_before_the_horizon(site, capsys):
    from forecastcore.cli import main

    frame = history()
    plan = frame.groupby("unique_id").tail(2)
    plan = plan.assign(ds=plan["ds"] + pd.Timedelta("2h"), y=np.nan)
    site.write(pd.concat([frame, plan]), covariates={"temp": {"known": True}}, assumptions=None)
    assert main(["-p", str(site.folder), "validate", "--data"]) == 0
    told = capsys.readouterr().out
    assert "covariates.temp: known is true, but the source lacks 8 of 12 values of the 6 steps after" in told
    assert "in 2 of 2 series" in told


@dataclass(frozen=True)
class Level:
    value: float

    def predict(self, context, future, task):
        assert context["ds"].max() == task.origin
        return future[["unique_id", "ds"]].assign(forecast=self.value)


@dataclass(frozen=True)
class Counting:
    """Writes down when it was fitted."""

    fits: list[pd.Timestamp] = field(default_factory=list)

    def fit(self, history, task):
        assert history["ds"].max() == task.origin
        self.fits.append(task.origin)
        return Level(float(history["y"].mean()))


@dataclass(frozen=True)
class Offered:
    spec: ModelSpec
    version: str = "1"


OFFERED = Offered(ModelSpec(name="counting", summary="", factory=Counting, capabilities={"scope": "global"}))


def test_a_lent_model_is_fitted_once_a_horizon_and_the_same_question_is_answered_once():
    history = sample_history(series=2, rows=20 * 24)
    model = Counting()
    lent = Forecaster(OFFERED, model)
    ends = history["ds"].unique()[-30:]
    answers = []
    for end in ends:
        past = history[history["ds"] <= end].reset_index(drop=True)
        task = sample_task(past, horizon=24)
        answers.append(lent(past, sample_future(past, task), task=task)["forecast"].iloc[0])
        assert model.fits[-1] <= end
    assert len(model.fits) <= 3
    before = len(model.fits)
    again = lent(past, sample_future(past, task), task=task)["forecast"].iloc[0]
    assert again == answers[-1]
    assert len(model.fits) == before


def test_a_constant_covariate_stays_what_it_is_and_one_that_nobody_saw_has_no_answer():
    history = sample_history(series=2, rows=100)
    history.loc[history["unique_id"] == "series-0", "y"] = 3.0
    task = sample_task(history, horizon=4)
    lent = Forecaster(OFFERED, Counting())
    got = lent(history, sample_future(history, task), task=task)
    assert (got.loc[got["unique_id"] == "series-0", "forecast"] == 3.0).all()
    with pytest.raises(AssumptionUnavailable, match="counting can forecast none of the series: no-history"):
        lent(history.assign(y=np.nan), sample_future(history, task), task=task)


def test_the_page_of_assumptions_has_an_example_of_each():
    text = (Path(__file__).parents[1] / "docs" / "how-to" / "assumptions.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:]]
    changed = [change for block in blocks for change in block.get("scenarios", {}).values()]
    told = [entry for part in (*(b.get("assumptions", {}) for b in blocks), *changed) for entry in part.values()]
    assert {entry["type"] for entry in told} == set(NAMES.split())
