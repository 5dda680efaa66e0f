"""Calibrated quantiles: conformal on backtest errors, by step.

A model's quantiles, or its point forecast where it gives none, are the base; each level is moved so far from its base
as the errors of that level say. Errors of every series are divided by the size of that series' own errors, so that
series of any level share one shape; for each step the shape is read off the errors of that step and, where these are
few, of the steps around it. The errors come from backtest folds in which covariates were assumed, so the assumption's
error is inside the band.

Source: Vovk, Gammerman & Shafer (2005); finite-sample rank as in Angelopoulos & Bates (2023), A gentle introduction;
moving a model's own quantiles, Romano, Patterson & Candès (2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.metrics import group_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["Conformal", "Errors", "calibrate", "leave_one_fold_out"]

#: errors wanted for the quantiles of one step; steps nearby lend theirs where a step has fewer
WANTED = 200
#: errors of its own that a series needs to count for half of its size
_SHRINK = 20


@dataclass(frozen=True)
class Conformal:
    """How far quantiles lie from their base.

    Attributes:
        levels: quantile levels, ascending.
        offsets: in units of a series' size, shape (horizon, levels); from a model's own quantiles.
        plain: the same, from the point forecast.
        sizes: mean absolute backtest error by `unique_id`.
        relative: mean absolute error over mean absolute value, for a series that has no size of its own.
    """

    levels: tuple[float, ...]
    offsets: Floats
    plain: Floats
    sizes: Mapping[str, float]
    relative: float

    def quantiles(self, ids: Sequence[str], steps: Ints, forecast: Floats, own: Floats) -> Floats:
        """Quantiles of rows, shape (rows, levels), never crossing.

        Args:
            ids: series of each row.
            steps: 1 … horizon.
            forecast: point forecasts.
            own: the model's quantiles, shape (rows, levels); NaN in rows that have none.
        """
        import pandas as pd

        series, names = pd.factorize(np.asarray(ids, dtype=object))
        return self.of_series([str(name) for name in names], series, steps, forecast, own)

    def of_series(self, ids: Sequence[str], series: Ints, steps: Ints, forecast: Floats, own: Floats) -> Floats:
        """The same for rows whose series are numbers of `ids`."""
        known = np.array([self.sizes.get(uid, np.nan) for uid in ids])
        size = known[series]
        size = np.where(np.isfinite(size), size, self.relative * np.abs(forecast))[:, None]
        rows = np.minimum(np.asarray(steps), len(self.offsets)) - 1
        native = np.all(np.isfinite(own), axis=1, keepdims=True)
        moved = np.where(native, own + size * self.offsets[rows], forecast[:, None] + size * self.plain[rows])
        return np.asarray(np.sort(moved, axis=1))


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


def _rank(values: Floats, level: float) -> float:
    """The finite-sample quantile: the k-th smallest with k = ceil((n + 1) level) above the median, its mirror below."""
    n = len(values)
    if level < 0.5:  # noqa: PLR2004 - the median
        return -_rank(-values, 1 - level)
    if level == 0.5:  # noqa: PLR2004 - the median
        return float(np.median(values))
    place = min(int(np.ceil((n + 1) * level)), n) - 1
    return float(np.partition(values, place)[place])


def _shape(scaled: Floats, step: Ints, horizon: int, levels: Sequence[float]) -> Floats:
    """Each level's quantile of its own scaled errors by step, borrowing from the steps around; shape (horizon, levels).

    Args:
        scaled: shape (rows, levels), one column of errors per level.
        step: 1 … horizon of each row.
        horizon: steps.
        levels: quantile levels.
    """
    order = np.argsort(step, kind="stable")
    values = scaled[order]
    out = np.zeros((horizon, len(levels)))
    if not len(values):
        return out
    edges = np.searchsorted(step[order], np.arange(1, horizon + 2))
    for h in range(1, horizon + 1):
        width = 0
        low, high = edges[h - 1], edges[h]
        while high - low < WANTED and width < horizon:
            width += 1
            low, high = edges[max(h - 1 - width, 0)], edges[min(h + width, horizon)]
        out[h - 1] = [_rank(values[low:high, number], level) for number, level in enumerate(levels)]
    return out


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
    """

    y: Floats
    forecast: Floats
    own: Floats
    made: npt.NDArray[np.bool_]
    step: Ints
    series: Ints
    ids: Sequence[str]

    def take(self, rows: npt.NDArray[np.bool_]) -> Errors:
        """Some of the rows."""
        return replace(
            self,
            y=self.y[rows],
            forecast=self.forecast[rows],
            own=self.own[rows],
            made=self.made[rows],
            step=self.step[rows],
            series=self.series[rows],
        )


def calibrate(errors: Errors, horizon: int, levels: Sequence[float]) -> Conformal:
    """Learn how far quantiles lie from their base.

    Args:
        errors: backtest rows; those without an actual, and those of a fallback, are left out.
        horizon: steps.
        levels: quantile levels, ascending.
    """
    level_of = group_mean(np.abs(errors.y), errors.series, len(errors.ids))
    fine = errors.take(errors.made & np.isfinite(errors.y) & np.isfinite(errors.forecast))
    sizes, typical = _sizes(fine.y - fine.forecast, fine.series, level_of)
    size = sizes[fine.series][:, None]
    plain = np.repeat((fine.y - fine.forecast)[:, None] / size, len(levels), axis=1)
    native = np.isfinite(fine.own).all(axis=1)
    moved = ((fine.y[:, None] - fine.own) / size)[native]
    # A series without an error of its own has no size: the level of its forecasts says how wide its band is.
    known = np.isin(np.arange(len(errors.ids)), fine.series)
    return Conformal(
        tuple(levels),
        _shape(moved, fine.step[native], horizon, levels),
        _shape(plain, fine.step, horizon, levels),
        {uid: size for uid, size, has in zip(errors.ids, sizes.tolist(), known, strict=True) if has},
        typical,
    )


def leave_one_fold_out(errors: Errors, fold: Ints, levels: Sequence[float]) -> Floats:
    """Quantiles for backtest rows, each from the errors of the other folds; shape (rows, levels).

    With a single fold there are no others, and its own errors are used.
    """
    out = np.full((len(errors.y), len(levels)), np.nan)
    horizon = int(errors.step.max()) if len(errors.step) else 0
    for number in np.unique(fold):
        here = fold == number
        learned = calibrate(errors.take(~here if (~here).any() else here), horizon, levels)
        asked = errors.take(here)
        out[here] = learned.of_series(errors.ids, asked.series, asked.step, asked.forecast, asked.own)
    return out
