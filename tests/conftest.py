"""A small project on disk, for every test that runs the two runs for real."""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import yaml

import forecastcore as fc
from forecastcore.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forecastcore.messages import PredictReport, RetrainReport

Frame = pd.DataFrame

SETTINGS: dict[str, Any] = {
    "name": "small",
    "source": {"type": "parquet", "path": "history.parquet"},
    "frequency": "h",
    "horizon": 6,
    "models": [{"type": "seasonal-naive"}, {"type": "naive"}],
    "backtest": {"folds": 2},
    "engine": {"type": "local", "workers": 0},
    "sinks": [{"type": "parquet", "path": "out/forecasts"}],
}


def small_history(series: int = 3, days: int = 10, *, per_day: int = 24, start: str = "2024-03-01") -> Frame:
    """Naive UTC hours (or days, with `per_day=1`) of seasonal series `a, b, c …`, and two covariates that matter."""
    rows = days * per_day
    season = per_day if per_day > 1 else 7
    ds = pd.date_range(start, periods=rows, freq=pd.Timedelta(days=1) / per_day)
    blocks = []
    for number in range(series):
        rng = np.random.default_rng(number)
        wave = 10 * np.sin(2 * np.pi * np.arange(rows) / season)
        temp, promo = rng.normal(size=rows), (rng.random(rows) < 0.2).astype(float)
        y = 50.0 * (number + 1) + wave + 3 * temp + 8 * promo + rng.normal(scale=0.5, size=rows)
        blocks.append(pd.DataFrame({"unique_id": chr(97 + number), "ds": ds, "y": y, "temp": temp, "promo": promo}))
    return pd.concat(blocks, ignore_index=True)


@dataclass(frozen=True)
class Told:
    """What one command line answered."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Stdout as one JSON document without NaN tokens."""

        def refuse(token: str) -> NoReturn:
            raise AssertionError(f"{token} is no JSON")

        found: dict[str, Any] = json.loads(self.out, parse_constant=refuse)
        return found


@dataclass
class Site:
    """A project folder: change what it holds, run what it should do."""

    folder: Path
    capsys: pytest.CaptureFixture[str] | None
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self, history: Frame | None = None, **settings: Any) -> Site:
        """Write history and project file; what is not given stays as it is."""
        if history is not None:
            history.to_parquet(self.folder / "history.parquet")
        self.settings |= settings
        text = yaml.safe_dump({key: value for key, value in self.settings.items() if value is not None})
        (self.folder / "forecast.yaml").write_text(text, encoding="utf-8")
        return self

    def plugin(self, code: str, name: str = "own.py") -> Site:
        """Write a single-file plugin and load it."""
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(code, encoding="utf-8")
        loaded = self.settings.get("plugins", {}).get("load", [])
        return self.write(plugins={"load": [*[file for file in loaded if file != name], name]})

    def project(self, *overrides: str) -> fc.Project:
        """The project as it stands."""
        return fc.Project.load(self.folder / "forecast.yaml", overrides=overrides)

    def retrain(self, *overrides: str, **options: Any) -> RetrainReport:
        """One retrain."""
        return fc.retrain(self.project(*overrides), **options)

    def predict(self, *overrides: str, **options: Any) -> PredictReport:
        """One predict."""
        return fc.predict(self.project(*overrides), **options)

    def table(self, issued_at: Any = "latest") -> Frame:
        """What was delivered."""
        return fc.forecasts(self.project(), issued_at=issued_at)

    def cli(self, *words: str) -> Told:
        """One command line on this project, in this process."""
        assert self.capsys is not None
        self.capsys.readouterr()
        code = main(["-p", str(self.folder / "forecast.yaml"), *words])
        told = self.capsys.readouterr()
        return Told(code, told.out, told.err)

    @property
    def written(self) -> set[str]:
        """What runs have left here, beside what the test wrote."""
        return {path.name for path in self.folder.iterdir()} & {"mlflow.db", "mlartifacts", "mlruns", "out"}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An MLflow database with its tables made, once for all processes: it takes longer than a retrain."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "empty-store"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            _make_store(folder)
    return folder / "mlflow.db"


def _make_store(folder: Path) -> None:
    from forecastcore.tracking import open_store

    folder.mkdir()
    store = open_store(project="none", uri="sqlite:///mlflow.db", experiment="none", root=folder)
    store.ledger()
    with store.run("made", tags={}):
        pass
    (folder / "made").touch()


@pytest.fixture(scope="session")
def site_of() -> Callable[..., Site]:
    """Makes a site in a folder that the test owns, without a command line."""

    def of(folder: Path, **settings: Any) -> Site:
        return Site(folder, None, {**SETTINGS, **settings})

    return of


@pytest.fixture
def make_site(
    tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Site]:
    """Makes sites: `make_site(history)`, `make_site(days=24)`; with `bare=True` there is no MLflow database yet."""
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    made = 0

    def make(history: Frame | None = None, *, days: int = 10, bare: bool = False, **settings: Any) -> Site:
        nonlocal made
        made += 1
        folder = tmp_path / f"site-{made}"
        folder.mkdir()
        if not bare:
            shutil.copy(empty_store, folder / "mlflow.db")
        return Site(folder, capsys, dict(SETTINGS)).write(
            small_history(days=days) if history is None else history, **settings
        )

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """The small project: three hourly series of ten days, seasonal naive against naive."""
    return make_site()
