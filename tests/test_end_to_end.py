"""The laws of every model, from source to sink: nothing is seen too early, nothing is lost, nothing leaks over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from forecastcore.messages import PredictReport, RetrainReport

MODELS = [
    "seasonal-naive",
    "naive",
    "theta",
    "ets",
    "sarimax",
    "unobserved-components",
    "ridge",
    "gradient-boosting",
    "random-forest",
]
#: kept small: what is tried here are the runs, not the models
PARAMS: dict[str, dict[str, Any]] = {
    "gradient-boosting": {"max_iter": 10},
    "random-forest": {"trees": 5},
    "ets": {"error": "add", "trend": None, "damped": False, "seasonal": "add"},
    "sarimax": {"order": [1, 0, 0], "fourier": 2, "maxiter": 20},
    "unobserved-components": {"level": "local level", "harmonics": 2, "maxiter": 20},
}
SETTING: dict[str, Any] = {
    "frequency": "D",
    "horizon": 5,
    "covariates": {"temp": {"assume": "weather"}, "promo": {"known": True}},
    "assumptions": {"weather": {"type": "persistence"}},
    "backtest": {"folds": 2},
    "engine": {"type": "local", "workers": 0},
}
ORIGIN = "2024-05-05"  # ten days of the 76 come after it


def days(series: int = 3, rows: int = 76) -> pd.DataFrame:
    """Naive UTC days of weekly series on levels of their own."""
    ds = pd.date_range("2024-03-01", periods=rows, freq="D")
    blocks = []
    for number in range(series):
        rng = np.random.default_rng(number)
        temp, promo = rng.normal(size=rows), (rng.random(rows) < 0.3).astype(float)
        y = 50.0 * (number + 1) + 10 * np.sin(2 * np.pi * np.arange(rows) / 7) + 3 * temp + 8 * promo
        y += rng.normal(scale=0.5, size=rows)
        blocks.append(pd.DataFrame({"unique_id": chr(98 + number), "ds": ds, "y": y, "temp": temp, "promo": promo}))
    return pd.concat(blocks, ignore_index=True)


def planted() -> pd.DataFrame:
    """Series that trouble a model, one of each kind; the first and the last of them sort around the good ones."""
    ds = pd.date_range("2024-03-01", periods=76, freq="D")
    rng = np.random.default_rng(99)
    noise = rng.normal(size=76)
    until = pd.Timestamp(ORIGIN)
    kinds = {
        "a-constant": (ds, np.full(76, 3.0)),
        "a-huge": (ds, np.full(76, 1e15)),
        "z-empty": (ds, np.full(76, np.nan)),
        "z-gone": (ds[:20], noise[:20] + 5),
        "z-missing": (ds, np.where(np.arange(76) % 5 == 0, noise, np.nan)),
        "z-one-row": (ds[ds == until], noise[:1]),
    }
    return pd.concat(
        [
            pd.DataFrame({"unique_id": uid, "ds": at, "y": y, "temp": rng.normal(size=len(at)), "promo": 0.0})
            for uid, (at, y) in kinds.items()
        ],
        ignore_index=True,
    )


@pytest.fixture
def run(make_site: Callable[..., Any]) -> Callable[..., Any]:
    """Retrain and predict at the origin: what was reported and delivered."""

    def go(model: str, frame: pd.DataFrame, **options: Any) -> tuple[RetrainReport, PredictReport, pd.DataFrame]:
        models = [{"type": model, **PARAMS.get(model, {})}]
        here = make_site(frame, **{**SETTING, "models": models, **options})
        learned = here.retrain(as_of=ORIGIN)
        served = here.predict(as_of=ORIGIN)
        return learned, served, here.table()

    return go


_clean: dict[str, Any] = {}


@pytest.fixture
def clean(run: Callable[..., Any]) -> Callable[[str], Any]:
    """The same of the untouched series, once per model."""

    def of(model: str) -> Any:
        if model not in _clean:
            _clean[model] = run(model, days())
        return _clean[model]

    return of


def numbers(report: RetrainReport) -> list[dict[str, Any]]:
    """The leaderboard without the time it took."""
    return [row.model_dump(exclude={"seconds"}) for row in report.leaderboard]


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Bit for bit, but for when it was made and by which run."""
    drop = ["created_at", "run_key"]
    pd.testing.assert_frame_equal(
        left.drop(columns=drop).reset_index(drop=True), right.drop(columns=drop).reset_index(drop=True), rtol=0, atol=0
    )


def another_future() -> pd.DataFrame:
    """The same past; everything after the origin is different, and a series appears that was not there before."""
    frame = days()
    later = (frame["ds"] > ORIGIN).to_numpy()
    frame.loc[later, "y"] = frame.loc[later, "y"] * -7 + 1e6
    frame.loc[later, "temp"] += 1000
    newcomer = frame[later & (frame["unique_id"] == "b").to_numpy()].assign(unique_id="aa-new")
    return pd.concat([newcomer, frame]).sample(frac=1, random_state=1)


@pytest.mark.row(44)
@pytest.mark.parametrize("model", [pytest.param("theta", marks=pytest.mark.slow), "ridge"])
def test_what_happens_after_the_origin_does_not_even_change_the_run_key(model, run, clean):
    learned, served, table = run(model, another_future())
    learned_then, served_then, table_then = clean(model)
    assert numbers(learned) == numbers(learned_then)
    assert served.run_key == served_then.run_key
    same(table, table_then)


HEAVY = {"naive", "theta", "sarimax", "unobserved-components", "random-forest", "gradient-boosting"}


@pytest.mark.row(38, 39)
@pytest.mark.parametrize("model", [pytest.param(m, marks=[pytest.mark.slow] if m in HEAVY else []) for m in MODELS])
def test_neither_broken_neighbours_nor_another_future_change_a_good_series(model, run, clean):
    frame = pd.concat([planted(), another_future()]).sample(frac=1, random_state=2)
    learned, served, table = run(model, frame)
    learned_then, _, table_then = clean(model)
    assert numbers(learned) == numbers(learned_then)
    assert set(table["unique_id"]) == set(frame["unique_id"]) - {"aa-new"}
    assert (table.groupby("unique_id")["step"].agg(list).map(lambda steps: steps == [1, 2, 3, 4, 5])).all()
    same(table[table["unique_id"].isin(["b", "c", "d"])], table_then)
    status = table.groupby("unique_id")["status"].agg(lambda rows: "/".join(sorted(set(rows))))
    assert status["z-empty"] == "failed"
    assert set(status.drop(["z-empty", "z-gone"])[["a-constant", "a-huge", "z-missing", "z-one-row"]]) == {"degraded"}
    troubled = table[table["status"] != "ok"]
    assert (troubled["reason"] != "").all()
    assert table["forecast"].isna().sum() == 5
    assert served.series.total == 9
    assert served.series.failed == 1
    reasons = table.groupby("unique_id")["reason"].first()
    assert reasons["a-constant"] == "constant-history"
    assert reasons["z-empty"] == "no-history"
    assert reasons["z-missing"] == "too-many-missing"
    assert reasons["z-one-row"] == "history-too-short"
