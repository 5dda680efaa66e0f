"""What followed the days that were most like the last ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.naive import repeat_season
from forecastcore_assumptions.panel import Asked, Clock, Past, answer

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.api import Task
    from forecastcore_assumptions.panel import Floats, Ints

__all__ = ["Analogue"]


@dataclass(frozen=True)
class Analogue:
    """The mean of what followed the past days most like the last ones before the origin.

    A series' past is compared with its last `match_days` days, all covariates together, each in units of its own
    standard deviation, at distances of whole days (24 hours). Candidates are the days whose sequel of the whole horizon
    lies before the origin; of equally near ones the latest comes first. For data of days or longer a "day" is one step.
    Where there is no candidate, the last day is repeated. After Lorenz (1969), Atmospheric predictability as revealed
    by naturally occurring analogues.

    Attributes:
        days: how many similar days are averaged.
        match_days: how many days before the origin are compared.
    """

    days: int = 5
    match_days: int = 1

    def __post_init__(self) -> None:
        for name in ("days", "match_days"):
            if getattr(self, name) < 1:
                msg = f"{name} must be 1 or more, not {getattr(self, name)}"
                raise ValueError(msg)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """See the class; `unique_id, ds, <covariates>`, row by row as `future`.

        Raises:
            AssumptionUnavailable: a covariate was never observed.
        """

        def values(past: Past, asked: Asked, clock: Clock) -> Floats:
            return self._values(past, asked, clock, task.origin)

        return answer(history, future, task, values)

    def _values(self, past: Past, asked: Asked, clock: Clock, origin: pd.Timestamp) -> Floats:
        day = clock.steps_per_day
        rows = clock.steps_after(origin, past.ds)  # 0 at the origin
        steps = np.maximum(clock.steps_after(origin, asked.ds), 1)
        values = np.full((len(steps), past.x.shape[1]), np.nan)
        for series in np.unique(asked.series):
            wanted = asked.series == series
            mine = past.series == series
            x = _dense(rows[mine], past.x[mine])
            horizon = int(steps[wanted].max())
            sequel = _sequel(x, horizon, day, self.match_days * day, self.days)
            values[wanted] = np.where(np.isfinite(sequel), sequel, _last_day(x, horizon, day))[steps[wanted] - 1]
        return values


def _dense(rows: Ints, x: Floats) -> Floats:
    """The rows of one series at their places on the grid up to the origin, NaN between them."""
    length = 1 - int(rows.min(initial=1))
    dense = np.full((length, x.shape[1]), np.nan)
    dense[length - 1 + rows] = x
    return dense


def _sequel(x: Floats, horizon: int, day: int, match: int, count: int) -> Floats:
    """Mean of what followed the `count` windows most like the last `match` rows, shape (horizon, covariates)."""
    nearest = -(-horizon // day) * day
    ends = np.arange(len(x) - nearest, match - 1, -day)  # the latest first
    if not len(ends):
        return np.full((horizon, x.shape[1]), np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(x, match, axis=0)[ends - match]
    distance = _distance(windows, windows_last=x[-match:].T, scale=_spread(x))
    best = ends[np.argsort(distance, kind="stable")[:count]]
    best = best[np.isfinite(np.sort(distance)[: len(best)])]
    return _mean_of(x[best[:, None] + np.arange(horizon)])


def _distance(windows: Floats, windows_last: Floats, scale: Floats) -> Floats:
    """Mean square distance of each window, shape (windows,); infinite where less than half can be compared."""
    squares = ((windows - windows_last) / scale[:, None]) ** 2
    seen = np.isfinite(squares)
    counts = seen.sum(axis=(1, 2))
    sums = np.where(seen, squares, 0.0).sum(axis=(1, 2))
    enough = 2 * counts >= max(1, np.isfinite(windows_last).sum())
    return np.where(enough & (counts > 0), sums / np.maximum(counts, 1), np.inf)


def _spread(x: Floats) -> Floats:
    seen = np.isfinite(x)
    counts = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, x, 0.0).sum(axis=0) / counts
    spread = np.sqrt((np.where(seen, x - mean, 0.0) ** 2).sum(axis=0) / counts)
    return np.where(spread > 0, spread, 1.0)


def _mean_of(samples: Floats) -> Floats:
    """Mean over the first axis of what was observed; NaN where nothing was."""
    seen = np.isfinite(samples)
    counts = seen.sum(axis=0)
    return np.where(counts > 0, np.where(seen, samples, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)


def _last_day(x: Floats, horizon: int, day: int) -> Floats:
    """The last observed value of each time of day, else the last value, shape (horizon, covariates)."""
    return np.stack([repeat_season(column, day, horizon) for column in x.T], axis=1)
