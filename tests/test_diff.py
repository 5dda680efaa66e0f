"""What changed between two vintages, and why."""

import numpy as np
import pandas as pd
import pytest

from forecastcore.explaining.movers import changes

WEATHER = {"covariates": {"temp": {"assume": "last"}}, "assumptions": {"last": {"type": "persistence"}}}
MODELS = """
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Sum:
    lag: float = 0.0
    weather: float = 0.0
    plus: float = 0.0

    def fit_series(self, series, task):
        return {}

    def predict_series(self, params, series, future, task):
        return self.lag * series.y[-1] + self.weather * future.x[:, 0] + self.plus

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="sum", summary="a sum", factory=Sum, capabilities={"covariates": True})
"""


@pytest.fixture
def site(make_site):
    return make_site(horizon=12).plugin(MODELS).write(**WEATHER, audit={"flat_line": "allow", "level": 1e9})


def model(**params):
    return "models=[{type: sum, " + ", ".join(f"{name}: {value}" for name, value in params.items()) + "}]"


def forecast(site, hour, recipe):
    site.retrain(recipe, "promotion.mode=off", as_of="2024-03-09T00:00Z", promote=False)
    newest = site.cli("--json", "models", "list").document["models"][0]["version"]
    return site.predict(recipe, as_of=f"2024-03-09T{hour:02}:00Z", model=newest)


def parts(site, *words):
    told = site.cli("--json", "diff", *words, "--set", model(lag=1))
    assert told.code == 0, told.out
    for mover in told.document["movers"]:
        assert sum(mover["parts"].values()) == pytest.approx(mover["change"], abs=1e-9)
    return {mover["unique_id"]: mover["parts"] for mover in told.document["movers"]}, told.document


def values(site, column, hour):
    rows = pd.read_parquet(site.folder / "history.parquet")
    at = rows[rows["ds"] == pd.Timestamp("2024-03-09") + pd.Timedelta(hours=hour)]
    return at.set_index("unique_id")[column]


@pytest.mark.slow
def test_what_comes_of_new_data_of_new_weather_and_of_another_model_is_told_apart(site):
    for hour, recipe in ((0, model(lag=1)), (6, model(lag=1))):
        forecast(site, hour, recipe)
    split, document = parts(site, "previous", "latest")
    assert document["rows"] == {"both": 18, "only_old": 18, "only_new": 18}
    came = values(site, "y", 6) - values(site, "y", 0)
    for uid, part in split.items():
        assert part == pytest.approx({"data": came[uid], "assumption": 0, "model": 0, "code": 0}, abs=1e-9)

    forecast(site, 7, model(lag=1, weather=3, plus=100))
    forecast(site, 8, model(lag=1, weather=3, plus=100))
    split, _ = parts(site, "previous", "latest")
    turned = 3 * (values(site, "temp", 8) - values(site, "temp", 7))
    came = values(site, "y", 8) - values(site, "y", 7)
    for uid, part in split.items():
        assert part == pytest.approx({"data": came[uid], "assumption": turned[uid], "model": 0, "code": 0}, abs=1e-9)

    split, _ = parts(site, "2024-03-09T06:00Z", "2024-03-09T07:00Z")
    for uid, part in split.items():
        assert part["model"] == pytest.approx(100 + 3 * values(site, "temp", 7)[uid])
    words = site.cli("diff", "2024-03-09T06:00Z", "2024-03-09T07:00Z").out
    assert " by the model" in words
    assert "18 rows" not in words
    assert "33 rows in both, 3 only in the old, 3 only in the new" in words


@pytest.mark.row(45)
def test_data_that_was_revised_since_is_neither_new_data_nor_the_model(site):
    first = forecast(site, 0, model(lag=1))
    rows = pd.read_parquet(site.folder / "history.parquet")
    rows.loc[rows["ds"] == "2024-03-09", "y"] += 7.0
    site.write(rows)
    second = site.predict(model(lag=1), as_of="2024-03-09T00:00Z", model="1")
    split, document = parts(site, first.run_key[:12], second.run_id)
    assert document["old"]["issued_at"] == document["new"]["issued_at"]
    for part in split.values():
        assert part == pytest.approx({"data": 0, "assumption": 0, "model": 0, "code": 7}, abs=1e-9)


def test_a_vintage_that_is_not_there_is_told_with_those_that_are(site):
    forecast(site, 0, model(lag=1))
    for pair in (("previous", "latest"), ("abcdef12", "latest"), ("f" * 32, "latest"), ("2020-01-01", "latest")):
        told = site.cli("diff", *pair)
        assert (told.code, "there is no vintage" in told.err) == (2, True), told.err


def test_rows_meet_whatever_their_order_and_a_series_of_one_side_is_named():
    ds = pd.date_range("2024-01-01", periods=6, freq="h", tz="UTC")
    old = pd.DataFrame({"unique_id": ["a"] * 4 + ["b"] * 4, "ds": [*ds[:4]] * 2, "forecast": np.arange(8.0)})
    new = pd.DataFrame({"unique_id": ["c"] * 4 + ["a"] * 4, "ds": [*ds[2:]] * 2, "forecast": 10 + np.arange(8.0)})
    told = changes(old.sample(frac=1, random_state=1), new.sample(frac=1, random_state=2))
    assert (told.come, told.gone, told.only_old, told.only_new) == (["c"], ["b"], 6, 6)
    assert told.rows["unique_id"].tolist() == ["a", "a"]
    assert told.rows["ds"].tolist() == [*ds[2:4]]
    assert (told.rows["new"] - told.rows["old"]).tolist() == [12.0, 12.0]
    assert told.series["moved"].tolist() == [12.0]
