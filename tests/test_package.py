"""A packed model is data that predicts alone: from one long frame, in any order, with holes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from forecastcore.audit import AuditError
from forecastcore.errors import DataError, PluginError, StateError
from forecastcore.host import Host
from forecastcore.package import Manifest, Package
from forecastcore.state import seal

BELOW = """
import os
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Below:
    def fit_series(self, series, task):
        return {}

    def predict_series(self, params, series, future, task):
        return np.full(len(future.ds), float(os.environ.get("BELOW", "-0.3")))


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="below", summary="a number below zero", factory=Below)
"""


@pytest.fixture
def packed(site):
    """A packed ridge, what it was asked, and what it answered."""
    site.write(models=[{"type": "ridge"}]).retrain()
    (folder,) = {path.parent for path in (site.folder / "mlartifacts").rglob("model.json")}
    return folder, long_frame(site), Package.load(folder)


def long_frame(site):
    frame = pd.read_parquet(site.folder / "history.parquet")[["unique_id", "ds", "y"]]
    hours = pd.date_range(frame["ds"].max(), periods=7, freq="h")[1:]
    ahead = pd.MultiIndex.from_product([frame["unique_id"].unique(), hours], names=["unique_id", "ds"]).to_frame(
        index=False
    )
    return pd.concat([frame, ahead.assign(y=np.nan)], ignore_index=True)


def test_order_zone_and_text_of_the_frame_do_not_matter(packed):
    _, frame, package = packed
    expected = package.predict(frame)
    assert list(expected["step"]) == [1, 2, 3, 4, 5, 6] * 3
    for same in (
        frame.sample(frac=1, random_state=0),
        frame.assign(ds=frame["ds"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
        frame.assign(ds=frame["ds"].astype(str)),
        frame.assign(y=frame["y"].astype(object)),
    ):
        pd.testing.assert_frame_equal(package.predict(same), expected)


@pytest.mark.parametrize("model", ["seasonal-naive", "ridge"])
def test_a_hole_in_the_frame_is_a_missing_value(model, site):
    site.write(models=[{"type": model}]).retrain()
    (folder,) = {path.parent for path in (site.folder / "mlartifacts").rglob("model.json")}
    frame, package = long_frame(site), Package.load(folder)
    holed = frame.assign(y=frame["y"].where(frame.index % 50 != 3))
    dropped = frame[(frame.index % 50 != 3) | frame["y"].isna()]
    pd.testing.assert_frame_equal(package.predict(dropped), package.predict(holed))


def test_rows_that_cannot_be_asked_for_are_refused_in_words(packed):
    _, frame, package = packed
    far = pd.DataFrame({"unique_id": "a", "ds": [frame["ds"].max() + pd.Timedelta("5h")], "y": [np.nan]})
    odd = pd.DataFrame({"unique_id": "a", "ds": [frame["ds"].max() - pd.Timedelta("7min")], "y": [np.nan]})
    for wrong, words in (
        (pd.concat([frame, far]), "horizon"),
        (pd.concat([frame, odd]), "grid"),
        (pd.concat([frame, frame.head(1)]), "twice"),
        (frame.drop(columns="y"), "'y'"),
        (frame.assign(y=np.nan), "no history"),
    ):
        with pytest.raises(DataError, match=words):
            package.predict(wrong)


def test_a_changed_byte_is_noticed_and_a_plugin_of_another_major_version_refused(packed):
    folder, _, package = packed
    manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert manifest["plugin"]["distribution"] == "forecastcore-sklearn"
    assert package.digest
    with pytest.raises(StateError):
        Package.load(folder, digest="0" * 64)
    with pytest.raises(PluginError, match=r"pip install 'forecastcore-sklearn=="):
        Package.load(folder, Host.discover(block=["forecastcore-sklearn"]))
    (folder / "conformal.npz").write_bytes((folder / "conformal.npz").read_bytes()[:-1] + b"x")
    with pytest.raises(StateError):
        Package.load(folder)


@pytest.mark.row(49, trials=12)
def test_a_file_that_was_sealed_and_is_none_of_ours_is_refused_in_words(packed):
    folder, _, _ = packed
    for name in ("model.json", "conformal.npz"):
        whole = (folder / name).read_bytes()
        for content in (b"", b"PK\3\4", b"{}", b"\x80\x04N.", b"\x93NUMPY", b"[1, 2]"):
            (folder / name).write_bytes(content)
            seal(folder)
            with pytest.raises(StateError, match=f"{name} of the stored model is not what forecastcore writes"):
                Package.load(folder)
        (folder / name).write_bytes(whole)


@pytest.mark.row(68)
def test_a_model_of_a_newer_release_is_refused_with_the_release_that_reads_it(packed):
    folder, _, _ = packed
    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert "segments" not in told, "a release before segments reads a model that has none"
    requirements = ["forecastcore==7.0", *told["requirements"][1:]]
    (folder / "model.json").write_text(json.dumps({**told, "moods": [], "requirements": requirements}))
    seal(folder)
    for read in (Package.load, Manifest.read):
        with pytest.raises(StateError, match=r"newer forecastcore than 0.* does not know moods") as caught:
            read(folder)
        assert caught.value.hint == "install forecastcore==7.0, or retrain with this one"


def test_nothing_in_a_packed_model_is_code(packed):
    folder, _, _ = packed
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".json", ".npz", ".parquet", ".skops"}


def test_a_little_below_zero_is_zero_where_it_never_was_and_far_below_stays_for_the_audit(make_site, monkeypatch):
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"ds": pd.date_range("2024-03-01", periods=240, freq="h"), "unique_id": "sold"})
    frame["y"] = rng.binomial(1, 0.3, 240) * rng.integers(1, 9, 240) * 1.0
    frame = pd.concat([frame, frame.assign(unique_id="net", y=frame["y"] - 1)], ignore_index=True)
    site = make_site(frame).plugin(BELOW).write(models=[{"type": "below"}])
    site.retrain()
    assert site.predict(as_of="2024-03-09").series.ok == 2
    delivered = site.table().groupby("unique_id")[["forecast", "q10"]].max()
    assert delivered.loc["sold"].tolist() == [0.0, 0.0]
    assert delivered.loc["net", "forecast"] == pytest.approx(-0.3)
    monkeypatch.setenv("BELOW", "-5")
    with pytest.raises(AuditError, match=r"sign: 1 series are below zero.*\n.*'sold'"):
        site.predict()


def test_rows_only_where_something_was_sold_are_forecast_as_if_the_zeros_stood_there(make_site):
    rng, days = np.random.default_rng(3), pd.date_range("2024-01-01", periods=200, freq="D")
    whole = pd.DataFrame(rng.binomial(1, [0.1, 0.3, 0.7], (200, 3)) * rng.integers(1, 9, (200, 3)), days, list("abc"))
    whole.iloc[170:, 0], whole.iloc[-1, 2] = 0, 5  # one is sold no more; of the last day there is a row
    whole = whole.rename_axis("ds").melt(var_name="unique_id", value_name="y", ignore_index=False).reset_index()
    whole = whole[whole.groupby("unique_id")["y"].cumsum() > 0]
    sold = whole[whole["y"] > 0]
    told = {"models": [{"type": "croston"}], "frequency": "D", "horizon": 7, "quality": {"gaps": "zero"}}
    dense, sparse = (make_site(frame.reset_index(drop=True), **told) for frame in (whole, sold))
    dense.retrain()
    assert sparse.retrain().quality == {"gaps_as_zero": len(whole) - len(sold)}
    assert sparse.predict().series.ok == dense.predict().series.ok == 3
    numbers = ["unique_id", "ds", "forecast", "q10", "q50", "q90"]
    pd.testing.assert_frame_equal(sparse.table()[numbers], dense.table()[numbers])

    (folder,) = {path.parent for path in (sparse.folder / "mlartifacts").rglob("model.json")}
    asked = pd.concat([sold.assign(ds=sold["ds"].dt.tz_localize("UTC")), sparse.table()[["unique_id", "ds"]]])
    served = Package.load(folder).predict(asked)
    np.testing.assert_allclose(served[numbers[2:]], sparse.table()[numbers[2:]])
    gapped = sparse.write(quality={"gaps": "fill"}).cli("--json", "validate", "--data").document["data"]
    assert gapped["served_by_fallback"] == dict.fromkeys("ab", "too-many-missing")
