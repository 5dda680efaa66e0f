from __future__ import annotations

import numpy as np
import pytest
from forecastcore_statsmodels.components import UnobservedComponents

from forecastcore.errors import HistoryTooShort
from forecastcore.testing import sample_future, sample_history, sample_task

LEVELS = ["local level", "local linear trend", "smooth trend", "random walk with drift"]


def test_the_nile_has_the_variances_that_durbin_and_koopman_publish(series, monthly):
    # Time Series Analysis by State Space Methods, section 2.2.5: noise 15099, level 1469.1.
    from statsmodels.datasets import nile

    model = UnobservedComponents(level="local level", season=1)
    params = model.fit_series(series(nile.load_pandas().data["volume"])[0], monthly(1))
    np.testing.assert_allclose(params.variances * params.spread**2, [15099, 1469.1], rtol=0.02)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_predict_filters_newer_data_with_the_stored_variances_and_searches_nothing(
    level, gaps, demand, series, monthly, no_search
):
    from statsmodels.tsa.statespace.structural import UnobservedComponents as Library

    y = demand(85)
    y[[5, 30, 31, 32, 84 if gaps else 5]] = np.nan
    model, task = UnobservedComponents(level=level), monthly()
    params = model.fit_series(series(y[:84])[0], task)
    no_search()
    newer = model.predict_series(params, *series(y), task)
    older = model.predict_series(params, *series(y[:84]), task)
    scaled = (y - params.centre) / params.spread
    waves = [{"period": 12, "harmonics": 6}]
    longer = Library(scaled[:84], level, freq_seasonal=waves).filter(params.variances).append(scaled[84:], refit=False)
    forecast = longer.get_forecast(12)
    np.testing.assert_allclose(newer[:, 0], params.centre + params.spread * forecast.predicted_mean, rtol=1e-7)
    width = 2 * 1.2815515655446004 * params.spread * np.sqrt(forecast.var_pred_mean)
    np.testing.assert_allclose(newer[:, 3] - newer[:, 1], width, rtol=1e-5)
    assert gaps or np.abs(newer[:-1, 0] - older[1:, 0]).max() > 1e-6


def test_day_and_week_of_hourly_data_are_both_followed():
    history = sample_history(series=1, rows=24 * 7 * 4)
    week = 20 * np.sin(2 * np.pi * np.arange(len(history)) / 168)
    day = 10 * np.sin(2 * np.pi * np.arange(len(history)) / 24)
    history["y"] = 100 + week + day + np.random.default_rng(0).normal(size=len(history))
    learned, truth = history.iloc[:-168], history["y"].to_numpy()[-168:]
    task = sample_task(learned, horizon=168)
    fitted = UnobservedComponents(level="local level", harmonics=2).fit(learned, task)
    assert fitted.params["series-0"].seasons == (24, 168)
    answer = fitted.predict(learned, sample_future(learned, task), task)
    assert np.abs(answer["forecast"] - truth).mean() < 2.0


@pytest.mark.row(42)
def test_odd_series_give_numbers_or_say_that_they_are_too_short(odd, series, monthly):
    model = UnobservedComponents(maxiter=10)
    past, future = series(odd)
    if len(odd) < 10:
        with pytest.raises(HistoryTooShort):
            model.fit_series(past, monthly())
        return
    answer = model.predict_series(model.fit_series(past, monthly()), past, future, monthly())
    assert np.isfinite(answer).all()
    assert (np.diff(answer[:, 1:], axis=1) >= 0).all()
