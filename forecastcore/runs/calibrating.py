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
#: series whose errors tell as well as those of any more how errors are spread, where each has a fit of its own
_SERIES = 100


def calibration_errors(project: Project, history: Past, contest: Contest, engine: Engine) -> Errors:
    """The winner's errors: those of the backtest, and of origins before it, which are too costly for all candidates.

    The winner is fitted once, before all of those, and forecasts each of them with the parameters it has, as a stored
    model does in service. A band learned from four horizons knows the weather of four horizons.
    """
    best = contest.best
    origins = _earlier(project, history, contest.rows.origins[0])
    if not origins:
        return best.errors
    blend, models = best.blend, [best.candidate]
    if blend is not None:
        models = [member for member, has in zip(best.candidate.members, blend.used, strict=True) if has]
    if all(project.host.offer("model", one.type).spec.capabilities.scope == "local" for one in models):
        history = _some(history)
    results = run(project, history, models, engine, rows_of(project, history, origins), fitted_at=origins[0])
    errors = results[0].errors if blend is None else _blended(results, blend.only(blend.used))
    return best.errors.joined(errors.among(best.errors.ids))


def _some(history: Past) -> Past:
    """That of so many series, evenly from all."""
    ids = history.ids
    return history.of(ids[:: -(-len(ids) // _SERIES)]) if len(ids) > _SERIES else history


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
