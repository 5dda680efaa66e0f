from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from forecastcore_statsmodels.regressors import independent, steps_since
from forecastcore_statsmodels.sarimax import Sarimax
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecastcore.api import Series, Task
from forecastcore.errors import HistoryTooShort
from forecastcore.testing import sample_future, sample_history, sample_task

AIRLINE_MODEL = Sarimax(order=(0, 1, 1), seasonal_order=(0, 1, 1), trend="n")


def with_gaps(y):
    y = y.copy()
    y[[5, 30, 31, 32, 50]] = np.nan
    return y


def library(params, y, steps, x):
    """SARIMAX of statsmodels, which takes the columns of the mean as its `exog`."""
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    mean = params.design.columns(steps, x)
    scaled = (y - params.centre) / params.spread
    exog = mean if mean.shape[1] else None
    return SARIMAX(scaled, exog, params.order, params.seasonal_order), np.r_[params.beta, params.arma, params.variance]


def test_the_airline_model_has_the_parameters_and_forecasts_that_r_publishes(airline, series, monthly):
    # R: arima(log(AirPassengers), c(0, 1, 1), list(order = c(0, 1, 1))): ma1 -0.4018, sma1 -0.5569, sigma^2 0.001348.
    past, future = series(np.log(airline))
    params = AIRLINE_MODEL.fit_series(past, monthly())
    np.testing.assert_allclose(params.arma, [-0.4018, -0.5569], atol=5e-3)
    assert params.variance * params.spread**2 == pytest.approx(0.001348, rel=0.02)
    forecast = AIRLINE_MODEL.predict_series(params, past, future, monthly())[:, 0]
    published = [6.110186, 6.053775, 6.171715, 6.199300, 6.232556, 6.368779]
    np.testing.assert_allclose(forecast[:6], published, atol=2e-3)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    ("order", "seasonal"), [((1, 0, 1), (0, 1, 1)), ((0, 1, 1), (0, 1, 1)), ((2, 0, 0), (1, 0, 0))]
)
@pytest.mark.slow
def test_least_squares_and_likelihood_in_turn_reach_the_library_s_maximum(
    order, seasonal, gaps, demand, series, monthly
):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(96, 2))
    y = demand(96) + x @ [2.0, -4.0]
    past, _ = series(with_gaps(y) if gaps else y, x=x)
    params = Sarimax(order=order, seasonal_order=seasonal, trend="c").fit_series(past, monthly(covariates=("a", "b")))
    model, ours = library(params, past.y, np.arange(96), x)
    best = model.fit(ours, disp=False, maxiter=200, cov_type="none")
    # A gap takes its differences out of the likelihood that is maximised here, so there a little is lost.
    assert model.loglike(ours) > best.llf - (3.0 if gaps else 0.3)
    np.testing.assert_allclose(params.beta[-2:], best.params[len(params.beta) - 2 : len(params.beta)], rtol=0.05)


@pytest.mark.parametrize("gaps", [False, True])
def test_predict_filters_newer_data_with_the_stored_parameters_and_searches_nothing(
    gaps, demand, series, monthly, no_search
):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(97, 2)), demand(85)
    y = with_gaps(y) if gaps else y
    model, task = Sarimax(), monthly(covariates=("a", "b"))
    params = model.fit_series(series(y[:84], x=x[:84])[0], task)
    no_search()
    newer = model.predict_series(params, *series(y, x=x[:85], x_ahead=x[85:]), task)
    older = model.predict_series(params, *series(y[:84], x=x[:84], x_ahead=x[84:96]), task)
    steps, columns = np.arange(97), params.design.columns(np.arange(97), x)
    before, stored = library(params, y[:84], steps[:84], x[:84])
    scaled = (y[84:] - params.centre) / params.spread
    longer = before.filter(stored).append(scaled, exog=columns[84:85], refit=False)
    forecast = longer.get_forecast(12, exog=columns[85:])
    np.testing.assert_allclose(newer[:, 0], params.centre + params.spread * forecast.predicted_mean, rtol=1e-7)
    width = 2 * 1.2815515655446004 * params.spread * np.sqrt(forecast.var_pred_mean)
    np.testing.assert_allclose(newer[:, 3] - newer[:, 1], width, rtol=1e-5)
    assert np.abs(newer[:-1, 0] - older[1:, 0]).max() > 1e-6


