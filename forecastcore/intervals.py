"""Calibrated quantiles: conformal on backtest errors, by step.

A model's quantiles, or its point forecast where it gives none, are the base; each level is moved so far from its base
as the errors of that level say. Errors of every series are divided by the size of that series' own errors, so that
series of any level share one shape; for each step the shape is read off the errors of that step and, where these are
few, of the steps around it. The errors come from backtest folds in which covariates were assumed, so the assumption's
error is inside the band.

Origins mostly stand at one place in the season, such as midnight, so that a step is always the same time of day: at an
origin that stands elsewhere, a step takes the offsets of the nearest step that is at its time of day.

A series that has become restless is harder to forecast: each error is measured against the noise before its origin,
the mean absolute change from season to season. A band follows the noise before the origin that it is for, and the level
of its forecasts.

Source: Vovk, Gammerman & Shafer (2005); finite-sample rank as in Angelopoulos & Bates (2023), A gentle introduction;
moving a model's own quantiles, Romano, Patterson & Candès (2019); errors over a local scale, Lei et al. (2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from forecastcore.metrics import group_mean, naive_scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["Conformal", "Errors", "calibrate", "leave_one_fold_out", "noise"]

#: errors wanted for the quantiles of one step; steps nearby lend theirs where a step has fewer
WANTED = 200
#: errors that tell the quantiles of a step as well as any more
_PLENTY = 10_000
#: errors of its own that a series needs to count for half of its size
_SHRINK = 20
#: horizons, and at least so many seasons, before an origin in which noise is looked at
_LOOKED_BACK = 2
#: factor by which a band is widened or narrowed at most because the series has changed
_AT_MOST = 3.0
#: steps on which it is looked how far errors of one origin hang together
_LOOKED_AT = 24


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True)
class Conformal:
    """How far quantiles lie from their base.

    Attributes:
        levels: quantile levels, ascending.
        offsets: in units of a series' size, shape (horizon, levels); from a model's own quantiles.
        plain: the same, from the point forecast.
        relative: mean absolute error over mean absolute value, for a series that has no size of its own.
        ids: series of the backtest.
        sizes: mean absolute backtest error of each; NaN where it had none.
        scales: mean absolute forecast of each in the backtest.
        noise: the typical noise of each before the backtest's origins.
        season: steps.
        place: where in the season most of the backtest's origins stood; None where they had no place in common.
    """

    levels: tuple[float, ...]
    offsets: Floats
    plain: Floats
    relative: float
    ids: Sequence[str] = ()
    sizes: Floats = field(default_factory=_none)
    scales: Floats = field(default_factory=_none)
    noise: Floats = field(default_factory=_none)
    season: int = 1
    place: int | None = None

    def quantiles(
        self,
        ids: Sequence[str],
        steps: Ints,
        forecast: Floats,
        own: Floats,
        noise: Mapping[str, float] | None = None,
        place: int | None = None,
    ) -> Floats:
        """Quantiles of rows, shape (rows, levels), never crossing.

        Args:
            ids: series of each row.
            steps: 1 … horizon.
            forecast: point forecasts.
            own: the model's quantiles, shape (rows, levels); NaN in rows that have none.
            noise: before the origin, by `unique_id` (see `noise`).
            place: where in the season the origin stands.
        """
        import pandas as pd

        series, names = pd.factorize(np.asarray(ids, dtype=object))
        now = np.array([(noise or {}).get(uid, np.nan) for uid in names])
        known = pd.Index(np.array(self.ids, dtype=object)).get_indexer(pd.Index(names))
        return self.of_series(known, series, steps, forecast, own, now, place)

    def of_series(
        self,
        known: Ints,
        series: Ints,
        steps: Ints,
        forecast: Floats,
        own: Floats,
        noise: Floats,
        place: int | None,
    ) -> Floats:
        """The same for rows of one origin.

        Args:
            known: number in `ids` of each series asked for; -1 for one that is not there.
            series: number in `known` of each row's series.
            steps: 1 … horizon.
            forecast: point forecasts.
            own: the model's quantiles, shape (rows, levels); NaN in rows that have none.
            noise: before the origin, of each series asked for.
            place: where in the season the origin stands.
        """
        sizes, scales, usual = (np.append(kept, np.nan)[known] for kept in (self.sizes, self.scales, self.noise))
        growth = _change(group_mean(np.abs(forecast), series, len(known)), scales)
        size = (sizes * np.sqrt(growth * _change(noise, usual, growth)))[series]
        size = np.where(np.isfinite(size), size, self.relative * np.abs(forecast))[:, None]
        rows = self._alike(np.minimum(np.asarray(steps), len(self.offsets)), place) - 1
        native = np.isfinite(own).all(axis=1)
        moved = forecast[:, None] + size * self.plain[rows]
        moved[native] = own[native] + size[native] * self.offsets[rows[native]]
        return np.asarray(np.sort(moved, axis=1))

    def _alike(self, steps: Ints, place: int | None) -> Ints:
        """For each step the nearest one that was at its time of the season in the backtest; itself where none was."""
        if place is None or self.place is None or place == self.place:
            return steps
        late = (place - self.place) % self.season
        found = [steps + shift for shift in sorted((late, late - self.season), key=abs)]
        return np.select([(step >= 1) & (step <= len(self.offsets)) for step in found], found, steps)


def noise(y: Floats, starts: Ints, ends: Ints, seasons: Sequence[int], horizon: int) -> Floats:
    """Mean absolute change from one (longest) season to the next in the newest rows, shape (series, ends).

    Args:
        y: histories one after the other, NaN where missing.
        starts: first row of each series, and the number of rows at the end.
        ends: row after the last one that may be seen, shape (series, ends).
        seasons: steps, ascending.
        horizon: steps.

    Returns:
        NaN where a series shows no change, or is too short.
    """
    window = _LOOKED_BACK * max(horizon, seasons[-1])
    return naive_scale(y, starts, seasons[-1], ends, window=window)


def _change(now: Floats, usual: Floats, unknown: Floats | float = 1.0) -> Floats:
    """What a band's size is multiplied by when what it goes with has changed; `unknown` where one of both is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = now / usual
    return np.clip(np.where(np.isfinite(factor), factor, unknown), 1 / _AT_MOST, _AT_MOST)


