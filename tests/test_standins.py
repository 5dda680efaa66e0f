"""A champion that cannot be loaded: the forecast goes out all the same, and says so in every row."""

import shutil

import numpy as np
import pytest

from forecastcore import runtime

PLUGIN = """
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Own:
    def fit_series(self, series, task):
        return {"last": float(series.y[-1])}

    def predict_series(self, params, series, future, task):
        return params["last"] + 0.001 * future.ds.astype("int64") / 3.6e12 % 7

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="own", summary="the last value", factory=Own)
"""


@pytest.fixture
def reigning(make_site):
    """Version 1 is a seasonal naive, version 2 a model of one's own and the champion."""
    site = make_site().plugin(PLUGIN)
    site.retrain("models=[{type: seasonal-naive}]")
    site.retrain("models=[{type: own}]", promote=False)
    assert site.cli("models", "promote", "2").code == 0
    return site


def artifact(site, number):
    """Where MLflow keeps the files of a version."""
    version = runtime.store(site.project()).resolve(number)
    (found,) = [p.parent for p in (site.folder / "mlartifacts").rglob("model.json") if version.model in p.read_text()]
    return found


def deleted(site, number):
    shutil.rmtree(artifact(site, number))


def corrupted(site, number):
    file = artifact(site, number) / "conformal.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def with_spoilt_parameters(site, number):
    file = next(path for path in (artifact(site, number) / "state").rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def forgotten(site, tmp_path, monkeypatch):
    """Another machine: nothing is at hand that was fetched before."""
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "empty"))


@pytest.mark.row(36)
@pytest.mark.parametrize(
    "broken", [deleted, *(pytest.param(how, marks=pytest.mark.slow) for how in (corrupted, with_spoilt_parameters))]
)
def test_the_champion_before_serves_in_time_and_every_row_says_why(reigning, tmp_path, monkeypatch, broken):
    broken(reigning, "2")
    forgotten(reigning, tmp_path, monkeypatch)
    assert reigning.cli("predict", "--model", "2").code == 1, "a version asked for by number is never stood in for"
    assert not (reigning.folder / "out").exists()
    told = reigning.cli("--json", "predict")
    assert told.code == 3
    assert (told.document["model"], told.document["model_version"]) == ("seasonal-naive", "1")
    assert told.document["series"] == {"total": 3, "ok": 0, "degraded": 3, "failed": 0}
    assert any("champion-unavailable: the champion cannot be loaded: " in note for note in told.document["notes"])
    rows = reigning.table()
    assert (len(rows), set(rows["status"])) == (3 * 6, {"degraded"})
    assert rows["reason"].str.startswith("champion-unavailable: ").all()
    assert np.isfinite(rows[["forecast", "q10", "q50", "q90"]]).all(axis=None)


@pytest.mark.row(36)
def test_where_no_champion_can_be_loaded_the_last_season_goes_out(reigning, tmp_path, monkeypatch):
    corrupted(reigning, "1")
    deleted(reigning, "2")
    forgotten(reigning, tmp_path, monkeypatch)
    told = reigning.cli("--json", "predict")
    assert told.code == 3
    assert (told.document["model"], told.document["model_version"]) == ("seasonal-naive", "none")
    rows = reigning.table()
    assert set(rows["model"]) == {"seasonal-naive"}
    assert set(rows["status"]) == {"degraded"}
    assert rows["reason"].str.contains("the champion before cannot be loaded").all()
    history = reigning.project().source().read(["unique_id", "y"]).to_pandas()
    last = history.groupby("unique_id")["y"].apply(lambda y: y.iloc[-24:-18].tolist())
    assert rows.groupby("unique_id")["forecast"].apply(list).to_dict() == last.to_dict()
    assert (rows["q10"] <= rows["forecast"]).all()
    assert reigning.cli("--json", "predict").document["published"][0]["already"]


def test_a_champion_without_its_plugin_is_a_fault_of_the_installation(reigning):
    reigning.write(plugins={"load": []})
    told = reigning.cli("--json", "predict")
    assert told.code == 1
    assert "own.py" in told.document["error"]["message"] + told.document["error"]["hint"]
    assert "out" not in reigning.written


@pytest.mark.row(36)
@pytest.mark.slow
def test_a_repaired_champion_makes_the_newer_vintage_of_the_same_origin(reigning, tmp_path, monkeypatch):
    place = artifact(reigning, "2")
    place.rename(tmp_path / "aside")
    forgotten(reigning, tmp_path, monkeypatch)
    assert reigning.cli("predict").code == 3
    (tmp_path / "aside").rename(place)
    assert reigning.cli("predict").code == 0
    rows = reigning.table()
    newest = rows[rows["created_at"] == rows["created_at"].max()]
    assert set(newest["model_version"]) == {"2"}
