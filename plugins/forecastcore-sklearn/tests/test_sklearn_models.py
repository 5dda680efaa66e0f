"""The three families as the host uses them: fitted once on all series, then applied to newer contexts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from forecastcore_sklearn import GradientBoosting, RandomForest, Ridge, forecastcore_models
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.errors import HistoryTooShort, PluginError
from forecastcore.naive import repeat_season
from forecastcore.testing.samples import sample_future, sample_history, sample_task

FAMILIES = [
    pytest.param(Ridge(max_rows=6_000), id="ridge"),
    pytest.param(Ridge(max_rows=6_000, strategy="recursive"), id="recursive-ridge"),
    pytest.param(GradientBoosting(max_iter=20, max_rows=6_000), id="gradient-boosting"),
    pytest.param(RandomForest(trees=8, max_rows=6_000), id="random-forest"),
]
FREQUENCIES = {"30min": 48 * 21, "h": 24 * 28, "D": 7 * 30, "W-SUN": 120, "MS": 48, "QS": 24, "YS": 24}


def _split(history, task):
    """History up to `horizon` before its end, and what came after it, series by series."""
    back = history.groupby("unique_id").cumcount(ascending=False)
    past, later = history[back >= task.horizon], history[back < task.horizon]
    future = later.drop(columns="y").assign(step=later.groupby("unique_id").cumcount().to_numpy(dtype=np.int32) + 1)
    return past, future, later["y"].to_numpy(), dataclasses.replace(task, origin=past["ds"].max())


def _forecast(model, history, task, **values):
    return model.fit(history, task).predict(history, sample_future(history, task, values), task)


@pytest.mark.parametrize("model", FAMILIES)
def test_a_model_beats_the_seasonal_naive_where_a_covariate_explains_the_rest(model):
    history = sample_history(covariates=("temperature",), rows=28 * 24)
    past, future, actual, task = _split(history, sample_task(history))
    forecast = model.fit(past, task).predict(past, future, task)["forecast"].to_numpy()
    naive = np.concatenate([repeat_season(y.to_numpy(), 168, 48) for _, y in past.groupby("unique_id")["y"]])
    assert np.abs(forecast - actual).mean() < 0.8 * np.abs(naive - actual).mean()


@pytest.mark.parametrize("model", FAMILIES)
def test_the_answer_has_one_row_for_each_row_asked_and_keeps_their_order(model):
    history = sample_history()
    task = sample_task(history)
    future = sample_future(history, task)
    answer = model.fit(history, task).predict(history, future, task)
    pd.testing.assert_frame_equal(answer[["unique_id", "ds"]], future[["unique_id", "ds"]])
    assert np.isfinite(answer["forecast"]).all()


@pytest.mark.parametrize("model", FAMILIES)
def test_a_series_gets_the_same_forecast_alone_and_among_others_on_any_number_of_threads(model):
    history = sample_history(series=6, covariates=("temperature",))
    task = sample_task(history)
    future = sample_future(history, task)
    fitted = model.fit(history, task)
    together = fitted.predict(history, future, task)
    for wanted in (["series-1"], ["series-0", "series-3", "series-5"]):
        alone = fitted.predict(
            history[history["unique_id"].isin(wanted)],
            future[future["unique_id"].isin(wanted)],
            dataclasses.replace(task, threads=2),
        )
        expected = together[together["unique_id"].isin(wanted)]
        np.testing.assert_array_equal(alone["forecast"].to_numpy(), expected["forecast"].to_numpy())


@pytest.mark.parametrize("model", FAMILIES)
def test_a_series_without_information_does_not_change_the_forecasts_of_the_others(model):
    history = sample_history()
    task = sample_task(history)
    empty = history[history["unique_id"] == "series-0"].assign(unique_id="a-first-empty", y=np.nan)
    flat = history[history["unique_id"] == "series-0"].assign(unique_id="a-flat", y=7.5)
    wide = pd.concat([empty, flat, history], ignore_index=True)
    answer = _forecast(model, wide, task).set_index("unique_id")["forecast"]
    np.testing.assert_array_equal(answer.drop(["a-first-empty", "a-flat"]), _forecast(model, history, task)["forecast"])
    assert answer["a-first-empty"].isna().all()
    assert (answer["a-flat"] == 7.5).all()


@pytest.mark.parametrize("model", FAMILIES)
def test_the_same_seed_gives_the_same_forecast(model):
    history = sample_history()
    task = sample_task(history, seed=5)
    pd.testing.assert_frame_equal(_forecast(model, history, task), _forecast(model, history, task))


@pytest.mark.parametrize("model", FAMILIES)
def test_a_higher_covariate_that_drives_the_target_gives_a_higher_forecast(model):
    history = sample_history(series=1, rows=28 * 24, covariates=("temperature",))
    history["y"] += 4 * history["temperature"]
    task = sample_task(history)
    fitted = model.fit(history, task)
    low, high = (
        fitted.predict(history, sample_future(history, task, {"temperature": value}), task)["forecast"].mean()
        for value in (-1.0, 1.0)
    )
    assert 7 < high - low < 13  # each unit is worth five


@pytest.mark.parametrize("model", FAMILIES)
def test_newer_context_is_used_without_learning_anew(model):
    history = sample_history()
    task = sample_task(history)
    past, future, _, earlier = _split(history, task)
    fitted = model.fit(past, earlier)
    risen = history.assign(y=history["y"] + 40.0)
    plain = fitted.predict(history, sample_future(history, task), task)["forecast"]
    shifted = fitted.predict(risen, sample_future(history, task), task)["forecast"]
    np.testing.assert_allclose((shifted - plain).mean(), 40.0, atol=2.0)
    assert fitted.predict(past, future, earlier)["ds"].max() == history["ds"].max()


@settings(max_examples=8, deadline=None)
@given(power=st.integers(-20, 20), negative=st.booleans())
def test_the_unit_of_the_target_does_not_matter(power, negative):
    history = sample_history(series=2, rows=15 * 24)
    history["y"] -= 500.0 if negative else 0.0
    task = sample_task(history, horizon=24)
    scaled = history.assign(y=history["y"] * 2.0**power)
    model = GradientBoosting(max_iter=5, max_rows=1_500)
    expected = _forecast(model, history, task)["forecast"] * 2.0**power
    np.testing.assert_array_equal(_forecast(model, scaled, task)["forecast"], expected)


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_every_frequency_is_forecast_near_its_level(frequency, strategy):
    history = sample_history(rows=FREQUENCIES[frequency], frequency=frequency, timezone="Europe/Berlin")
    task = sample_task(history, frequency=frequency, horizon=6, timezone="Europe/Berlin")
    model = GradientBoosting(max_iter=10, max_rows=4_000, strategy=strategy)
    forecast = _forecast(model, history, task).groupby("unique_id")["forecast"]
    assert np.isfinite(forecast.min()).all()
    assert (forecast.min() > 0.5 * np.array([50.0, 100.0, 150.0])).all()
    assert (forecast.max() < 1.5 * np.array([50.0, 100.0, 150.0])).all()


def test_recursive_and_direct_agree_on_the_first_step_of_a_clean_series():
    history = sample_history(series=2, rows=28 * 24)
    task = sample_task(history, horizon=24)
    answers = [_forecast(Ridge(strategy=s, max_rows=6_000), history, task) for s in ("direct", "recursive")]
    first = [answer.groupby("unique_id")["forecast"].first().to_numpy() for answer in answers]
    np.testing.assert_allclose(first[0], first[1], rtol=0.05)


def test_a_linear_trend_is_followed_beyond_what_was_seen():
    ds = pd.date_range("2015-01-01", periods=84, freq="MS", tz="UTC", unit="ns")
    history = pd.DataFrame(
        {"unique_id": "a", "ds": ds, "y": 100.0 + 3.0 * np.arange(84) + 10 * np.sin(np.arange(84) * np.pi / 6)}
    )
    past, future, actual, task = _split(history, sample_task(history, frequency="MS", horizon=12))
    forecast = GradientBoosting().fit(past, task).predict(past, future, task)["forecast"]
    np.testing.assert_allclose(forecast, actual, rtol=0.03)


def test_missing_values_are_lived_with():
    history = sample_history(covariates=("temperature",))
    task = sample_task(history)
    holed = history.copy()
    rng = np.random.default_rng(1)
    holed.loc[rng.random(len(holed)) < 0.2, "y"] = np.nan
    holed.loc[rng.random(len(holed)) < 0.2, "temperature"] = np.nan
    holed.loc[holed.groupby("unique_id").tail(30).index, "y"] = np.nan
    for model in (Ridge(max_rows=6_000), GradientBoosting(max_iter=20, max_rows=6_000)):
        full, partial = (_forecast(model, frame, task)["forecast"] for frame in (history, holed))
        np.testing.assert_allclose(partial, full, rtol=0.2)


def test_a_series_that_was_never_below_zero_is_not_forecast_below_zero():
    history = sample_history(series=2)
    history["y"] = np.maximum(history["y"] - 60.0 * (1 + history["unique_id"].eq("series-1")), 0.0)
    assert _forecast(Ridge(max_rows=6_000), history, sample_task(history))["forecast"].min() >= 0.0


def test_a_series_that_was_not_learned_from_is_served_from_its_own_context():
    history = sample_history(series=3)
    past, future, actual, task = _split(history, sample_task(history))
    fitted = GradientBoosting(max_iter=20, max_rows=6_000).fit(past[past["unique_id"] != "series-2"], task)
    forecast = fitted.predict(past, future, task)["forecast"].to_numpy()
    new = (future["unique_id"] == "series-2").to_numpy()
    assert np.abs(forecast[new] / actual[new] - 1).mean() < 0.04


@pytest.mark.parametrize("model", FAMILIES)
def test_a_history_shorter_than_the_horizon_is_refused_with_the_numbers(model):
    history = sample_history(rows=30)
    with pytest.raises(HistoryTooShort, match=r"needs 58 observations, got 30"):
        model.fit(history, sample_task(history, horizon=48))


def test_an_instant_off_the_grid_is_named():
    history = sample_history(series=1)
    history.loc[5, "ds"] += pd.Timedelta("7min")
    with pytest.raises(PluginError, match="not on the grid of h, the first is 2024-01-01 05:07"):
        Ridge().fit(history, sample_task(history))


def _useless_replay(history, horizon):
    """Assumptions that have nothing to do with what came: noise of the covariate's own size."""

    def replay(origins):
        rng = np.random.default_rng(9)
        parts = [
            pd.DataFrame(
                {
                    "unique_id": name,
                    "origin": origin,
                    "ds": pd.date_range(origin, periods=horizon + 1, freq="h")[1:],
                    "step": np.arange(1, horizon + 1, dtype=np.int32),
                    "temperature": rng.normal(size=horizon),
                }
            )
            for name in history["unique_id"].unique()
            for origin in origins
        ]
        return pd.concat(parts, ignore_index=True)

    return replay


