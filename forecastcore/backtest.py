"""Rolling-origin evaluation that uses only what was known at each origin: origins, rows, and what they are scored by.

For every fold a candidate is fitted on the rows up to the fold's origin; covariates after it are what would have been
assumed there (see `race`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import guard, intervals, metrics, runtime
from forecastcore.errors import DataError, EngineError
from forecastcore.frames import offsets, together
from forecastcore.naive import repeat_season

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore.ensemble import Blend
    from forecastcore.frames import Answer, History
    from forecastcore.ports import Past
    from forecastcore.project import Candidate, Project

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["Backtest", "Result", "fold_origins", "rows_of"]


def fold_origins(history: Past, project: Project) -> list[pd.Timestamp]:
    """Origins of the backtest, oldest first: the last lies a horizon before the end, the others a stride apart.

    Origins with too little history before them (less than a horizon, or two seasons) are left out; where none has that
    much, less will do: a season, or two values.

    Raises:
        DataError: there is not enough history for even one fold.
    """
    config, grid = project.config, history.grid
    stride = config.backtest.stride or config.horizon
    first = history.first
    season = runtime.task(project, grid, history.origin).season
    wanted = [grid.shift(history.origin, -config.horizon - number * stride) for number in range(config.backtest.folds)]
    for enough in (max(min(config.horizon, 4 * season), 2 * season, 2), season + 1, 2):
        least = grid.shift(first, enough - 1)
        if wanted[0] >= least:
            return [origin for origin in reversed(wanted) if origin >= least]
    raise DataError(
        f"history from {first} to {history.origin} is too short for a backtest of {config.horizon} steps",
        hint=f"shorten horizon:, or bring history from before {wanted[0]}",
    )


@dataclass(frozen=True, kw_only=True)
class Result:
    """One candidate's forecasts of all backtest rows, aligned with `Backtest`'s rows.

    Attributes:
        candidate: what was fitted.
        forecast: point forecasts; a series that the model could not do has its fallback's.
        quantiles: calibrated on the errors of the other folds, shape (rows, levels).
        errors: what its quantiles are calibrated on.
        failures: why series were served by the fallback, with the number of folds, screened series not counted.
        seconds: work time over all units.
        foresight: what the same fitted models forecast of the actual covariates; None where they use none assumed.
        remarks: what else is to be said of it.
        blend: of an ensemble, how its members are put together; learned from all folds.
    """

    candidate: Candidate
    forecast: Floats
    quantiles: Floats
    errors: intervals.Errors
    failures: Mapping[str, str]
    seconds: float
    foresight: Floats | None = None
    remarks: tuple[str, ...] = ()
    blend: Blend | None = None

    def failed(self, rows: Backtest) -> bool:
        """Whether the fallback served every series that a model was given."""
        return bool(self.failures) and len(self.failures) >= len(rows.ids) - len(rows.screened)


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """The rows that every candidate was scored on, in the order (origin, series, step).

    Attributes:
        origins: oldest first.
        ids: series that existed at any origin.
        fold, series, step: numbers of each row's origin and series, and its step.
        y: actuals, NaN where missing and for screened series.
        scale, scale2: in-sample seasonal naive error (mean absolute, mean squared) by origin and series.
        group: number of each row's (origin, series) pair.
        reference: mean MASE of the best seasonal naive.
        naive: its forecasts.
        reference_error: its errors relative to its forecasts.
        noise: before each origin, by series (see `intervals.noise`); shape (origins, series).
        season: steps.
        place: where in the season each origin stands; shape (origins,).
        screened: series that no model was given, and why.
    """

    origins: list[pd.Timestamp]
    ids: list[str]
    fold: Ints
    series: Ints
    step: Ints
    y: Floats
    scale: Floats
    scale2: Floats
    group: Ints
    reference: float
    naive: Floats
    reference_error: Floats
    noise: Floats
    season: int
    place: Ints
    screened: Mapping[str, str]

    @cached_property
    def _numbers(self) -> pd.Index[str]:
        return pd.Index(np.asarray(self.ids, dtype=object))

    @cached_property
    def _begins(self) -> Ints:
        """The first row of each (origin, series) pair; -1 where it has none."""
        begins = np.full(self.scale.size, -1, dtype=np.intp)
        first = self.step == 1
        begins[self.group[first]] = np.flatnonzero(first)
        return begins

    def place_of(self, fold: Ints, series: Ints, step: Ints) -> Ints:
        """The numbers of rows, by origin, series and step.

        Raises:
            EngineError: there is no such row.
        """
        begin = self._begins[fold.astype(np.intp) * len(self.ids) + series]
        if (begin < 0).any():
            raise EngineError("the backtest gave rows that were not asked for")
        return np.asarray(begin + step - 1)

    def numbers_of(self, ids: Sequence[str]) -> Ints:
        """The numbers of some series, ascending."""
        return np.sort(self._numbers.get_indexer(pd.Index(np.asarray(ids, dtype=object)))).astype(np.intp)

    def origin_losses(self, forecast: Floats) -> Floats:
        """Mean of `losses` over the series that were scored, shape (origins,)."""
        losses = self.losses(forecast)
        return metrics.group_mean(losses.ravel(), np.repeat(np.arange(len(losses)), losses.shape[1]), len(losses))

    def losses(self, forecast: Floats) -> Floats:
        """Mean absolute scaled error by origin and series, shape (origins, series)."""
        return self._by_pair(np.abs(forecast - self.y)) / self.scale

    def losses_by(self, metric: str, forecast: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
        """The loss by origin and series of which a leaderboard metric is made: `mase`, `rmsse` or `wql`."""
        if metric == "rmsse":
            return np.sqrt(self._by_pair((forecast - self.y) ** 2) / self.scale2)
        if metric == "wql":
            loss = metrics.pinball(self.y, quantiles, levels).mean(axis=1)
            return 2 * self._by_pair(loss) / np.nanmean(np.abs(self.y))
        return self.losses(forecast)

    def _by_pair(self, values: Floats) -> Floats:
        shape = self.scale.shape
        return metrics.group_mean(values, self.group, int(np.prod(shape))).reshape(shape)

    def errors(self, forecast: Floats, own: Floats, made: npt.NDArray[np.bool_]) -> intervals.Errors:
        """What quantiles are calibrated on.

        Args:
            forecast: point forecasts of all rows.
            own: the model's quantiles, NaN in rows that have none.
            made: rows that the model made, and no fallback.
        """
        return intervals.Errors(
            y=self.y,
            forecast=forecast,
            own=own,
            made=made,
            step=self.step,
            series=self.series,
            ids=self.ids,
            fold=self.fold,
            noise=self.noise,
            season=self.season,
            place=self.place,
        )

    def slices(self, result: Result, levels: Sequence[float]) -> dict[str, dict[str, float]]:
        """All errors of a result: in all, by quarter of the horizon, by size of the series (see `metrics.by_slice`)."""
        return metrics.by_slice(self.scored, result.forecast, result.quantiles, levels)

    @cached_property
    def scored(self) -> metrics.Scored:
        """What forecasts are scored on, with the slices to tell apart."""
        size = metrics.group_mean(np.abs(self.y), self.series, len(self.ids))
        classes = {name: np.tile(hit, len(self.origins)) for name, hit in metrics.size_classes(size).items()}
        return metrics.Scored(
            y=self.y,
            group=self.group,
            step=self.step,
            scale=self.scale.ravel(),
            scale2=self.scale2.ravel(),
            naive=self.naive,
            size_class=classes,
        )


def rows_of(project: Project, history: Past, origins: list[pd.Timestamp]) -> Backtest:
    """The rows to score on, their actuals and scales, and the seasonal naive yardstick; NaN for what has not come."""
    task = runtime.task(project, history.grid, history.origin)
    seen = history.ask(
        partial(_seen, task=task, origins=tuple(origins), max_missing=project.config.quality.max_missing)
    )
    ids, there = [str(uid) for uid in history.ids], together(seen, "there", 1)
    fold, series = (values.astype(np.intp) for values in np.nonzero(there))
    scale, scale2 = (together(seen, name, 1) for name in ("scale", "scale2"))
    group = np.repeat(fold * len(ids) + series, task.horizon)
    actual, naives = together(seen, "actual", 1)[there].ravel(), together(seen, "naive", 2)[:, there]
    best, naive, error = _yardstick(naives.reshape(len(naives), -1), actual, group, scale)
    screened = zip(together(seen, "screened").tolist(), together(seen, "reasons").tolist(), strict=True)
    return Backtest(
        origins=origins,
        ids=ids,
        fold=np.repeat(fold, task.horizon),
        series=np.repeat(series, task.horizon),
        step=np.tile(np.arange(1, task.horizon + 1, dtype=np.intp), len(fold)),
        y=actual,
        scale=scale,
        scale2=scale2,
        group=group,
        reference=best,
        naive=naive,
        reference_error=error,
        noise=together(seen, "noise", 1),
        season=task.season,
        place=np.array([history.grid.number(origin) % task.season for origin in origins]),
        screened=dict(screened),
    )


def _seen(history: History, *, task: Task, origins: Sequence[pd.Timestamp], max_missing: float) -> Answer:
    """What `rows_of` asks of some series, by origin and series."""
    panel, starts, horizon = history.panel, offsets(history.panel), task.horizon
    ids = panel["unique_id"].to_numpy()[starts[:-1]]
    y, instants = panel["y"].to_numpy(), panel["ds"].to_numpy(dtype="datetime64[ns]")
    ends = np.stack([_upto(instants, starts, origin) for origin in origins], axis=1)
    place = ends.T[:, :, None] + np.arange(horizon)
    actual = np.where(place < starts[1:, None], y[np.minimum(place, len(y) - 1)], np.nan)
    # What no model is given is no model's merit: a broken series leaves the leaderboard as it would be without it.
    screened = guard.screen(panel, max_missing)
    actual[:, np.isin(ids, list(screened))] = np.nan
    there = (ends > starts[:-1, None]).T
    naive = np.full((len(task.seasons), *actual.shape), np.nan)
    for fold, series in np.argwhere(there):
        past = y[starts[series] : ends[series, fold]]
        for number, season in enumerate(task.seasons):
            naive[number, fold, series] = repeat_season(past, season, horizon)
    return {
        "there": there,
        "scale": _scale(y, starts, task.season, ends, 1),
        "scale2": _scale(y, starts, task.season, ends, 2),
        "actual": actual,
        "naive": naive,
        "noise": intervals.noise(y, starts, ends, task.seasons, horizon).T,
        "screened": np.asarray(list(screened), dtype=np.str_),
        "reasons": np.asarray(list(screened.values()), dtype=np.str_),
    }


def _scale(y: Floats, starts: npt.NDArray[np.intp], season: int, ends: npt.NDArray[np.intp], power: int) -> Floats:
    """In-sample seasonal naive error by origin and series; of the naive where there is not yet a season to compare."""
    seasonal, naive = (metrics.naive_scale(y, starts, lag, ends, power=power).T for lag in (season, 1))
    return np.asarray(np.where(np.isfinite(seasonal), seasonal, naive))


def _upto(instants: npt.NDArray[Any], starts: npt.NDArray[np.intp], origin: pd.Timestamp) -> npt.NDArray[np.intp]:
    """Row after the last one not later than the origin, for each series."""
    seen = np.r_[0, np.cumsum(instants <= origin.to_datetime64())]
    return np.asarray(starts[:-1] + seen[starts[1:]] - seen[starts[:-1]])


def _yardstick(naives: Floats, actual: Floats, group: Ints, scale: Floats) -> tuple[float, Floats, Floats]:
    """MASE of the best of the seasonal naives (day, week …), its forecasts, and its errors relative to them."""
    best, naive, error = float("inf"), np.full(len(actual), np.nan), np.zeros(0)
    for forecast in naives:
        loss = metrics.group_mean(np.abs(actual - forecast), group, scale.size).reshape(scale.shape) / scale
        mean = float(loss[np.isfinite(loss)].mean()) if np.isfinite(loss).any() else float("nan")
        if mean < best:
            with np.errstate(divide="ignore", invalid="ignore"):
                best, naive, error = mean, forecast, (actual - forecast) / np.abs(forecast)
    return best, naive, error[np.isfinite(error)]
