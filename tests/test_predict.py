"""Predict applies what was learned to what is new; it estimates nothing and writes each vintage once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forecastcore.errors import DataError, StateError, UsageError
from forecastcore.testing import sample_history
from tests.conftest import small_history

COVARIATES = {
    "covariates": {"temp": {"assume": "weather"}},
    "assumptions": {"weather": {"type": "persistence"}},
    "scenarios": {"heat": {"weather": {"type": "shift", "of": "weather", "add": 1.0}}},
}
MODELS = [
    "seasonal-naive",
    "naive",
    "theta",
    "ets",
    "sarimax",
    "unobserved-components",
    "ridge",
    "gradient-boosting",
    "random-forest",
]
#: the others wait for `make test-slow`
KEPT = {"seasonal-naive", "ets", "ridge", "gradient-boosting"}
QUICK = {
    "gradient-boosting": {"max_iter": 10},
    "random-forest": {"trees": 5},
    "ets": {"error": "add", "trend": None, "damped": False, "seasonal": "add"},
    "sarimax": {"order": [1, 0, 0], "fourier": 2, "maxiter": 20},
    "unobserved-components": {"level": "local level", "harmonics": 2, "maxiter": 20},
}


def days(rows=90):
    frame = sample_history(series=3, rows=rows, frequency="D", covariates=("temp",))
    return frame.assign(ds=frame["ds"].dt.tz_localize(None))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, empty_store, site_of):
    """Sites with one model each, trained as of a month before the data's end; made once."""
    made = {}

    def of(model):
        if model not in made:
            folder = tmp_path_factory.mktemp(model)
            shutil.copy(empty_store, folder / "mlflow.db")
            params = {"type": model, **QUICK.get(model, {})}
            own = {"frequency": "D", "horizon": 7, "models": [params], "backtest": {"folds": 1}, **COVARIATES}
            made[model] = site_of(folder, **own).write(days())
            made[model].retrain(as_of="2024-02-29")
        return made[model]

    return of


@pytest.mark.parametrize("model", [pytest.param(m, marks=[] if m in KEPT else [pytest.mark.slow]) for m in MODELS])
def test_a_month_later_the_stored_model_forecasts_from_the_month_end_and_fits_nothing(model, trained, monkeypatch):
    site = trained(model)
    forbid_fits(site.project(), monkeypatch)
    old = site.predict(as_of="2024-02-29")
    report = site.predict()
    table, then = site.table(), site.table(issued_at="2024-02-29")
    assert str(report.issued_at) == "2024-03-30 00:00:00+00:00"
    assert table["ds"].min() == pd.Timestamp("2024-03-31", tz="UTC")
    assert set(table["status"]) == {"ok"}
    assert report.series.ok == 3
    assert old.run_key != report.run_key
    assert then["ds"].min() == pd.Timestamp("2024-03-01", tz="UTC")
    assert not np.allclose(then["forecast"], table["forecast"])  # newer data, other forecasts


def forbid_fits(project, monkeypatch):
    """Whatever estimates raises from here on: every plugin's fit, and the optimisers below them."""

    def refuse(*args, **kwargs):
        raise AssertionError("predict estimates something")

    import scipy.optimize
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from statsmodels.base.model import LikelihoodModel
    from statsmodels.tsa.statespace.mlemodel import MLEModel

    for offer in project.host.offers("model"):
        if offer.health == "ok":
            monkeypatch.setattr(offer.spec.factory, "fit", refuse)
    for owner in (HistGradientBoostingRegressor, RandomForestRegressor, LikelihoodModel, MLEModel):
        monkeypatch.setattr(owner, "fit", refuse)
    for name in ("minimize", "fmin", "fmin_l_bfgs_b", "least_squares", "minimize_scalar", "brute", "basinhopping"):
        monkeypatch.setattr(scipy.optimize, name, refuse)


