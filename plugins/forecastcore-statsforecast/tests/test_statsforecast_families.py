"""Each family against the library's own fit, forecast and forward."""

from __future__ import annotations

import numpy as np
import pytest
from forecastcore_statsforecast.arima import AutoArima
from forecastcore_statsforecast.autoregression import Autoregression
from forecastcore_statsforecast.ces import AutoCes
from forecastcore_statsforecast.ets import AutoEts
from forecastcore_statsforecast.mstl import Mstl
from forecastcore_statsforecast.theta import AutoTheta, seasonal_factors

from forecastcore.api import Series
from forecastcore.errors import HistoryTooShort, PluginError

library = pytest.importorskip("statsforecast.models")
pytestmark = [  # what the library says when it is called without us
    pytest.mark.filterwarnings("ignore:possible convergence problem:UserWarning"),
    pytest.mark.filterwarnings("ignore:Stepwise search was stopped early:UserWarning"),
]

FAMILIES = {
    "auto-ets": (AutoEts(), lambda: library.AutoETS(season_length=12)),
    "auto-ets without season": (AutoEts(season=1), lambda: library.AutoETS(season_length=1)),
    "auto-ets multiplicative": (AutoEts("MAM", damped=True), lambda: library.AutoETS(12, "MAM", damped=True)),
    "auto-ets additive": (AutoEts("AAA", damped=False), lambda: library.AutoETS(12, "AAA", damped=False)),
    "auto-arima": (
        AutoArima(max_p=1, max_q=1, models=8),
        lambda: library.AutoARIMA(max_p=1, max_q=1, nmodels=8, approximation=True, season_length=12),
    ),
    "auto-theta": (AutoTheta("auto"), lambda: library.AutoTheta(season_length=12)),
    "auto-theta dynamic": (AutoTheta(), lambda: library.AutoTheta(season_length=12, model="DOTM")),
    "auto-ces": (AutoCes(), lambda: library.AutoCES(season_length=12)),
    "auto-ces full": (AutoCes("F"), lambda: library.AutoCES(season_length=12, model="F")),
    "mstl": (Mstl(log=False), lambda: library.MSTL(12, library.AutoETS(model="ZZN"))),
    "mstl theta": (Mstl("theta", log=False), lambda: library.MSTL(12, library.DynamicOptimizedTheta())),
}


@pytest.fixture(params=FAMILIES, ids=list(FAMILIES))
def family(request):
    return request.param, *FAMILIES[request.param]


def test_a_fit_forecasts_what_the_library_forecasts_with_its_intervals(family, demand, series, task):
    name, ours, theirs = family
    past, future = series(demand())
    answer = ours.predict_series(ours.fit_series(past, task()), past, future, task(quantiles=(0.05, 0.5, 0.95)))
    expected = theirs().forecast(past.y, 12, level=[90])
    answer = answer[:, None] if answer.ndim == 1 else answer
    np.testing.assert_allclose(answer[:, 0], expected["mean"], rtol=1e-8)
    if name.startswith("auto-ces"):
        assert answer.shape == (12, 1)  # the library only simulates an interval: the host calibrates one instead
        return
    tolerance = 1e-6 if "theta" in name else 1e-8  # the library simulates Theta's paths in single precision
    np.testing.assert_allclose(answer[:, 1], expected["lo-90"], rtol=tolerance)
    np.testing.assert_allclose(answer[:, 3], expected["hi-90"], rtol=tolerance)


def test_a_month_later_predict_goes_on_from_the_new_end_as_the_library_s_forward_does_and_searches_nothing(
    family, demand, series, task, no_search
):
    _, ours, theirs = family
    y = demand(97)
    (past, _), (newer, future) = series(y[:84]), series(y)
    params = ours.fit_series(past, task())
    fitted = theirs().fit(past.y)
    expected = fitted.forward(newer.y, 12)["mean"]
    older = ours.predict_series(params, *series(y[:84]), task())
    no_search()
    answer = ours.predict_series(params, newer, future, task())
    np.testing.assert_allclose(answer.reshape(12, -1)[:, 0], expected, rtol=1e-8)
    assert np.abs(answer - older).max() > 1e-3


def test_the_guard_against_searching_would_see_a_fit(family, demand, series, task, no_search):
    _, ours, _ = family
    past, _ = series(demand())
    no_search()
    with pytest.raises((AssertionError, PluginError), match="predict searched"):
        ours.fit_series(past, task())


def test_a_context_that_begins_later_gives_nearly_the_same_forecast(family, demand, series, task):
    _, ours, _ = family
    past, future = series(demand(120))
    params = ours.fit_series(past, task())
    late = Series("a", past.ds[31:], past.y[31:], past.x[31:])
    whole, part = (ours.predict_series(params, context, future, task()) for context in (past, late))
    np.testing.assert_allclose(part.reshape(12, -1)[:, 0], whole.reshape(12, -1)[:, 0], rtol=0.06)


