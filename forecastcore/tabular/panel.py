"""Series as one padded matrix: (series, time), so that features are gathers and no series is handled on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.errors import PluginError
from forecastcore.timegrid import TimeGrid, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from forecastcore.api import Task

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

__all__ = ["Clock", "Panel", "panel_of"]

_BLOCK = 2_000_000  # values of y worked on at a time: bounds memory, changes no result


@dataclass(frozen=True)
class Clock:
    """The local wall clock at each instant of a panel.

    Attributes:
        hour: hours since local midnight.
        weekday: 0 is Monday.
        yearday: position in the year, 0 … 1.
        offset: how far the wall clock is ahead of UTC, in steps; 0 where the grid follows the local calendar anyway.
    """

    hour: Floats
    weekday: Ints
    yearday: Floats
    offset: Ints

    @staticmethod
    def of(instants: pd.DatetimeIndex, grid: TimeGrid) -> Clock:
        """Read the clock of `grid.timezone` at instants (UTC)."""
        wall = grid.local(instants)
        ahead = (nanoseconds(wall) - nanoseconds(instants)) // 10**9
        step = int(pd.Timedelta(grid.offset).total_seconds()) if grid.fixed else 0  # type: ignore[arg-type]  # fixed means Tick
        return Clock(
            hour=wall.hour.to_numpy() + wall.minute.to_numpy() / 60.0 + wall.second.to_numpy() / 3600.0,
            weekday=wall.weekday.to_numpy().astype(np.int64),
            yearday=(wall.dayofyear.to_numpy() - 1) / 366.0,
            offset=np.round(ahead / step).astype(np.int64) if step else np.zeros(len(wall), dtype=np.int64),
        )


@dataclass(frozen=True)
class Panel:
    """Series on one common time axis.

    Attributes:
        ids: names of the rows.
        y: target, shape (series, time), NaN where missing or not yet begun.
        x: covariates, shape (covariates, series, time); past and, where given, future.
        clock: the wall clock along the time axis.
        instants: the time axis, UTC.
    """

    ids: tuple[str, ...]
    y: Floats
    x: Floats
    clock: Clock
    instants: pd.DatetimeIndex

    def blocks(self) -> Iterator[tuple[int, Panel]]:
        """The panel in pieces of some series each, with the number of the first."""
        size = max(1, _BLOCK // max(1, self.y.shape[1]))
        for start in range(0, len(self.ids), size):
            part = slice(start, start + size)
            yield start, replace(self, ids=self.ids[part], y=self.y[part], x=self.x[:, part])

    def since(self, start: int) -> Panel:
        """The panel from a position of the time axis on; a copy of `y`, which may be written to."""
        now = self.clock
        clock = Clock(now.hour[start:], now.weekday[start:], now.yearday[start:], now.offset[start:])
        return replace(
            self, y=self.y[:, start:].copy(), x=self.x[..., start:], clock=clock, instants=self.instants[start:]
        )

    def only(self, keep: npt.NDArray[np.bool_]) -> Panel:
        """The panel with some of its series."""
        if keep.all():
            return self
        ids = tuple(name for name, kept in zip(self.ids, keep, strict=True) if kept)
        return replace(self, ids=ids, y=self.y[keep], x=self.x[:, keep])


def panel_of(history: pd.DataFrame, task: Task, future: pd.DataFrame | None = None) -> Panel:
    """Lay frames out as a panel.

    Args:
        history: `unique_id, ds, y, <covariates>`.
        task: names the grid and the covariates.
        future: `unique_id, ds, <covariates>`; widens the time axis and fills the covariates of its rows.

    Raises:
        PluginError: an instant is not on the grid.
    """
    frames = [history] if future is None else [history, future]
    grid = TimeGrid(task.frequency, task.timezone).anchored_at(pd.Timestamp(history["ds"].min()))
    first, last = history["ds"].min(), max(frame["ds"].max() for frame in frames)
    instants = grid.between(first, last)
    codes, names = pd.factorize(pd.concat([frame["unique_id"] for frame in frames], ignore_index=True))
    places = _places(pd.concat([frame["ds"] for frame in frames], ignore_index=True), instants, task.frequency)
    shape = (len(names), len(instants))
    y = np.full(shape, np.nan)
    y[codes[: len(history)], places[: len(history)]] = history["y"].to_numpy(dtype=float)
    x = np.full((len(task.covariates), *shape), np.nan)
    for number, name in enumerate(task.covariates):
        x[number, codes, places] = np.concatenate([frame[name].to_numpy(dtype=float) for frame in frames])
    return Panel(tuple(map(str, names)), y, x, Clock.of(instants, grid), instants)


def _places(ds: pd.Series, instants: pd.DatetimeIndex, frequency: str) -> Ints:
    stamps = ds.to_numpy(dtype="datetime64[ns]").astype(np.int64)
    axis = nanoseconds(instants)
    places = np.minimum(np.searchsorted(axis, stamps), len(axis) - 1)
    off = np.flatnonzero(axis[places] != stamps)
    if len(off):
        first = pd.Timestamp(stamps[off[0]], tz="UTC")
        msg = f"{len(off)} instants are not on the grid of {frequency}, the first is {first}"
        raise PluginError(msg, hook="fit", hint="hand the model a frame that stands on the grid without holes")
    return np.asarray(places, dtype=np.int64)
