"""Calling models: one series never stops the others, and a breach of the contract names the plugin."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore import guard
from forecastcore.api import Capabilities, ModelSpec, per_series
from forecastcore.errors import HistoryTooShort
from forecastcore.naive import repeat_season
from forecastcore.testing import sample_future, sample_history, sample_task


@dataclass(frozen=True)
class Offer:
    spec: ModelSpec
    version: str = "1.2.3"


@dataclass(frozen=True)
class FittedMean:
    level: dict

    def predict(self, context, future, task):
        return future[["unique_id", "ds"]].assign(forecast=future["unique_id"].map(self.level).astype(float))


@dataclass(frozen=True)
class Mean:
    """The mean of each series; raises on the series it is told to."""

    hates: tuple = ()

    def fit(self, history, task):
        means = history.groupby("unique_id")["y"].mean().to_dict()
        for uid in self.hates:
            if uid in means:
                msg = f"cannot stand {uid}"
                raise ZeroDivisionError(msg)
        return FittedMean(means)


def offer(factory, **capabilities):
    return Offer(ModelSpec(name="mean", summary="", factory=factory, capabilities=Capabilities(**capabilities)))


def served(model, history, task, **capabilities):
    offered = offer(type(model), **capabilities)
    future = sample_future(history, task)
    fitted, failures = guard.fit(offered, model, history, task)
    part = guard.Part(None, fitted, failures)
    whole = guard.answer(offered, [part], history, future, task, guard.screen(history, 1.0))
    return guard.with_fallback(whole, history, future, task, model="mean")


@pytest.mark.row(38, 39, trials=20)
@settings(deadline=None, max_examples=20)
@given(st.sets(st.integers(0, 11), max_size=11), st.sampled_from(["local", "global"]))
def test_series_that_make_a_model_raise_are_served_by_the_fallback_and_the_others_as_without_them(bad, scope):
    history = sample_history(series=12, rows=72)
    task = sample_task(history, horizon=5)
    names = tuple(f"series-{n}" for n in bad)
    got = served(Mean(hates=names), history, task, scope=scope)
    clean = served(Mean(), history, task, scope=scope)
    assert list(got["unique_id"].unique()) == list(clean["unique_id"].unique())
    assert len(got) == 12 * 5
    fine = ~got["unique_id"].isin(names)
    assert got[fine].equals(clean[fine])
    assert (got.loc[~fine, "status"] == "degraded").all()
    assert (got.loc[~fine, "model"] == "seasonal-naive").all()
    assert got.loc[~fine, "reason"].str.startswith("model-error: ZeroDivisionError: cannot stand series-").all()


@pytest.mark.row(37)
def test_the_fallback_repeats_the_last_season_then_the_last_value_then_gives_up():
    history = sample_history(series=1, rows=72)
    short = pd.DataFrame({"unique_id": "short", "ds": history["ds"].iloc[-2:], "y": [1.0, 7.0]})
    empty = pd.DataFrame({"unique_id": "void", "ds": history["ds"].iloc[-1:], "y": [np.nan]})
    panel = pd.concat([history, short, empty], ignore_index=True)
    task = sample_task(panel, horizon=4)
    got = served(Mean(hates=("series-0", "short", "void")), panel, task).set_index("unique_id")
    assert got.loc["series-0", "forecast"].tolist() == history["y"].iloc[-24:-20].tolist()
    assert got.loc["short", "forecast"].tolist() == [7.0] * 4
    assert got.loc["void", "forecast"].isna().all()
    assert got.loc["void", "status"].tolist() == ["failed"] * 4
    assert got.loc["short", "model"].tolist() == ["naive"] * 4


def test_a_history_shorter_than_the_model_needs_never_reaches_it():
    history = sample_history(series=2, rows=10)
    got = served(Mean(), history, sample_task(history, horizon=3), min_history=11)
    assert set(got["reason"]) == {"history-too-short"}


def test_a_model_may_say_itself_that_history_is_too_short():
    @per_series
    @dataclass(frozen=True)
    class Picky:
        def fit_series(self, series, task):
            raise HistoryTooShort(100, len(series.y))

        def predict_series(self, params, series, future, task):
            raise AssertionError

    history = sample_history(series=1)
    got = served(Picky(), history, sample_task(history, horizon=2))
    assert set(got["reason"]) == {"history-too-short"}


def breach(answer):
    @dataclass(frozen=True)
    class Fitted:
        def predict(self, context, future, task):
            return answer(future)

    @dataclass(frozen=True)
    class Broken:
        def fit(self, history, task):
            return Fitted()

    history = sample_history(series=2, rows=50)
    return served(Broken(), history, sample_task(history, horizon=3))


@pytest.mark.row(60)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda f: None, "returned NoneType, not a frame"),
        (lambda f: f[["unique_id", "ds"]], "lacks ['forecast']"),
        (lambda f: pd.concat([f, f])[["unique_id", "ds"]].assign(forecast=1.0), "returned a row twice"),
        (
            lambda f: f[["unique_id", "ds"]].assign(unique_id="invented", forecast=1.0).iloc[:1],
            "rows that were not asked for",
        ),
        (
            lambda f: f[["unique_id"]].assign(ds=f["ds"].dt.tz_localize(None), forecast=1.0),
            "returned ds as datetime64[ns]",
        ),
        (lambda f: f[["unique_id", "ds"]].assign(forecast=np.inf), "no finite forecast"),
        (lambda f: f[["unique_id", "ds"]].assign(forecast="much"), "could not convert string"),
    ],
)
def test_a_breach_of_the_contract_becomes_the_reason(answer, words):
    got = breach(answer)
    assert (got["status"] == "degraded").all()
    assert got["reason"].str.contains(words, regex=False).all()


def test_rows_in_another_order_are_put_in_place():
    got = breach(lambda f: f[["unique_id", "ds"]].assign(forecast=np.arange(len(f), dtype=float)).iloc[::-1])
    assert got["forecast"].tolist() == [0, 1, 2, 3, 4, 5]


def test_quantiles_are_put_in_order():
    got = breach(lambda f: f[["unique_id", "ds"]].assign(forecast=1.0, q10=3.0, q50=2.0, q90=1.0))
    assert got[["q10", "q50", "q90"]].to_numpy().tolist() == [[1.0, 2.0, 3.0]] * 6


@pytest.mark.row(60)
def test_a_model_that_exits_is_only_another_failure():
    def leave(future):
        raise SystemExit(3)

    assert breach(leave)["reason"].str.contains("SystemExit").all()


@pytest.mark.row(60)
def test_a_model_cannot_change_what_others_see():
    def vandal(future):
        future.loc[:, "step"] = -1
        return future[["unique_id", "ds"]].assign(forecast=1.0)

    assert breach(vandal)["step"].tolist() == [1, 2, 3, 1, 2, 3]


def test_gaps_are_filled_only_for_models_that_cannot_handle_them():
    seen = {}

    @dataclass(frozen=True)
    class Looking(Mean):
        def fit(self, history, task):
            seen["nan"] = bool(history["y"].isna().any())
            return super().fit(history, task)

    history = sample_history(series=1, rows=60)
    history.loc[30:33, "y"] = np.nan
    for missing in (True, False):
        served(Looking(), history, sample_task(history, horizon=2), missing=missing)
        assert seen["nan"] is missing


def test_covariates_reach_only_models_that_use_them():
    seen = []

    @dataclass(frozen=True)
    class Looking(Mean):
        def fit(self, history, task):
            seen.append((tuple(history.columns[3:]), task.covariates))
            return super().fit(history, task)

    history = sample_history(series=1, covariates=("t",))
    for covariates in (True, False):
        served(Looking(), history, sample_task(history, horizon=2), covariates=covariates)
    assert seen == [(("t",), ("t",)), ((), ())]


def test_series_that_no_model_should_see_are_screened_with_their_reason():
    ds = pd.date_range("2024-01-01", periods=10, freq="h", tz="UTC")
    shapes = {
        "fine": np.arange(10.0),
        "flat": np.full(10, 3.0),
        "void": np.full(10, np.nan),
        "one": np.r_[np.full(9, np.nan), 1.0],
        "holes": np.where(np.arange(10) % 5 == 0, np.arange(10.0), np.nan),
    }
    panel = pd.concat(
        [pd.DataFrame({"unique_id": uid, "ds": ds, "y": y}) for uid, y in sorted(shapes.items())], ignore_index=True
    )
    assert guard.screen(panel, 0.5) == {
        "flat": "constant-history",
        "void": "no-history",
        "one": "history-too-short",
        "holes": "too-many-missing",
    }


@given(
    st.lists(st.one_of(st.none(), st.floats(-10, 10)), min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 20)
)
def test_repeat_season_takes_the_latest_value_of_the_phase(values, season, horizon):
    y = np.array([np.nan if v is None else v for v in values])
    got = repeat_season(y, season, horizon)
    seen = y[np.isfinite(y)]
    for step in range(horizon):
        phase = [v for i, v in enumerate(y) if (len(y) + step - i) % season == 0 and np.isfinite(v)]
        expected = phase[-1] if phase else seen[-1] if len(seen) else np.nan
        assert got[step] == expected or (np.isnan(got[step]) and np.isnan(expected))
