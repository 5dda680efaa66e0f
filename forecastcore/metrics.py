"""Forecast errors as arrays: point, scaled, quantile, coverage, bias, skill.

Scored rows are arrays of one length; `group` numbers the (series, origin) pair of a row, so that nothing here loops
over series. A missing actual is left out of every mean.

Sources: MASE, Hyndman & Koehler (2006), Another look at measures of forecast accuracy; RMSSE and WQL as in the M5
competition; sMAPE and OWA as in the M4 competition (Makridakis et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]
    #: some of the (series, origin) pairs, or all
    _Pairs = npt.NDArray[np.bool_] | slice

__all__ = [
    "Scored",
    "by_slice",
    "coverage",
    "group_mean",
    "naive_scale",
    "pinball",
    "size_classes",
    "smape",
    "step_buckets",
    "summed",
    "tally",
]

#: step buckets of a horizon, and size classes of the series
_QUARTERS = 4
_TENTH = 10
#: a single relative error counts for no more than this, and for no less
_CLIP = (0.01, 100.0)


def group_mean(values: Floats, group: Ints, groups: int) -> Floats:
    """Mean of the finite values of each group; NaN for a group that has none. Shape (groups,)."""
    fine = np.isfinite(values)
    if not fine.all():
        values, group = values[fine], group[fine]
    count = np.bincount(group, minlength=groups)
    total = np.bincount(group, weights=values, minlength=groups)
    return np.asarray(np.divide(total, count, out=np.full(groups, np.nan), where=count > 0))


def step_buckets(step: Ints, horizon: int = 0) -> dict[str, npt.NDArray[np.bool_]]:
    """Rows of each quarter of the horizon, by name; none where the horizon has fewer than four steps.

    Args:
        step: 1 … horizon of each row.
        horizon: 0 for the largest of the steps.
    """
    horizon = horizon or (int(step.max()) if len(step) else 0)
    quarter = (step - 1) * _QUARTERS // max(horizon, 1)
    first = [-(-b * horizon // _QUARTERS) + 1 for b in range(_QUARTERS + 1)]
    return {
        f"steps {first[b]}-{first[b + 1] - 1}": quarter == b for b in range(_QUARTERS if horizon >= _QUARTERS else 0)
    }


def size_classes(size: Floats) -> dict[str, npt.NDArray[np.bool_]]:
    """Series of each class, by name: quarters from small to large, and the largest tenth.

    Args:
        size: mean absolute value of each series; NaN where it is not known.
    """
    order = np.argsort(size, kind="stable")[: int(np.isfinite(size).sum())]
    place = np.full(len(size), -1)
    place[order] = np.arange(len(order))
    n = len(order)
    classes = {}
    if n >= 2 * _QUARTERS:
        quarter = np.where(place < 0, -1, place * _QUARTERS // n)
        classes = {f"series of size {b + 1} of {_QUARTERS}": quarter == b for b in range(_QUARTERS)}
    if n >= _TENTH:
        classes["largest tenth of the series"] = place >= n - n // _TENTH
    return classes


def naive_scale(
    y: Floats, series: Ints, season: int, upto: Ints, *, power: int = 1, window: int | None = None
) -> Floats:
    """Mean |y_t - y_(t-season)|^power in-sample, for each series up to each of its ends.

    Args:
        y: histories one after the other, NaN where missing.
        series: first row of each series, and the number of rows at the end; shape (series + 1,).
        season: steps.
        upto: row after the last in-sample row, shape (series, ends).
        power: 1 for MASE, 2 for RMSSE.
        window: only so many rows before each end are looked at.

    Returns:
        Shape (series, ends). Zero and unknown scales are NaN: a constant history has no scale.
    """
    change = np.full(len(y), np.nan)
    change[season:] = np.abs(y[season:] - y[:-season]) ** power
    age = np.arange(len(y)) - np.repeat(series[:-1], np.diff(series))
    change[age < season] = np.nan
    fine = np.isfinite(change)
    count = np.r_[0, np.cumsum(fine)]
    first = np.broadcast_to(series[:-1, None], upto.shape)
    end = np.maximum(upto, first)
    first = first if window is None else np.maximum(first, end - window)
    n = count[end] - count[first]
    # Summed series by series: a running total over all of them would carry one's rounding into the next.
    values = np.r_[np.where(fine, change, 0.0), 0.0]
    total = np.add.reduceat(values, np.stack([first, end], axis=-1).ravel())[::2].reshape(n.shape)
    scale = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
    size = np.maximum.reduceat(np.nan_to_num(np.abs(y)), series[:-1])[:, None]
    return np.asarray(np.where(scale > np.maximum(1e-12 * size, 1e-300) ** power, scale, np.nan))


def pinball(y: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Pinball loss of each row and level, shape (rows, levels)."""
    out = np.empty(quantiles.shape)
    for number, level in enumerate(levels):
        short = y - quantiles[:, number]
        np.maximum(level * short, (level - 1) * short, out=out[:, number])
    return out


