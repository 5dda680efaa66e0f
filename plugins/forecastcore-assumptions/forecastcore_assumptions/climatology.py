"""What is usual at this time of the year and of the day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore_assumptions.panel import DAY, Asked, Clock, Past, answer

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from forecastcore.api import Task
    from forecastcore_assumptions.panel import Floats, Ints

__all__ = ["Climatology"]

_YEAR = int(365.2425 * DAY)
_HOUR = DAY / 24
_CELLS = 4_000_000  # of one block's table: series x covariates x times of day x days of the year


@dataclass(frozen=True)
class Climatology:
    """The mean of all past values near the same day of the year, at the same time of day.

    For each series, covariate and asked instant: the mean over all observations up to the origin, of whatever year,
    whose local day of the year is at most `window_days` away (around New Year, too; Feb 29 is a day of its own between
    Feb 28 and Mar 1) and whose local time of day is the same. Data of days or longer have but one time of day.

    With too little history for that, step by step: where the window holds fewer than `window_days` days (half of a full
    one), the `window_days` days up to the series' last observation count too; where neither knows that time of day, the
    mean of the whole series; where the series was never observed, what the mean of all series says.

    Attributes:
        window_days: days on either side, 0 … 182.
        anomaly_decay_hours: if given, what the last 24 observed hours were above or below the usual is added, times
            exp(-lead / anomaly_decay_hours), within the range ever observed. Weather persists for a day or two.
        quantile: if given, this quantile of the same values instead of their mean; 0.9 is the warm end of the usual.
    """

    window_days: int = 15
    anomaly_decay_hours: float | None = None
    quantile: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.window_days <= 182:  # noqa: PLR2004 - half a year
            msg = f"window_days must be from 0 to 182, not {self.window_days}"
            raise ValueError(msg)
        if self.anomaly_decay_hours is not None and not 0 < self.anomaly_decay_hours < np.inf:
            msg = f"anomaly_decay_hours must be above 0, not {self.anomaly_decay_hours}"
            raise ValueError(msg)
        if self.quantile is not None and not 0 < self.quantile < 1:
            msg = f"quantile must lie above 0 and below 1, not {self.quantile}"
            raise ValueError(msg)
        if self.quantile is not None and self.anomaly_decay_hours is not None:
            msg = "give quantile or anomaly_decay_hours, not both"
            raise ValueError(msg)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """See the class; `unique_id, ds, <covariates>`, row by row as `future`.

        Raises:
            AssumptionUnavailable: a covariate was never observed.
        """
        return answer(history, future, task, self._values)

    def _values(self, past: Past, asked: Asked, clock: Clock) -> Floats:
        if self.quantile is not None:
            return _usual_quantile(past, asked, clock, self.window_days, self.quantile)
        usual = _usual(past, asked, clock, self.window_days)
        if self.anomaly_decay_hours is None:
            return usual
        return _with_anomaly(usual, past, asked, clock, self.window_days, self.anomaly_decay_hours)


def _usual(past: Past, asked: Asked, clock: Clock, window: int) -> Floats:
    """Climatology of each asked row, shape (rows, covariates)."""
    near = past.take(_near_in_year(past.ds, asked.ds, window))
    sums, counts = _window_sums(near, asked, clock, window)
    enough = max(1, window // clock.days_per_step)
    few = counts < enough
    if few.any():
        recent = past.latest(enough * max(DAY, clock.step))
        more_sums, more_counts = _time_of_day_sums(recent, asked, clock)
        sums, counts = sums + few * more_sums, counts + few * more_counts
    none = counts == 0
    usual = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=~none)
    return np.where(none, past.means()[asked.series], usual) if none.any() else usual


def _usual_quantile(past: Past, asked: Asked, clock: Clock, window: int, level: float) -> Floats:
    """A quantile of the values whose mean `_usual` is, shape (rows, covariates)."""
    wall, asked_wall = clock.wall(past.ds), clock.wall(asked.ds)
    cell = past.series * clock.bins + clock.time_of_day(wall)
    asked_cell = asked.series * clock.bins + clock.time_of_day(asked_wall)
    day, asked_day = clock.day_of_year(wall), clock.day_of_year(asked_wall)
    enough = max(1, window // clock.days_per_step)
    recent = past.ds[:, None] > past.last_seen()[past.series] - enough * max(DAY, clock.step)
    order = np.argsort(cell, kind="stable")
    values = np.full((len(asked.ds), past.x.shape[1]), np.nan)
    for one in np.unique(asked_cell):
        rows = order[slice(*np.searchsorted(cell[order], [one, one + 1]))]
        wanted = np.flatnonzero(asked_cell == one)
        near = np.abs((day[rows] - asked_day[wanted, None] + 183) % 366 - 183) <= window
        for number, x in enumerate(past.x[rows].T):
            seen = np.isfinite(x)
            few = (near & seen).sum(axis=1, keepdims=True) < enough
            used = (near | (few & recent[rows, number])) & seen
            some = used.any(axis=1)
            values[wanted[some], number] = np.nanquantile(np.where(used[some], x, np.nan), level, axis=1)
    means = past.means()[asked.series]
    return np.where(np.isfinite(values), values, means)


def _near_in_year(ds: Ints, asked: Ints, window: int) -> npt.NDArray[np.bool_]:
    """Rows that may lie in any window, with days to spare: spares the rest the work on the local calendar."""
    margin = (window + 4) * DAY
    first, last = (int(asked.min()), int(asked.max())) if len(asked) else (0, 0)
    return (ds - (first - margin)) % _YEAR <= last - first + 2 * margin


def _window_sums(past: Past, asked: Asked, clock: Clock, window: int) -> tuple[Floats, Floats]:
    """Sum and number of the observations in each asked row's window, each of shape (rows, covariates)."""
    wall, asked_wall = clock.wall(past.ds), clock.wall(asked.ds)
    times, asked_times = clock.time_of_day(wall), clock.time_of_day(asked_wall)
    places, asked_days = np.unique(clock.day_of_year(asked_wall), return_inverse=True)
    within = (np.abs((np.arange(366)[:, None] - places + 183) % 366 - 183) <= window).astype(float)
    used = np.flatnonzero(within.any(axis=1))
    column = np.full(366, -1)
    column[used] = np.arange(len(used))
    days = column[clock.day_of_year(wall)]
    sums, counts = np.zeros((2, len(asked.ds), past.x.shape[1]))
    block = max(1, _CELLS // (clock.bins * max(1, len(used)) * 2))
    for first in range(0, past.count, block):
        rows = np.flatnonzero((past.series >= first) & (past.series < first + block) & (days >= 0))
        wanted = np.flatnonzero((asked.series >= first) & (asked.series < first + block))
        shape = (min(block, past.count - first) * clock.bins, len(used))
        cell = ((past.series[rows] - first) * clock.bins + times[rows]) * len(used) + days[rows]
        key = (asked.series[wanted] - first) * clock.bins + asked_times[wanted], asked_days[wanted]
        for number, values in enumerate(past.x[rows].T):
            total, seen = _cell_sums(cell, values, shape)
            sums[wanted, number] = (total @ within[used])[key]
            counts[wanted, number] = (seen @ within[used])[key]
    return sums, counts


def _cell_sums(cell: Ints, values: Floats, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    seen = np.isfinite(values)
    size = shape[0] * shape[1]
    sums = np.bincount(cell, np.where(seen, values, 0.0), minlength=size)
    counts = np.bincount(cell, seen.astype(float), minlength=size)
    return sums.astype(float).reshape(shape), counts.astype(float).reshape(shape)


def _time_of_day_sums(past: Past, asked: Asked, clock: Clock) -> tuple[Floats, Floats]:
    """Sum and number of all observations at each asked row's time of day, each of shape (rows, covariates)."""
    shape = (past.count, clock.bins)
    cell = past.series * clock.bins + clock.time_of_day(clock.wall(past.ds))
    key = asked.series, clock.time_of_day(clock.wall(asked.ds))
    pairs = [_cell_sums(cell, values, shape) for values in past.x.T]
    return np.stack([sums[key] for sums, _ in pairs], axis=1), np.stack([seen[key] for _, seen in pairs], axis=1)


def _with_anomaly(usual: Floats, past: Past, asked: Asked, clock: Clock, window: int, decay_hours: float) -> Floats:
    """`usual` and what is left, at each lead, of the last day's departure from it."""
    day = past.latest(DAY)
    departures = day.x - _usual(past, Asked(day.series, day.ds), clock, window)
    anomaly = Past(day.series, day.ds, departures, past.count).means()[asked.series]
    lead = np.maximum(asked.ds[:, None] - past.last_seen()[asked.series], 0) / _HOUR
    blended = usual + np.nan_to_num(anomaly) * np.exp(-lead / decay_hours)
    lowest, highest = past.extremes()
    return np.asarray(np.clip(blended, lowest[asked.series], highest[asked.series]))
