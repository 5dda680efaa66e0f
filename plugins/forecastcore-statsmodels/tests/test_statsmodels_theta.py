from __future__ import annotations

import numpy as np
import pytest
from forecastcore_statsmodels.theta import Theta

from forecastcore.errors import HistoryTooShort


def statsmodels_says(params, y, steps):
    """The library's forecast formula, its smoother, and the stored parameters."""
    from statsmodels.tsa.api import SimpleExpSmoothing
    from statsmodels.tsa.forecasting.theta import ThetaModel, ThetaModelResults

    method, season = "mul" if params.multiplicative else "add", len(params.factors)
    model = ThetaModel(y, period=season, deseasonalize=True, method=method)
    factors = np.resize(params.factors, len(y))
    plain = y / params.scale
    plain = plain / factors if params.multiplicative else plain - factors
    smoother = SimpleExpSmoothing(plain, initialization_method="known", initial_level=plain[0])
    one_step = smoother.fit(smoothing_level=params.alpha, optimized=False).forecast(1)
    result = ThetaModelResults(params.slope, params.alpha, 1.0, one_step, params.factors, False, model)  # noqa: FBT003 - the library's own order
    return params.scale * result.forecast(steps).to_numpy()


@pytest.mark.parametrize(("name", "season"), [("airline", 12), ("oil", 1), ("austourists", 4)])
def test_a_fit_forecasts_what_statsmodels_forecasts(name, season, request, series, monthly):
    from statsmodels.tsa.forecasting.theta import ThetaModel

    past, future = series(request.getfixturevalue(name))
    params = Theta().fit_series(past, monthly(season))
    expected = ThetaModel(past.y, period=season, deseasonalize=season > 1).fit().forecast(12)
    answer = Theta().predict_series(params, past, future, monthly(season))
    np.testing.assert_allclose(answer[:, 0], expected, rtol=2e-3)


@pytest.mark.parametrize("level", [0.0, -100.0])
def test_predict_smooths_newer_data_with_the_stored_parameters_and_searches_nothing(
    level, demand, series, monthly, no_search
):
    y = demand(85) + level
    model, task = Theta(), monthly()
    params = model.fit_series(series(y[:84])[0], task)
    assert params.multiplicative == (level == 0.0)
    no_search()
    newer = model.predict_series(params, *series(y), task)
    older = model.predict_series(params, *series(y[:84]), task)
    np.testing.assert_allclose(newer[:, 0], statsmodels_says(params, y, 12), rtol=1e-9)
    assert np.abs(newer[:-1, 0] - older[1:, 0]).max() > 1e-6


def test_a_context_that_begins_later_keeps_the_phase_of_the_season(airline, series, monthly):
    past, future = series(airline)
    params = Theta().fit_series(past, monthly())
    late = type(past)(past.unique_id, past.ds[50:], past.y[50:], past.x[50:])
    whole, part = (Theta().predict_series(params, context, future, monthly()) for context in (past, late))
    np.testing.assert_allclose(part[:, 0], whole[:, 0], rtol=1e-6)


@pytest.mark.row(42)
def test_odd_series_give_numbers_or_say_that_they_are_too_short(odd, series, monthly):
    past, future = series(odd)
    if len(odd) < 6:
        with pytest.raises(HistoryTooShort):
            Theta().fit_series(past, monthly())
        return
    answer = Theta().predict_series(Theta().fit_series(past, monthly()), past, future, monthly())
    assert np.isfinite(answer).all()
    assert (np.diff(answer[:, 1:], axis=1) >= 0).all()


@pytest.mark.slow
def test_quantiles_cover_what_they_promise_on_a_random_walk_with_drift(series, monthly):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(60):
        y = np.cumsum(0.2 + rng.normal(size=132))
        past, future = series(y[:120])
        answer = Theta().predict_series(Theta().fit_series(past, monthly(1)), past, future, monthly(1))
        inside.append((answer[:, 1] <= y[120:]) & (y[120:] <= answer[:, 3]))
    assert 0.7 < np.mean(inside) < 0.9