def _sizes(error: Floats, series: Ints, level_of: Floats) -> tuple[Floats, float]:
    """Mean absolute error of each series, and the typical share of it in a series' level.

    A series with few errors is drawn towards the typical share of its own level, in logarithms: levels differ by
    orders of magnitude.
    """
    count = len(level_of)
    own = group_mean(np.abs(error), series, count)
    n = np.bincount(series[np.isfinite(error)], minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.asarray(own / level_of)
    told = share[np.isfinite(share) & (share > 0)]
    typical = float(np.median(told)) if len(told) else 0.1
    expected = np.where(np.isfinite(level_of) & (level_of > 0), typical * level_of, np.nan)
    weight = n / (n + _SHRINK)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.exp(weight * np.log(own) + (1 - weight) * np.log(expected))
    size = np.where(np.isfinite(drawn) & (drawn > 0), drawn, np.where(own > 0, own, expected))
    return np.where(np.isfinite(size) & (size > 0), size, 1.0), typical


def _rank(values: Floats, level: float, count: float) -> float:
    """The finite-sample quantile: that of level (n + 1) / n · level above the median, its mirror below.

    Args:
        values: errors.
        level: of the quantile.
        count: n, the number of errors that would tell as much if they were independent.
    """
    if level < 0.5:  # noqa: PLR2004 - the median
        return -_rank(-values, 1 - level, count)
    if level > 0.5:  # noqa: PLR2004 - the median
        level = min(level * (count + 1) / count, 1.0)
    return float(np.quantile(values, level))


def _design_effect(values: Floats, level: float, fold: Ints) -> float:
    """How many errors of these tell as much as one independent error: those of one origin hang together.

    The share of errors below a quantile differs from origin to origin by more than it would if errors were independent
    (Kish 1965, Survey sampling); NaN where there are no two origins to compare.
    """
    below = values <= np.quantile(values, level)
    count = np.bincount(fold)
    share = np.bincount(fold, below)[count > 0] / count[count > 0]
    expected = level * (1 - level) / len(values)
    return float(share.var(ddof=1) / len(share) / expected) if len(share) > 1 else float("nan")


def _shape(scaled: Floats, step: Ints, fold: Ints, horizon: int, levels: Sequence[float]) -> Floats:
    """Each level's quantile of its own scaled errors by step, borrowing from the steps around; shape (horizon, levels).

    Args:
        scaled: shape (rows, levels), one column of errors per level.
        step: 1 … horizon of each row.
        fold: number of each row's origin.
        horizon: steps.
        levels: quantile levels.
    """
    # numbers of 16 bits are sorted in proportion to their count
    order = np.argsort(step.astype(np.int16 if horizon <= np.iinfo(np.int16).max else np.int64), kind="stable")
    origin = fold[order]
    out = np.zeros((horizon, len(levels)))
    if not len(order):
        return out
    edges = np.searchsorted(step[order], np.arange(1, horizon + 2))
    windows = [_window(edges, h, horizon) for h in range(1, horizon + 1)]
    for number, level in enumerate(levels):
        some = windows[:: max(horizon // _LOOKED_AT, 1)]
        effects = [_design_effect(scaled[order[window], number], level, origin[window]) for window in some]
        effect = max(float(np.mean(effects)), 1.0) if np.isfinite(effects).all() else 1.0
        parts = [scaled[order[window], number] for window in windows]
        out[:, number] = [_rank(part, level, max(len(part) / effect, 1.0)) for part in parts]
    return out


def _window(edges: Ints, step: int, horizon: int) -> slice:
    """Rows of a step and of so many steps around it that there are enough; an even sample where there are very many."""
    width, low, high = 0, edges[step - 1], edges[step]
    while high - low < WANTED and width < horizon:
        width += 1
        low, high = edges[max(step - 1 - width, 0)], edges[min(step + width, horizon)]
    return slice(int(low), int(high), max(int(high - low) // _PLENTY, 1))


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Backtest rows to learn from.

    Attributes:
        y: actuals, NaN where missing; shape (rows,).
        forecast: point forecasts.
        own: the model's quantiles, shape (rows, levels); NaN in rows that have none.
        made: rows that the model made; a fallback's errors teach nothing about it.
        step: 1 … horizon.
        series: number of each row's series in `ids`.
        ids: series.
        fold: number of each row's origin.
        noise: before each origin, by series (see `noise`); shape (origins, series).
        season: steps.
        place: where in the season each origin stands; shape (origins,).
    """

    y: Floats
    forecast: Floats
    own: Floats
    made: npt.NDArray[np.bool_]
    step: Ints
    series: Ints
    ids: Sequence[str]
    fold: Ints
    noise: Floats
    season: int
    place: Ints

    def take(self, rows: npt.NDArray[np.bool_]) -> Errors:
        """Some of the rows; not copied where they are neighbours, as those of an origin are."""
        first, count = int(rows.argmax()) if len(rows) else 0, int(rows.sum())
        hit = slice(first, first + count) if rows[first : first + count].all() else rows
        return replace(
            self,
            y=self.y[hit],
            forecast=self.forecast[hit],
            own=self.own[hit],
            made=self.made[hit],
            step=self.step[hit],
            series=self.series[hit],
            fold=self.fold[hit],
        )

    def among(self, ids: Sequence[str]) -> Errors:
        """The same, its series numbered among others."""
        import pandas as pd

        number = pd.Index(np.array(ids, dtype=object)).get_indexer(pd.Index(np.array(self.ids, dtype=object)))
        unrest = np.full((len(self.noise), len(ids)), np.nan)
        unrest[:, number] = self.noise
        return replace(self, series=number[self.series], ids=ids, noise=unrest)

    def joined(self, more: Errors) -> Errors:
        """These rows and those of other origins, of the same series."""
        names = ("y", "forecast", "own", "made", "step", "series", "noise", "place")
        both: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in names}
        fold = np.concatenate([self.fold, more.fold + len(self.noise)])
        return replace(self, **both, fold=fold)


def calibrate(errors: Errors, horizon: int, levels: Sequence[float]) -> Conformal:
    """Learn how far quantiles lie from their base.

    Args:
        errors: backtest rows; those without an actual, and those of a fallback, are left out.
        horizon: steps.
        levels: quantile levels, ascending.
    """
    level_of = group_mean(np.abs(errors.y), errors.series, len(errors.ids))
    fine = errors.take(errors.made & np.isfinite(errors.y) & np.isfinite(errors.forecast))
    origins = np.bincount(errors.fold, minlength=len(errors.noise)) > 0
    seen, places = errors.noise[origins], np.bincount(errors.place[origins])
    usual = np.exp(group_mean(np.log(seen).ravel(), np.tile(np.arange(seen.shape[1]), len(seen)), seen.shape[1]))
    unrest = np.sqrt(_change(errors.noise, usual))[fine.fold, fine.series]
    scales = group_mean(np.abs(fine.forecast), fine.series, len(errors.ids))
    calm = (fine.y - fine.forecast) / unrest
    sizes, typical = _sizes(calm, fine.series, level_of)
    size = sizes[fine.series]
    plain = np.broadcast_to((calm / size)[:, None], (len(size), len(levels)))
    native = np.isfinite(fine.own).all(axis=1)
    moved = (fine.y[native, None] - fine.own[native]) / (unrest * size)[native, None]
    # A series without an error of its own has no size: the level of its forecasts says how wide its band is.
    known = np.bincount(fine.series, minlength=len(errors.ids)) > 0
    return Conformal(
        levels=tuple(levels),
        offsets=_shape(moved, fine.step[native], fine.fold[native], horizon, levels),
        plain=_shape(plain, fine.step, fine.fold, horizon, levels),
        relative=typical,
        ids=errors.ids,
        sizes=np.where(known, sizes, np.nan),
        scales=scales,
        noise=usual,
        season=errors.season,
        place=int(places.argmax()) if 2 * places.max(initial=0) > places.sum() else None,
    )


def leave_one_fold_out(errors: Errors, levels: Sequence[float]) -> Floats:
    """Quantiles for backtest rows, each from the errors of the other folds; shape (rows, levels).

    With a single fold there are no others, and its own errors are used.
    """
    out = np.full((len(errors.y), len(levels)), np.nan)
    horizon = int(errors.step.max()) if len(errors.step) else 0
    known = np.arange(len(errors.ids))
    for number in np.unique(errors.fold):
        here = errors.fold == number
        learned = calibrate(errors.take(~here if (~here).any() else here), horizon, levels)
        asked = errors.take(here)
        now, place = errors.noise[number], int(errors.place[number])
        out[here] = learned.of_series(known, asked.series, asked.step, asked.forecast, asked.own, now, place)
    return out
