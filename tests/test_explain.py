"""Every code is explained, and every row."""

import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forecastcore
from forecastcore.audit import AuditError
from forecastcore.errors import ForecastCoreError
from forecastcore.explaining.codes import codes
from forecastcore.explaining.shares import shapley

SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in Path(forecastcore.__file__).parent.glob("*.py")}
TABLE = Path(forecastcore.__file__).parents[1] / "docs" / "reference" / "table.md"


def tree(error=ForecastCoreError):
    return {error.code}.union(*(tree(child) for child in error.__subclasses__()))


def found(pattern, text):
    got = set(re.findall(pattern, text))
    assert got
    return got


def test_every_error_reason_guard_audit_and_quality_code_is_explained():
    assert AuditError.code in tree()
    said = {
        "errors": tree(),
        "reasons": found(r"(?m)^\| `([a-z-]+)(?:: …)?` \|", TABLE.read_text().split("| reason |")[1]),
        "guards": found(r'name="([a-z_]+)"', SOURCES["compare"]),
        "data": found(r"\"(data-[a-z-]+)\"", SOURCES["continuity"]),
        "audit": found(r'(?:check=|_finding\(\s*|_series\()"([a-z-]+)"', SOURCES["audit"]) | {"minimum", "maximum"},
        "quality": found(r'QualityError\(\s*"([a-z]+)"', SOURCES["frames"]) | {"ambiguous", "nonexistent"},
        "engine": {"worker-died", "timed-out", "interrupted", "unexpected", "not-trained", "covariate-missing"},
    }
    assert {kind: sorted(names - codes().keys()) for kind, names in said.items() if names - codes().keys()} == {}


@pytest.mark.parametrize("code", codes())
def test_an_explanation_has_a_cause_a_mend_and_an_example(code):
    said = codes()[code]
    assert all((said.where, said.cause, said.mend, said.example))
    assert said.where in {"error", "reason", "guard", "audit", "quality", "audit; quality", "error; guard"}


def test_a_code_is_explained_without_a_project(tmp_path, monkeypatch, capsys):
    from forecastcore.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["explain", "champion-unavailable"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("champion-unavailable (reason of a row)\ncause    the champion cannot be loaded")
    assert "mend     " in told
    assert main(["explain", "champion-unavaliable"]) == 2
    assert "did you mean 'champion-unavailable'?" in capsys.readouterr().err


# -- rows

LINEAR = """
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Known:
    def fit_series(self, series, task):
        return {}

    def predict_series(self, params, series, future, task):
        return 0.5 * series.y[-24:][: len(future.ds)] + 3.0 * future.x[:, 1] - 8.0 * future.x[:, 0] + 10.0

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="known", summary="a known line", factory=Known, capabilities={"covariates": True})
"""


@pytest.fixture
def told(make_site):
    covariates = {"temp": {"assume": "usual"}, "promo": {"known": True}}
    site = make_site().plugin(LINEAR)
    site.write(covariates=covariates, assumptions={"usual": {"type": "climatology"}}, models=[{"type": "known"}])
    site.retrain(as_of="2024-03-09T00:00Z")
    site.predict(as_of="2024-03-09T00:00Z")
    return site


def test_the_contributions_of_a_linear_model_are_its_own_terms_and_sum_to_the_forecast(told):
    rows = told.table()
    history = pd.read_parquet(told.folder / "history.parquet")
    past = history[(history["unique_id"] == "b") & (history["ds"] <= "2024-03-09")]
    ahead = history[(history["unique_id"] == "b") & (history["ds"] > "2024-03-09")].iloc[:6]
    step = int(ahead["promo"].to_numpy().argmax()) + 1
    ahead = ahead.iloc[step - 1]
    assert ahead["promo"] == 1
    document = told.cli("--json", "explain", f"b+{step}").document
    row = rows[(rows["unique_id"] == "b") & (rows["step"] == step)].iloc[0]
    groups = document["contributions"]["groups"]
    assert list(groups) == ["level", "season", "lags", "calendar", "weather"]
    assert sum(groups.values()) == pytest.approx(row["forecast"]) == pytest.approx(document["replayed"])
    assert groups["level"] == pytest.approx(past["y"].iloc[-192:].mean())
    inputs = document["inputs"]["covariates"]
    assert inputs["promo"]["value"] == ahead["promo"]
    assert groups["calendar"] == pytest.approx(-8 * (ahead["promo"] - past["promo"].median()))
    assert groups["weather"] == pytest.approx(3 * (inputs["temp"]["value"] - past["temp"].median()))
    window = past["y"].iloc[-192:].to_numpy().reshape(8, 24)
    assert groups["lags"] == pytest.approx(0.5 * (window[-1] - window.mean(axis=0))[step - 1])
    assert (inputs["temp"]["by"], inputs["promo"]["by"]) == ("usual", "known")


def test_a_row_is_found_by_step_and_by_moment_and_told_in_words(told):
    by_step, by_moment = (told.cli("--json", "explain", key).document for key in ("b+3", "b@2024-03-09T03:00Z"))
    assert by_step == by_moment
    assert by_step["model"]["version"] == "1"
    words = told.cli("explain", "b+3").out
    assert "made by    known, version 1, ok" in words
    assert "because    weather" in words
    for wrong in ("b+99", "z+1", "b@2030-01-01"):
        answer = told.cli("explain", wrong)
        assert (answer.code, "the vintage has no row" in answer.err) == (2, True)


def test_a_fallbacks_row_names_its_reason(make_site):
    site = make_site()
    rows = pd.read_parquet(site.folder / "history.parquet")
    rows.loc[rows["unique_id"] == "c", "y"] = 7.0
    site.write(rows)
    site.retrain()
    site.predict()
    document = site.cli("--json", "explain", "c+1").document
    assert document["fallbacks"] == ["constant-history"]
    assert document["row"]["status"] == "degraded"
    assert sum(document["contributions"]["groups"].values()) == pytest.approx(7.0)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3), st.floats(-10, 10))
def test_shares_sum_to_the_difference_and_are_the_terms_where_there_are_no_interactions(terms, interaction):
    names = ["a", "b", "c"]

    def linear(some):
        return 5.0 + sum(terms[names.index(name)] for name in some)

    assert list(shapley(names, linear).values()) == pytest.approx(terms, abs=1e-9)
    shares = shapley(names, lambda some: linear(some) + interaction * (len(some) == 3))
    assert sum(shares.values()) == pytest.approx(sum(terms) + interaction, abs=1e-9)
    assert [shares[n] - t for n, t in zip(names, terms, strict=True)] == pytest.approx([interaction / 3] * 3, abs=1e-9)
