"""Retrain learns, compares and decides; every decision is on record."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pandas as pd
import pytest

import forecastcore as fc
from forecastcore.errors import DataError, PluginError, UsageError
from forecastcore.runs.contest import backtest
from forecastcore.runs.promotion import promote, rollback
from forecastcore.testing import sample_history

NAIVE = [{"type": "naive"}]
BETTER = [{"type": "naive"}, {"type": "seasonal-naive"}]


def ledger(site):
    from forecastcore import runtime

    return [(e.action, e.version, e.champion) for e in runtime.store(site.project()).ledger()]


def test_the_first_is_champion_an_equal_is_held_and_a_better_one_is_promoted(site):
    site.write(models=NAIVE, horizon=24, backtest={"folds": 4})
    first = site.retrain()
    assert (first.decision.verdict, first.champion_before) == ("first", None)
    equal = site.retrain()
    assert equal.decision.verdict == "hold"
    assert equal.decision.gain == 0
    assert equal.champion_after == first.challenger
    site.write(models=BETTER)
    better = site.retrain()
    assert better.decision.verdict == "promote", better.decision
    assert better.decision.gain > 0.1
    assert better.decision.ci[0] > 0
    assert all(guard.passed for guard in better.decision.guards)
    assert (better.champion_before.version, better.champion_after.version) == ("1", "3")
    assert better.champion_after.model == "seasonal-naive"
    rollback(site.project(), reason="drift")
    assert site.predict().model_version == "1"
    promote(site.project(), "3", reason="seen it")
    assert site.predict().model_version == "3"
    assert ledger(site) == [
        ("first", "1", "1"),
        ("hold", "2", "1"),
        ("promote", "3", "3"),
        ("rollback", "1", "1"),
        ("manual", "3", "3"),
    ]


@pytest.mark.parametrize(("mode", "verdict"), [("off", "hold"), ("dry-run", "promote"), ("manual", "promote")])
def test_only_mode_enforce_changes_the_champion(mode, verdict, site):
    site.write(models=NAIVE, horizon=24, backtest={"folds": 4})
    site.retrain()
    site.write(models=BETTER, promotion={"mode": mode})
    report = site.retrain()
    assert report.decision.verdict == verdict
    assert report.champion_after.version == "1"
    assert ledger(site)[-1] == ("hold", "2", "1")
    assert site.predict().model_version == "1"


def test_no_promote_records_the_decision_and_leaves_the_champion(site):
    site.write(models=NAIVE)
    report = site.retrain(promote=False)
    assert report.decision.verdict == "first"
    assert report.champion_after is None
    assert any("--no-promote" in note for note in report.notes)
    with pytest.raises(UsageError, match="no champion"):
        site.predict()
    assert site.predict(model="challenger").model_version == "1"


def test_on_origins_after_its_training_the_stored_champion_is_scored_not_its_recipe(site):
    level = sample_history(series=3, rows=24 * 20).assign(ds=lambda f: f["ds"].dt.tz_localize(None))
    late = (level["ds"] >= level["ds"].max() - pd.Timedelta("6D")).to_numpy()
    level.loc[late, "y"] *= 5
    site.plugin(FROZEN).write(level, models=[{"type": "frozen"}], backtest={"folds": 3})
    site.retrain(as_of="2024-01-12")
    again = site.retrain()
    assert again.decision.gain > 0.5  # the same recipe: only the stored level can be so much worse


FROZEN = """
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Frozen:
    window: int = 24
    def fit_series(self, series, task):
        return {"level": float(series.y[-self.window:].mean()), "wave": series.y[-24:] - series.y[-24:].mean()}
    def predict_series(self, params, series, future, task):
        return params["level"] + params["wave"][: len(future.ds)]

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="frozen", summary="the level of training day", factory=Frozen)
"""


def test_a_champion_whose_plugin_is_gone_is_refused_with_its_name_and_replaced_by_a_retrain(site):
    site.plugin(FROZEN).write(models=[{"type": "frozen"}])
    site.retrain()
    site.write(plugins=None, models=NAIVE)
    with pytest.raises(PluginError, match="frozen") as caught:
        site.predict()
    assert "own.py" in str(caught.value)
    report = site.retrain()
    assert report.champion_before.model == "frozen"
    assert report.decision.verdict == "promote"
    assert "plugin" in report.decision.reason
    assert site.predict().model == "naive"


def test_mlflow_holds_a_parent_a_child_per_candidate_and_no_model_of_code(site):
    report = site.retrain()
    with sqlite3.connect(site.folder / "mlflow.db") as db:
        statuses = [
            row[0]
            for row in db.execute(
                "select status from runs where name in ('seasonal-naive', 'naive') or name like 'retrain %'"
            )
        ]
        metrics = db.execute("select count(distinct key) from metrics where run_uuid = ?", (report.run_id,)).fetchone()[
            0
        ]
        parents = db.execute("select value from tags where key = 'mlflow.parentRunId'").fetchall()
        params = dict(db.execute("select key, value from params where run_uuid = ?", (report.run_id,)))
    assert statuses == ["FINISHED"] * 3
    assert metrics <= 40
    assert parents == [(report.run_id,)] * 2
    assert params["horizon"] == "6"
    (kept,) = (site.folder / "mlartifacts").rglob("decision.json")
    assert json.loads(kept.read_text(encoding="utf-8"))["verdict"] == "first"
    assert not [p for p in (site.folder / "mlartifacts").rglob("*") if p.suffix in {".pkl", ".pickle", ".joblib"}]


def test_a_retrain_that_fails_is_a_failed_run_and_changes_no_champion(site):
    site.retrain()
    site.plugin(FROZEN.replace("return {", "raise OSError('disk'); return {"))
    site.write(models=[{"type": "frozen"}])
    with pytest.raises(DataError, match=r"no candidate could be scored: frozen: 3 of 3 series .*OSError: disk"):
        site.retrain()
    assert ledger(site) == [("first", "1", "1")]
    assert site.predict().model_version == "1"
    with sqlite3.connect(site.folder / "mlflow.db") as db:
        assert dict(db.execute("select status, count(*) from runs group by status"))["FAILED"] == 1


def test_two_retrains_on_the_same_data_give_the_same_model_bit_for_bit(make_site):
    reports = []
    for _ in range(2):
        site = make_site(models=BETTER)
        site.retrain()
        reports.append(site.predict())
    assert reports[0].run_key == reports[1].run_key


def test_a_backtest_writes_nothing(make_site):
    site = make_site(bare=True)
    report = backtest(site.project())
    assert [row.model for row in report.leaderboard] == ["seasonal-naive", "naive"]
    assert not site.written


def test_the_leaderboard_says_what_a_model_cannot_use(site):
    site.write(
        covariates={"temp": {"assume": "w"}},
        assumptions={"w": {"type": "persistence"}},
        models=[{"type": "naive"}, {"type": "ridge"}],
    )
    rows = {row.model: row for row in backtest(site.project()).leaderboard}
    assert rows["naive"].reason == "does not use covariates (temp)"
    assert rows["ridge"].reason == ""


def test_mase_is_what_the_textbook_says(make_site):
    rng = np.random.default_rng(3)
    y = 10 + rng.normal(size=24 * 6)
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=len(y), freq="h"), "y": y})
    site = make_site(frame, bare=True, models=NAIVE, backtest={"folds": 2, "season": 24}, horizon=12)
    losses = []
    for end in (len(y) - 24, len(y) - 12):
        scale = np.abs(y[24:end] - y[: end - 24]).mean()
        losses.append(np.abs(y[end : end + 12] - y[end - 1]).mean() / scale)
    (row,) = backtest(site.project()).leaderboard
    assert row.mase == pytest.approx(np.mean(losses), rel=1e-12)


def test_the_library_is_used_as_the_readme_says(site):
    project = fc.Project.load(site.folder / "forecast.yaml")
    report = fc.retrain(project, as_of=None)
    assert report.schema_ == "forecastcore/retrain/1"
    served = fc.predict(project, scenarios=("base",))
    table = fc.forecasts(project, issued_at="latest")
    assert len(table) == served.rows == 18
    assert set(fc.__all__) <= set(dir(fc))


@pytest.mark.parametrize(
    "change",
    [
        {"horizon": 12},
        pytest.param({"quantiles": [0.2, 0.8]}, marks=pytest.mark.slow),
        pytest.param({"frequency": "2h"}, marks=pytest.mark.slow),
    ],
)
def test_a_champion_that_answers_another_question_makes_way(change, site):
    site.write(models=NAIVE).retrain(as_of="2024-03-08")
    frame = pd.read_parquet(site.folder / "history.parquet")
    site.write(frame[frame["ds"].dt.hour % 2 == 1], **change)
    if "frequency" not in change:
        site.write(frame)
    with pytest.raises(UsageError, match="was trained with"):
        site.predict()
    report = site.retrain()
    assert report.decision.verdict == "promote"
    assert "was trained with" in report.decision.reason
    assert site.predict().model_version == "2"


def _broken_later():
    """Fifty days of hourly series with a day's wave; for the last twelve the wave is turned around."""
    rng = np.random.default_rng(5)
    ds = pd.date_range("2024-01-01", periods=24 * 50, freq="h")
    turn = np.where(np.arange(len(ds)) < 24 * 38, 1.0, -1.0)
    wave = 10 * np.sin(2 * np.pi * np.arange(len(ds)) / 24)
    y = [50 * (n + 1) + turn * wave + rng.normal(0, 1, len(ds)) for n in range(3)]
    return pd.concat([pd.DataFrame({"unique_id": f"s{n}", "ds": ds, "y": values}) for n, values in enumerate(y)])


