"""A packed model, example frames, and stores on real SQLite files; MLflow's tables are made once a session."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from forecastcore.state import seal
from forecastcore.tracking import open_store


def make_store(folder, project="vic-demand", uri="sqlite:///mlflow.db", experiment="vic"):
    return open_store(project=project, uri=uri, experiment=experiment, root=Path(folder))


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory):
    """A SQLite file with MLflow's tables and nothing else, made by the store itself."""
    folder = tmp_path_factory.mktemp("fresh")
    with make_store(folder, experiment="another").run("first", tags={}):
        pass
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def home(tmp_path, fresh_database):
    folder = tmp_path / "home of a#b"
    folder.mkdir()
    shutil.copy(fresh_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def store(home):
    return make_store(home)


@pytest.fixture
def client(home):
    """MLflow's own client, to look at what was written from outside."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db", registry_uri=f"sqlite:///{home}/mlflow.db")


@pytest.fixture
def pack(tmp_path):
    """`pack(level)` gives a sealed folder; `level` makes it another model."""

    def packed(level=1.0, family="ets"):
        folder = tmp_path / f"packed-{family}-{level}"
        (folder / "state").mkdir(parents=True)
        about = {
            "model": family,
            "trained_until": "2024-01-01T02:00:00Z",
            "requirements": ["forecastcore-baseline==0.1.0"],
            "metrics": {"mase": level, "rmsse": None},
        }
        (folder / "model.json").write_text(json.dumps(about))
        (folder / "state" / "level.json").write_text(json.dumps(level))
        seal(folder)
        return folder

    return packed


@pytest.fixture
def example():
    ds = pd.date_range("2024-01-01", periods=5, freq="h", tz="UTC")
    given = pd.DataFrame({"unique_id": "a", "ds": ds, "y": [1.0, 2.0, 3.0, None, None], "temperature": 20.0})
    ahead = given[given["y"].isna()]
    forecast = pd.DataFrame(
        {"unique_id": "a", "ds": ahead["ds"], "step": pd.array([1, 2], "int32"), "forecast": 3.0, "q10": 2.0}
    ).assign(status="ok", reason=None)
    return given, forecast


@pytest.fixture
def registered(store, pack, example):
    """`registered(level)` registers a model in a run of its own."""

    def register(level=1.0, family="ets"):
        with store.run("retrain", tags={}) as run:
            return store.register(run, pack(level, family), example=example)

    return register