@pytest.mark.slow
def test_a_covariate_s_effect_is_learned_and_its_future_moves_the_forecast():
    history = sample_history(series=2, rows=24 * 28, covariates=("temperature", "wind"))
    task = sample_task(history, horizon=24)
    fitted = Sarimax().fit(history, task)
    calm, warm = (fitted.predict(history, sample_future(history, task, {"temperature": t}), task) for t in (0.0, 3.0))
    np.testing.assert_allclose(warm["forecast"] - calm["forecast"], 3.0, atol=0.5)
    assert fitted.failures == warm.attrs["failures"] == {}


def test_columns_that_never_move_or_repeat_others_are_left_out(demand, series, monthly):
    rng = np.random.default_rng(5)
    a = rng.normal(size=96)
    x = np.column_stack(
        [np.full(96, 4.0), a, 2 * a + 1, np.zeros(96), np.full(96, np.nan), np.tile(np.arange(12.0), 8)]
    )
    task = monthly(covariates=tuple("abcdef"))
    past, future = series(demand(84), x=x[:84], x_ahead=x[84:])
    params = Sarimax(trend="n").fit_series(past, task)
    assert params.design.kept == (1,)
    assert np.isfinite(Sarimax(trend="n").predict_series(params, past, future, task)).all()


@settings(max_examples=40, deadline=None)
@given(arrays(float, st.tuples(st.integers(8, 20), st.integers(1, 6)), elements=st.floats(-5, 5, width=16)))
def test_independent_columns_span_all_columns_and_none_is_spare(columns):
    kept = columns[:, list(independent(columns))]
    assert np.linalg.matrix_rank(kept, tol=1e-9) == kept.shape[1]
    beta = np.linalg.lstsq(kept, columns, rcond=None)[0]
    np.testing.assert_allclose(kept @ beta, columns, atol=1e-4)


def test_missing_covariates_are_filled_from_the_past_only(demand, series, monthly):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(96, 1)), demand(84)
    gone = x.copy()
    gone[[3, 40, 90]] = np.nan
    task = monthly(covariates=("a",))
    past, future = series(y, x=gone[:84], x_ahead=gone[84:])
    params = Sarimax().fit_series(past, task)
    same = gone.copy()
    same[[3, 40, 90], 0] = [x[2, 0], x[28, 0], x[78, 0]]
    known = Sarimax().fit_series(series(y, x=same[:84])[0], task)
    np.testing.assert_allclose(known.beta, params.beta)
    filled = Sarimax().predict_series(params, *series(y, x=same[:84], x_ahead=same[84:]), task)
    np.testing.assert_allclose(Sarimax().predict_series(params, past, future, task), filled)


@pytest.mark.slow
def test_a_week_of_hours_is_followed_by_fourier_terms():
    ds = pd.date_range("2024-01-01", periods=24 * 7 * 7, freq="h", tz="UTC")
    weekend = np.asarray(ds.dayofweek >= 5)
    y = 100 + 20 * np.sin(2 * np.pi * np.asarray(ds.hour) / 24) - 30 * weekend
    y = y + np.random.default_rng(0).normal(size=len(ds))
    history = pd.DataFrame({"unique_id": "a", "ds": ds, "y": y})
    learned, truth = history.iloc[: 24 * 42], y[24 * 42 :]
    task = sample_task(learned, horizon=168)
    errors = {}
    for fourier in (0, 10):
        answer = Sarimax(fourier=fourier).fit(learned, task).predict(learned, sample_future(learned, task), task)
        errors[fourier] = np.abs(answer["forecast"] - truth).mean()
    assert errors[10] < 0.6 * errors[0]


