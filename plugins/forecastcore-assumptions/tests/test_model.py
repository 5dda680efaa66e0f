"""A covariate forecast by a model that the host lends; chains and their links; a quantile of what is usual."""

import numpy as np
import pandas as pd
import pytest
from forecastcore_assumptions import Chain, Climatology, Model
from forecastcore_assumptions.chain import Link

from forecastcore.errors import AssumptionUnavailable
from forecastcore.testing import sample_future, sample_history, sample_task


def lent(asked):
    """A model that repeats the last value, and writes down what it was asked."""

    def forecast(history, future):
        asked.append((history, future))
        last = history.groupby("unique_id")["y"].last()
        return future[["unique_id", "ds"]].assign(forecast=future["unique_id"].map(last)).sample(frac=1, random_state=1)

    return forecast


def test_each_covariate_is_forecast_from_its_own_past_and_equal_pasts_once():
    history = sample_history(series=3, rows=50, covariates=("temp", "rain")).drop(columns="y")
    history["temp"] = np.tile(np.arange(50.0), 3)
    asked = []
    task = sample_task(history, horizon=6, forecast=lent(asked))
    future = sample_future(history, task)[["unique_id", "ds", "step"]]
    answer = Model({"type": "any"}).assume(history, future, task)
    assert answer["temp"].tolist() == [49.0] * 18
    lasts = history.groupby("unique_id")["rain"].last()
    assert np.array_equal(answer["rain"], future["unique_id"].map(lasts))
    assert [past["unique_id"].nunique() for past, _ in asked] == [1, 3]
    assert [len(ahead) for _, ahead in asked] == [6, 18]
    assert all(list(past.columns) == ["unique_id", "ds", "y"] for past, _ in asked)


def test_a_series_without_a_past_gets_nothing():
    history = sample_history(series=1, rows=50, covariates=("temp",)).drop(columns="y")
    task = sample_task(history, horizon=2, forecast=lent([]))
    future = pd.concat([sample_future(history, task).assign(unique_id=uid) for uid in ("series-0", "new")])
    answer = Model({"type": "any"}).assume(history, future[["unique_id", "ds", "step"]], task)
    assert answer["temp"].isna().tolist() == [False, False, True, True]


def test_without_a_model_there_is_nothing_to_say():
    history = sample_history(series=1, rows=50, covariates=("temp",)).drop(columns="y")
    task = sample_task(history)
    with pytest.raises(AssumptionUnavailable):
        Model({"type": "any"}).assume(history, sample_future(history, task), task)
    with pytest.raises(ValueError, match="model names a model"):
        Model({"kind": "any"})


def test_a_chain_and_its_links_say_what_is_wrong_with_them():
    with pytest.raises(ValueError, match="at least one"):
        Chain(())
    with pytest.raises(ValueError, match="max_age must be a length of time"):
        Link("api", max_age="-1h")


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_a_quantile_of_climatology_is_that_of_the_values_in_the_window(level):
    history = sample_history(series=2, rows=800, frequency="D", covariates=("temp",), seed=3).drop(columns="y")
    task = sample_task(history, frequency="D", horizon=10)
    future = sample_future(history, task)[["unique_id", "ds", "step"]]
    got = Climatology(window_days=10, quantile=level).assume(history, future, task)
    places = history["ds"].dt.dayofyear + ((history["ds"].dt.dayofyear > 59) & ~history["ds"].dt.is_leap_year)
    for (uid, ds), value in zip(future[["unique_id", "ds"]].itertuples(index=False), got["temp"], strict=True):
        place = ds.dayofyear + (ds.dayofyear > 59 and not ds.is_leap_year)
        away = (places - place + 183) % 366 - 183
        window = history[(history["unique_id"] == uid) & (away.abs() <= 10)]["temp"]
        assert value == pytest.approx(np.quantile(window, level))


def test_the_quantiles_of_climatology_lie_around_its_mean_even_with_little_history():
    history = sample_history(series=2, rows=30 * 24, covariates=("temp",)).drop(columns="y")
    task = sample_task(history, horizon=72)
    future = sample_future(history, task)[["unique_id", "ds", "step"]]
    low, mean, high = (
        Climatology(quantile=q).assume(history, future, task)["temp"].to_numpy() for q in (0.05, None, 0.95)
    )
    assert np.isfinite(low).all()
    assert (low < mean).all()
    assert (mean < high).all()
    with pytest.raises(ValueError, match="quantile must lie above 0"):
        Climatology(quantile=1.5)
