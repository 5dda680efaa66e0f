"""An ensemble is a candidate like any other: scored, registered, promoted, served; refused where a member is gone."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pandas as pd
import pytest

from forecastcore.errors import PluginError
from forecastcore.host import Host
from forecastcore.package import Package
from forecastcore.runs.contest import backtest

#: errs by `add` on every series, and fails on those named; with `own`, on none that begins with it
OFF = """
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Off:
    add: float = 0.0
    fails: tuple[str, ...] = ()
    def fit_series(self, series, task):
        if series.unique_id in self.fails:
            raise RuntimeError(f"cannot do {series.unique_id}")
        return {"add": self.add}
    def predict_series(self, params, series, future, task):
        steps = np.arange(len(future.ds))
        return series.y[len(series.y) - task.season + steps % task.season] + params["add"]

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="off", summary="last season and something more", factory=Off)
"""
UP, DOWN = {"type": "off", "add": 9.0}, {"type": "off", "add": -8.0}
MEAN = {"type": "ensemble", "method": "mean"}


@pytest.fixture
def off(site):
    """Two models that err in opposite ways, and what is made of them."""
    return site.plugin(OFF).write(models=[UP, DOWN, MEAN], backtest={"folds": 3})


def lines(report):
    return {row.name: row for row in report.leaderboard}


def packed(site):
    folders = {path.parent for path in (site.folder / "mlartifacts").rglob("model.json")}
    return max(folders, key=lambda folder: (folder / "model.json").stat().st_mtime_ns)


def test_an_ensemble_wins_is_registered_and_serves_what_its_members_say(off):
    report = off.retrain()
    assert report.leaderboard[0].name == "ensemble"
    assert report.challenger.model == report.champion_after.model == "ensemble"
    served = off.predict()
    assert (served.model, served.series.ok) == ("ensemble", 3)
    table = off.table()
    assert set(table["model"]) == {"ensemble"}
    history = pd.read_parquet(off.folder / "history.parquet")
    last = history.groupby("unique_id")["y"].apply(lambda y: y.to_numpy()[-24:-18]).to_dict()
    for uid, rows in table.groupby("unique_id"):
        np.testing.assert_allclose(rows["forecast"], last[uid] + 0.5)
        assert (rows["q10"] < rows["forecast"]).all()
        assert (rows["q90"] > rows["forecast"]).all()


def test_what_is_stored_is_data_names_every_plugin_and_serves_through_mlflow(off):
    off.retrain()
    folder = packed(off)
    manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert [(m["name"], m["params"], m["weight"]) for m in manifest["members"]] == [
        ("off-1", {"add": 9.0}, 0.5),
        ("off-2", {"add": -8.0}, 0.5),
    ]
    assert {m["plugin"]["distribution"] for m in manifest["members"]} == {"own.py"}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".json", ".npz", ".parquet", ".skops"}
    off.write(plugins=None, models=[{"type": "naive"}])
    with pytest.raises(PluginError, match=r"off: the stored model needs it.*own\.py"):
        off.predict()


def test_any_python_with_the_plugins_serves_it(make_site):
    noise = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-03-01", periods=240, freq="h")})
    noise["y"] = np.random.default_rng(1).normal(100, 5, len(noise))  # two draws of it err less than one
    models = [{"type": "seasonal-naive"}, {"type": "naive"}, {**MEAN, "method": "median"}]
    site = make_site(noise, models=models, horizon=12)
    assert site.retrain().challenger.model == "ensemble"
    from mlflow.pyfunc import load_model  # warns of itself unless a retrain has brought it in

    package = Package.load(packed(site))
    loaded = load_model(str(packed(site).parents[1]))
    frame = pd.read_parquet(site.folder / "history.parquet")[["unique_id", "ds", "y"]]
    ahead = frame.groupby("unique_id", as_index=False).tail(12).assign(y=np.nan)
    ahead["ds"] += pd.Timedelta("12h")
    asked = pd.concat([frame, ahead], ignore_index=True)
    pd.testing.assert_frame_equal(loaded.predict(asked), package.predict(asked))


def test_a_member_is_left_out_where_it_failed_and_only_there(off):
    history = pd.read_parquet(off.folder / "history.parquet")
    more = [history[history["unique_id"] == "a"].assign(unique_id=uid) for uid in "de"]
    models = [{**UP, "fails": ["b"]}, {**DOWN, "fails": ["b", "c"]}, MEAN]
    off.write(pd.concat([history, *more]), models=models)
    report = off.retrain()
    row = lines(report)["ensemble"]
    assert report.challenger.model == "ensemble"
    assert row.status == "degraded"
    assert "1 of 5 series served by the fallback: model-error: RuntimeError: cannot do b" in row.reason
    assert "without off-2 on 2 series that it failed on" in row.reason
    served = off.predict()
    assert served.series.model_dump() == {"total": 5, "ok": 4, "degraded": 1, "failed": 0}
    table = off.table()
    last = {uid: y.to_numpy()[-24:-18] for uid, y in history.groupby("unique_id")["y"]}
    last |= {"d": last["a"], "e": last["a"]}
    added = {uid: (rows["forecast"] - last[uid]).round(9).unique().tolist() for uid, rows in table.groupby("unique_id")}
    assert added["b"] == [0.0]  # the fallback
    assert added["c"] == [9.0]  # the only one that could
    assert added["a"] == added["d"] == added["e"] == [0.5]  # both
    assert table.loc[table["unique_id"] == "b", "reason"].str.contains("cannot do b").all()
    assert len(table) == 5 * 6


def test_a_member_that_failed_wholly_is_left_out_and_told(off):
    off.write(models=[UP, DOWN, {"type": "off", "add": 1.0, "fails": ["a", "b", "c"]}, MEAN])
    row = lines(off.retrain())["ensemble"]
    assert row.status == "ok"
    assert row.reason == "mean of off-1, off-2; without off-3, which failed"
    manifest = json.loads((packed(off) / "model.json").read_text(encoding="utf-8"))
    assert [(m["name"], m["weight"], len(m["parts"])) for m in manifest["members"]] == [
        ("off-1", 0.5, 1),
        ("off-2", 0.5, 1),
        ("off-3", 0.0, 0),
    ]


def test_an_ensemble_of_members_that_all_fail_is_failed_and_never_wins(off):
    fails = ["a", "b", "c"]
    off.write(models=[{**UP, "fails": fails}, {**DOWN, "fails": fails}, MEAN, {"type": "naive"}])
    off.write(models=[*off.settings["models"][:2], {**MEAN, "members": ["off"]}, {"type": "naive"}])
    report = backtest(off.project())
    assert lines(report)["ensemble"].status == "failed"
    assert report.leaderboard[0].name == "naive"


@pytest.mark.parametrize("method", ["mean", "median", "greedy", "per-series"])
def test_an_ensemble_of_one_has_the_line_of_its_member(method, site):
    site.write(models=[{"type": "ridge"}, {**MEAN, "method": method}], backtest={"folds": 3})
    rows = lines(backtest(site.project()))
    skip = {"name", "model", "params", "seconds", "reason"}
    assert rows["ensemble"].model_dump(exclude=skip) == rows["ridge"].model_dump(exclude=skip)


def test_greedy_leaves_out_a_member_that_does_not_help_and_fits_it_no_more(off):
    off.write(models=[{"type": "seasonal-naive"}, {"type": "off", "add": 200.0}, {"type": "ensemble"}])
    row = lines(off.retrain())["ensemble"]
    assert row.reason == "greedy of 1.00 seasonal-naive"
    assert row.params == {"method": "greedy", "members": ["seasonal-naive", "off"]}


def test_each_series_has_the_member_that_was_best_on_it(off):
    ups = {"type": "off", "add": 30.0}
    history = pd.read_parquet(off.folder / "history.parquet")
    days = (history["ds"] - history["ds"].min()).dt.days
    history["y"] += np.where(history["unique_id"] == "c", 30.0 * days, 0.0)
    off.write(history, models=[{"type": "seasonal-naive"}, ups, {"type": "ensemble", "method": "per-series"}])
    off.write(backtest={"folds": 6})
    report = off.retrain()
    assert report.challenger.model == "ensemble"
    assert lines(report)["ensemble"].mase < 0.8 * min(lines(report)[name].mase for name in ("seasonal-naive", "off"))
    (kept,) = (off.folder / "mlartifacts").rglob("choices.parquet")
    chosen = dict(pd.read_parquet(kept).to_numpy())
    assert chosen == {"a": "seasonal-naive", "b": "seasonal-naive", "c": "off"}
    off.predict()
    served = off.table().query("unique_id == 'c'")["forecast"]
    np.testing.assert_allclose(served, history.query("unique_id == 'c'")["y"].to_numpy()[-24:-18] + 30.0)


def test_the_same_ensemble_again_is_held_and_its_recipe_and_its_artefact_are_scored(off):
    first = off.retrain(as_of="2024-03-10")
    again = off.retrain()
    assert first.champion_after.model == "ensemble"
    assert again.decision.verdict == "hold"
    assert again.decision.gain == pytest.approx(0, abs=1e-12)  # its artefact says what its recipe says
    assert not [row.name for row in again.leaderboard if "champion" in row.name]


@pytest.mark.slow
def test_a_champion_whose_members_are_no_candidates_any_more_is_scored_by_its_recipe(off):
    off.retrain()
    off.write(models=[{"type": "naive"}, DOWN])
    report = off.retrain()
    names = set(lines(report))
    assert {"champion ensemble", "champion's off-1"} <= names
    assert "champion's off-2" not in names  # a candidate still
    assert report.decision.verdict == "hold"
    assert lines(report)["champion ensemble"].mase == report.leaderboard[0].mase
    assert report.challenger.model != "ensemble"  # it is scored, and cannot win


def test_versions_show_how_much_each_member_counts(off):
    off.retrain()
    (shown,) = [off.cli("--json", "models", "show", "champion").document["model"]]
    assert shown["params"] == {"method": "mean", "weights": {"off-1": 0.5, "off-2": 0.5}}
    assert "off-1" in off.cli("models", "compare", "1", "1").out


def test_mlflow_has_a_run_of_the_ensemble_with_its_weights(off):
    report = off.retrain()
    with sqlite3.connect(off.folder / "mlflow.db") as db:
        ((run,),) = db.execute("select run_uuid from runs where name = 'ensemble'").fetchall()
        params = dict(db.execute("select key, value from params where run_uuid = ?", (run,)))
        (parent,) = db.execute(
            "select value from tags where run_uuid = ? and key = 'mlflow.parentRunId'", (run,)
        ).fetchone()
    assert parent == report.run_id
    assert params["param.method"] == "mean"
    assert (params["weight.off-1"], params["weight.off-2"]) == ("0.5", "0.5")
    (kept,) = (off.folder / "mlartifacts").rglob("weights.parquet")
    assert pd.read_parquet(kept)["weight"].tolist() == [0.5, 0.5]


def test_broken_series_change_no_number_of_the_others_and_none_is_lost(off):
    history = pd.read_parquet(off.folder / "history.parquet")
    odd = history[history["unique_id"] == "a"]
    bad = [
        odd.assign(unique_id="empty", y=np.nan),
        odd.assign(unique_id="flat", y=1.0),
        odd.tail(1).assign(unique_id="one"),
    ]
    models = [UP, DOWN, {"type": "ensemble", "method": "per-series"}]
    clean = lines(off.write(models=models).retrain())["ensemble"]
    off.predict()
    before = off.table()
    row = lines(off.write(pd.concat([history, *bad])).retrain())["ensemble"]
    assert row.mase == pytest.approx(clean.mase, rel=1e-9)
    report = off.predict()
    assert report.series.model_dump() == {"total": 6, "ok": 3, "degraded": 2, "failed": 1}
    after = off.table().query("run_key == @report.run_key")
    kept = after[after["unique_id"].isin(["a", "b", "c"])]
    np.testing.assert_array_equal(kept["forecast"].to_numpy(), before["forecast"].to_numpy())
    assert len(after) == 6 * 6


@pytest.mark.slow
def test_the_foresight_premium_of_an_ensemble_is_that_of_what_its_members_would_say(site):
    covariates = {"covariates": {"temp": {"assume": "w"}}, "assumptions": {"w": {"type": "persistence"}}}
    site.write(models=[{"type": "ridge"}, {**MEAN, "members": ["ridge"]}, {"type": "naive"}], **covariates)
    rows = lines(backtest(site.project()))
    assert rows["ridge"].premium > 0.01
    assert rows["ensemble"].premium == pytest.approx(rows["ridge"].premium, rel=1e-9)
    assert rows["naive"].premium is None


def test_the_default_shelf_has_an_ensemble_of_it(site):
    site.write(models=None)
    *models, ensemble = site.project().candidates()
    assert (ensemble.type, [m.name for m in ensemble.members]) == ("ensemble", [m.name for m in models])
    assert models[0].type == "seasonal-naive"


def test_no_plugin_may_offer_that_name(tmp_path):
    (tmp_path / "own.py").write_text(OFF.replace('name="off"', 'name="ensemble"'), encoding="utf-8")
    host = Host.discover(allow=[], files=[tmp_path / "own.py"])
    (broken,) = [offer for offer in host.offers() if offer.health == "broken"]
    assert "the name 'ensemble' is taken" in broken.reason
