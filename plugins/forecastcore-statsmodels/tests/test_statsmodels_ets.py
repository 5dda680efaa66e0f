from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from forecastcore_statsmodels.ets import Ets, EtsParameters
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.errors import HistoryTooShort, PluginError
from forecastcore.testing import sample_future, sample_history, sample_task

# R, forecast::ets(data, model, damped): smoothing (alpha, beta, gamma, phi), initial states (level, trend, last season
# first), log-likelihood as R counts it, and four forecasts. Published with statsmodels' tests (fit_ets.R).
R_RESULTS = {
    "oil AAdN": (
        "oil", ("add", "add", True, None), [0.99989969, 0.11886985, 0.80000197], [36.46466837, 34.72584983],
        -284.64438385, [545.35213563, 547.76044926, 549.68710489, 551.22843318],
    ),
    "oil AAN": (
        "oil", ("add", "add", False, None), [0.99770564, 0.0001001], [21.3150686, 11.71213626], -285.64745013,
        [554.09126495, 565.79806815, 577.50487134, 589.21167453],
    ),
    "oil ANN": (
        "oil", ("add", None, False, None), [0.99989996], [110.88321179], -285.07846207,
        [542.34121919, 542.34121919, 542.34121919, 542.34121919],
    ),
    "oil MNN": (
        "oil", ("mul", None, False, None), [0.99989932], [108.50797841], -289.29728569,
        [542.34122401, 542.34122401, 542.34122401, 542.34122401],
    ),
    "austourists AAdA": (
        "austourists", ("add", "add", True, "add"), [0.35445427, 0.03200749, 0.39993387, 0.97999997],
        [24.01278357, 0.97770147, 1.76951063, -0.50735902, -6.61171798, 5.34956637], -200.02361522,
        [76.07768073, 51.61741109, 63.96457729, 68.27886241],
    ),
    "austourists ANA": (
        "austourists", ("add", None, False, "add"), [0.54216695, 0.39203017],
        [25.54638913, 2.14912647, -0.53099835, -6.46658738, 4.84845926], -204.28165362,
        [75.32914757, 50.16726775, 62.21021038, 65.90296904],
    ),
    "austourists MAM": (
        "austourists", ("mul", "add", False, "mul"), [0.31562139, 0.00010001, 0.00010005],
        [24.74993982, 0.51242558, 1.03713388, 0.95960345, 0.77017133, 1.23309134], -195.75179425,
        [77.58807372, 48.8558019, 61.36513172, 66.85524201],
    ),
}  # fmt: skip
LINEAR = [("add", t, d, s) for t, d in ((None, False), ("add", False), ("add", True)) for s in (None, "add")]


def components(form):
    return dict(zip(("error", "trend", "damped", "seasonal"), form, strict=True))


