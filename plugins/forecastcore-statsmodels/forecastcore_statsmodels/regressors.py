"""The mean of a regression with SARIMA errors: drift, Fourier terms and covariates as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.naive import fill_gaps
from forecastcore.timegrid import TimeGrid

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Series, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["Design", "independent", "steps_since"]

ALIKE = 1e-7  # a column whose own part is smaller than this share of it says nothing new


@dataclass(frozen=True)
class Design:
    """Which columns the mean is made of; learned once, applied to any rows.

    Attributes:
        power: of time in the first column (0 a constant, 1 a drift); None without it.
        seasons: steps of each season with Fourier terms.
        harmonics: pairs of sine and cosine, by season.
        centre: subtracted from the covariates, shape (covariates,).
        spread: divides the covariates, shape (covariates,).
        span: steps of the fit window, the unit of time.
        kept: positions of the columns in use; the others repeat them or never move.
    """

    power: int | None
    seasons: tuple[int, ...]
    harmonics: tuple[int, ...]
    centre: Floats
    spread: Floats
    span: int
    kept: tuple[int, ...] | None = None

    def columns(self, steps: npt.NDArray[np.int64], x: Floats) -> Floats:
        """The columns for rows that are `steps` after the start of the fit, with covariates `x`."""
        parts = [] if self.power is None else [((steps / self.span) ** self.power)[:, None]]
        for season, pairs in zip(self.seasons, self.harmonics, strict=True):
            angles = 2 * np.pi * np.outer(steps % season, np.arange(1, pairs + 1)) / season
            parts += [np.sin(angles), np.cos(angles)]
        everything = np.column_stack([*parts, (x - self.centre) / self.spread])
        return everything if self.kept is None else everything[:, list(self.kept)]


def independent(columns: Floats) -> tuple[int, ...]:
    """Positions of columns that move, and are no combination of those before them."""
    basis = np.empty((len(columns), 0))
    kept = []
    for position, column in enumerate(columns.T):
        size = float(np.linalg.norm(column))
        own = column - basis @ (basis.T @ column)
        own = own - basis @ (basis.T @ own)  # once more, for what rounding left
        if size > ALIKE * np.sqrt(len(column)) and np.linalg.norm(own) > ALIKE * size:
            kept.append(position)
            basis = np.column_stack([basis, own / np.linalg.norm(own)])
    return tuple(kept)


def filled(x: Floats, season: int) -> Floats:
    """Covariates with their gaps filled from the past; one that was never seen is 0."""
    if not len(x):
        return x
    return np.nan_to_num(np.column_stack([fill_gaps(column, season) for column in x.T]) if x.shape[1] else x)


def steps_since(start: str, series: Series, task: Task) -> npt.NDArray[np.int64]:
    """How many steps of the grid each row of a series lies after an instant; negative before it."""
    grid = TimeGrid(task.frequency, task.timezone)
    first, begin = pd.Timestamp(series.ds[0], tz="UTC"), pd.Timestamp(start, tz="UTC")
    if grid.fixed:
        offset = (first - begin) // pd.Timedelta(grid.shift(begin, 1) - begin)
    else:
        offset = len(grid.between(min(first, begin), max(first, begin))) - 1
        offset = offset if first >= begin else -offset
    return int(offset) + np.arange(len(series.ds))