def test_a_season_of_48_becomes_fourier_terms_and_one_asked_for_does_not():
    history = sample_history(series=1, rows=48 * 14, frequency="30min")
    task = sample_task(history, frequency="30min", horizon=48)
    assert Sarimax().fit(history, task).params["series-0"].seasonal_order == (0, 0, 0, 0)
    short = history.iloc[-48 * 5 :]
    asked = Sarimax(season=48, fourier=0, maxiter=2).fit(short, task).params["series-0"]
    assert asked.seasonal_order == (0, 1, 1, 48)


def test_a_drift_is_kept_where_it_is_clear(series, monthly):
    rng = np.random.default_rng(7)
    noise = rng.normal(size=120)
    clear, none = (Sarimax().fit_series(series(slope * np.arange(120) + noise)[0], monthly(1)) for slope in (1.0, 0.0))
    assert (len(clear.beta), len(none.beta)) == (1, 0)
    ahead = Sarimax().predict_series(clear, *series(np.arange(120) + noise), monthly(1))[:, 0]
    np.testing.assert_allclose(np.diff(ahead)[2:], 1.0, atol=0.05)


@pytest.mark.row(42)
def test_odd_series_give_numbers_or_say_that_they_are_too_short(odd, series, monthly):
    past, future = series(odd)
    if len(odd) < 12:
        with pytest.raises(HistoryTooShort):
            Sarimax().fit_series(past, monthly())
        return
    answer = Sarimax(maxiter=15).predict_series(
        Sarimax(maxiter=15).fit_series(past, monthly()), past, future, monthly()
    )
    assert np.isfinite(answer).all()
    assert (np.diff(answer[:, 1:], axis=1) >= 0).all()


def test_a_constant_series_is_repeated(series, monthly):
    past, future = series(np.full(40, 7.0))
    answer = Sarimax().predict_series(Sarimax().fit_series(past, monthly()), past, future, monthly())
    np.testing.assert_allclose(answer, 7.0, rtol=1e-6)


def test_too_many_covariates_for_the_history_are_an_error(demand, series, monthly):
    x = np.random.default_rng(8).normal(size=(24, 9))
    with pytest.raises(HistoryTooShort):
        Sarimax().fit_series(series(demand(24), x=x)[0], monthly(covariates=tuple("abcdefghi")))


@pytest.mark.parametrize(
    ("frequency", "timezone", "start", "row"),
    [
        ("MS", "UTC", "2023-11-01", 5),
        ("MS", "UTC", "2024-06-01", -2),
        ("D", "Europe/Berlin", "2024-03-29", 3),
        ("h", "UTC", "2024-03-31", 24),
    ],
)
def test_steps_are_counted_on_the_grid(frequency, timezone, start, row):
    begin = {"MS": "2024-04-01", "D": "2024-04-01", "h": "2024-04-01"}[frequency]
    ds = pd.date_range(begin, periods=3, freq=frequency, tz=timezone).tz_convert("UTC").tz_localize(None)
    series = Series("a", ds.to_numpy(dtype="datetime64[ns]"), np.zeros(3), np.empty((3, 0)))
    instant = pd.Timestamp(start, tz=timezone).tz_convert("UTC").tz_localize(None)
    task = Task(origin=pd.Timestamp("2024-05-01", tz="UTC"), frequency=frequency, horizon=1, timezone=timezone)
    assert list(steps_since(str(instant.to_datetime64()), series, task)) == [row, row + 1, row + 2]


def test_a_context_that_begins_later_keeps_the_phase_of_the_seasons():
    history = sample_history(series=1, rows=24 * 7 * 6)
    task = sample_task(history, horizon=48)
    fitted = Sarimax().fit(history, task)
    future = sample_future(history, task)
    whole, part = fitted.predict(history, future, task), fitted.predict(history.iloc[500:], future, task)
    np.testing.assert_allclose(part["forecast"], whole["forecast"], rtol=0.01)
