"""Metrics against hand-made and published numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore.metrics import (
    Scored,
    by_slice,
    coverage,
    group_mean,
    naive_scale,
    pinball,
    size_classes,
    smape,
)

FLOATS = st.floats(-1e6, 1e6, allow_nan=False)


def test_mase_of_a_worked_example():
    # In-sample |y_t - y_(t-1)| = 2, 2, 2 -> scale 2; errors 1 and 3 -> MASE (1/2 + 3/2) / 2 = 1.
    history = np.array([0.0, 2.0, 4.0, 6.0])
    starts, ends = np.array([0, 4]), np.array([[4]])
    scale, scale2 = (naive_scale(history, starts, 1, ends, power=p).ravel() for p in (1, 2))
    y, forecast = np.array([8.0, 10.0]), np.array([9.0, 7.0])
    pair, step = np.zeros(2, dtype=int), np.array([1, 2])
    rows = Scored(y=y, group=pair, step=step, scale=scale, scale2=scale2, naive=y, size_class={})
    got = by_slice(rows, forecast, np.column_stack([forecast, forecast]), (0.1, 0.9))["all"]
    assert got["mase"] == pytest.approx(1.0)
    assert got["rmsse"] == pytest.approx(np.sqrt(5) / 2)
    assert got["bias"] == pytest.approx(-2 / 18)


def test_smape_of_the_m4_formula():
    assert smape(np.array([100.0]), np.array([110.0])) == pytest.approx(200 * 10 / 210)


def test_scale_uses_only_rows_before_each_end():
    y = np.array([0.0, 1.0, 2.0, 100.0, 7.0, 7.0])
    got = naive_scale(y, np.array([0, 4, 6]), 1, np.array([[3, 4], [6, 6]]))
    assert got[0].tolist() == [1.0, pytest.approx(100 / 3)]
    assert np.isnan(got[1]).all(), "a constant history has no scale"


def test_a_missing_actual_is_left_out():
    assert group_mean(np.array([1.0, np.nan, 3.0]), np.array([0, 0, 1]), 3)[:2].tolist() == [1.0, 3.0]
    assert coverage(np.array([1.0, np.nan, 9.0]), np.zeros(3), np.full(3, 5.0)) == 0.5


@given(st.lists(FLOATS, min_size=1, max_size=30), FLOATS, st.floats(0.05, 0.95))
def test_the_sample_quantile_minimises_the_pinball_loss(sample, other, level):
    y = np.array(sample)
    best = np.quantile(y, level, method="inverted_cdf")

    def mean(q):
        return pinball(y, np.full((len(y), 1), q), (level,)).mean()

    assert mean(best) <= mean(other) + 1e-6 * (1 + np.abs(y).max() + abs(other))


def scored(seed=1, series=9, origins=2, horizon=8):
    rng = np.random.default_rng(seed)
    pairs = series * origins
    y = rng.gamma(4, 5, pairs * horizon)
    naive, forecast = y + rng.normal(0, 3, len(y)), y + rng.normal(0, 2, len(y))
    y[:: horizon + 3] = np.nan
    size = group_mean(np.abs(y), np.tile(np.repeat(np.arange(series), horizon), origins), series)
    rows = Scored(
        y=y,
        group=np.repeat(np.arange(pairs), horizon),
        step=np.tile(np.arange(1, horizon + 1), pairs),
        scale=rng.gamma(4, 1, pairs),
        scale2=rng.gamma(9, 1, pairs),
        naive=naive,
        size_class={name: np.tile(hit, origins) for name, hit in size_classes(size).items()},
    )
    return rows, forecast, forecast[:, None] + np.array([-2.0, 0.0, 2.0])


def by_hand(rows, forecast, quantiles, levels, hit):
    """The definitions, on a frame."""
    frame = pd.DataFrame({"pair": rows.group, "y": rows.y, "error": forecast - rows.y})[hit].dropna()
    low, high = quantiles[frame.index, 0], quantiles[frame.index, -1]
    pairs = frame.assign(absolute=frame["error"].abs(), squared=frame["error"] ** 2).groupby("pair").mean()
    size = frame["y"].abs().sum()
    short = frame["y"].to_numpy()[:, None] - quantiles[frame.index]
    loss = np.where(short >= 0, np.array(levels) * short, (np.array(levels) - 1) * short)
    return {
        "mase": (pairs["absolute"] / rows.scale[pairs.index]).mean(),
        "rmsse": np.sqrt(pairs["squared"] / rows.scale2[pairs.index]).mean(),
        "wql": 2 * loss.sum() / len(levels) / size,
        "bias": frame["error"].sum() / size,
        "coverage": ((frame["y"] >= low) & (frame["y"] <= high)).mean(),
    }


def test_the_table_is_what_each_slice_gives_alone():
    levels = (0.1, 0.5, 0.9)
    rows, forecast, quantiles = scored()
    table = by_slice(rows, forecast, quantiles, levels)
    assert list(table) == ["all", *(f"steps {n}-{n + 1}" for n in (1, 3, 5, 7)), *list(rows.size_class)]
    for name, hit in {"all": rows.step > 0, "steps 3-4": (rows.step == 3) | (rows.step == 4)}.items():
        reference = by_hand(rows, forecast, quantiles, levels, hit)
        for metric, value in reference.items():
            assert table[name][metric] == pytest.approx(value), (name, metric)
        assert table[name]["smape"] == pytest.approx(smape(rows.y[hit], forecast[hit]))
    small = rows.size_class["series of size 1 of 4"][rows.group]
    assert table["series of size 1 of 4"]["coverage"] == pytest.approx(
        coverage(rows.y[small], quantiles[small, 0], quantiles[small, -1])
    )


def test_skill_by_geometric_mean_and_win_rate_of_a_worked_example():
    rows, _, _ = scored(series=1, origins=2, horizon=4)
    y = np.full(8, 10.0)
    naive, forecast = y + 2.0, y + np.repeat([1.0, 4.0], 4)  # half the error on one origin, twice on the other
    rows = replace(rows, y=y, naive=naive, scale=np.ones(2))
    table = by_slice(rows, forecast, np.column_stack([forecast, forecast]), (0.1, 0.9))["all"]
    assert table["skill_gm"] == pytest.approx(0.0)
    assert table["skill"] == pytest.approx(1 - 2.5 / 2)
    assert table["win_rate"] == 0.5
    table = by_slice(rows, naive, np.column_stack([naive, naive]), (0.1, 0.9))["all"]
    assert (table["skill_gm"], table["skill"], table["win_rate"]) == (0.0, 0.0, 0.5)


def test_one_spoilt_pair_counts_for_a_hundred_at_most():
    rows, _, _ = scored(series=1, origins=2, horizon=4)
    rows = replace(rows, y=np.zeros(8), naive=np.full(8, 1e-9), scale=np.ones(2))
    forecast = np.repeat([1e6, 1e-9], 4)
    table = by_slice(rows, forecast, np.column_stack([forecast, forecast]), (0.1, 0.9))["all"]
    assert table["skill_gm"] == pytest.approx(1 - np.sqrt(100))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_forecast_that_is_missing_where_it_could_be_scored_loses(bad):
    rows, forecast, quantiles = scored()
    forecast[5] = bad
    assert by_slice(rows, forecast, quantiles, (0.1, 0.5, 0.9))["all"]["mase"] == np.inf
