"""Features against pandas, and the law that nothing after the origin is read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecastcore.api import Task
from forecastcore.tabular.features import Plan, Rows, features_of, plan_of
from forecastcore.tabular.panel import panel_of
from forecastcore.tabular.sampling import sample, training_origins

PLAN = Plan(seasons=(24, 168), year=0, yearday=False, covariates=1)


def _panel(rows=60 * 24, timezone="UTC", start="2024-01-01", seed=0, series=1):
    rng = np.random.default_rng(seed)
    ds = pd.date_range(start, periods=rows, freq="h", tz="UTC", unit="ns")
    frames = [
        pd.DataFrame({"unique_id": f"s{n}", "ds": ds, "y": rng.normal(size=rows), "x": rng.normal(size=rows)})
        for n in range(series)
    ]
    history = pd.concat(frames, ignore_index=True)
    return panel_of(history, Task(origin=ds[-1], frequency="h", horizon=168, timezone=timezone, covariates=("x",)))


def _rows(origins, steps, series=0):
    origins, steps = np.asarray(origins), np.asarray(steps)
    return Rows(np.full(len(origins), series), origins, steps)


def test_lags_levels_and_covariates_are_those_that_pandas_finds():
    panel = _panel()
    y, x = pd.Series(panel.y[0]), pd.Series(panel.x[0, 0])
    origin, step = 1000, 30
    features = features_of(panel, _rows([origin], [step]), PLAN)
    level = y[origin - 167 : origin + 1].mean()
    scale = y[origin - 335 : origin + 1].std(ddof=0)
    got = {name: column[0] * scale + level for name, column in features.columns.items()}
    assert features.level[0] == pytest.approx(level)
    assert features.scale[0] == pytest.approx(scale)
    assert got["lag_24_1"] == pytest.approx(y[origin + step - 48])
    assert got["lag_168_2"] == pytest.approx(y[origin + step - 336])
    assert got["phase_168"] == pytest.approx(np.mean([y[origin + step - 168 * k] for k in (1, 2, 3, 4)]))
    assert got["mean_24"] == pytest.approx(y.rolling(24).mean()[origin])
    assert features.columns["x0"][0] == x[origin + step]
    assert features.columns["x0_mean_24"][0] == pytest.approx(x.rolling(24).mean()[origin + step])
    assert features.columns["x0_lag_168_1"][0] == x[origin + step - 168]


@settings(max_examples=30, deadline=None)
@given(origin=st.integers(200, 1200), step=st.integers(1, 168), seed=st.integers(0, 9))
def test_nothing_of_the_target_after_the_origin_is_read(origin, step, seed):
    panel = _panel(seed=seed, timezone="Europe/Rome")
    rows = _rows([origin], [step])
    before = features_of(panel, rows, PLAN)
    panel.y[:, origin + 1 :] += 1.0 + np.arange(panel.y.shape[1] - origin - 1)
    after = features_of(panel, rows, PLAN)
    for name in before.columns:
        np.testing.assert_allclose(after.columns[name], before.columns[name], atol=1e-7, err_msg=name)
    np.testing.assert_allclose(after.level, before.level, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(origin=st.integers(200, 1200), step=st.integers(1, 168))
def test_assumed_covariates_replace_the_actual_ones_after_the_origin_and_only_there(origin, step):
    panel = _panel()
    ahead = panel.x[:, :, None, origin + 1 : origin + 169].copy()
    plain = features_of(panel, _rows([origin], [step]), PLAN)
    rows = Rows(np.array([0]), np.array([origin]), np.array([step]), ahead, np.array([0]))
    panel.x[..., origin + 1 :] = 1e6
    assumed = features_of(panel, rows, PLAN)
    for name in plain.columns:
        np.testing.assert_allclose(assumed.columns[name], plain.columns[name], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("start", ["2024-03-10", "2024-10-06"])
def test_a_week_ago_is_the_same_time_on_the_local_clock_across_a_clock_change(start):
    panel = _panel(rows=60 * 24, timezone="Europe/Rome", start=start)
    panel.y[0] = panel.instants.tz_convert("Europe/Rome").hour  # each value says its local hour
    origins = np.arange(400, 800)
    features = features_of(panel, _rows(origins, 1 + origins % 160), PLAN)
    hours = features.columns["lag_168_1"] * features.scale + features.level
    different = np.abs(hours - features.columns["hour"]) > 1e-6
    assert different.mean() < 0.01  # the hour that the clocks skip or repeat has no exact counterpart


def test_a_series_is_sampled_the_same_whatever_other_series_there_are():
    panel = _panel(series=3)
    origins = training_origins(panel, PLAN, 168, 3_000, replay=False)
    rows = sample(panel, origins, 168, 3_000, seed=1)
    swapped = panel.only(np.array([False, True, True]))
    again = sample(swapped, origins, 168, 2_000, seed=1)
    for number in (0, 1):
        mine, other = again.series == number, rows.series == number + 1
        np.testing.assert_array_equal(again.origin[mine], rows.origin[other])
        np.testing.assert_array_equal(again.step[mine], rows.step[other])


def test_of_more_series_than_rows_are_allowed_some_are_taken_at_each_of_many_origins():
    """Else all that is learned is one month."""
    panel = _panel(rows=400, series=600)
    origins = training_origins(panel, PLAN, 24, 300, replay=False)
    drawn = sample(panel, origins, 24, 300, seed=0)
    assert 200 <= len(drawn.step) <= 400
    assert len(np.unique(drawn.origin)) >= 40
    assert len(np.unique(drawn.series)) >= 150
    assert len(np.unique(drawn.step)) == 24


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(60, 1500), horizon=st.integers(1, 40), limit=st.integers(50, 4_000))
@example(rows=550, horizon=1, limit=50)
def test_samples_stay_within_history_the_horizon_and_about_the_limit(rows, horizon, limit):
    panel = _panel(rows=rows, series=2)
    plan = plan_of(panel, (24,), horizon)
    origins = training_origins(panel, plan, horizon, limit, replay=False)
    drawn = sample(panel, origins, horizon, limit, seed=0)
    assert len(drawn.step) <= 1.1 * limit + 2 * len(panel.ids)
    assert drawn.step.min() >= 1
    assert drawn.step.max() <= horizon
    assert (drawn.origin + drawn.step).max() < rows
    assert len(set(zip(drawn.series, drawn.origin, drawn.step, strict=True))) == len(drawn.step)
