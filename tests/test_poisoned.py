"""Spoilt retrains: the champion stays, and the reason has a name. Unspoilt and better: it changes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from forecastcore import runtime
from forecastcore.continuity import Limits, compare
from forecastcore.errors import DataError
from forecastcore.profile import PROFILE, Profile, profile

HOURS, FRESH = 24 * 40, 24 * 10


def clean(seed=0, series=8):
    """Forty days of hourly series with a day's shape, noise that lasts, and a covariate that tells nothing."""
    rng = np.random.default_rng(seed)
    ds = pd.date_range("2024-03-01", periods=HOURS, freq="h")
    hour = np.arange(HOURS) % 24
    blocks = []
    for number in range(series):
        wave = 20 * np.sin(2 * np.pi * hour / 24) + 8 * (hour == 7 + number % 3)
        noise = np.convolve(rng.normal(0, 2, HOURS + 5), np.ones(6) / 2, "valid")
        y = 20.0 * (number + 3) + wave + noise
        blocks.append(pd.DataFrame({"unique_id": f"s{number}", "ds": ds, "y": y, "promo": rng.normal(size=HOURS)}))
    return pd.concat(blocks, ignore_index=True)


def late(frame, hours=FRESH):
    return frame["ds"] > frame["ds"].max() - pd.Timedelta(hours=hours)


def repeated_week(frame):
    y = frame["y"].to_numpy().reshape(-1, HOURS).copy()
    y[:, -168:] = y[:, -336:-168]
    return frame.assign(y=y.ravel())


def shuffled(frame):
    rng = np.random.default_rng(9)
    return frame.assign(y=frame.groupby("unique_id")["y"].transform(lambda y: rng.permutation(y.to_numpy())))


#: code of the guard → the history spoilt
POISONS = {
    "x10 level": ("data-level-shift", lambda f: f.assign(y=f["y"].where(~late(f), 10 * f["y"]))),
    "unit change": ("data-unit-change", lambda f: f.assign(y=f["y"] / 1000)),
    "zeros": ("data-zeros", lambda f: f.assign(y=f["y"].where(~late(f), 0.0))),
    "week repeated": ("data-repeated", repeated_week),
    "history cut": ("data-cut", lambda f: f[late(f, 24 * 12)]),
    "half the series gone": ("data-series-gone", lambda f: f[f["unique_id"] < "s4"]),
    "shuffled target": ("data-shuffled", shuffled),
    "leak column": ("data-leak", lambda f: f.assign(promo=f["y"])),
    "stale data": ("data-stale", lambda f: f[~late(f, FRESH + 24)]),
    "wrong zone": ("data-zone", lambda f: f.assign(ds=f["ds"] + pd.Timedelta(hours=2))),
}
SPOILT = """
from dataclasses import dataclass
import numpy as np
import pandas as pd
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Spoilt:
    how: str = "nan"
    path: str = ""
    def fit_series(self, series, task):
        return {"level": 0.0}
    def predict_series(self, params, series, future, task):
        if self.how != "peek":
            return np.full(len(future.ds), {"nan": np.nan, "inf": np.inf, "huge": 1e308}[self.how])
        told = pd.read_parquet(self.path).set_index(["unique_id", "ds"])["y"]
        return told.loc[series.unique_id].reindex(pd.DatetimeIndex(future.ds).tz_localize(None)).to_numpy()

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="spoilt", summary="what must not win", factory=Spoilt)
"""
BETTER = [{"type": "naive"}, {"type": "seasonal-naive"}]


def settings(**more):
    covariates = {"promo": {"known": True}}
    return {"models": BETTER, "horizon": 24, "backtest": {"folds": 5}, "covariates": covariates, **more}


def champion(site):
    """A site with a champion that was trained before the newest ten days; then a better model is at hand."""
    frame = clean()
    site.write(frame[~late(frame)], **settings(models=[{"type": "naive"}])).retrain()
    return site.write(frame, **settings()), frame


def held(site, *overrides):
    """The reason for which a retrain under --require-promotion ended with exit 4, the champion unchanged."""
    told = site.cli("--json", "retrain", "--require-promotion", *[w for o in overrides for w in ("--set", o)])
    assert told.code == 4, told.out
    assert runtime.store(site.project()).resolve("champion").version == "1"
    document = told.document
    if "error" in document:
        return document["error"]["message"]
    assert document["decision"]["verdict"] == "hold"
    assert runtime.store(site.project()).ledger()[-1].reason == document["decision"]["reason"]
    return document["decision"]["reason"]


@pytest.mark.parametrize("poison", POISONS)
def test_each_poison_of_the_data_is_found_and_has_its_own_code(poison, make_site, tmp_path):
    frame = clean()
    known = _history(make_site(frame[~late(frame)], bare=True, **settings()))
    profile(*known).write(tmp_path / PROFILE)
    before = Profile.from_bytes((tmp_path / PROFILE).read_bytes())
    code, spoil = POISONS[poison]
    history, task = _history(make_site(spoil(frame), bare=True, **settings()))
    found = {guard.name for guard in compare(before, history, task, Limits()) if not guard.passed}
    assert code in found, found


