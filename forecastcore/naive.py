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
    missing = ~np.isfinite(y)
    if not missing.any() or missing.all():
        return y
    filled = y.copy()
    for position in np.flatnonzero(missing):
        back = position - season
        filled[position] = (
            filled[back] if back >= 0 and np.isfinite(filled[back]) else filled[position - 1] if position else np.nan
        )
    first = int(np.flatnonzero(~missing)[0])
    filled[:first] = y[first]
    return filled