@pytest.mark.slow
def test_mlflow_serves_the_same_forecasts_in_a_fresh_process_without_pickle(trained, tmp_path):
    sites = {model: trained(model) for model in MODELS}
    for model, site in sites.items():
        site.predict()
        pd.concat([days(), ahead(site)]).to_parquet(tmp_path / f"{model}.parquet")
    code = (
        "import mlflow, pandas as pd\n"
        f"for name, db in {[(model, str(site.folder / 'mlflow.db')) for model, site in sites.items()]!r}:\n"
        "    mlflow.set_tracking_uri('sqlite:///' + db)\n"
        "    model = mlflow.pyfunc.load_model('models:/small@champion')\n"
        "    model.predict(pd.read_parquet(name + '.parquet')).to_parquet(name + '.got.parquet')\n"
    )
    env = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    columns = ["forecast", "q10", "q50", "q90"]
    for model, site in sites.items():
        got, expected = pd.read_parquet(tmp_path / f"{model}.got.parquet"), site.table()
        assert list(got["unique_id"]) == list(expected["unique_id"])
        assert (pd.DatetimeIndex(got["ds"]).as_unit("us") == pd.DatetimeIndex(expected["ds"]).as_unit("us")).all()
        np.testing.assert_allclose(got[columns], expected[columns], rtol=1e-9, atol=1e-9, err_msg=model)


def ahead(site):
    """The rows asked for, covariates as the project assumes them."""
    from forecastcore import runtime

    future = runtime.future(site.project(), runtime.history(site.project()))
    return future.frame[["unique_id", "ds", "temp"]].assign(ds=lambda f: f["ds"].dt.tz_localize(None), y=np.nan)[
        ["unique_id", "ds", "y", "temp"]
    ]


def test_the_same_question_is_answered_once(make_site):
    site = make_site(days=24, **COVARIATES, models=[{"type": "ridge", "covariates": "actual"}])
    site.retrain()
    first = site.predict()
    again = site.predict()
    assert first.run_key == again.run_key
    assert (first.published[0].already, again.published[0].already) == (False, True)
    assert len(site.table(issued_at=None)) == 18
    heat = site.predict(scenarios=("base", "heat"))
    assert [p.already for p in heat.published] == [True, False]
    assert heat.run_keys["base"] == first.run_key != heat.run_keys["heat"]
    assert len(site.table(issued_at=None)) == 36
    table = site.table()
    assert set(table.loc[table["scenario"] == "heat", "assumed_by"]) == {"temp=weather@heat(weather)"}
    rise = table["forecast"][table["scenario"] == "heat"].to_numpy() - table["forecast"][table["scenario"] == "base"]
    assert rise.between(2, 4).all()  # the data's rise of a degree is three
    site.predict(as_of="2024-03-08")
    assert site.table(issued_at=None)["issued_at"].nunique() == 2
    twice = site.predict(scenarios=("heat", "heat"))
    assert twice.scenarios == ("heat",)


def test_what_does_not_shape_a_forecast_does_not_change_its_key(site):
    site.retrain()
    first = site.predict()
    site.write(promotion={"mode": "off"}, engine={"type": "local", "workers": 2})
    assert site.predict().run_key == first.run_key
    frame = pd.read_parquet(site.folder / "history.parquet")
    frame.sample(frac=1, random_state=0).to_parquet(site.folder / "history.parquet")
    assert site.predict().run_key == first.run_key
    frame.loc[5, "y"] += 1
    frame.to_parquet(site.folder / "history.parquet")
    assert site.predict().run_key != first.run_key


def test_the_table_is_the_contract_s(site):
    site.retrain()
    report = site.predict()
    table = site.table()
    assert list(table.columns) == [
        "project", "unique_id", "scenario", "issued_at", "ds", "step", "forecast", "q10", "q50", "q90", "model",
        "model_version", "status", "reason", "assumed_by", "run_key", "created_at",
    ]  # fmt: skip
    assert set(table["run_key"]) == {report.run_key}
    assert set(table["issued_at"]) == {pd.Timestamp("2024-03-10 23:00", tz="UTC")}
    assert (table["q10"] <= table["q50"]).all()
    assert (table["q50"] <= table["q90"]).all()
    assert (table["ds"] == table["issued_at"] + pd.to_timedelta(table["step"], "h")).all()


