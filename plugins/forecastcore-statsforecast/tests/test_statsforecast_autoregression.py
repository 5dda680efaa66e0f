from __future__ import annotations

import numpy as np
import pytest
from forecastcore_statsforecast.autoregression import Autoregression, lags_of


def test_the_weights_are_those_of_a_ridge_regression_by_scikit_learn(demand, series, task):
    from sklearn.linear_model import Ridge

    past, future = series(demand(120))
    params = Autoregression(log=False).fit_series(past, task())
    core = params.core
    scaled = (past.y - core.centre) / core.spread
    first = core.lags[-1]
    back = np.column_stack([scaled[first - lag : -lag] for lag in core.lags])
    fits = [Ridge(alpha).fit(back, scaled[first:]) for alpha in (0.1, 1.0, 10.0, 100.0)]
    nearest = min(fits, key=lambda fit: np.abs(fit.coef_ - core.weights[:-1]).max())
    np.testing.assert_allclose(core.weights, np.r_[nearest.coef_, nearest.intercept_], rtol=1e-7, atol=1e-10)
    path = list(scaled)
    for _ in range(12):
        path.append(nearest.predict([[path[-lag] for lag in core.lags]])[0])
    answer = Autoregression(log=False).predict_series(params, past, future, task())
    np.testing.assert_allclose(answer[:, 0], core.centre + core.spread * np.array(path[-12:]), rtol=1e-8)


def test_the_scale_is_chosen_by_likelihood(series, task):
    rng = np.random.default_rng(1)
    wave, noise = 0.5 * np.sin(np.arange(120) * np.pi / 6), rng.normal(scale=0.2, size=120)
    growing, level = np.exp(4 + wave + noise), 100 + wave + noise
    assert Autoregression().fit_series(series(growing)[0], task()).core.log
    assert not Autoregression().fit_series(series(level - 100)[0], task()).core.log  # it has values below zero
    assert not Autoregression(log=False).fit_series(series(growing)[0], task()).core.log


def test_lags_reach_back_over_every_season_that_the_history_holds():
    assert lags_of((24, 168), 1000)[:26] == (*range(1, 26), 48)
    assert lags_of((24, 168), 1000)[-4:] == (144, 167, 168, 169)
    assert lags_of((24, 168), 300) == tuple(range(1, 26))
    assert lags_of((12,), 20) == (1, 2, 3)
    assert lags_of((1,), 2) == (1,)


def test_a_covariate_s_future_moves_the_forecast(demand, series, task):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(132, 1))
    y = demand(120) + 5 * x[:120, 0]
    model, asked = Autoregression(log=False), task(covariates=("a",))
    params = model.fit_series(series(y, x=x[:120])[0], asked)
    calm, warm = (
        model.predict_series(params, *series(y, x=x[:120], x_ahead=np.full((12, 1), value)), asked)[0, 0]
        for value in (0.0, 1.0)
    )
    assert warm - calm == pytest.approx(5.0, abs=1.0)


def test_a_newer_context_is_gone_on_from_and_nothing_is_learned(demand, series, task):
    y = demand(97)
    model = Autoregression()
    params = model.fit_series(series(y[:96])[0], task())
    older = model.predict_series(params, *series(y[:96]), task())
    newer = model.predict_series(params, *series(np.r_[y[:96], older[0, 0]]), task())
    np.testing.assert_allclose(newer[:-1, 0], older[1:, 0], rtol=1e-10)


def test_an_explosive_series_stays_within_bounds(series, task):
    y = 1.4 ** np.arange(60)
    model = Autoregression(log=False)
    answer = model.predict_series(model.fit_series(series(y)[0], task()), *series(y), task())
    assert np.isfinite(answer).all()
    assert answer[:, 0].max() <= 2 * y.max() - y.min() + 1e-6