@pytest.mark.parametrize("family", [Ridge, GradientBoosting])
def test_a_model_trusts_a_covariate_less_where_past_assumptions_of_it_were_useless(family):
    history = sample_history(series=1, rows=40 * 24, covariates=("temperature",))
    history["y"] += 9 * history["temperature"]
    task = sample_task(history)
    task = dataclasses.replace(task, replay=_useless_replay(history, task.horizon))

    def effect(covariates):
        fitted = family(max_rows=6_000, covariates=covariates).fit(history, task)
        futures = (sample_future(history, task, {"temperature": value}) for value in (-1.0, 1.0))
        low, high = (fitted.predict(history, future, task)["forecast"].mean() for future in futures)
        return high - low

    assert effect("actual") == pytest.approx(20.0, rel=0.2)
    assert effect("assumed") < 0.3 * effect("actual")


def test_the_host_is_asked_once_for_all_replayed_origins_and_none_is_later_than_the_origin():
    history = sample_history(series=2, covariates=("temperature",))
    task = sample_task(history)
    asked = []

    def replay(origins):
        asked.append(list(origins))
        return _useless_replay(history, task.horizon)(origins)

    Ridge(max_rows=4_000).fit(history, dataclasses.replace(task, replay=replay))
    assert len(asked) == 1
    assert asked[0] == sorted(asked[0])
    assert history["ds"].min() < asked[0][0] <= asked[0][-1] < task.origin


