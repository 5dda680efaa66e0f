"""What the winner's intervals learn from: its backtest errors, and those of origins before the backtest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.backtest import rows_of
from forecastcore.race import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import pandas as pd

    from forecastcore.ensemble import Blend
    from forecastcore.intervals import Errors, Pool
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Project
    from forecastcore.results import Result
    from forecastcore.runs.contest import Contest

    Ints = npt.NDArray[np.intp]

__all__ = ["calibration_errors"]

#: horizons before the backtest that are looked at, unless they were more than half of the history there
_EARLIER = 32
#: series whose errors tell as well as those of any more how errors are spread, where each has a fit of its own
_SERIES = 40


def calibration_errors(project: Project, history: Past, contest: Contest, engine: Engine) -> Pool:
    """The winner's errors: those of the backtest, and of origins before it, which are too costly for all candidates.

    The winner is fitted once, before all of those, and forecasts each of them with the parameters it has, as a stored
    model does in service. A band learned from four horizons knows the weather of four horizons.
    """
    best = contest.best
    origins = _earlier(project, history, contest.rows.origins[0])
    if not origins:
        return best.pool
    blend, models = best.blend, [best.candidate]
    if blend is not None:
        models = [member for member, has in zip(best.candidate.members, blend.used, strict=True) if has]
    if all(project.host.offer("model", one.type).spec.capabilities.scope == "local" for one in models):
        history = _some(history)
    results = run(project, history, models, engine, rows_of(project, history, origins), fitted_at=origins[0])
    return best.pool.joined(results[0].pool if blend is None else _blended(results, blend.only(blend.used)))


def _some(history: Past) -> Past:
    """That of so many series, evenly from all."""
    ids = history.ids
    return history.of(ids[:: -(-len(ids) // _SERIES)]) if len(ids) > _SERIES else history


def _earlier(project: Project, history: Past, first: pd.Timestamp) -> list[pd.Timestamp]:
    """Origins a horizon apart that end where the backtest begins, oldest first; the older half of history trains."""
    horizon, grid = project.config.horizon, history.grid
    count = min(_EARLIER, len(grid.between(history.first, first)) // 2 // horizon)
    return [grid.shift(first, -number * horizon) for number in range(count, 0, -1)]


def _blended(members: Sequence[Result], blend: Blend) -> Pool:
    """Errors of an ensemble, put together as it will be in service."""
    first = members[0]

    def parts() -> Iterator[tuple[Ints, Errors]]:
        for rows in first.rows.parts():
            each = [member.among(rows).errors for member in members]
            made = np.stack([one.made for one in each])[:, :, None]
            values = np.where(made, np.stack([np.column_stack([one.forecast, one.own]) for one in each]), np.nan)
            combined = blend.combine(np.asarray(rows.ids, dtype=object)[rows.series].tolist(), values)
            known = np.isfinite(combined[:, 0])
            forecast = np.where(known, combined[:, 0], each[0].forecast)
            errors = replace(each[0], forecast=forecast, own=np.sort(combined[:, 1:], axis=1), made=known)
            yield np.arange(rows.first, rows.first + len(rows.ids)), errors

    return replace(first.pool, parts=parts)
