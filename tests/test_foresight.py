"""What is lost by not knowing the covariates' future, and how wrong they were assumed, where both are known."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from forecastcore import runtime, units
from forecastcore.backtest import fold_origins, rows_of
from forecastcore.runs.contest import backtest

EFFECT, NOISE, HORIZON = 3.0, 1.0, 24


@pytest.fixture
def site(tmp_path, site_of):
    """A project folder without MLflow: a backtest needs none."""
    return site_of(tmp_path)


@dataclass
class World:
    """y = 50 + 3 temp + noise; temp is forecast every hour, with errors of a known size that nobody can foresee."""

    history: pd.DataFrame
    archive: pd.DataFrame


def world(days: int, error: float, *, series: int = 2, bias: float = 0.0, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    ds = pd.date_range("2024-01-01", periods=24 * days, freq="h")
    temp = rng.normal(size=len(ds))
    frames = [
        pd.DataFrame({"unique_id": f"s{n}", "ds": ds, "temp": temp, "y": 50 + EFFECT * temp + noise})
        for n, noise in enumerate(rng.normal(scale=NOISE, size=(series, len(ds))))
    ]
    issued = np.repeat(np.arange(len(ds) - HORIZON), HORIZON)
    place = issued + np.tile(np.arange(1, HORIZON + 1), len(ds) - HORIZON)
    said = temp[place] + bias + rng.normal(scale=error, size=len(place))
    archive = pd.DataFrame({"ds": ds[place], "issued_at": ds[issued], "value": said})
    return World(pd.concat(frames, ignore_index=True), archive)


def placed(site, made: World, **settings):
    """The world as a project."""
    made.archive.to_parquet(site.folder / "issued.parquet")
    return site.write(
        made.history,
        **{
            "horizon": HORIZON,
            "covariates": {"temp": {"assume": "weather"}},
            "assumptions": {"weather": {"type": "archive", "path": "issued.parquet", "column": "value"}},
            "models": [
                {"type": "seasonal-naive"},
                {"type": "ridge", "covariates": "actual"},
                {"type": "ridge", "covariates": "assumed"},
            ],
            "backtest": {"folds": 6},
            **settings,
        },
    )


def oracle(site, made: World) -> float:
    """The premium of who knows the effect, in units of mase, with the errors that were drawn."""
    project = site.project()
    history = runtime.history(project)
    rows = rows_of(project, history, fold_origins(history, project))
    at = [origin.tz_localize(None) for origin in rows.origins]
    said = made.archive[made.archive["issued_at"].isin(at)].sort_values(["issued_at", "ds"])["value"].to_numpy()
    assumed = 50 + EFFECT * np.concatenate([np.tile(fold, len(rows.ids)) for fold in said.reshape(len(at), HORIZON)])
    panel = history.panel.set_index(["unique_id", "ds"])["temp"]
    ds = pd.DatetimeIndex(rows.origins).take(rows.fold) + pd.to_timedelta(rows.step, "h")
    keys = [np.array(rows.ids)[rows.series], ds]
    actual = 50 + EFFECT * panel.reindex(pd.MultiIndex.from_arrays(keys)).to_numpy()
    return float((rows.losses(assumed) - rows.losses(actual)).mean())


@pytest.mark.slow
def test_the_premium_is_recovered_and_who_learns_from_assumptions_beats_who_learns_from_what_came(site):
    made = world(45, error=1.0)
    placed(site, made)
    report = backtest(site.project())
    board = {(row.model, row.params.get("covariates")): row for row in report.leaderboard}
    assert board[("seasonal-naive", None)].premium is None
    naive, learnt = board[("ridge", "actual")], board[("ridge", "assumed")]
    assert naive.premium == pytest.approx(oracle(site, made), rel=0.1)
    assert learnt.mase < 0.9 * naive.mase
    assert 0 < learnt.premium < naive.premium
    (error,) = report.assumption_errors
    assert (error.covariate, error.assumption, error.rows) == ("temp", "weather", 6 * 2 * HORIZON)
    assert error.mae == pytest.approx(np.sqrt(2 / np.pi), rel=0.15)
    assert error.scaled == pytest.approx(error.mae / error.spread)
    assert len(error.mae_by_step) == HORIZON


@pytest.mark.slow
@pytest.mark.parametrize("error", [1.0, 2.0])
def test_the_premium_is_that_of_the_formula(site, error):
    """With Gaussian errors a mean absolute error is sqrt(2/pi) times the standard deviation."""
    made = world(100, error=error, series=4)
    placed(site, made, backtest={"folds": 40}, models=[{"type": "ridge", "covariates": "actual"}])
    project = site.project()
    history = runtime.history(project)
    rows = rows_of(project, history, fold_origins(history, project))
    known = np.sqrt(2 / np.pi) * (np.hypot(NOISE, EFFECT * error) - NOISE) / rows.scale.mean()
    (row,) = backtest(project).leaderboard
    assert row.premium == pytest.approx(known, rel=0.1)


@pytest.mark.slow
def test_boosted_trees_that_learn_from_assumptions_beat_those_that_learn_from_what_came(site):
    models = [{"type": "gradient-boosting", "covariates": covariates} for covariates in ("actual", "assumed")]
    placed(site, world(100, error=1.0), models=models)
    actual, assumed = sorted(backtest(site.project()).leaderboard, key=lambda row: row.params["covariates"])
    assert assumed.mase < 0.95 * actual.mase
    assert assumed.premium < actual.premium


@pytest.mark.slow
def test_the_premium_of_an_ensemble_is_that_of_its_members_put_together(site):
    members = [{"type": "ridge"}, {"type": "seasonal-naive"}]
    blend = {"type": "ensemble", "method": "mean", "members": ["ridge", "seasonal-naive"]}
    placed(site, world(20, error=1.0), models=[*members, blend], backtest={"folds": 2})
    premium = {row.model: row.premium for row in backtest(site.project()).leaderboard}
    assert 0 < premium["ensemble"] < premium["ridge"]


def test_a_bias_is_told_step_by_step_and_an_error_free_assumption_has_no_premium(site):
    made = world(20, error=0.0, bias=2.0)
    placed(site, made, models=[{"type": "naive"}], backtest={"folds": 2})
    (error,) = backtest(site.project()).assumption_errors
    assert error.bias_by_step == pytest.approx([2.0] * HORIZON)
    assert error.mae_by_step == pytest.approx([2.0] * HORIZON)
    placed(site, world(20, error=0.0), models=[{"type": "ridge"}], backtest={"folds": 1})
    report = backtest(site.project())
    assert report.leaderboard[0].premium == pytest.approx(0.0, abs=1e-9)
    assert report.assumption_errors[0].mae == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_retrain_logs_the_premium_and_the_table_of_errors_and_the_leaderboard_shows_it(make_site):
    import mlflow

    site = make_site()

    placed(site, world(20, error=1.0), models=[{"type": "seasonal-naive"}, {"type": "ridge"}], backtest={"folds": 2})
    told = site.cli("--json", "retrain")
    (error,) = told.document["assumption_errors"]
    row = next(row for row in told.document["leaderboard"] if row["model"] == "ridge")
    client = mlflow.MlflowClient(f"sqlite:///{site.folder / 'mlflow.db'}")
    run = client.get_run(told.document["run_id"])
    assert run.data.metrics["assumption_error.temp"] == pytest.approx(error["scaled"])
    names = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert "assumption_errors.parquet" in names
    (child,) = client.search_runs([run.info.experiment_id], "run_name = 'ridge'")
    assert child.data.metrics["premium"] == pytest.approx(row["premium"])
    shown = site.cli("backtest").out
    assert "premium" in shown
    assert "premium" not in site.cli("backtest", "--set", "models=[{type: naive}]").out


CHAIN = {
    "weather": {"type": "chain", "links": ["kept", "guess", "usual"]},
    "kept": {"type": "archive", "path": "issued.parquet", "column": "value", "available_after": "2h"},
    "guess": {"type": "model", "model": {"type": "seasonal-naive"}},
    "usual": {"type": "climatology"},
}


@pytest.mark.row(44)
@pytest.mark.parametrize(
    ("assumptions", "seed"),
    [
        pytest.param(CHAIN, 0, id="chain", marks=pytest.mark.slow),
        pytest.param({"weather": CHAIN["guess"]}, 1, id="model", marks=pytest.mark.slow),
        pytest.param({"weather": CHAIN["kept"]}, 2, id="archive"),
    ],
)
def test_nothing_later_than_the_origin_reaches_a_fold_or_its_training(site, assumptions, seed):
    """Targets, covariates and issues after an origin are changed; its fold stays bit for bit what it was."""
    made = world(9, error=1.0, seed=seed)
    hole = made.archive["issued_at"] > made.archive["ds"].min() + pd.Timedelta("6D")
    made.archive = made.archive[~hole | (made.archive["ds"].dt.hour < 18)]
    rng = np.random.default_rng(seed)
    told = []
    for later in (False, True):
        placed(site, made, assumptions=assumptions, models=[{"type": "ridge"}], backtest={"folds": 2})
        project = site.project()
        history = runtime.history(project)
        origin = fold_origins(history, project)[0]
        if later:
            changed = made.archive["issued_at"] + pd.Timedelta("0h") > origin.tz_localize(None)
            made.archive.loc[changed, "value"] = rng.normal(scale=1e3, size=int(changed.sum()))
            made.archive.to_parquet(site.folder / "issued.parquet")
            after = history.panel["ds"] > origin
            history.panel.loc[after, ["y", "temp"]] = rng.normal(scale=1e3, size=(int(after.sum()), 2))
        (candidate,) = project.candidates()
        asked = {"candidate": candidate.as_dict(), "origins": [(0, origin.isoformat())]}
        request = units.request_of(project, history.grid, **asked)
        _, blocks = units.rows_answered(units.backtest_unit(history.panel, json.dumps(request)))
        told.append(pd.concat([pd.DataFrame(block) for block in blocks]))
    visible = ["fold", "series", "step", "forecast", "made"]  # it has no quantiles of its own
    pd.testing.assert_frame_equal(told[0][visible], told[1][visible], check_exact=True)
    assert not told[0]["foresight"].equals(told[1]["foresight"])
