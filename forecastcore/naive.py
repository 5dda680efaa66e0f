"""The forecasts that need no model: repeat the last season, repeat the last value; and filling gaps from the past.

They are the fallback of every model, the yardstick of every metric, and what a plugin may build on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["fill_gaps", "last_value", "repeat_season"]


def last_value(y: Floats) -> float:
    """The last observed value; NaN where there is none."""
    seen = np.flatnonzero(np.isfinite(y))
    return float(y[seen[-1]]) if len(seen) else float("nan")


def repeat_season(y: Floats, season: int, horizon: int) -> Floats:
    """For each of `horizon` steps the latest observed value of the same phase of the season.

    Args:
        y: history, shape (n,), NaN where missing; its last row is the origin.
        season: steps; 1 repeats the last value.
        horizon: steps asked.

    Returns:
        Shape (horizon,). A phase that was never observed gets the last observed value; all NaN where nothing was.
    """
    rows = -(-len(y) // season) if len(y) else 0
    grid = np.full((rows, season), np.nan)
    if rows:
        grid.ravel()[rows * season - len(y) :] = y
    seen = np.isfinite(grid)
    latest = np.where(seen.any(axis=0), rows - 1 - np.argmax(seen[::-1], axis=0), -1) if rows else np.full(season, -1)
    phases = np.where(latest >= 0, grid[latest, np.arange(season)], last_value(y)) if rows else np.full(season, np.nan)
    return np.asarray(np.tile(phases, -(-horizon // season))[:horizon])


def fill_gaps(y: Floats, season: int) -> Floats:
    """`y` with missing values filled from what came before: the same phase one season earlier, else the value before.

    Values before the first observation take the first observation. Nothing later than a gap is used to fill it, but for
    that. All NaN stays all NaN.
    """
    seen = np.isfinite(y)
    if seen.all() or not seen.any():
        return y
    first = int(np.argmax(seen))
    known = np.r_[_fill_down(y[first : first + season, None])[:, 0], y[first + season :]]
    # From here on every phase has a value in its first season, so that each one can be filled from above.
    rows = -(-len(known) // season)
    grid = np.full((rows, season if rows > 1 else len(known)), np.nan)
    grid.ravel()[: len(known)] = known
    filled = y.copy()
    filled[:first] = y[first]
    filled[first:] = _fill_down(grid).ravel()[: len(known)]
    return filled


def _fill_down(grid: Floats) -> Floats:
    """Each column's missing values take the last finite one above."""
    rows = np.where(np.isfinite(grid), np.arange(len(grid))[:, None], 0)
    return np.asarray(np.take_along_axis(grid, np.maximum.accumulate(rows, axis=0), axis=0))