def test_covariates_move_the_forecast_by_what_they_are_worth_as_in_the_library(demand, series, task, no_search):
    rng = np.random.default_rng(3)
    x = rng.normal(20.0, 5.0, size=(109, 2))
    y = demand(97) + x[:97] @ [2.0, -4.0]
    asked = task(covariates=("a", "b"))
    model = AutoArima(max_p=1, max_q=1, models=8)
    past, _ = series(y[:84], x=x[:84])
    params = model.fit_series(past, asked)
    scaled = params.core.columns(x)
    theirs = library.AutoARIMA(max_p=1, max_q=1, nmodels=8, approximation=True, season_length=12)
    fitted = theirs.fit(y[:84], scaled[:84])
    same = model.predict_series(params, *series(y[:84], x=x[:84], x_ahead=x[84:96]), asked)
    np.testing.assert_allclose(same[:, 0], fitted.predict(12, scaled[84:96])["mean"], rtol=1e-8)
    expected = fitted.forward(y, 12, scaled[:97], scaled[97:])["mean"]
    no_search()
    answer = model.predict_series(params, *series(y, x=x[:97], x_ahead=x[97:]), asked)
    np.testing.assert_allclose(answer[:, 0], expected, rtol=1e-8)
    warmer = model.predict_series(params, *series(y, x=x[:97], x_ahead=x[97:] + np.array([1.0, 0.0])), asked)
    np.testing.assert_allclose(warmer[:, 0] - answer[:, 0], 2.0, atol=0.2)


def test_covariates_that_never_move_or_repeat_others_are_left_out(demand, series, task):
    a = np.random.default_rng(5).normal(size=84)
    x = np.column_stack([np.full(84, 4.0), a, 2 * a + 1, np.zeros(84)])
    for model in (AutoArima(models=8), Autoregression()):
        params = model.fit_series(series(demand(84), x=x)[0], task(covariates=tuple("abcd")))
        assert params.core.columns.kept == (1,)


def test_too_many_covariates_for_the_history_are_an_error(demand, series, task):
    x = np.random.default_rng(8).normal(size=(24, 9))
    with pytest.raises(HistoryTooShort):
        AutoArima().fit_series(series(demand(24), x=x)[0], task(covariates=tuple("abcdefghi")))


def hourly(days, seed=0):
    t = np.arange(24 * days)
    day, week = np.sin(2 * np.pi * t / 24), (t // 24) % 7 >= 5
    return 100 + 20 * day - 30 * week + np.random.default_rng(seed).normal(size=len(t))


@pytest.mark.parametrize("trend", ["ets", "theta", "arima"])
def test_mstl_follows_day_and_week(trend, series, task):
    y = hourly(49)
    past, future = series(y[: 24 * 42], ahead=168)
    asked = task(24, seasons=(24, 168), horizon=168)
    params = Mstl(trend).fit_series(past, asked)
    assert params.periods == (24, 168)
    answer = Mstl(trend).predict_series(params, past, future, asked)
    assert np.abs(answer[:, 0] - y[24 * 42 :]).mean() < 2.0


def test_seasons_that_the_history_does_not_hold_twice_are_left_out(series, task):
    past, _ = series(hourly(10))
    assert Mstl().fit_series(past, task(24, seasons=(24, 168))).periods == (24,)


@pytest.mark.parametrize("model", [AutoEts(), AutoCes(), AutoArima(models=8)])
def test_a_season_of_48_steps_is_taken_out_first(model, series, task):
    t = np.arange(48 * 12)
    y = 50 + 10 * np.sin(2 * np.pi * t / 48) + np.random.default_rng(0).normal(size=len(t))
    past, future = series(y[:-48], ahead=48)
    asked = task(48, horizon=48)
    params = model.fit_series(past, asked)
    assert params.periods == (48,)
    answer = model.predict_series(params, past, future, asked).reshape(48, -1)[:, 0]
    assert np.abs(answer - y[-48:]).mean() < 1.6


def test_the_window_is_the_newest_rows_and_predict_begins_where_it_began(demand, series, task):
    y = demand(200)
    model = AutoEts(max_history=60)
    past, future = series(y)
    params = model.fit_series(past, task())
    short, _ = series(y)
    short = Series("a", short.ds[-60:], short.y[-60:], short.x[-60:])
    assert params.start == str(short.ds[0])
    np.testing.assert_array_equal(
        model.predict_series(params, past, future, task()), model.predict_series(params, short, future, task())
    )


def test_logarithms_of_a_context_that_has_fallen_to_zero_are_an_error_that_says_what_to_do(demand, series, task):
    model = Mstl(log=True)
    past, future = series(demand())
    params = model.fit_series(past, task())
    past.y[-1] = 0.0
    with pytest.raises(PluginError, match="positive values"):
        model.predict_series(params, past, future, task())


@pytest.mark.slow
def test_quantiles_cover_what_they_promise_on_a_random_walk(series, task):
    rng = np.random.default_rng(0)
    inside = {}
    for _ in range(25):
        y = np.cumsum(rng.normal(size=112))
        past, future = series(y[:100])
        for model in (AutoEts("AZN"), AutoTheta("STM"), AutoArima(models=8), Autoregression()):
            answer = model.predict_series(model.fit_series(past, task(1)), past, future, task(1))
            within = (answer[:, 1] <= y[100:]) & (y[100:] <= answer[:, 3])
            inside.setdefault(type(model).__name__, []).append(within)
    for name, within in inside.items():
        assert 0.6 < np.mean(within) < 0.95, name


@pytest.mark.parametrize("season", [2, 3, 7, 12])
@pytest.mark.parametrize("multiplicative", [True, False])
def test_the_season_of_theta_is_that_of_statsmodels(season, multiplicative):
    decompose = pytest.importorskip("statsmodels.tsa.seasonal").seasonal_decompose
    y = 1 + np.random.default_rng(season).gamma(4, 5, 5 * season + 3)
    expected = decompose(y, model="multiplicative" if multiplicative else "additive", period=season).seasonal
    got = np.resize(seasonal_factors(y, season, multiplicative=multiplicative), len(y))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