@pytest.mark.row(35)
@pytest.mark.slow
def test_a_champion_whose_predecessor_would_have_served_better_is_demoted(site):
    site.plugin(FROZEN).write(_broken_later(), models=NAIVE, horizon=24, backtest={"folds": 5, "season": 24})
    site.retrain(as_of="2024-01-30")
    site.write(models=[{"type": "frozen"}]).retrain(as_of="2024-02-06")
    assert ledger(site)[-1] == ("promote", "2", "2")
    site.write(models=NAIVE, promotion={"mode": "dry-run"}).retrain()
    assert ledger(site)[-1][2] == "2", "a dry run changes nothing"
    report = site.write(promotion={"mode": "enforce"}).retrain()
    assert ("rollback", "1", "1") in ledger(site)
    assert report.champion_before.version == "2"
    assert report.champion_after.version == "1"
    assert any("demoted: version 1 errs less than version 2" in note for note in report.notes)
    assert site.predict().model_version == "1"


def test_a_champion_that_serves_well_stays(site):
    frame = _broken_later()
    site.plugin(FROZEN).write(frame, models=NAIVE, horizon=24, backtest={"folds": 4, "season": 24})
    site.retrain(as_of="2024-01-20")
    site.write(models=[{"type": "frozen"}]).retrain(as_of="2024-01-27")
    site.retrain(as_of="2024-02-05")
    assert "rollback" not in [action for action, *_ in ledger(site)]