@pytest.mark.row(46)
def test_series_that_came_or_went_since_training_are_served(site):
    frame = pd.read_parquet(site.folder / "history.parquet")
    site.retrain(as_of="2024-03-08")
    new = frame[(frame["unique_id"] == "a") & (frame["ds"] > "2024-03-08 12:00")].assign(unique_id="aa", y=7.5)
    new["y"] += np.arange(len(new)) % 24
    gone = frame[frame["unique_id"] != "b"]
    site.write(pd.concat([gone, new]))
    assert site.predict().series.model_dump() == {"total": 3, "ok": 2, "degraded": 1, "failed": 0}
    table = site.table()
    assert set(table["unique_id"]) == {"a", "aa", "c"}
    newcomer = table[table["unique_id"] == "aa"]
    assert set(newcomer["reason"]) == {"new-series"}
    assert set(newcomer["model"]) == {"seasonal-naive"}
    assert newcomer["forecast"].between(7.5, 31.5).all()
    assert (newcomer["q10"] < newcomer["q90"]).all()


@pytest.mark.row(46)
def test_a_global_model_serves_a_series_that_is_new_since_training(site):
    frame = pd.read_parquet(site.folder / "history.parquet")
    site.write(models=[{"type": "ridge"}]).retrain(as_of="2024-03-08")
    site.write(pd.concat([frame, frame[frame["unique_id"] == "a"].assign(unique_id="aa")]))
    site.predict()
    table = site.table()
    assert set(table["status"]) == {"ok"}
    twin = table["forecast"][table["unique_id"] == "aa"].to_numpy()
    np.testing.assert_allclose(twin, table["forecast"][table["unique_id"] == "a"], rtol=0.05)


def test_what_is_sold_now_and_then_may_as_well_not_be(make_site):
    """A lower end of a hundredth of a piece would have most days outside the band."""
    chance = np.random.default_rng(1)
    days = pd.date_range("2023-01-01", periods=400, freq="D")
    sold = chance.integers(1, 4, (4, 400)) * (chance.random((4, 400)) < 0.25)
    history = pd.concat([pd.DataFrame({"unique_id": f"part-{n}", "ds": days, "y": y}) for n, y in enumerate(sold)])
    site = make_site(history, frequency="D", horizon=14, models=[{"type": "ridge"}])
    report = site.retrain()
    site.predict()
    table = site.table()
    assert set(table["status"]) == {"ok"}
    assert (table["forecast"] > 0).any()
    assert not table["q10"].between(0, 0.5, inclusive="neither").any()
    assert (table["q10"] <= table["forecast"]).all()
    (row,) = report.leaderboard
    assert row.coverage > 0.75


PICKY = """
from dataclasses import dataclass
import pandas as pd
from forecastcore.api import Capabilities, ModelSpec, hookimpl

@dataclass(frozen=True)
class FittedPicky:
    level: float
    when: str
    def predict(self, context, future, task):
        if self.when == "predict" and "b" in set(future["unique_id"]):
            raise RuntimeError("cannot stand b")
        last = context.groupby("unique_id")["y"].last()
        return future[["unique_id", "ds"]].assign(forecast=self.level + future["unique_id"].map(last).astype(float))

@dataclass(frozen=True)
class Picky:
    when: str = "fit"
    def fit(self, history, task):
        if self.when == "fit" and "b" in set(history["unique_id"]):
            raise RuntimeError("cannot stand b")
        return FittedPicky(float(history.loc[history["unique_id"] != "b", "y"].std()), self.when)

@hookimpl
def forecastcore_models():
    for scope in ("local", "global"):
        yield ModelSpec(name=f"picky-{scope}", summary="", factory=Picky, capabilities=Capabilities(scope=scope))
"""


@pytest.mark.parametrize("scope", ["local", pytest.param("global", marks=pytest.mark.slow)])
@pytest.mark.parametrize("when", ["fit", "predict"])
def test_a_series_that_a_model_cannot_stand_is_served_and_the_others_as_without_it(scope, when, make_site):
    model = {"type": f"picky-{scope}", "when": when}
    site = make_site(models=[model]).plugin(PICKY)
    site.retrain()
    # a global model also serves a series that it was not fitted on
    served = (scope, when) == ("global", "fit")
    assert site.predict().series.degraded == (0 if served else 1)
    table = site.table()
    frame = pd.read_parquet(site.folder / "history.parquet")
    alone = make_site(frame[frame["unique_id"] != "b"], models=[model]).plugin(PICKY)
    alone.retrain()
    alone.predict()
    columns = ["unique_id", "ds", "step", "forecast", "status"]
    good = table[table["unique_id"] != "b"]
    assert good[columns].reset_index(drop=True).equals(alone.table()[columns])
    bad = table[table["unique_id"] == "b"]
    assert len(bad) == 6
    assert set(bad["status"]) == {"ok" if served else "degraded"}
    assert set(bad["reason"]) == {"" if served else "model-error: RuntimeError: cannot stand b"}


