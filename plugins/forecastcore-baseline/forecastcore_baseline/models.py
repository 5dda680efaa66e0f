"""Seasonal naive and naive over a whole chunk of series at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Task

    Floats = npt.NDArray[np.float64]

__all__ = ["FittedSeasonalNaive", "Naive", "SeasonalNaive"]


@dataclass(frozen=True)
class FittedSeasonalNaive:
    """Nothing but seasons; what is repeated comes from the context, so newer data is used as soon as it is there.

    Attributes:
        season: steps, for series that `seasons` does not name.
        seasons: steps by `unique_id`.
    """

    season: int
    seasons: dict[str, int] = field(default_factory=dict)

    def predict(self, context: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - the protocol's
        """For each asked row the latest observed value of the same phase of the season.

        Args:
            context: `unique_id, ds, y`, each series without holes up to the origin, NaN where missing.
            future: `unique_id, ds, step`; any of the context's series, any steps.
            task: not needed.

        Returns:
            `unique_id, ds, forecast`, row by row as `future`. A phase that was never observed takes the series' last
            observed value; a series without any observation gets NaN.
        """
        ids, names = pd.factorize(context["unique_id"].to_numpy())
        asked = pd.Index(names).get_indexer(pd.Index(future["unique_id"]))
        steps, y = future["step"].to_numpy(), context["y"].to_numpy(dtype=float)
        own = np.array([self.seasons.get(uid, self.season) for uid in names] + [self.season])[asked]
        forecast = np.full(len(future), np.nan)
        for season in np.unique(own):
            here = own == season
            table = _latest(ids, len(names), y, int(season), int(steps.max(initial=1)))
            forecast[here] = table[asked[here], (steps[here] - 1) % season]
        return future[["unique_id", "ds"]].assign(forecast=forecast)


def _latest(ids: npt.NDArray[np.intp], series: int, y: Floats, season: int, horizon: int) -> Floats:
    """Latest value by series and phase, shape (series + 1, phases); the last row is of the unknown series: NaN."""
    phases = min(season, horizon)
    ends = np.cumsum(np.bincount(ids, minlength=series))
    phase = (np.arange(len(ids)) - ends[ids]) % season
    seen = np.isfinite(y)
    last = np.full(series + 1, np.nan)
    last[ids[seen]] = y[seen]  # where a place is written repeatedly, the last one written stays
    table = np.repeat(last[:, None], phases, axis=1)
    used = seen & (phase < phases)
    table[ids[used], phase[used]] = y[used]
    return table


def _loss(ids: npt.NDArray[np.intp], y: Floats, season: int, horizon: int) -> Floats:
    """Mean absolute error by series of repeating one season over a horizon; infinite where the history is too short."""
    series = int(ids.max(initial=-1)) + 1
    total, count = np.zeros(series), np.zeros(series)
    for lag in range(season, season * -(-horizon // season) + 1, season):
        error = np.abs(y[lag:] - y[:-lag])
        fine = np.isfinite(error) & (ids[lag:] == ids[:-lag])
        total += np.bincount(ids[lag:][fine], weights=error[fine], minlength=series)
        count += np.bincount(ids[lag:][fine], minlength=series)
    return np.asarray(np.divide(total, count, out=np.full(series, np.inf), where=count > 0))


@dataclass(frozen=True)
class SeasonalNaive:
    """Repeats the last season: the same hour of yesterday, or the same hour of the same day of last week.

    Attributes:
        season: steps of the season; 1 repeats the last value. By default each series gets the natural season (day or
            week, for hours) whose repetition over the horizon would have been nearest to its history.
    """

    season: int | None = None

    def __post_init__(self) -> None:
        if self.season is not None and self.season < 1:
            msg = f"season must be 1 or more, not {self.season}"
            raise ValueError(msg)

    def fit(self, history: pd.DataFrame, task: Task) -> FittedSeasonalNaive:
        """Choose each series' season."""
        if self.season is not None or len(task.seasons) == 1:
            return FittedSeasonalNaive(self.season or task.season)
        ids, names = pd.factorize(history["unique_id"].to_numpy())
        y = history["y"].to_numpy(dtype=float)
        losses = np.stack([_loss(ids, y, season, task.horizon) for season in task.seasons])
        best = np.where(np.isfinite(losses).any(axis=0), np.asarray(task.seasons)[losses.argmin(axis=0)], task.season)
        return FittedSeasonalNaive(task.season, dict(zip(map(str, names), best.tolist(), strict=True)))


@dataclass(frozen=True)
class Naive:
    """Repeats the last observed value."""

    def fit(self, history: pd.DataFrame, task: Task) -> FittedSeasonalNaive:  # noqa: ARG002 - nothing is learned
        """Nothing is learned."""
        return FittedSeasonalNaive(1)
