"""Rolling-origin evaluation that uses only what was known at each origin: origins, rows, and what they are scored by.

For every fold a candidate is fitted on the rows up to the fold's origin; covariates after it are what would have been
assumed there (see `race`).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import guard, intervals, metrics, runtime
from forecastcore.errors import DataError, EngineError
from forecastcore.frames import offsets, together
from forecastcore.naive import repeat_season
from forecastcore.sheet import Sheet, spans

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore.frames import Answer, History
    from forecastcore.ports import Past, Span
    from forecastcore.project import Project

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["Backtest", "fold_origins", "rows_of"]

#: of what is asked of the history, what is kept by origin and series, and by name
_KEPT = ("there", "scale", "scale2", "noise", "least", "screened", "reasons")
#: rows that tell as well as any more how far a seasonal naive is off
_REFERENCES = 200_000


def fold_origins(history: Span, project: Project) -> list[pd.Timestamp]:
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
class Backtest:
    """The rows that every candidate was scored on, in the order (origin, series, step).

    What is known of each origin and series is in memory; the numbers of rows are read when they are asked for. Where
    there are many, ask for those of some series at a time (`parts`).

    Attributes:
        origins: oldest first.
        ids: series that existed at any origin.
        horizon: steps.
        there: which series existed at which origin: they have rows there, one for each step; shape (origins, series).
        actuals: of each row the actual, NaN where missing and for screened series, and the forecasts of the seasonal
            naives.
        yardstick: which of these is best; None where none can be scored.
        first: the number of the first series in these.
        scale, scale2: in-sample seasonal naive error (mean absolute, mean squared) by origin and series.
        size: mean absolute actual of each series.
        level: of all rows.
        classes: by name of a class of size, which series belong to it.
        reference: mean MASE of the best seasonal naive.
        noise: before each origin, by series (see `intervals.noise`); shape (origins, series).
        least: the same (see `intervals.least`).
        season: steps.
        place: where in the season each origin stands; shape (origins,).
        screened: series that no model was given, and why.
    """

    origins: list[pd.Timestamp]
    ids: list[str]
    horizon: int
    there: npt.NDArray[np.bool_]
    actuals: Sheet
    yardstick: int | None
    first: int = 0
    scale: Floats
    scale2: Floats
    size: Floats
    level: float
    classes: Mapping[str, npt.NDArray[np.bool_]]
    reference: float
    noise: Floats
    least: Floats
    season: int
    place: Ints
    screened: Mapping[str, str]

    def parts(self) -> Iterator[Backtest]:
        """The rows of some series at a time, in their order; itself where there are few."""
        parts = self.spans()
        if len(parts) == 1:
            yield self
            return
        for begin, end in parts:
            yield self.among(begin, end)

    def spans(self) -> list[tuple[int, int]]:
        """The series of each part: the first, and the one after the last."""
        return spans(len(self.ids), len(self.origins) * self.horizon)

    def among(self, begin: int, end: int) -> Backtest:
        """The rows of neighbouring series."""
        return replace(
            self,
            ids=self.ids[begin:end],
            there=self.there[:, begin:end],
            first=self.first + begin,
            scale=self.scale[:, begin:end],
            scale2=self.scale2[:, begin:end],
            size=self.size[begin:end],
            classes={name: hit[begin:end] for name, hit in self.classes.items()},
            noise=self.noise[:, begin:end],
            least=self.least[:, begin:end],
        )

    def sheet(self, columns: int) -> Sheet:
        """A sheet for numbers of all rows."""
        return Sheet(len(self.ids), len(self.origins), self.horizon, columns)

    def taken(self, sheet: Sheet) -> Floats:
        """The numbers of these rows, shape (rows, columns)."""
        values = sheet.read(self.first, self.first + len(self.ids)).swapaxes(0, 1)
        return (values if self._full else values[self.there]).reshape(-1, values.shape[-1])

    def put(self, sheet: Sheet, values: Floats) -> None:
        """Write the numbers of these rows, shape (rows, columns)."""
        cells = values.reshape(-1, self.horizon, values.shape[-1])
        if not self._full:
            told, cells = cells, np.full((self.there.size, *cells.shape[1:]), np.nan)
            cells[self.there.ravel()] = told
        sheet.write(self.first, cells.reshape(*self.there.shape, *cells.shape[1:]).swapaxes(0, 1))

    def place_in(self, sheet: Sheet, fold: Ints, series: Ints, step: Ints, values: Floats) -> None:
        """Write the numbers of some rows of all series, in any order, shape (rows, columns).

        Raises:
            EngineError: there is no such row.
        """
        if (series < 0).any() or not self.there[fold, series].all():
            raise EngineError("the backtest gave rows that were not asked for")
        width = (self.spans() or [(0, 1)])[0][1]
        part = series // width
        for number in np.unique(part):
            mine = slice(None) if (part == number).all() else part == number
            first, last = int(series[mine].min()), int(series[mine].max()) + 1
            cells = sheet.read(first, last)
            cells[series[mine] - first, fold[mine], step[mine] - 1] = values[mine]
            sheet.write(first, cells)

    def place_served(self, sheet: Sheet, ids: Sequence[str], frame: pd.DataFrame, values: Floats) -> None:
        """Write the numbers of what a stored model answered of some series; see `serving.serve_origins`."""
        known = pd.Index(np.asarray(ids, dtype=object)).get_indexer(pd.Index(frame["unique_id"]))
        fold, step = (frame[name].to_numpy() for name in ("fold", "step"))
        self.place_in(sheet, fold, self.numbers_of(ids)[known], step, values)

    @cached_property
    def _full(self) -> bool:
        """Whether every series was there at every origin."""
        return bool(self.there.all())

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints]:
        fold, series = np.nonzero(self.there)
        return fold.astype(np.intp), series.astype(np.intp)

    @cached_property
    def fold(self) -> Ints:
        """The number of each row's origin."""
        return np.repeat(self._pairs[0], self.horizon)

    @cached_property
    def series(self) -> Ints:
        """The number of each row's series."""
        return np.repeat(self._pairs[1], self.horizon)

    @cached_property
    def step(self) -> Ints:
        """The step of each row, 1 … horizon."""
        return np.tile(np.arange(1, self.horizon + 1, dtype=np.intp), len(self._pairs[0]))

    @cached_property
    def group(self) -> Ints:
        """The number of each row's (origin, series) pair."""
        return self.fold * len(self.ids) + self.series

    @cached_property
    def _actuals(self) -> Floats:
        return self.taken(self.actuals)

    @property
    def y(self) -> Floats:
        """Actuals, NaN where missing and for screened series."""
        return self._actuals[:, 0]

    @property
    def naive(self) -> Floats:
        """The best seasonal naive's forecasts."""
        return self._actuals[:, 1 + self.yardstick] if self.yardstick is not None else np.full(len(self.y), np.nan)

    def numbers_of(self, ids: Sequence[str]) -> Ints:
        """The numbers of some series, ascending; -1 for one that is not there."""
        places = [bisect_left(self.ids, uid) for uid in ids]
        known = [n if n < len(self.ids) and self.ids[n] == uid else -1 for n, uid in zip(places, ids, strict=True)]
        return np.sort(np.array(known, dtype=np.intp))

    def reference_errors(self) -> Floats:
        """The best seasonal naive's errors relative to its forecasts; where there are many, of some series evenly."""
        step = max(self.there.sum() * self.horizon // _REFERENCES, 1)
        found = []
        for rows in self.parts():
            with np.errstate(divide="ignore", invalid="ignore"):
                error = (rows.y - rows.naive) / np.abs(rows.naive)
            found.append(error[np.isfinite(error) & ((rows.first + rows.series) % step == 0)])
        return np.concatenate(found)

    def losses(self, forecast: Floats) -> Floats:
        """Mean absolute scaled error by origin and series, shape (origins, series)."""
        return self._by_pair(np.abs(forecast - self.y)) / self.scale

    def losses_by(self, metric: str, forecast: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
        """The loss by origin and series of which a leaderboard metric is made: `mase`, `rmsse` or `wql`."""
        if metric == "rmsse":
            return np.sqrt(self._by_pair((forecast - self.y) ** 2) / self.scale2)
        if metric == "wql":
            loss = metrics.pinball(self.y, quantiles, levels).mean(axis=1)
            return 2 * self._by_pair(loss) / self.level
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

    @cached_property
    def scored(self) -> metrics.Scored:
        """What forecasts are scored on, with the slices to tell apart."""
        classes = {name: np.tile(hit, len(self.origins)) for name, hit in self.classes.items()}
        return metrics.Scored(
            y=self.y,
            group=self.group,
            step=self.step,
            scale=self.scale.ravel(),
            scale2=self.scale2.ravel(),
            naive=self.naive,
            size_class=classes,
            horizon=self.horizon,
        )


def rows_of(project: Project, history: Past, origins: list[pd.Timestamp]) -> Backtest:
    """The rows to score on, their actuals and scales, and the seasonal naive yardstick; NaN for what has not come."""
    task = runtime.task(project, history.grid, history.origin)
    ids, seasons = [str(uid) for uid in history.ids], len(task.seasons)
    actuals = Sheet(len(ids), len(origins), task.horizon, 1 + seasons)
    seen, done, total = [], 0, np.zeros((2, seasons))
    asked = partial(_seen, task=task, origins=tuple(origins), max_missing=project.config.quality.max_missing)
    for one in history.ask(asked):
        actual, naives = np.where(one["there"][:, :, None], one["actual"], np.nan), one["naive"]
        actuals.write(done, np.stack([actual, *naives], axis=-1).swapaxes(0, 1))
        done += actual.shape[1]
        total += _yardsticks(actual, naives, one["scale"])
        seen.append({**{name: one[name] for name in _KEPT}, **_sizes(actual)})
    scale, scale2, there, noise, least = (
        together(seen, name, 1) for name in ("scale", "scale2", "there", "noise", "least")
    )
    number, size = (together(seen, name) for name in ("number", "size"))
    mean = np.divide(total[0], total[1], out=np.full(seasons, np.nan), where=total[1] > 0)
    best = int(np.nanargmin(mean)) if np.isfinite(mean).any() else None
    screened = zip(together(seen, "screened").tolist(), together(seen, "reasons").tolist(), strict=True)
    by_series = np.divide(size, number, out=np.full(len(ids), np.nan), where=number > 0)
    return Backtest(
        origins=origins,
        ids=ids,
        horizon=task.horizon,
        there=there,
        actuals=actuals,
        yardstick=best,
        scale=scale,
        scale2=scale2,
        size=by_series,
        level=float(size.sum() / number.sum()) if number.any() else float("nan"),
        classes=metrics.size_classes(by_series),
        reference=float(mean[best]) if best is not None else float("inf"),
        noise=noise,
        least=least,
        season=task.season,
        place=np.array([history.grid.number(origin) % task.season for origin in origins]),
        screened=dict(screened),
    )


def _sizes(actual: Floats) -> Answer:
    """How many actuals each series has, and the sum of their absolute values."""
    fine = np.isfinite(actual)
    return {"number": fine.sum(axis=(0, 2)), "size": np.where(fine, np.abs(actual), 0.0).sum(axis=(0, 2))}


def _yardsticks(actual: Floats, naives: Floats, scale: Floats) -> Floats:
    """Sum and number, over origins and series, of the scaled errors of each of the seasonal naives (day, week …)."""
    error = np.abs(actual - naives)
    fine = np.isfinite(error)
    count = fine.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = np.where(fine, error, 0.0).sum(axis=-1) / count / scale
    known = np.isfinite(loss)
    return np.stack([np.where(known, loss, 0.0).sum(axis=(1, 2)), known.sum(axis=(1, 2))])


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
        "least": intervals.least(y, starts, ends).T,
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
