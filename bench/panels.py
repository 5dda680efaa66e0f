"""Panels and projects for the scripts that time: synthetic with a seed, or M4's file where there is one."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from forecastcore.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 0
START = "2014-01-01"


def panel(series: int, rows: int, frequency: str, season: int) -> pd.DataFrame:
    """Positive series with level, trend, one season and noise, all of one length: `unique_id, ds, y`, naive times."""
    rng = np.random.default_rng(SEED)
    time = np.arange(rows)
    level = rng.lognormal(5, 1, (series, 1))
    wave = rng.uniform(0.05, 0.4, (series, 1)) * np.sin(2 * np.pi * (time / season + rng.random((series, 1))))
    noise = rng.normal(0, rng.uniform(0.02, 0.15, (series, 1)), (series, rows))
    drift = rng.normal(0, 0.3, (series, 1)) * time / rows
    y = level * np.exp(wave + drift + noise)
    ids = np.repeat([f"series-{number:06d}" for number in range(series)], rows)
    return pd.DataFrame(
        {"unique_id": ids, "ds": np.tile(pd.date_range(START, periods=rows, freq=frequency), series), "y": y.ravel()}
    )


def hourly(series: int, data: Path | None = None, rows: int = 900) -> pd.DataFrame:
    """M4's hourly series, moved to end together, or made-up ones like them."""
    if data is None:
        return panel(series, rows, "h", 24)
    frame = pd.read_parquet(data / "m4_hourly" / "data.parquet", columns=["unique_id", "ds", "y"])
    frame = frame[frame["unique_id"].isin(frame["unique_id"].unique()[:series])].reset_index(drop=True)
    frame["ds"] += frame["ds"].max() - frame.groupby("unique_id")["ds"].transform("max")
    return frame


def monthly(series: int, rows: int = 120) -> pd.DataFrame:
    """Made-up monthly series of ten years."""
    return panel(series, rows, "MS", 12)


@contextlib.contextmanager
def project(frame: pd.DataFrame, **settings: Any) -> Iterator[Project]:
    """A project on a panel in a folder of its own, which is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="forecastcore-bench-") as folder:
        frame.to_parquet(Path(folder) / "history.parquet")
        document = {"name": "bench", "source": {"type": "parquet", "path": "history.parquet"}, **settings}
        (Path(folder) / "forecast.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        yield Project.load(folder)