@pytest.mark.parametrize("metric", [*(pytest.param(m, marks=pytest.mark.slow) for m in ("mase", "rmsse")), "wql"])
def test_the_gate_compares_by_the_metric_that_chooses(metric, site):
    settings = {"backtest": {"folds": 4, "metric": metric}}
    site.write(models=[{"type": "naive"}], **settings).retrain()
    report = site.write(models=[{"type": "seasonal-naive"}], **settings).retrain()
    challenger, champion = (getattr(row, metric) for row in report.leaderboard)
    assert report.decision.gain == pytest.approx(1 - challenger / champion, rel=1e-9)


def test_a_moment_long_after_the_data_is_told_before_anything_is_fitted(site):
    told = site.cli("retrain", "--as-of", "2031-01-01")
    assert told.code == 4
    assert "no value to compare forecasts with" in told.err
    assert "the newest is of 2024-03-10 23:00:00" in told.err
    assert "backtest naive" not in told.err


def test_the_worst_series_are_twenty_those_that_nobody_serves_first_but_not_alone():
    from forecastcore.messages import WorstSeries
    from forecastcore.runs.leaderboard import worst_first

    served = [WorstSeries(unique_id=f"s{n}", mase=float(n)) for n in range(30)]
    unserved = [WorstSeries(unique_id=f"u{n}", reason="no-history") for n in range(30)]
    told = [one.unique_id for one in worst_first([*served, *unserved, *served])]
    assert (len(told), len(set(told))) == (20, 20)
    assert all(uid.startswith("u") for uid in told[:10])
    assert told[10:] == [f"s{n}" for n in range(29, 19, -1)]
    assert len(worst_first(unserved)) == 20
    assert [one.unique_id for one in worst_first([*served, unserved[0]])][:2] == ["u0", "s29"]
    assert worst_first([WorstSeries(unique_id="x", mase=float("nan"))]) == ()