def test_native_quantiles_never_cross_and_leave_the_point_forecast_as_it_is():
    history = sample_history()
    task = sample_task(history, quantiles=(0.05, 0.5, 0.95))
    model = GradientBoosting(max_iter=20, max_rows=6_000)
    plain = _forecast(model, history, task)
    answer = _forecast(dataclasses.replace(model, quantiles="native"), history, task)
    pd.testing.assert_frame_equal(answer[plain.columns], plain)
    assert (np.diff(answer[["q5", "q50", "q95"]], axis=1) >= 0).all()
    assert answer["q5"].mean() < plain["forecast"].mean() < answer["q95"].mean()


@pytest.mark.parametrize("spec", forecastcore_models(), ids=lambda spec: spec.name)
def test_a_stored_estimator_holds_only_classes_that_the_offer_declares_and_answers_the_same(spec):
    import skops.io

    history = sample_history(covariates=("temperature",))
    task = sample_task(history)
    small = {"ridge": {}, "gradient-boosting": {"max_iter": 5}, "random-forest": {"trees": 3}}[spec.name]
    fitted = spec.factory(max_rows=3_000, **small).fit(history, task)
    stored = skops.io.dumps(fitted.trees)
    assert set(skops.io.get_untrusted_types(data=stored)) <= set(spec.capabilities.trusted)
    loaded = dataclasses.replace(fitted, trees=skops.io.loads(stored, trusted=list(spec.capabilities.trusted)))
    future = sample_future(history, task)
    pd.testing.assert_frame_equal(loaded.predict(history, future, task), fitted.predict(history, future, task))
