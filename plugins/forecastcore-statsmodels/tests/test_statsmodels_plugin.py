from __future__ import annotations

import subprocess
import sys

import forecastcore_statsmodels
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from forecastcore.testing import sample_future, sample_history, sample_task

SPECS = {spec.name: spec for spec in forecastcore_statsmodels.forecastcore_models()}


def test_the_offers_have_the_names_of_the_contract():
    assert list(SPECS) == ["ets", "sarimax", "theta", "unobserved-components"]
    assert SPECS["sarimax"].capabilities.covariates
    assert SPECS["sarimax"].capabilities.missing
    assert not SPECS["ets"].capabilities.missing


@pytest.mark.parametrize("name", SPECS)
def test_each_answers_one_row_per_row_of_the_future_with_ordered_quantiles(name):
    history = sample_history(series=2, rows=72, frequency="MS", timezone="Europe/Berlin")
    task = sample_task(history, frequency="MS", horizon=6, timezone="Europe/Berlin", quantiles=(0.05, 0.5, 0.95))
    future = sample_future(history, task)
    answer = SPECS[name].factory().fit(history, task).predict(history, future, task)
    assert answer[["unique_id", "ds"]].equals(future[["unique_id", "ds"]])
    assert list(answer.columns[2:]) == ["forecast", "q5", "q50", "q95"]
    values = answer[["q5", "q50", "q95"]].to_numpy()
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=1) > 0).all()


@pytest.mark.parametrize("name", SPECS)
def test_one_short_series_does_not_stop_the_others(name):
    history = sample_history(series=2, rows=72, frequency="MS")
    history = history.drop(history.index[:70]).reset_index(drop=True)
    task = sample_task(history, frequency="MS", horizon=3)
    fitted = SPECS[name].factory().fit(history, task)
    assert fitted.failures == {"series-0": "history-too-short"}
    assert fitted.predict(history, sample_future(history, task), task)["forecast"].notna().sum() == 3


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ets", {"error": "add", "trend": None, "damped": False, "seasonal": "mul", "season": 4, "max_history": 100}),
        ("ets", {"damped": "auto", "maxiter": 10}),
        ("sarimax", {"order": [1, 1, 0], "seasonal_order": [1, 0, 0], "fourier": 0, "trend": "c"}),
        ("sarimax", {"order": None, "season": 48}),
        ("theta", {"season": 1, "seasonal_test": False}),
        ("unobserved-components", {"level": "smooth trend", "harmonics": 3}),
    ],
)
def test_parameters_of_a_project_file_are_understood(name, parameters):
    model = TypeAdapter(SPECS[name].factory).validate_python(parameters)
    assert {key: getattr(model, key) for key in parameters} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()
    }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ets", {"error": "additive"}),
        ("ets", {"trend": None, "damped": True}),
        ("ets", {"season": 0}),
        ("sarimax", {"order": [1, 0]}),
        ("sarimax", {"order": [1, 0, -1]}),
        ("sarimax", {"fourier": -1}),
        ("theta", {"max_history": 0}),
        ("unobserved-components", {"level": "cubic"}),
        ("unobserved-components", {"harmonics": -1}),
    ],
)
def test_wrong_parameters_are_refused(name, parameters):
    with pytest.raises(ValidationError):
        TypeAdapter(SPECS[name].factory).validate_python(parameters)


def test_importing_the_plugin_imports_no_model_library():
    code = "import sys, forecastcore_statsmodels; sys.exit(any(m in sys.modules for m in ('statsmodels', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
