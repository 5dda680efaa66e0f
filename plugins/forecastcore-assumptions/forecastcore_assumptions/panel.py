"""Covariates of many series as arrays, and the frame around every assumption that learns from the past."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable
from forecastcore.timegrid import TimeGrid, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from forecastcore.api import Task

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

__all__ = ["DAY", "Asked", "Clock", "Past", "answer"]

DAY = 86_400 * 10**9  # ns


@dataclass(frozen=True)
class Past:
    """What was observed up to the origin.

    Attributes:
        series: number of each row's series, ascending, shape (rows,).
        ds: ns since 1970, UTC, ascending within a series, shape (rows,).
        x: covariates, NaN where missing, shape (rows, covariates).
        count: how many series there are, and one more for those asked that have no past.
    """

    series: Ints
    ds: Ints
    x: Floats
    count: int

    def mean_series(self) -> Past:
        """One series: at each instant the mean of all series that were observed then."""
        ds, rows = np.unique(self.ds, return_inverse=True)
        means = [_mean(rows, column, len(ds)) for column in self.x.T]
        return Past(np.zeros(len(ds), dtype=np.int64), ds, np.stack(means, axis=1), 1)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Past:
        """Some of its rows."""
        return Past(self.series[rows], self.ds[rows], self.x[rows], self.count)

    def last_seen(self) -> Ints:
        """Instant of each series' last observation of each covariate, shape (count, covariates); far back if none."""
        never = np.iinfo(np.int64).min // 2
        last = np.full((self.count, self.x.shape[1]), never)
        starts = self._starts()
        last[self.series[starts]] = np.maximum.reduceat(np.where(np.isfinite(self.x), self.ds[:, None], never), starts)
        return last

    def latest(self, span: int) -> Past:
        """The rows less than `span` ns before each series' last observation of each covariate; the rest is NaN."""
        since = self.last_seen() - span
        rows = self.take(self.ds > since.min(axis=1)[self.series])
        x = np.where(rows.ds[:, None] > since[rows.series], rows.x, np.nan)
        return Past(rows.series, rows.ds, x, self.count)

    def means(self) -> Floats:
        """Mean of each series' covariates, shape (count, covariates); NaN where nothing was observed."""
        return np.stack([_mean(self.series, column, self.count) for column in self.x.T], axis=1)

    def extremes(self) -> tuple[Floats, Floats]:
        """Lowest and highest observation of each series, each of shape (count, covariates); NaN where there is none."""
        lowest, highest = np.full((2, self.count, self.x.shape[1]), np.nan)
        starts = self._starts()
        lowest[self.series[starts]] = np.fmin.reduceat(self.x, starts)
        highest[self.series[starts]] = np.fmax.reduceat(self.x, starts)
        return lowest, highest

    def _starts(self) -> npt.NDArray[np.intp]:
        """First row of each series that has any."""
        return np.flatnonzero(np.r_[True, self.series[1:] != self.series[:-1]])


@dataclass(frozen=True)
class Asked:
    """The rows asked for.

    Attributes:
        series: number of each row's series in `Past`, shape (rows,).
        ds: ns since 1970, UTC, shape (rows,).
    """

    series: Ints
    ds: Ints