@pytest.mark.parametrize("seed", range(5))
def test_a_history_that_goes_on_is_no_poison(seed, make_site):
    frame = clean(seed)
    known = _history(make_site(frame[~late(frame)], bare=True, **settings()))
    history, task = _history(make_site(frame, bare=True, **settings()))
    assert [guard.name for guard in compare(profile(*known), history, task, Limits())] == ["data"]


def _history(site):
    project = site.project()
    history = runtime.history(project)
    return history, runtime.task(project, history.grid, history.origin)


@pytest.mark.row(32)
def test_spoilt_retrains_are_held_with_their_reason_and_the_same_on_clean_data_is_promoted(site):
    site, frame = champion(site)
    site.plugin(SPOILT)
    code, spoil = POISONS["x10 level"]
    assert f"held: {code}: " in held(site.write(spoil(frame)))
    assert "no candidate could be scored" in held(site.write(frame), "models=[{type: spoilt}]")
    document = site.cli("--json", "retrain").document
    assert document["decision"]["verdict"] == "promote", document["decision"]
    packed = next((site.folder / "mlartifacts").rglob(PROFILE))
    assert "x10" not in json.dumps(document)
    assert Profile.from_bytes(packed.read_bytes()).ids.tolist() == [f"s{n}" for n in range(8)]


@pytest.mark.row(32, trials=15)
@pytest.mark.slow
def test_fifteen_poisons_fifteen_held(site):
    site, frame = champion(site)
    site.plugin(SPOILT)
    reasons = {}
    for poison, (_, spoil) in POISONS.items():
        models = [{"type": "ridge"}] if poison == "leak column" else BETTER
        reasons[poison] = held(site.write(spoil(frame), models=models))
    site.write(frame, models=BETTER)
    peek = f"models=[{{type: spoilt, how: peek, path: {site.folder / 'history.parquet'}}}]"
    reasons["train=test"] = held(site, peek)
    reasons["NaN metric"] = held(site, "models=[{type: spoilt, how: nan}]")
    reasons["inf metric"] = held(site, "models=[{type: spoilt, how: huge}]")
    reasons["one-day eval set"] = held(site, "backtest.folds=1")
    reasons["duplicate rows"] = held(site.write(pd.concat([frame, frame.head(500)])))
    for poison, (code, _) in POISONS.items():
        assert f"{code}: " in reasons[poison], reasons[poison]
    assert "plausible: " in reasons["train=test"]
    assert "1 origins" in reasons["one-day eval set"]
    assert "no finite" in reasons["NaN metric"]
    assert "share series and time" in reasons["duplicate rows"]
    assert len(reasons) == 15
    site.write(frame, models=BETTER)
    assert site.retrain().decision.verdict == "promote"


@pytest.mark.row(32, trials=20, seed="0-19")
@pytest.mark.slow
@pytest.mark.parametrize("better", ["ridge", "seasonal-naive"])
def test_nineteen_of_twenty_better_challengers_are_promoted(better, make_site):
    verdicts = []
    for seed in range(20):
        frame = clean(seed)
        site = make_site(frame[~late(frame)], **settings(models=[{"type": "naive"}]))
        site.retrain()
        verdicts.append(site.write(frame, **settings(models=[{"type": better}])).retrain().decision.verdict)
    assert verdicts.count("promote") >= 19


@pytest.mark.row(33)
@pytest.mark.parametrize("how", ["nan", "inf", "huge"])
def test_a_model_whose_forecasts_are_no_numbers_never_becomes_champion(how, make_site):
    site = make_site().plugin(SPOILT).write(models=[{"type": "spoilt", "how": how}, {"type": "naive"}])
    assert site.retrain().champion_after.model == "naive"
    site = make_site().plugin(SPOILT).write(models=[{"type": "spoilt", "how": how}])
    with pytest.raises(DataError, match="no candidate could be scored"):
        site.retrain()


LOPSIDED = (
    SPOILT.replace("spoilt", "lopsided")
    .replace(
        "return told.loc[series.unique_id].reindex(pd.DatetimeIndex(future.ds).tz_localize(None)).to_numpy()",
        """told = told.loc[series.unique_id].reindex(pd.DatetimeIndex(future.ds).tz_localize(None)).to_numpy()
        noise = np.random.default_rng(int(future.ds[0].astype("datetime64[h]").astype(int))).normal(size=len(told))
        large = series.unique_id == self.large
        late = np.arange(len(told)) >= (18 if self.late else len(told))
        return told + noise * np.where(large | late, 8.0, 1.0)""",
    )
    .replace('path: str = ""', 'path: str = ""\n    large: str = ""\n    late: bool = False')
)


@pytest.mark.row(34)
@pytest.mark.slow  # the gate's own tests have slices too
def test_a_challenger_that_fails_a_slice_is_held_and_the_slice_is_named(make_site):
    frame = clean(series=10)
    site = make_site(frame, **settings(models=[{"type": "seasonal-naive"}])).plugin(LOPSIDED)
    site.retrain()
    peek = f"type: lopsided, how: peek, path: {site.folder / 'history.parquet'}"
    assert "largest tenth of the series: +" in held(site, f"models=[{{{peek}, large: s9}}]")
    assert "steps 19-24: +" in held(site, f"models=[{{{peek}, late: true}}]")
    assert site.cli("--json", "retrain", "--set", f"models=[{{{peek}}}]").document["decision"]["verdict"] == "promote"