def statsmodels_says(params, y):
    """The library's own result under the stored parameters."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    model = ETSModel(
        y / params.scale,
        error=params.error,
        trend=params.trend,
        damped_trend=params.damped,
        seasonal=params.seasonal,
        seasonal_periods=params.season if params.seasonal else None,
        initialization_method="known",
        initial_level=params.level,
        initial_trend=params.slope,
        initial_seasonal=params.pattern,
    )
    return model.smooth(params.smoothing)


@pytest.mark.parametrize("case", R_RESULTS.values(), ids=R_RESULTS)
def test_the_parameters_that_r_found_give_the_forecasts_that_r_gives(case, request, series, monthly):
    data, form, smoothing, initial, _, forecasts = case
    past, future = series(request.getfixturevalue(data), ahead=4)
    seasonal = form[3] is not None
    pattern = np.array(initial[::-1][:4]) if seasonal else np.zeros(1)
    slope = initial[1] if form[1] else 0.0
    rates = np.array(smoothing)
    season = 4 if seasonal else 1
    start = str(past.ds[0])
    params = EtsParameters(*form, season, rates, initial[0], slope, pattern, 1.0, 1.0, start, 0.0)
    answer = Ets().predict_series(params, past, future, monthly(4))
    np.testing.assert_allclose(answer[:, 0], forecasts, rtol=2e-5)


@pytest.mark.parametrize("case", R_RESULTS.values(), ids=R_RESULTS)
def test_a_fit_is_as_likely_as_that_of_r(case, request, series, monthly):
    data, form, _, _, likelihood, forecasts = case
    past, future = series(request.getfixturevalue(data), ahead=4)
    model = Ets(**components(form))
    params = model.fit_series(past, monthly(4))
    fitted = statsmodels_says(params, past.y).fittedvalues * params.scale
    errors = (past.y - fitted) / (fitted if form[0] == "mul" else 1)
    ours = -0.5 * (len(past.y) * np.log(np.sum(errors**2)))
    ours -= np.sum(np.log(np.abs(fitted))) if form[0] == "mul" else 0
    assert ours > likelihood - 0.5
    np.testing.assert_allclose(model.predict_series(params, past, future, monthly(4))[:, 0], forecasts, rtol=0.02)


@pytest.mark.parametrize(("data", "form"), [("oil", "ANN"), ("austourists", "MAM")])
def test_auto_chooses_the_form_that_r_chooses(data, form, request, series, monthly):
    past, _ = series(request.getfixturevalue(data))
    params = Ets().fit_series(past, monthly(4))
    assert "".join(str(part)[0].upper() for part in (params.error, params.trend, params.seasonal)) == form


@pytest.mark.parametrize(
    "form", [*LINEAR, ("mul", "add", False, "mul"), ("mul", "add", True, "add"), ("mul", None, False, None)]
)
def test_predict_smooths_newer_data_with_the_stored_parameters_and_searches_nothing(
    form, demand, series, monthly, no_search
):
    y = demand(85)
    model, task = Ets(**components(form)), monthly()
    params = model.fit_series(series(y[:84])[0], task)
    no_search()
    newer = model.predict_series(params, *series(y), task)
    older = model.predict_series(params, *series(y[:84]), task)
    expected = params.scale * statsmodels_says(params, y).forecast(12)
    np.testing.assert_allclose(newer[:, 0], expected, rtol=1e-9)
    assert np.abs(newer[:-1, 0] - older[1:, 0]).max() > 1e-6


@pytest.mark.parametrize("form", LINEAR)
def test_quantiles_of_linear_forms_have_the_published_variance(form, demand, series, monthly):
    past, future = series(demand(), ahead=30)
    params = Ets(**components(form)).fit_series(past, monthly())
    rates = np.array([0.4, *([0.1] if form[1] else []), *([0.2] if form[3] else []), *([0.9] if form[2] else [])])
    params = replace(params, smoothing=rates)
    result = statsmodels_says(params, pd.Series(past.y, pd.DatetimeIndex(past.ds, freq="MS")))
    variance = result.get_prediction(len(past.y), len(past.y) + 29).forecast_variance / result.mse
    answer = Ets().predict_series(params, past, future, monthly(quantiles=(0.1, 0.9)))
    width = 2 * 1.2815515655446004 * params.sigma * params.scale * np.sqrt(variance)
    np.testing.assert_allclose(answer[:, 2] - answer[:, 1], width, rtol=1e-9)


def test_sample_paths_of_a_multiplicative_form_have_the_published_variance(series, monthly):
    # Class 2 of Hyndman et al. (2008), section 6.3, here MNN: theta_h = mu^2 (1 + alpha^2 s^2)^(h-1).
    past, future = series(np.full(40, 100.0) + np.random.default_rng(0).normal(size=40), ahead=12)
    form = ("mul", None, False, None)
    params = EtsParameters(*form, 1, np.array([0.6]), 100.0, 0.0, np.zeros(1), 0.1, 1.0, str(past.ds[0]), 0.0)
    answer = Ets().predict_series(params, past, future, monthly(quantiles=(0.15865525, 0.5, 0.84134475)))
    theta = (1 + 0.36 * 0.01) ** np.arange(12)
    sd = answer[:, 0] * np.sqrt(theta * 1.01 - 1)
    np.testing.assert_allclose((answer[:, 3] - answer[:, 1]) / 2, sd, rtol=0.1)
    np.testing.assert_allclose(answer[:, 2], answer[:, 0], rtol=0.04)


def test_sample_paths_without_noise_are_the_forecast(series, monthly, demand):
    past, future = series(demand(), ahead=30)
    params = replace(Ets(error="mul", trend="add", damped=True, seasonal="mul").fit_series(past, monthly()), sigma=0.0)
    answer = Ets().predict_series(params, past, future, monthly())
    np.testing.assert_allclose(answer[:, 1:], np.repeat(answer[:, :1], 3, axis=1), rtol=1e-12)


@pytest.mark.row(42)
def test_odd_series_give_numbers_or_say_that_they_are_too_short(odd, series, monthly):
    past, future = series(odd)
    if len(odd) < 6:
        with pytest.raises(HistoryTooShort):
            Ets().fit_series(past, monthly())
        return
    answer = Ets().predict_series(Ets().fit_series(past, monthly()), past, future, monthly())
    assert np.isfinite(answer).all()
    assert (np.diff(answer[:, 1:], axis=1) >= 0).all()


def test_a_line_goes_on(series, monthly):
    past, future = series(5.0 + 2.0 * np.arange(60))
    answer = Ets(damped=False).predict_series(Ets(damped=False).fit_series(past, monthly()), past, future, monthly())
    np.testing.assert_allclose(answer[:, 0], 5.0 + 2.0 * np.arange(60, 72), rtol=1e-3)


def test_a_constant_series_follows_once_it_moves(series, monthly):
    params = Ets().fit_series(series(np.full(30, 7.0))[0], monthly())
    assert Ets().predict_series(params, *series(np.r_[np.full(30, 7.0), 9.0]), monthly())[0, 0] == pytest.approx(
        9.0, rel=1e-3
    )


@settings(max_examples=5, deadline=None)
@given(power=st.integers(-40, 40), seed=st.integers(0, 50))
@pytest.mark.slow
def test_forecasts_scale_with_the_series(power, seed):
    history = sample_history(series=1, rows=60, frequency="MS", seed=seed)
    task = sample_task(history, frequency="MS", horizon=6)
    larger = history.assign(y=history["y"] * 2.0**power)
    small, large = (Ets(maxiter=20).fit(h, task).predict(h, sample_future(h, task), task) for h in (history, larger))
    np.testing.assert_allclose(large["forecast"], small["forecast"] * 2.0**power, rtol=1e-9)


def test_a_context_that_begins_later_is_smoothed_from_its_own_first_cycles(demand, series, monthly):
    y = demand(120)
    past, future = series(y)
    params = Ets().fit_series(past, monthly())
    late = type(past)(past.unique_id, past.ds[48:], past.y[48:], past.x[48:])
    whole = Ets().predict_series(params, past, future, monthly())
    part = Ets().predict_series(params, late, future, monthly())
    np.testing.assert_allclose(part[:, 0], whole[:, 0], rtol=0.05)
    with pytest.raises(HistoryTooShort):
        Ets().predict_series(
            params, type(past)(past.unique_id, past.ds[-20:], past.y[-20:], past.x[-20:]), future, monthly()
        )


def test_a_multiplicative_form_says_so_when_newer_values_are_not_positive(demand, series, monthly):
    model = Ets(error="mul", seasonal="mul")
    params = model.fit_series(series(demand())[0], monthly())
    with pytest.raises(PluginError, match="positive"):
        model.predict_series(params, *series(np.r_[demand(), 0.0]), monthly())
    with pytest.raises(PluginError, match="cannot be fitted"):
        model.fit_series(series(demand() - 200)[0], monthly())


@pytest.mark.parametrize(
    ("season", "rows", "used"), [(12, 24, 1), (12, 60, 12), (30, 120, 30), (401, 900, 1), (1, 60, 1)]
)
def test_a_season_is_used_where_the_history_holds_more_than_two_of_a_workable_length(
    season, rows, used, series, monthly
):
    t = np.arange(rows)
    y = 50 + 10 * np.sin(2 * np.pi * t / season) + np.random.default_rng(0).normal(size=rows)
    params = Ets(seasonal="add", season=season).fit_series(series(y)[0], monthly())
    assert params.season == used
    assert len(params.pattern) == used


def test_only_the_newest_rows_are_learned_from(demand, series, monthly):
    y = demand(120)
    shifted = np.r_[y[:60] + 1e4, y[60:]]
    plain, moved = (Ets(max_history=60).fit_series(series(values)[0], monthly()) for values in (y, shifted))
    assert moved.level == plain.level
    assert moved.start == str(series(y)[0].ds[60])


def test_the_same_call_gives_the_same_numbers():
    history = sample_history(series=2, rows=72, frequency="MS")
    task = sample_task(history, frequency="MS", horizon=6)
    first, second = (Ets().fit(history, task).predict(history, sample_future(history, task), task) for _ in range(2))
    assert first.equals(second)
    assert list(first.columns) == ["unique_id", "ds", "forecast", "q10", "q50", "q90"]
    assert first.attrs["failures"] == {}