@dataclass(frozen=True)
class Clock:
    """The local calendar and time of day of instants.

    Attributes:
        grid: frequency and time zone.
    """

    grid: TimeGrid

    @property
    def bins(self) -> int:
        """How many times of day there are: 24 for hourly data, 1 for daily and coarser data."""
        return -(-DAY // self.step) if self.grid.fixed else 1

    @cached_property
    def step(self) -> int:
        """The step in ns; for calendar frequencies the mean of ten."""
        start = self.grid.floor(pd.Timestamp("2001-01-01", tz="UTC"))
        return (self.grid.shift(start, 10) - start).value // 10

    @property
    def steps_per_day(self) -> int:
        """Steps of a day, at least 1."""
        return max(1, round(DAY / self.step))

    @property
    def days_per_step(self) -> int:
        """Days of a step, at least 1."""
        return max(1, self.step // DAY)

    def wall(self, ds: Ints) -> Ints:
        """Local wall-clock time, ns since 1970."""
        return nanoseconds(self.grid.local(pd.DatetimeIndex(ds, tz="UTC")))

    def time_of_day(self, wall: Ints) -> Ints:
        """Number of the local time of day, 0 … bins - 1."""
        return wall % DAY // self.step if self.grid.fixed else np.zeros(len(wall), dtype=np.int64)

    def day_of_year(self, wall: Ints) -> Ints:
        """Local day's place, 0 … 365, in a year of 366 days, so that each date has one place and Feb 29 its own."""
        days = (wall // DAY).astype("datetime64[D]")
        months = days.astype("datetime64[M]")
        day_of_month = (days - months.astype("datetime64[D]")).astype(np.int64)
        return np.asarray(_MONTH_STARTS[months.astype(np.int64) % 12] + day_of_month)

    def steps_after(self, origin: pd.Timestamp, ds: Ints) -> Ints:
        """How many steps of the grid each instant is after the origin; negative before it."""
        if self.grid.fixed:
            return (ds - origin.as_unit("ns").value) // self.step
        ends = [*ds.tolist(), origin.as_unit("ns").value]
        first, last = (self.grid.floor(pd.Timestamp(end, tz="UTC")) for end in (min(ends), max(ends)))
        grid = nanoseconds(self.grid.between(first, last))
        return np.asarray(np.searchsorted(grid, ds, side="right") - np.searchsorted(grid, ends[-1], side="right"))


_MONTH_STARTS = np.cumsum([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30])


def _mean(groups: npt.NDArray[np.intp], values: Floats, count: int) -> Floats:
    seen = np.isfinite(values)
    sums = np.bincount(groups[seen], values[seen], minlength=count)
    counts = np.bincount(groups[seen], minlength=count)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _instants(frame: pd.DataFrame) -> Ints:
    return nanoseconds(pd.DatetimeIndex(frame["ds"]))


def _arrays(history: pd.DataFrame, future: pd.DataFrame, task: Task) -> tuple[Past, Asked]:
    codes, names = pd.factorize(history["unique_id"].to_numpy())
    x = history[list(task.covariates)].to_numpy(dtype=float)
    x = np.where(np.isinf(x), np.nan, x) if np.isinf(x).any() else x
    past = Past(codes.astype(np.int64), _instants(history), x, len(names) + 1)
    late = past.ds > task.origin.as_unit("ns").value
    asked = pd.Index(names).get_indexer(pd.Index(future["unique_id"]))
    asked = np.where(asked < 0, len(names), asked)
    return (past.take(~late) if late.any() else past), Asked(asked.astype(np.int64), _instants(future))


def answer(
    history: pd.DataFrame,
    future: pd.DataFrame,
    task: Task,
    method: Callable[[Past, Asked, Clock], Floats],
) -> pd.DataFrame:
    """What `method` says of each asked row.

    A series without any observation of a covariate takes what `method` says of the mean over all series.

    Args:
        history: `unique_id, ds, <covariates>`, sorted; rows later than the origin are not looked at.
        future: `unique_id, ds, …`.
        task: names the covariates.
        method: from past and asked rows to values of shape (asked rows, covariates), NaN where a series has no
            observation of the covariate.

    Returns:
        `unique_id, ds, <covariates>`, row by row as `future`.

    Raises:
        AssumptionUnavailable: a covariate was never observed, in any series.
    """
    if not len(future) or not task.covariates:
        return future[["unique_id", "ds"]].assign(**dict.fromkeys(task.covariates, np.empty(0)))
    past, asked = _arrays(history, future, task)
    clock = Clock(TimeGrid(task.frequency, task.timezone))
    never = [name for name, column in zip(task.covariates, past.x.T, strict=True) if not np.isfinite(column).any()]
    if never:
        msg = f"covariate {never[0]!r} has no observation up to {task.origin}, so nothing can be assumed from its past"
        raise AssumptionUnavailable(msg, hint="check the source's column, or assume it by a table")
    values = method(past, asked, clock)
    holes = ~np.isfinite(values).all(axis=1)
    if holes.any():
        unseen = Asked(np.zeros(int(holes.sum()), dtype=np.int64), asked.ds[holes])
        values[holes] = np.where(np.isfinite(values[holes]), values[holes], method(past.mean_series(), unseen, clock))
    return future[["unique_id", "ds"]].assign(**dict(zip(task.covariates, values.T, strict=True)))
