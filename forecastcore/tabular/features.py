"""What is known at an origin about a later instant, as numbers; the heart of every model here.

A row is (series, origin, step). Its values are read from the panel at or before the origin, from the calendar of the
target instant, and from covariates as they are known or assumed. A series' own values stand as (value - level) / scale
of it at the origin, so that one model serves all levels, follows trends, and takes negative values.

Lags follow the wall clock: one week before 08:00 is 08:00, also where the clocks changed in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from forecastcore.tabular.panel import Floats, Ints, Panel

__all__ = ["Features", "Plan", "Rows", "features_of", "plan_of"]

_WEEKS = 4  # same-phase values that are looked back on
_FLAT = 1e-6  # a spread below this share of the values is rounding
_DAILY = 1.5  # days between instants, at most, where a year is looked back as 52 weeks
_NEAR = 3  # latest values and shortest window


@dataclass(frozen=True)
class Plan:
    """Which lags and windows are read, in steps; learned once, stored with the model.

    Attributes:
        seasons: natural seasons, ascending, each above 1; may be empty.
        year: steps of 52 weeks where a season shorter than that and enough history exist, else 0.
        yearday: whether the position in the year is a feature.
        covariates: how many.
    """

    seasons: tuple[int, ...]
    year: int
    yearday: bool
    covariates: int

    @property
    def short(self) -> int:
        """The shortest season, or 1."""
        return self.seasons[0] if self.seasons else 1

    @property
    def long(self) -> int:
        """Window of the level: the longest season, at least 4."""
        return max(4, *self.seasons) if self.seasons else 4

    @property
    def reach(self) -> int:
        """How far back from the origin any feature looks, in steps."""
        return 2 * _WEEKS * self.long + max(self.long, self.year) + 2


def plan_of(panel: Panel, seasons: tuple[int, ...], horizon: int) -> Plan:
    """Choose lags and windows for what the panel holds."""
    rows = panel.y.shape[1]
    days = (panel.instants[-1] - panel.instants[0]).total_seconds() / 86_400 / max(1, rows - 1)
    # Of a season that history does not hold twice, what comes around has hardly been seen to come around.
    used = tuple(season for season in seasons if 1 < season <= rows // 2)
    year = round(364 / days) if 0 < days <= _DAILY else 0
    return Plan(
        seasons=used,
        year=year if year > max(used, default=1) and rows > 1.2 * year + horizon else 0,
        yearday=rows * days > 365 + horizon * days,
        covariates=len(panel.x),
    )


@dataclass(frozen=True)
class Rows:
    """Rows asked for, as indices into a panel.

    Attributes:
        series: row of the panel.
        origin: last known position on the time axis.
        step: 1 … horizon.
        ahead: covariates as assumed, shape (covariates, series, origins, horizon); None where the panel's own hold.
        vintage: which of the origins of `ahead`.
    """

    series: Ints
    origin: Ints
    step: Ints
    ahead: Floats | None = None
    vintage: Ints | None = None

    def of_block(self, here: Ints, start: int, end: int) -> Rows:
        """Some of the rows, all of series start … end - 1, counted from start."""
        return Rows(
            self.series[here] - start,
            self.origin[here],
            self.step[here],
            None if self.ahead is None else self.ahead[:, start:end],
            None if self.vintage is None else self.vintage[here],
        )


@dataclass(frozen=True)
class Features:
    """Named columns, and what turns the model's answer into units.

    Attributes:
        columns: values by name, each of shape (rows,), NaN where unknown.
        level: of the series at the origin; NaN where it has no history.
        scale: likewise; 0 where it never changed, and the level is all there is to say.
    """

    columns: dict[str, Floats]
    level: Floats
    scale: Floats


class _Sums:
    """Means over windows of a matrix, missing values left out, from cumulative sums."""

    def __init__(self, values: Floats) -> None:
        seen = np.isfinite(values)
        zero = np.zeros((*values.shape[:-1], 1))
        self.total = np.concatenate([zero, np.cumsum(np.where(seen, values, 0.0), axis=-1)], axis=-1)
        self.count = np.concatenate([zero, np.cumsum(seen, axis=-1, dtype=float)], axis=-1)

    def between(self, row: Ints, start: Ints, end: Ints) -> tuple[Floats, Floats]:
        """Sum and count of positions start … end - 1, cut at the borders."""
        last = self.total.shape[-1] - 1
        a, b = np.clip(start, 0, last), np.clip(end, 0, last)
        return self.total[row, b] - self.total[row, a], self.count[row, b] - self.count[row, a]

    def mean(self, row: Ints, end: Ints, width: int) -> Floats:
        """Mean of the `width` positions up to and with `end`."""
        total, count = self.between(row, end + 1 - width, end + 1)
        return _ratio(total, count)


def _ratio(total: Floats, count: Floats) -> Floats:
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _mean(parts: list[Floats]) -> Floats:
    stack = np.stack(parts)
    seen = np.isfinite(stack)
    return _ratio(np.where(seen, stack, 0.0).sum(axis=0), seen.sum(axis=0).astype(float))


def _at(matrix: Floats, row: Ints, place: Ints) -> Floats:
    """Values at positions, NaN before the start."""
    return np.where(place >= 0, matrix[row, np.maximum(place, 0)], np.nan)


class _Past:
    """The target of a panel, prepared for reading."""

    def __init__(self, panel: Panel, plan: Plan) -> None:
        seen = np.isfinite(panel.y)
        self.center = _ratio(np.where(seen, panel.y, 0.0).sum(axis=1), seen.sum(axis=1).astype(float))
        self.y = panel.y - self.center[:, None]
        self.sums = _Sums(self.y)
        self.squares = _Sums(self.y**2)
        self.surprise = self.y - _mean([_shifted(self.y, k * plan.long) for k in range(1, _WEEKS + 1)])
        self.surprises = _Sums(self.surprise)

    def level_scale(self, row: Ints, end: Ints, plan: Plan) -> tuple[Floats, Floats]:
        """Centred level and the scale at positions; both of shape (rows,)."""
        total, count = self.sums.between(row, end + 1 - plan.long, end + 1)
        total_ever, count_ever = self.sums.between(row, 0 * end, end + 1)
        level = np.where(count > 0, _ratio(total, count), _ratio(total_ever, count_ever))
        near = self.spread(row, end + 1 - (4 if plan.year else 2) * plan.long, end)
        ever = self.spread(row, 0 * end, end)
        scale = np.fmax(near, 0.1 * ever)
        size = np.abs(level) + np.abs(level + self.center[row])
        return level, np.where(scale > _FLAT * size, scale, 0.0)

    def spread(self, row: Ints, start: Ints, end: Ints) -> Floats:
        total, count = self.sums.between(row, start, end + 1)
        squares, _ = self.squares.between(row, start, end + 1)
        mean = _ratio(total, count)
        return np.sqrt(np.maximum(_ratio(squares, count) - mean**2, 0.0))


def _shifted(matrix: Floats, steps: int) -> Floats:
    out = np.full_like(matrix, np.nan)
    if steps < matrix.shape[1]:
        out[:, steps:] = matrix[:, : matrix.shape[1] - steps]
    return out


def _wall_lag(panel: Panel, rows: Rows, lag: Ints) -> Ints:
    """Position `lag` steps before the target by the wall clock, never later than the origin."""
    target = rows.origin + rows.step
    place = target - lag
    offset = panel.clock.offset
    moved = place + offset[target] - offset[np.maximum(place, 0)]
    return np.where((moved <= rows.origin) & (moved >= 0), moved, place)


def features_of(panel: Panel, rows: Rows, plan: Plan) -> Features:
    """All features of some rows.

    Args:
        panel: reaches to the last target instant; `y` is NaN after the origin where it is unknown.
        rows: what is asked.
        plan: which lags and windows.
    """
    values: dict[str, Floats] = {}
    level, scale = np.full(len(rows.step), np.nan), np.zeros(len(rows.step))
    for start, block in panel.blocks():
        end = start + len(block.ids)
        here = np.flatnonzero((rows.series >= start) & (rows.series < end))
        part = _block(block, rows.of_block(here, start, end), plan)
        level[here], scale[here] = part.level, part.scale
        for name, column in part.columns.items():
            values.setdefault(name, np.empty(len(rows.step)))[here] = column
    return Features(values, level, scale)


def _block(panel: Panel, rows: Rows, plan: Plan) -> Features:
    past = _Past(panel, plan)
    level, spread = past.level_scale(rows.series, rows.origin, plan)
    scale = np.where(spread > 0, spread, 1.0)
    values = _steps(rows, plan) | _recent(past, rows, plan, level, scale)
    phases = {season: _phases(panel, rows, season) for season in plan.seasons}
    for season, places in phases.items():
        values |= _seasonal(past, rows, season, places, level, scale)
    if plan.seasons:
        values |= _analogue(past, rows, plan, plan.long, phases[plan.seasons[-1]][0], "season")
    if plan.year:
        years = -(-rows.step // plan.year)
        values |= _analogue(past, rows, plan, plan.year, _wall_lag(panel, rows, years * plan.year), "year")
    values |= _calendar(panel, rows, plan)
    for number in range(plan.covariates):
        values |= _covariate(panel, rows, plan, number, phases)
    return Features(values, level + past.center[rows.series], spread)


def _phases(panel: Panel, rows: Rows, season: int) -> list[Ints]:
    """Positions of the latest same-phase instants at the origin, newest first."""
    first = -(-rows.step // season)
    return [_wall_lag(panel, rows, (first + back) * season) for back in range(_WEEKS)]


def _steps(rows: Rows, plan: Plan) -> dict[str, Floats]:
    step = rows.step.astype(float)
    return {"step": step, "ahead": np.ceil(step / plan.short)}


def _recent(past: _Past, rows: Rows, plan: Plan, level: Floats, scale: Floats) -> dict[str, Floats]:
    """Where the series stands at the origin, against its level and against its own season."""
    row, end = rows.series, rows.origin
    values = {f"last_{back}": (_at(past.y, row, end - back) - level) / scale for back in range(_NEAR)}
    windows = sorted({_NEAR, *(s for s in (plan.short // 4, plan.short, plan.long) if s > _NEAR)})
    for width in windows:
        values[f"mean_{width}"] = (past.sums.mean(row, end, width) - level) / scale
        values[f"surprise_mean_{width}"] = past.surprises.mean(row, end, width) / scale
    values["surprise_0"] = _at(past.surprise, row, end) / scale
    for back in (1, 2, 4):
        values[f"drift_{back}"] = (level - past.sums.mean(row, end - back * plan.long, plan.long)) / scale
    values["spread"] = past.spread(row, end + 1 - plan.long, end) / scale
    values["relative"] = scale / np.maximum(np.abs(level + past.center[row]), 1e-3 * scale)
    return values


def _seasonal(
    past: _Past, rows: Rows, season: int, places: list[Ints], level: Floats, scale: Floats
) -> dict[str, Floats]:
    parts = [(_at(past.y, rows.series, place) - level) / scale for place in places]
    values = {f"lag_{season}_{number}": part for number, part in enumerate(parts[:_NEAR], 1)}
    values[f"phase_{season}"] = _mean(parts)
    return values


def _analogue(past: _Past, rows: Rows, plan: Plan, lag: int, place: Ints, name: str) -> dict[str, Floats]:
    """What happened one season or year ago at this step, against the level of then."""
    row = rows.series
    then = rows.origin - (rows.origin + rows.step - place)
    safe = np.maximum(then, 0)
    level, scale = past.level_scale(row, safe, plan)
    known = (then >= 0) & (scale > 0)
    scale = np.where(known, scale, 1.0)
    value = (_at(past.y, row, place) - level) / scale
    day = (past.sums.mean(row, np.minimum(place + plan.short // 2, rows.origin), plan.short) - level) / scale
    values = {f"{name}_ago": np.where(known, value, np.nan)}
    if plan.short > 1 and lag > plan.short:
        values[f"{name}_ago_smooth"] = np.where(known, day, np.nan)
    return values


def _calendar(panel: Panel, rows: Rows, plan: Plan) -> dict[str, Floats]:
    target = rows.origin + rows.step
    values = {"hour": panel.clock.hour[target], "weekday": panel.clock.weekday[target].astype(float)}
    if plan.yearday:
        values["yearday"] = panel.clock.yearday[target]
    return values


def _covariate(panel: Panel, rows: Rows, plan: Plan, number: int, phases: dict[int, list[Ints]]) -> dict[str, Floats]:
    """A covariate at the target, around it, and at the instants whose values the lags read."""
    x, row, target = panel.x[number], rows.series, rows.origin + rows.step
    sums = _Sums(x)
    ahead = None if rows.ahead is None else rows.ahead[number]
    values = {f"x{number}": x[row, target] if ahead is None else ahead[row, rows.vintage, rows.step - 1]}
    for width in sorted({max(2, plan.short // 8), plan.short} - {1}):
        values[f"x{number}_mean_{width}"] = _trailing(sums, ahead, rows, width)
    for season, places in phases.items():
        parts = [_at(x, row, place) for place in places]
        values[f"x{number}_lag_{season}_1"] = parts[0]
        values[f"x{number}_phase_{season}"] = _mean(parts)
    values[f"x{number}_recent"] = sums.mean(row, rows.origin, plan.long)
    if plan.year:
        values[f"x{number}_year"] = _at(x, row, _wall_lag(panel, rows, -(-rows.step // plan.year) * plan.year))
    return values


def _trailing(sums: _Sums, ahead: Floats | None, rows: Rows, width: int) -> Floats:
    """Mean of the `width` values up to the target: actual up to the origin, assumed after it."""
    target = rows.origin + rows.step
    if ahead is None:
        return sums.mean(rows.series, target, width)
    total, count = sums.between(rows.series, target + 1 - width, rows.origin + 1)
    total, count = np.where(rows.step < width, total, 0.0), np.where(rows.step < width, count, 0.0)
    assumed = _Sums(ahead)
    index = (rows.series, rows.vintage)
    later = np.maximum(rows.step - width, 0)
    total = total + assumed.total[(*index, rows.step)] - assumed.total[(*index, later)]
    count = count + assumed.count[(*index, rows.step)] - assumed.count[(*index, later)]
    return _ratio(total, count)
