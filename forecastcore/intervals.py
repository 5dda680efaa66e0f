"""Quantiles for models that give none: split conformal on backtest errors, by step.

Errors of every series are divided by the size of that series' own errors, so that series of any level share one
shape; for each step the shape's quantiles are read off the errors of that step and, where these are few, of the steps
around it. The errors come from backtest folds in which covariates were assumed, so the assumption's error is inside
the band.

Source: Vovk, Gammerman & Shafer (2005); finite-sample rank as in Angelopoulos & Bates (2023), A gentle introduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.metrics import group_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["Conformal", "calibrate", "leave_one_fold_out"]

#: errors wanted for the quantiles of one step; steps nearby lend theirs where a step has fewer
WANTED = 200
#: errors of its own that a series needs to count for half of its size
_SHRINK = 20


@dataclass(frozen=True)
class Conformal:
    """How far quantiles lie from the point forecast.

    Attributes:
        levels: quantile levels, ascending.
        offsets: in units of a series' size, shape (horizon, levels).
        sizes: mean absolute backtest error by `unique_id`.
        relative: mean absolute error over mean absolute value, for a series that has no size of its own.
    """

    levels: tuple[float, ...]
    offsets: Floats
    sizes: Mapping[str, float]
    relative: float

    def quantiles(self, ids: Sequence[str], steps: Ints, forecast: Floats) -> Floats:
        """Quantiles of rows, shape (rows, levels), never crossing.

        Args:
            ids: series of each row.
            steps: 1 … horizon.
            forecast: point forecasts.
        """
        own = np.array([self.sizes.get(uid, np.nan) for uid in dict.fromkeys(ids)])
        place = {uid: n for n, uid in enumerate(dict.fromkeys(ids))}
        size = own[np.fromiter((place[uid] for uid in ids), dtype=np.intp, count=len(ids))]
        size = np.where(np.isfinite(size), size, self.relative * np.abs(forecast))
        rows = np.minimum(np.asarray(steps), len(self.offsets)) - 1
        return np.asarray(forecast[:, None] + size[:, None] * self.offsets[rows])


def _sizes(error: Floats, series: Ints, count: int) -> Floats:
    """Mean absolute error of each series, pulled towards the median ratio where it rests on few errors."""
    size = np.abs(error)
    own = group_mean(size, series, count)
    n = np.bincount(series[np.isfinite(size)], minlength=count)
    typical = float(np.nanmedian(own)) if np.isfinite(own).any() else 1.0
    floor = max(typical * 1e-6, 1e-300)
    weight = n / (n + _SHRINK) if np.isfinite(own).sum() > 1 else np.ones(count)
    # Levels differ by orders of magnitude: only a series that is nearly unknown is pulled, and never to zero.
    pulled = np.where(
        np.isfinite(own), weight * np.nan_to_num(own) + (1 - weight) * np.nan_to_num(own, nan=typical), typical
    )
    return np.maximum(pulled, floor)


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
    """Quantiles of scaled errors for each step, borrowing from the steps around; shape (horizon, levels)."""
    order = np.argsort(step, kind="stable")
    sorted_step, values = step[order], scaled[order]
    out = np.zeros((horizon, len(levels)))
    if not len(values):
        return out
    edges = np.searchsorted(sorted_step, np.arange(1, horizon + 2))
    for h in range(1, horizon + 1):
        width = 0
        low, high = edges[h - 1], edges[h]
        while high - low < WANTED and width < horizon:
            width += 1
            low, high = edges[max(h - 1 - width, 0)], edges[min(h + width, horizon)]
        near = values[low:high]
        out[h - 1] = [_rank(near, level) for level in levels]
    return np.sort(out, axis=1)


def calibrate(
    error: Floats,
    step: Ints,
    series: Ints,
    ids: Sequence[str],
    horizon: int,
    levels: Sequence[float],
    *,
    level_of: Floats,
) -> Conformal:
    """Learn how far quantiles lie from the point forecast.

    Args:
        error: actual minus forecast of each backtest row; NaN rows are left out.
        step: 1 … horizon of each row.
        series: number of each row's series in `ids`.
        ids: series.
        horizon: steps.
        levels: quantile levels, ascending.
        level_of: mean absolute actual of each series, for series that are new later.
    """
    fine = np.isfinite(error)
    error, step, series = error[fine], step[fine], series[fine]
    sizes = _sizes(error, series, len(ids))
    offsets = _shape(error / sizes[series], step, horizon, levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = sizes / level_of
    relative = float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else 0.1
    # A series without an error of its own has no size: its forecasts' level says how wide the band is.
    known = np.isin(np.arange(len(ids)), series)
    own = {uid: size for uid, size, has in zip(ids, sizes.tolist(), known, strict=True) if has}
    return Conformal(tuple(levels), offsets, own, relative)


def leave_one_fold_out(
    forecast: Floats, y: Floats, step: Ints, series: Ints, fold: Ints, ids: Sequence[str], levels: Sequence[float]
) -> Floats:
    """Quantiles for backtest rows, each from the errors of the other folds; shape (rows, levels).

    With a single fold there are no others, and its own errors are used.
    """
    out = np.full((len(y), len(levels)), np.nan)
    horizon = int(step.max()) if len(step) else 0
    names = np.asarray(ids, dtype=object)
    level_of = group_mean(np.abs(y), series, len(ids))
    for number in np.unique(fold):
        here = fold == number
        others = ~here if (~here).any() else here
        learned = calibrate(
            (y - forecast)[others], step[others], series[others], ids, horizon, levels, level_of=level_of
        )
        out[here] = learned.quantiles(list(names[series[here]]), step[here], forecast[here])
    return out
