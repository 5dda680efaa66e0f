"""What the winner's intervals learn from: its backtest errors, and those of origins before the backtest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.backtest import rows_of
from forecastcore.race import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from forecastcore.backtest import Result
    from forecastcore.ensemble import Blend
    from forecastcore.intervals import Errors
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Project
    from forecastcore.runs.contest import Contest

__all__ = ["calibration_errors"]

#: horizons before the backtest that are looked at, unless they were more than half of the history there
_EARLIER = 16


def calibration_errors(project: Project, history: Past, contest: Contest, engine: Engine) -> Errors:
    """The winner's errors: those of the backtest, and of origins before it, which are too costly for all candidates.

    The winner is fitted once, before all of those, and forecasts each of them with the parameters it has, as a stored
    model does in service. A band learned from four horizons knows the weather of four horizons.
    """
    best = contest.best
    origins = _earlier(project, history, contest.rows.origins[0])
    if not origins:
        return best.errors
    rows, fitted_at = rows_of(project, history, origins), origins[0]
    if best.blend is None:
        (result,) = run(project, history, [best.candidate], engine, rows, fitted_at=fitted_at)
        return best.errors.joined(result.errors)
    used = [member for member, has in zip(best.candidate.members, best.blend.used, strict=True) if has]
    members = run(project, history, used, engine, rows, fitted_at=fitted_at)
    return best.errors.joined(_blended(members, best.blend.only(best.blend.used)))


def _earlier(project: Project, history: Past, first: pd.Timestamp) -> list[pd.Timestamp]:
    """Origins a horizon apart that end where the backtest begins, oldest first; the older half of history trains."""
    horizon, grid = project.config.horizon, history.grid
    count = min(_EARLIER, len(grid.between(history.first, first)) // 2 // horizon)
    return [grid.shift(first, -number * horizon) for number in range(count, 0, -1)]


def _blended(members: Sequence[Result], blend: Blend) -> Errors:
    """Errors of an ensemble, put together as it will be in service."""
    errors = members[0].errors
    values = np.stack(
        [np.where(m.errors.made[:, None], np.column_stack([m.errors.forecast, m.errors.own]), np.nan) for m in members]
    )
    names = np.asarray(errors.ids, dtype=object)[errors.series]
    combined = blend.combine(names.tolist(), values)
    made = np.isfinite(combined[:, 0])
    forecast = np.where(made, combined[:, 0], errors.forecast)
    return replace(errors, forecast=forecast, own=np.sort(combined[:, 1:], axis=1), made=made)
