import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import forecastcore as fc
from forecastcore.audit import AuditError, Expected, audit, past_of
from forecastcore.config import AuditConfig

HORIZON, SEASON = 48, 24
ORIGIN = pd.Timestamp("2024-03-01", tz="UTC")
NOW = ORIGIN + pd.Timedelta("1h")


def history(values):
    """A panel of series that end at the origin."""
    frames = []
    for uid, y in values.items():
        ds = pd.date_range(end=ORIGIN, periods=len(y), freq="h")
        frames.append(pd.DataFrame({"unique_id": uid, "ds": ds, "y": y}))
    return pd.concat(frames, ignore_index=True)


def waves(days=30, seed=0):
    rng, hours = np.random.default_rng(seed), np.arange(days * 24)
    return {
        uid: level + 0.3 * level * np.sin(2 * np.pi * hours / SEASON) + rng.normal(scale=0.02 * level, size=len(hours))
        for uid, level in (("a", 20.0), ("b", 300.0), ("c", 5.0))
    }


def seasonal_naive(y):
    return np.tile(y[-SEASON:], HORIZON // SEASON)


def vintage(values, forecast=seasonal_naive, width=0.2):
    frames = []
    for uid, y in values.items():
        point = np.asarray(forecast(y), dtype=float)
        frames.append(
            pd.DataFrame(
                {
                    "unique_id": uid,
                    "ds": pd.date_range(ORIGIN, periods=HORIZON + 1, freq="h")[1:],
                    "step": np.arange(1, HORIZON + 1, dtype=np.int32),
                    "issued_at": ORIGIN,
                    "forecast": point,
                    "q10": point - width * np.nanstd(y),
                    "q90": point + width * np.nanstd(y),
                    "status": "ok",
                    "reason": None,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def expected(values, **changes):
    given = {
        "ids": tuple(values),
        "origin": ORIGIN,
        "instants": pd.date_range(ORIGIN, periods=HORIZON + 1, freq="h")[1:],
        "quantiles": ("q10", "q90"),
        "season": SEASON,
        "skilled": True,
    }
    return Expected(**{**given, **changes})


def checks(table, values, limits=None, now=NOW, **changes):
    past = past_of(history(values), HORIZON, SEASON)
    return audit(table, past, expected(values, **changes), limits or AuditConfig(), now=now)


def only_b(table, column, change):
    table.loc[table["unique_id"] == "b", column] = change(table.loc[table["unique_id"] == "b", column])
    return table


def at(table, row, **values):
    for column, value in values.items():
        table.loc[row, column] = value
    return table


def all_numbers(table, change):
    for column in ("forecast", "q10", "q90"):
        table[column] = change(table[column])
    return table


DEFECTS = {
    "null": (lambda t: at(t, 60, forecast=np.nan), "null"),
    "null quantile": (lambda t: at(t, 60, q10=np.nan), "null"),
    "infinity": (lambda t: at(t, 60, forecast=np.inf), "infinite"),
    "short horizon": (lambda t: t[~((t["unique_id"] == "b") & (t["step"] > 40))], "horizon"),
    "duplicate key": (lambda t: pd.concat([t, t.iloc[[50]]], ignore_index=True), "duplicate"),
    "crossed quantiles": (lambda t: at(t, 60, q10=1e3, q90=-1e3), "quantiles"),
    "negative where history never was": (lambda t: only_b(t, "forecast", lambda y: -y), "sign"),
    "ten times the level": (lambda t: all_numbers(t, lambda y: 10 * y), "level"),
    "flat line": (lambda t: only_b(t, "forecast", lambda y: 0 * y + 300.0), "flat-line"),
    "wrong zone": (lambda t: t.assign(ds=t["ds"] + pd.Timedelta("1h")), "instant"),
    "missing ids": (lambda t: t[t["unique_id"] != "b"], "missing-series"),
    "an id that nobody knows": (lambda t: t.replace({"unique_id": {"b": "z"}}), "unknown-series"),
    "stale origin": (lambda t: t.assign(issued_at=t["issued_at"] - pd.Timedelta("1D")), "origin"),
    "wrong unit, too large": (lambda t: all_numbers(t, lambda y: 1000 * y), "level"),
    "wrong unit, too small": (lambda t: all_numbers(t, lambda y: y / 1000), "level"),
}


@pytest.mark.row(24)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found_with_the_rows_that_show_it(name):
    plant, check = DEFECTS[name]
    found = checks(plant(vintage(waves())), waves())
    assert check in {finding.check for finding in found}
    finding = next(f for f in found if f.check == check)
    assert finding.rows >= 1
    assert finding.examples or check == "missing-series"
    culprit = "'z'" if check == "unknown-series" else "'a'" if check in {"instant", "origin", "level"} else "'b'"
    assert culprit in finding.message + " ".join(finding.examples)


def test_old_data_holds_where_an_age_is_set():
    values = waves()
    limits = AuditConfig(max_age="36h")
    assert checks(vintage(values), values, limits) == []
    [finding] = checks(vintage(values), values, limits, now=ORIGIN + pd.Timedelta("3D"))
    assert finding.check == "stale"


def test_bounds_hold_where_they_are_set():
    values = waves()
    table = vintage(values)
    assert checks(table, values, AuditConfig(minimum=0.0, maximum=1000.0)) == []
    assert [f.check for f in checks(table, values, AuditConfig(minimum=4.0, maximum=350.0))] == ["minimum", "maximum"]


@pytest.mark.row(37)
@pytest.mark.parametrize(("share", "broken", "held"), [(1, 0.5, False), (2, 0.5, True), (2, 1.0, False)])
def test_a_model_that_breaks_on_most_series_holds(share, broken, held):
    values = waves()
    table = vintage(values)
    bad = table["unique_id"].isin(["a", "b", "c"][:share])
    table.loc[bad, ["status", "reason"]] = ["degraded", "model-error: RuntimeError: no"]
    found = checks(table, values, AuditConfig(max_broken=broken))
    assert [f.check for f in found] == (["broken"] if held else [])
    assert [f.check for f in checks(table, values, AuditConfig(max_broken=1.0, max_degraded=0.2))] == ["degraded"]


def test_rows_that_are_marked_failed_owe_no_number():
    values = waves()
    table = vintage(values)
    table.loc[table["unique_id"] == "b", ["forecast", "q10", "q90"]] = np.nan
    table.loc[table["unique_id"] == "b", "status"] = "failed"
    assert checks(table, values) == []


def clean(seed):
    """Series of many kinds, and a forecast that fits them."""
    rng, hours = np.random.default_rng(seed), np.arange(24 * int(np.random.default_rng(seed).integers(4, 60)))
    day = np.sin(2 * np.pi * hours / SEASON)
    values = {
        "seasonal": 10 + 5 * day + rng.normal(size=len(hours)),
        "trend": 100 + 0.5 * hours + rng.normal(scale=5, size=len(hours)),
        "walk": 50 + np.cumsum(rng.normal(size=len(hours))),
        "intermittent": rng.poisson(0.05, len(hours)).astype(float),
        "solar": np.maximum(0.0, day) * rng.uniform(0.2, 1.0, len(hours)),
        "around zero": rng.normal(size=len(hours)),
        "constant": np.full(len(hours), 7.0),
        "zeros": np.zeros(len(hours)),
        "sold once": np.where(hours == 3, 12.0, 0.0),
        "gaps": np.where(rng.random(len(hours)) < 0.3, np.nan, 20 + 3 * day),
        "stepped up": np.where(hours > len(hours) - 30, 60.0, 12.0) + rng.normal(size=len(hours)),
    }
    forecasts = [
        seasonal_naive,
        lambda y: np.full(HORIZON, y[np.isfinite(y)][-1]),
        lambda y: np.full(HORIZON, np.nanmean(y[-7 * 24 :])),
    ]
    return values, forecasts[seed % 3], seed % 3 == 0


@pytest.mark.row(24, seed="seed")
@pytest.mark.parametrize("seed", range(50))
def test_a_clean_run_is_not_held(seed):
    values, forecast, skilled = clean(seed)
    table = vintage(values, lambda y: np.nan_to_num(forecast(y), nan=float(np.nanmean(y))))
    assert checks(table, values, skilled=skilled) == []


# -- in a run

TURNING = """
import os
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Turning:
    def fit_series(self, series, task):
        return {"season": int(task.seasons[-1])}

    def predict_series(self, params, series, future, task):
        good = np.resize(series.y[-24:], len(future.ds)) + 0.0
        level = np.abs(series.y).mean()
        bad = {
            "": good, "null": good * np.nan, "infinity": good + np.inf, "level": good * 10, "unit": good / 1000,
            "sign": -good, "flat": np.full(len(good), level), "crossed": good, "short": good[:3],
        }[os.environ.get("TURNED", "")]
        if os.environ.get("TURNED") == "crossed":
            return np.column_stack([bad, bad + 5, bad, bad - 5])
        return bad


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="turning", summary="good until told otherwise", factory=Turning)
"""


@pytest.mark.row(24)
@pytest.mark.parametrize("turned", ["null", "infinity", "level", "unit", "sign", "short"])
def test_a_model_that_turns_bad_after_training_is_held_and_the_vintage_before_is_served(make_site, monkeypatch, turned):
    site = make_site(horizon=24).plugin(TURNING).write(models=[{"type": "turning"}])
    site.retrain()
    assert site.cli("predict", "--as-of", "2024-03-10T00:00Z").code == 0
    before = site.table()
    monkeypatch.setenv("TURNED", turned)
    told = site.cli("--json", "predict")
    assert told.code == 4
    error = told.document["error"]
    assert error["code"] == "audit"
    assert "series 'a', step 1" in error["message"]
    pd.testing.assert_frame_equal(site.table(), before)
    monkeypatch.setenv("TURNED", "")
    assert site.cli("predict").code == 0


@pytest.mark.row(24, trials=65)
@pytest.mark.slow
def test_each_planted_defect_holds_a_run_and_none_of_fifty_clean_ones_is_held(make_site, monkeypatch):
    """In whole runs, through the command line: what was published before is served, row for row."""
    import forecastcore.runs.making as module

    site = make_site(history(waves(31)), horizon=HORIZON, quantiles=[0.1, 0.9], models=[{"type": "ridge"}])
    site.retrain()
    assert site.cli("predict", "--as-of", "2024-02-27T00:00Z").code == 0
    before, real = site.table(), module._table
    for name, (plant, check) in DEFECTS.items():

        def planted(*args, plant=plant):
            table = real(*args)
            return pa.Table.from_pandas(plant(table.to_pandas()), schema=table.schema, preserve_index=False)

        with monkeypatch.context() as patch:
            patch.setattr(module, "_table", planted)
            told = site.cli("--json", "predict")
        assert told.code == 4, name
        assert f"{check}: " in told.document["error"]["message"], name
        pd.testing.assert_frame_equal(site.table(), before)
    origins = pd.date_range("2024-02-27 01:00", periods=50, freq="h", tz="UTC")
    assert {site.cli("predict", "--as-of", str(origin)).code for origin in origins} == {0}


def test_a_limit_of_the_project_file_lets_it_pass(make_site, monkeypatch):
    site = make_site(horizon=24).plugin(TURNING).write(models=[{"type": "turning"}])
    site.retrain()
    monkeypatch.setenv("TURNED", "level")
    with pytest.raises(AuditError, match="level: 3 series are more than 5 times off"):
        site.predict()
    assert site.predict("audit.level=100").published


def test_the_span_of_an_age_is_checked_with_the_file(site):
    with pytest.raises(fc.errors.ConfigError, match=r"audit\.max_age: expected a time span such as 15min, 36h or 2D"):
        site.project("audit.max_age=soon")


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_numbers_about_the_past_are_those_of_each_series_alone(missing):
    rng = np.random.default_rng(3)
    values = {uid: rng.normal(size=length) for uid, length in {"a": 500, "b": 130, "c": 30, "d": 7}.items()}
    values = {uid: np.where(rng.random(len(y)) < missing, np.nan, y) for uid, y in values.items()}
    values["e"] = np.full(60, np.nan)
    past = past_of(history(values), HORIZON, SEASON)
    for uid, y in values.items():
        size, short = np.abs(y), len(y) % HORIZON
        blocks = [*size[short:].reshape(-1, HORIZON)] if len(y) >= HORIZON else [size]
        oldest = [size[:short]] if len(y) >= HORIZON else []
        levels, all_levels = (
            [np.nanmean(block) for block in some if np.isfinite(block).any()] for some in (blocks, blocks + oldest)
        )
        pairs = pd.DataFrame({"now": y[SEASON:], "then": y[:-SEASON]}).tail(8 * SEASON).dropna()
        expected_numbers = [
            np.isfinite(y).sum(),
            np.nanmin(y) if levels else np.nan,
            np.nanmean(np.abs(y)[-2 * HORIZON :]) if levels else np.nan,
            max(all_levels, default=np.nan),
            min(levels, default=np.nan),
            (pairs["now"].corr(pairs["then"]) if len(pairs) >= 10 else 0.0) if levels else np.nan,
        ]
        np.testing.assert_allclose(past.loc[uid], expected_numbers, rtol=1e-9)
