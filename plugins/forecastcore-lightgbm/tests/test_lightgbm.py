"""LightGBM on the toolkit: what it answers, that it answers the same again, and what is stored of it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import forecastcore_lightgbm
import numpy as np
import pandas as pd
import pytest
from forecastcore_lightgbm import LightGBM
from pydantic import TypeAdapter, ValidationError

from forecastcore import state
from forecastcore.errors import PluginError
from forecastcore.naive import repeat_season
from forecastcore.tabular import Growth
from forecastcore.testing import sample_future, sample_history, sample_task

SMALL = LightGBM(num_iterations=30, max_rows=6_000)


def _forecast(model, history, task):
    return model.fit(history, task).predict(history, sample_future(history, task), task)


def test_one_global_family_is_offered_and_its_parameters_are_checked():
    (spec,) = forecastcore_lightgbm.forecastcore_models()
    assert (spec.name, spec.capabilities.scope) == ("lightgbm", "global")
    assert spec.capabilities.covariates
    assert spec.capabilities.missing
    assert TypeAdapter(spec.factory).validate_python({"num_leaves": 7}).num_leaves == 7
    with pytest.raises(ValidationError, match="objective"):
        TypeAdapter(spec.factory).validate_python({"objective": "guess"})


def test_loading_the_plugin_imports_no_heavy_library():
    code = "import sys, forecastcore_lightgbm; print(sorted({'lightgbm', 'sklearn', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_beats_the_seasonal_naive_where_a_covariate_explains_the_rest():
    history = sample_history(covariates=("temperature",), rows=28 * 24)
    back = history.groupby("unique_id").cumcount(ascending=False)
    past, later = history[back >= 48], history[back < 48]
    future = later.drop(columns="y").assign(step=later.groupby("unique_id").cumcount().to_numpy(dtype=np.int32) + 1)
    task = dataclasses.replace(sample_task(history), origin=past["ds"].max())
    forecast = SMALL.fit(past, task).predict(past, future, task)["forecast"].to_numpy()
    naive = np.concatenate([repeat_season(y.to_numpy(), 168, 48) for _, y in past.groupby("unique_id")["y"]])
    assert np.abs(forecast - later["y"]).mean() < 0.8 * np.abs(naive - later["y"]).mean()


def test_trees_hang_on_the_seed_and_not_on_the_number_of_threads():
    x = np.random.default_rng(0).normal(size=(2_000, 12))
    y = x[:, 0] * np.abs(x[:, 1])
    one, two, other = (SMALL.grow(x, y, Growth(seed=s, threads=t)).predict(x) for s, t in ((1, 1), (1, 2), (2, 1)))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_a_limit_on_leaves_counts_distinct_targets_not_rows_alike():
    x = np.random.default_rng(0).normal(size=(300, 3))
    y = x[:, 0] * np.abs(x[:, 1])
    once = SMALL.grow(x, y, Growth()).predict(x)
    thrice = SMALL.grow(np.repeat(x, 3, axis=0), np.repeat(y, 3), Growth(repeats=3)).predict(x)
    assert len(np.unique(thrice)) < 1.5 * len(np.unique(once))


def test_a_series_gets_the_same_forecast_alone_and_among_others():
    history = sample_history(covariates=("temperature",))
    task = sample_task(history)
    fitted, future = SMALL.fit(history, task), sample_future(history, task)
    together = fitted.predict(history, future, task)
    for name in history["unique_id"].unique():
        own, asked = (frame[frame["unique_id"] == name] for frame in (history, future))
        expected = together.loc[together["unique_id"] == name, "forecast"]
        np.testing.assert_array_equal(fitted.predict(own, asked, task)["forecast"], expected)


def test_missing_values_are_lived_with():
    history = sample_history(covariates=("temperature",))
    task = sample_task(history)
    holed = history.copy()
    rng = np.random.default_rng(1)
    for column in ("y", "temperature"):
        holed.loc[rng.random(len(holed)) < 0.2, column] = np.nan
    np.testing.assert_allclose(
        _forecast(SMALL, holed, task)["forecast"], _forecast(SMALL, history, task)["forecast"], rtol=0.2
    )


def test_native_quantiles_are_wider_where_the_noise_is_never_cross_and_hold_what_they_say():
    history = sample_history(series=2, rows=60 * 24)
    night = history["ds"].dt.hour.to_numpy() < 12
    history["y"] += np.random.default_rng(0).normal(size=len(history)) * np.where(night, 1.0, 10.0)
    task = sample_task(history, horizon=24, quantiles=(0.1, 0.5, 0.9))
    model = dataclasses.replace(SMALL, quantiles="native")
    back = history.groupby("unique_id").cumcount(ascending=False)
    past, later = history[back >= 24], history[back < 24]
    future = later.drop(columns="y").assign(step=later.groupby("unique_id").cumcount().to_numpy(dtype=np.int32) + 1)
    answer = model.fit(past, task).predict(past, future, dataclasses.replace(task, origin=past["ds"].max()))
    low, middle, high = (answer[name].to_numpy() for name in ("q10", "q50", "q90"))
    assert (low <= middle).all()
    assert (middle <= high).all()
    noisy = later["ds"].dt.hour.to_numpy() >= 12
    assert (high - low)[noisy].mean() > 2 * (high - low)[~noisy].mean()
    y = later["y"].to_numpy()
    assert 0.6 <= ((low <= y) & (y <= high)).mean() <= 1.0


def test_a_recursive_model_says_that_it_has_no_quantiles_of_its_own():
    history = sample_history(series=1)
    with pytest.raises(PluginError, match=r"recursive .* quantiles: conformal"):
        LightGBM(strategy="recursive", quantiles="native").fit(history, sample_task(history))


def test_it_is_stored_as_lightgbms_own_text_and_answers_the_same_in_another_process(tmp_path):
    history = sample_history(covariates=("temperature",))
    task = sample_task(history)
    fitted, future = SMALL.fit(history, task), sample_future(history, task)
    expected = fitted.predict(history, future, task)
    state.save(fitted, tmp_path / "model")
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".npz"}
    assert "Tree=29" in (tmp_path / "model" / "state.json").read_text()
    history.to_parquet(tmp_path / "history.parquet")
    code = f"""
import pandas as pd
from forecastcore import state
from forecastcore.testing import sample_future, sample_task
from pathlib import Path
folder = Path({str(tmp_path)!r})
history = pd.read_parquet(folder / "history.parquet")
task = sample_task(history)
fitted = state.load(folder / "model", packages=("forecastcore_lightgbm",))
fitted.predict(history, sample_future(history, task), task).to_parquet(folder / "answer.parquet")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "answer.parquet"), expected)