def coverage(y: Floats, low: Floats, high: Floats) -> float:
    """Share of actuals with low <= y <= high."""
    fine = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
    return float(((y >= low) & (y <= high))[fine].mean()) if fine.any() else float("nan")


def smape(y: Floats, forecast: Floats) -> float:
    """Symmetric mean absolute percentage error of the M4 competition, in percent."""
    size = np.abs(y) + np.abs(forecast)
    fine = np.isfinite(size) & (size > 0)
    return float(200.0 * (np.abs(y - forecast)[fine] / size[fine]).mean())


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What forecasts are scored on: rows, and the (series, origin) pairs that they belong to.

    Attributes:
        y: actuals, NaN where missing; shape (rows,).
        group: number of each row's pair.
        step: 1 … horizon.
        scale, scale2: in-sample seasonal naive error of each pair: mean absolute, mean squared.
        naive: the best seasonal naive's forecasts, shape (rows,).
        size_class: by name of a class, which pairs belong to it.
        horizon: steps; 0 for the largest of the rows' steps.
    """

    y: Floats
    group: Ints
    step: Ints
    scale: Floats
    scale2: Floats
    naive: Floats
    size_class: Mapping[str, npt.NDArray[np.bool_]]
    horizon: int = 0


def by_slice(rows: Scored, forecast: Floats, quantiles: Floats, levels: Sequence[float]) -> dict[str, dict[str, float]]:
    """All errors of one candidate: in all, in each quarter of the horizon, and in each size class of series.

    Args:
        rows: what was scored.
        forecast: shape (rows,).
        quantiles: shape (rows, levels).
        levels: ascending.

    Returns:
        By name of a slice: `mase, rmsse, smape, wql, bias, coverage, skill, skill_gm, win_rate`. `mase` and `rmsse`
        are means over pairs of the error over the scale; `wql` is twice the pinball loss over the sum of absolute
        actuals, mean over quantiles; `bias` the sum of errors over that sum; `coverage` the share of actuals within the
        outermost quantiles. The losses of `all` are infinite where a row that can be scored has no forecast. `skill` is
        1 - the ratio of MASE to the seasonal naive's; `skill_gm` is 1 - the geometric mean over pairs of that ratio,
        clipped to 0.01 … 100; `win_rate` is the share of pairs with the smaller error, a tie being half a win (both as
        in fev-bench, Shchur et al. 2025).
    """
    return summed([tally(rows, forecast, quantiles, levels)])


def tally(rows: Scored, forecast: Floats, quantiles: Floats, levels: Sequence[float]) -> dict[str, dict[str, float]]:
    """Sums and numbers over some rows, by slice, of which `summed` makes what `by_slice` says of all; see there."""
    pairs, buckets = len(rows.scale), step_buckets(rows.step, rows.horizon)
    bucket = np.zeros(len(rows.y), dtype=np.intp)
    for number, hit in enumerate(buckets.values()):
        bucket[hit] = number
    count = max(len(buckets), 1)
    cell, cells = rows.group * count + bucket, pairs * count
    error, loss = forecast - rows.y, pinball(rows.y, quantiles, levels) @ np.full(len(levels), 1 / len(levels))
    low, high = quantiles[:, 0], quantiles[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = 200 * np.abs(error) / (np.abs(rows.y) + np.abs(forecast))
    inside = np.where(np.isfinite(low + high + rows.y), (low <= rows.y) & (rows.y <= high), np.nan)
    full = np.bincount(cell, minlength=cells).astype(float)
    totals = {
        name: _sums(values, cell, full).reshape(2, pairs, count)
        for name, values in {
            "error": error,
            "absolute": np.abs(error),
            "squared": error**2,
            "naive": np.abs(rows.naive - rows.y),
            "actual": np.where(np.isfinite(error), np.abs(rows.y), np.nan),
            "pinball": loss,
            "pinball_actual": np.where(np.isfinite(loss), np.abs(rows.y), np.nan),
            "smape": relative,
            "inside": inside,
        }.items()
    }
    everything = slice(None)
    whole = {name: np.einsum("spb->sp", values) for name, values in totals.items()}
    table = {"all": _of_slice(rows, whole, everything)}
    for number, name in enumerate(buckets):
        table[name] = _of_slice(rows, {key: values[:, :, number] for key, values in totals.items()}, everything)
    table |= {name: _of_slice(rows, whole, hit) for name, hit in rows.size_class.items()}
    lacking = np.isfinite(rows.y) & ~np.isfinite(forecast) & np.isfinite(rows.scale)[rows.group]
    table["all"]["lacking"] = float(lacking.sum())
    return table


def summed(parts: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The errors that `by_slice` tells, from the tallies of all rows."""
    total: dict[str, dict[str, float]] = {}
    for part in parts:
        for name, sums in part.items():
            mine = total.setdefault(name, dict.fromkeys(sums, 0.0))
            for key, value in sums.items():
                mine[key] += value
    return {name: _errors_of(sums) for name, sums in total.items()}


