"""Small frames as the host hands them to plugins: sorted, UTC, on the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.api import Task
from forecastcore.timegrid import TimeGrid, seasons_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["sample_future", "sample_history", "sample_task"]


def sample_history(
    *,
    series: int = 3,
    rows: int = 21 * 24,
    frequency: str = "h",
    timezone: str = "UTC",
    covariates: tuple[str, ...] = (),
    start: str = "2024-01-01",
    seed: int = 0,
) -> pd.DataFrame:
    """Seasonal series with noise, positive, each on its own level.

    Returns:
        `unique_id, ds, y, <covariates>`; `y` rises by one for each unit of the first covariate.
    """
    rng = np.random.default_rng(seed)
    grid = TimeGrid(frequency, timezone)
    first = grid.floor(pd.Timestamp(start, tz=timezone).tz_convert("UTC"))
    ds = grid.between(first, grid.shift(first, rows - 1))
    season = seasons_of(frequency)[-1]
    level = 50.0 * np.arange(1, series + 1)[:, None]
    drawn = rng.normal(size=(series, len(covariates) + 1, rows))
    wave = 0.2 * level * np.sin(2 * np.pi * np.arange(rows) / season)
    y = level + wave + 0.02 * level * drawn[:, -1] + (drawn[:, 0] if covariates else 0.0)
    ids = np.array([f"series-{number}" for number in range(series)], dtype=object)
    values = {name: drawn[:, number].ravel() for number, name in enumerate(covariates)}
    frame = {"unique_id": ids.repeat(rows), "ds": ds[np.tile(np.arange(rows), series)], "y": y.ravel(), **values}
    return pd.DataFrame(frame)


def sample_task(history: pd.DataFrame, *, frequency: str = "h", horizon: int = 48, **changes: Any) -> Task:
    """The task of forecasting `history` from its last instant."""
    seasons = seasons_of(frequency)
    covariates = tuple(column for column in history.columns if column not in {"unique_id", "ds", "y"})
    given: dict[str, Any] = {"season": seasons[0], "seasons": seasons, "covariates": covariates, **changes}
    return Task(origin=history["ds"].max(), frequency=frequency, horizon=horizon, **given)


def sample_future(history: pd.DataFrame, task: Task, values: Mapping[str, float] | None = None) -> pd.DataFrame:
    """The rows that `task` asks for: `unique_id, ds, step, <covariates>`; covariates are 0 unless in `values`."""
    ds = TimeGrid(task.frequency, task.timezone).ahead(task.origin, task.horizon)
    steps = np.arange(1, task.horizon + 1, dtype=np.int32)
    known = {name: (values or {}).get(name, 0.0) for name in task.covariates}
    parts = [
        pd.DataFrame({"unique_id": uid, "ds": ds, "step": steps, **known}) for uid in history["unique_id"].unique()
    ]
    return pd.concat(parts, ignore_index=True)
