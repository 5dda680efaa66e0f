from __future__ import annotations

import subprocess
import sys

import forecastcore_statsforecast
import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from forecastcore import state
from forecastcore.api import Series
from forecastcore.errors import HistoryTooShort, PluginError
from forecastcore.testing import sample_future, sample_history, sample_task

SPECS = {spec.name: spec for spec in forecastcore_statsforecast.forecastcore_models()}
RARE = ("croston", "tsb", "adida", "imapa")


def quick(name, **parameters):
    parameters |= {"models": 8} if name == "auto-arima" else {}
    return SPECS[name].factory(**parameters)


def test_the_offers_have_the_names_of_the_contract():
    assert {"auto-ets", "auto-arima", "auto-theta", "auto-ces", "mstl", "croston"} <= set(SPECS)
    assert {name for name, spec in SPECS.items() if spec.capabilities.covariates} == {"auto-arima", "autoregression"}
    assert {name for name, spec in SPECS.items() if not spec.capabilities.quantiles} == {"auto-ces", *RARE}


@pytest.mark.parametrize("name", SPECS)
def test_each_answers_one_row_per_row_of_the_future_and_the_same_after_a_reload(name, tmp_path):
    history = sample_history(series=2, rows=72, frequency="MS", timezone="Europe/Berlin", covariates=("heat",))
    history = history if SPECS[name].capabilities.covariates else history.drop(columns="heat")
    task = sample_task(history, frequency="MS", horizon=6, timezone="Europe/Berlin", quantiles=(0.05, 0.5, 0.95))
    future = sample_future(history, task)
    fitted = quick(name).fit(history, task)
    answer = fitted.predict(history, future, task)
    assert answer[["unique_id", "ds"]].equals(future[["unique_id", "ds"]])
    assert np.isfinite(answer["forecast"]).all()
    if SPECS[name].capabilities.quantiles:
        assert (np.diff(answer[["q5", "q50", "q95"]].to_numpy(), axis=1) > 0).all()
    state.save(fitted, tmp_path / "fitted")
    again = state.load(tmp_path / "fitted", packages=["forecastcore_statsforecast"])
    pd.testing.assert_frame_equal(again.predict(history, future, task), answer)


@pytest.mark.parametrize("name", [name for name in SPECS if name not in RARE])
def test_one_short_series_does_not_stop_the_others(name):
    history = sample_history(series=2, rows=72, frequency="MS")
    history = history.drop(history.index[:70]).reset_index(drop=True)
    task = sample_task(history, frequency="MS", horizon=3)
    fitted = quick(name).fit(history, task)
    assert fitted.failures == {"series-0": "history-too-short"}
    assert fitted.predict(history, sample_future(history, task), task)["forecast"].notna().sum() == 3


@pytest.mark.parametrize("name", [name for name in SPECS if name not in RARE])
def test_a_context_that_begins_later_and_is_too_short_says_so(name, series, task):
    past, future = series(100 + 9 * np.sin(np.arange(96) * np.pi / 6) + np.random.default_rng(1).normal(size=96))
    model = quick(name)
    params = model.fit_series(past, task())
    rest = Series("a", past.ds[-5:], past.y[-5:], past.x[-5:])
    with pytest.raises(HistoryTooShort):
        model.predict_series(params, rest, future, task())


ODD = {
    "constant": np.full(40, 7.0),
    "all zero": np.zeros(40),
    "one point": np.array([3.0]),
    "eight points": np.array([3.0, 1.0, 2.0, 5.0, 4.0, 3.0, 2.0, 6.0]),
    "thirteen points": np.array([3.0, 1.0, 2.0, 5.0, 4.0, 3.0, 2.0, 6.0, 4.0, 1.0, 3.0, 2.0, 5.0]),
    "a perfect line": np.arange(40.0),
    "a perfect falling line": 10.0 - np.arange(40.0),
    "a perfect season": np.tile(np.arange(12.0), 4),
    "one step": np.r_[np.zeros(20), np.ones(20)],
    "one spike": np.r_[np.zeros(30), 1e6, np.zeros(9)],
    "rare demand": (np.arange(60) % 7 == 0) * 3.0,
    "alternating signs": (-1.0) ** np.arange(40) * np.arange(40),
    "level far above noise": 1e9 + np.sin(np.arange(40) * 1.7),
    "exponential growth": 1.4 ** np.arange(40),
}


DEMAND = {"croston", "tsb", "adida", "imapa"}


@pytest.mark.row(42)
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", SPECS)
def test_odd_series_give_numbers_or_say_that_they_are_too_short(name, kind, series, task):
    for y in (ODD[kind], -ODD[kind]):
        past, future = series(y)
        model = quick(name)
        if len(y) < SPECS[name].capabilities.min_history:
            with pytest.raises(HistoryTooShort):
                model.fit_series(past, task())
            continue
        if name in DEMAND and np.nanmax(y) < 0:
            with pytest.raises(ValueError, match="no demand to smooth"):
                model.fit_series(past, task())
            continue
        if (name, kind) == ("auto-ces", "a perfect season"):
            with pytest.raises(PluginError, match="repeats itself exactly"):
                model.fit_series(past, task())
            continue
        answer = model.predict_series(model.fit_series(past, task()), past, future, task()).reshape(12, -1)
        assert np.isfinite(answer[:, 0]).all()
        quantiles = answer[:, 1:]
        assert np.isnan(quantiles).any() or (np.diff(quantiles, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("auto-ets", {"model": "MAM", "damped": True, "season": 4, "max_history": 100}),
        ("auto-arima", {"max_order": 3, "approximation": False, "models": 10}),
        ("auto-theta", {"kind": "DOTM", "season": 1}),
        ("auto-ces", {"kind": "P"}),
        ("mstl", {"trend": "arima", "seasons": [24, 168], "log": True}),
        ("autoregression", {"log": "auto", "seasons": [7]}),
        ("croston", {"variant": "optimized"}),
        ("tsb", {"alpha_demand": 0.3, "alpha_probability": 0.1}),
    ],
)
def test_parameters_of_a_project_file_are_understood(name, parameters):
    model = TypeAdapter(SPECS[name].factory).validate_python(parameters)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}
    assert {key: getattr(model, key) for key in parameters} == plain


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("auto-ets", {"model": "AMA"}),
        ("auto-ets", {"model": "AA"}),
        ("auto-ets", {"season": 0}),
        ("auto-arima", {"max_p": -1}),
        ("auto-arima", {"models": 0}),
        ("auto-theta", {"kind": "SUPER"}),
        ("auto-ces", {"max_history": 0}),
        ("mstl", {"trend": "cubic"}),
        ("mstl", {"seasons": [0, 7]}),
        ("autoregression", {"log": "perhaps"}),
        ("croston", {"variant": "fast"}),
        ("tsb", {"alpha_demand": 1.5}),
    ],
)
def test_wrong_parameters_are_refused(name, parameters):
    with pytest.raises(ValidationError):
        TypeAdapter(SPECS[name].factory).validate_python(parameters)


def test_importing_the_plugin_imports_no_model_library():
    code = "import sys, forecastcore_statsforecast; sys.exit(any(m in sys.modules for m in ('statsforecast', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