def _sums(values: Floats, cell: Ints, full: Floats) -> Floats:
    """Sum and number of the finite values of each cell, shape (2, cells); `full` is the number of all values."""
    fine = np.isfinite(values)
    if fine.all():
        return np.stack([np.bincount(cell, values, minlength=len(full)), full])
    total = np.bincount(cell, np.where(fine, values, 0.0), minlength=len(full))
    return np.stack([total, full - np.bincount(cell[~fine], minlength=len(full))])


def _of_slice(rows: Scored, totals: Mapping[str, Floats], hit: _Pairs) -> dict[str, float]:
    """Sums and numbers over some pairs, from each one's sums and numbers."""
    sums, counts = ({name: values[kind, hit] for name, values in totals.items()} for kind in (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = {name: sums[name] / counts[name] for name in ("absolute", "squared", "naive")}
        mase, theirs = mean["absolute"] / rows.scale[hit], mean["naive"] / rows.scale[hit]
        rmsse = np.sqrt(mean["squared"] / rows.scale2[hit])
        known = np.isfinite(mase) & np.isfinite(theirs)
        ours, theirs = mase[known], theirs[known]
        ratio = np.where(theirs > 0, ours / theirs, np.where(ours > 0, np.inf, 1.0))
        # Without the pairs that have nothing: where they stand would change the order in which numbers are rounded.
        whole = {name: float(values[counts[name] > 0].sum()) for name, values in sums.items()}
        number = {f"{name}_n": float(values.sum()) for name, values in counts.items()}
        means = {"mase": mase[np.isfinite(mase)], "rmsse": rmsse[np.isfinite(rmsse)], "ours": ours, "theirs": theirs}
        means |= {"log_ratio": np.log(np.clip(ratio, *_CLIP)), "wins": (ours < theirs) + 0.5 * (ours == theirs)}
    told = {name: float(values.sum()) for name, values in means.items()}
    return {**whole, **number, **told, **{f"{name}_n": float(len(values)) for name, values in means.items()}}


def _errors_of(sums: Mapping[str, float]) -> dict[str, float]:
    """The errors of a slice, from its sums and numbers."""
    mean = {name: _ratio(sums[name], sums[f"{name}_n"]) for name in ("mase", "rmsse", "smape", "inside")}
    ours, theirs, ratio = (_ratio(sums[name], sums[f"{name}_n"]) for name in ("ours", "theirs", "log_ratio"))
    errors = {
        "mase": mean["mase"],
        "rmsse": mean["rmsse"],
        "smape": mean["smape"],
        "wql": _ratio(2 * sums["pinball"], sums["pinball_actual"]),
        "bias": _ratio(sums["error"], sums["actual"]),
        "coverage": mean["inside"],
        "skill": 1 - _ratio(ours, theirs),
        "skill_gm": 1 - float(np.exp(ratio)),
        "win_rate": _ratio(sums["wins"], sums["wins_n"]),
    }
    return {**errors, **dict.fromkeys(("mase", "rmsse", "wql"), np.inf)} if sums.get("lacking") else errors


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("nan")
