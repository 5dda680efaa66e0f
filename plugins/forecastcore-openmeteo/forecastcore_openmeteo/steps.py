"""Hours to the steps of the project: looked up, interpolated, averaged or added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.timegrid import TimeGrid

    Floats = npt.NDArray[np.float64]

__all__ = ["on_grid"]

_HOUR = 3600 * 10**9  # ns


def on_grid(hours: Floats, first: int, ds: pd.Series, grid: TimeGrid, sums: Sequence[bool]) -> Floats:
    """Values at instants of the grid.

    At steps of an hour or less a value is that of its instant, between hours by a straight line; a sum is that of its
    hour, in equal shares. At longer steps it is the mean of the hours from the instant to the next one, or their sum.

    Args:
        hours: shape (hours, variables), NaN where missing.
        first: hours since 1970 of the first row.
        ds: instants of the grid.
        grid: frequency and time zone.
        sums: which variables add up, as rain does.

    Returns:
        Shape (instants, variables); NaN where an hour that it takes is missing.
    """
    if not len(ds):
        return np.empty((0, hours.shape[1]))
    instants, place = np.unique(ds.to_numpy(dtype="datetime64[ns]").astype(np.int64), return_inverse=True)
    start = instants - first * _HOUR
    after = grid.shift(pd.Timestamp(instants[0], tz="UTC"), 1)
    step = after.as_unit("ns").value - int(instants[0])
    adds = np.asarray(sums, dtype=bool)
    if step <= _HOUR:
        at, part = start // _HOUR, (start % _HOUR / _HOUR)[:, None]
        held, following = _row(hours, at), _row(hours, at + 1)
        line = np.where(part == 0, held, (1 - part) * held + part * following)
        values = np.where(adds, held * step / _HOUR, line)
    else:
        ends = [grid.shift(pd.Timestamp(instant, tz="UTC"), 1).as_unit("ns").value for instant in instants]
        values = _over(hours, start // _HOUR, -(-(np.asarray(ends) - first * _HOUR) // _HOUR), adds)
    return np.asarray(values[place])


def _row(hours: Floats, at: npt.NDArray[np.int64]) -> Floats:
    there = (at >= 0) & (at < len(hours))
    return np.where(there[:, None], hours[np.clip(at, 0, len(hours) - 1)], np.nan)


def _over(
    hours: Floats, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], adds: npt.NDArray[np.bool_]
) -> Floats:
    total = np.vstack([np.zeros(hours.shape[1]), np.cumsum(np.nan_to_num(hours), axis=0)])
    count = np.vstack([np.zeros(hours.shape[1]), np.cumsum(np.isfinite(hours), axis=0)])
    a, b = np.clip(start, 0, len(hours)), np.clip(end, 0, len(hours))
    whole = (count[b] - count[a]) == (end - start)[:, None]
    added = total[b] - total[a]
    return np.where(whole, np.where(adds, added, added / (end - start)[:, None]), np.nan)