def test_a_changed_question_asks_for_a_retrain(site):
    site.retrain()
    for override in ("horizon=12", "quantiles=[0.2, 0.8]"):
        with pytest.raises(UsageError, match="run forecastcore retrain"):
            site.predict(override)


def test_a_model_that_was_tampered_with_is_not_loaded(site):
    site.retrain()
    (manifest,) = (site.folder / "mlartifacts").rglob("model.json")
    shutil.rmtree(site.folder.parent / "cache", ignore_errors=True)  # a checked copy would be served
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"horizon": 6', '"horizon": 7'), encoding="utf-8")
    report = site.predict()
    assert (report.model_version, report.series.ok) == ("none", 0)
    assert len(site.table()) == 3 * 6  # not seven steps
    with pytest.raises(StateError):
        site.predict(model="1")


def test_known_covariates_that_end_for_one_series_degrade_that_one(site):
    frame = pd.read_parquet(site.folder / "history.parquet")
    stops = (frame["unique_id"] == "b") & (frame["ds"] > "2024-03-09")
    site.write(frame[~stops], covariates={"promo": {"known": True}}, models=[{"type": "ridge"}], backtest={"folds": 1})
    site.retrain(as_of="2024-03-09")
    report = site.predict(as_of="2024-03-09")
    assert (report.series.ok, report.series.degraded) == (2, 1)
    table = site.table()
    assert set(table.loc[table["status"] != "ok", "reason"]) == {
        "covariate-missing: the source lacks future values of promo"
    }
    with pytest.raises(DataError, match="known is true"):
        site.predict()


def test_an_assumption_that_cannot_answer_degrades_and_says_so(make_site):
    site = make_site(days=5)  # each hour of it asks the broken service
    site.plugin(BROKEN).write(
        covariates={"temp": {"assume": "w"}}, assumptions={"w": {"type": "broken"}}, models=[{"type": "ridge"}]
    )
    learned = site.retrain()
    assert "carried on from the last season" in learned.leaderboard[0].reason
    report = site.predict()
    assert report.series.degraded == 3
    assert {(n.assumption, n.rows) for n in report.assumptions} == {("last-season", 18)}
    table = site.table()
    assert table["reason"].str.startswith("assumption-unavailable: w").all()
    assert set(table["model"]) == {"ridge"}
    site.write(models=[{"type": "seasonal-naive"}])
    site.retrain()
    assert site.predict(model="challenger").series.ok == 3  # a model without covariates does not mind


BROKEN = """
from dataclasses import dataclass
from forecastcore.api import AssumptionSpec, hookimpl
from forecastcore.errors import AssumptionUnavailable

@dataclass(frozen=True)
class Broken:
    def assume(self, history, future, task):
        raise AssumptionUnavailable("the weather service is down")

@hookimpl
def forecastcore_assumptions():
    yield AssumptionSpec(name="broken", summary="", factory=Broken)
"""


def test_a_vintage_that_is_made_again_is_the_latest_though_the_clock_of_the_first_was_ahead(make_site):
    site = make_site()
    site.retrain()
    first = site.predict()
    [file] = (site.folder / "out" / "forecasts").glob("*.parquet")
    ahead = pd.read_parquet(file).assign(created_at=pd.Timestamp.now("UTC").floor("us") + pd.Timedelta("2h"))
    pq.write_table(pa.Table.from_pandas(ahead, schema=pq.read_schema(file), preserve_index=False), file)
    site.write(small_history().assign(y=lambda rows: rows["y"] + 1))
    second = site.predict()
    assert (second.issued_at, second.run_key != first.run_key) == (first.issued_at, True)
    latest = pd.read_parquet(site.folder / "out" / "forecast_latest.parquet")
    assert set(latest["run_key"]) == set(site.table()["run_key"]) == {second.run_key}
    assert set(latest["created_at"]) == {ahead["created_at"].iloc[0] + pd.Timedelta(microseconds=1)}
