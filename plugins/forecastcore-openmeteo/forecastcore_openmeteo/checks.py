"""Whether a forecast can be of the covariate that history knows: its range, its level, its clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["fault"]

_LEAST, _OVERLAP = 48, 12  # observations that say what is usual; and that can be compared
_OUTSIDE = 0.05  # share of values that may lie half the observed range beyond it
_LEVEL = 0.5  # median difference, in units of the observed spread
_SHIFTED = 0.5  # error at the best lag, relative to the error at none


def fault(name: str, said: Floats, past: Floats, seen: Floats, observed: Floats, lags: int) -> str:
    """What speaks against a forecast, in words; empty where nothing does.

    Args:
        name: the covariate.
        said: forecasts of the future, NaN where missing.
        past: what the same answer says of the last instants before the origin.
        seen: what was observed at those instants.
        observed: all observations of the covariate there, up to the origin.
        lags: steps up to which a shifted clock is looked for; 0 for none.
    """
    known = observed[np.isfinite(observed)]
    told = said[np.isfinite(said)]
    if len(known) < _LEAST or not len(told):
        return ""
    low, high = float(known.min()), float(known.max())
    reach = (high - low) / 2
    outside = (told < low - reach) | (told > high + reach)
    if outside.mean() > _OUTSIDE:
        return f"{name} is forecast as {told.min():g} … {told.max():g}, but was never outside {low:g} … {high:g}"
    both = np.isfinite(past) & np.isfinite(seen)
    if both.sum() < _OVERLAP:
        return ""
    off = float(np.median(np.abs(past - seen)[both]))
    spread = max(float(np.ptp(np.quantile(known, [0.05, 0.95]))), float(known.std()))
    if off > _LEVEL * spread > 0:
        return (
            f"{name} was off by {off:g} in the hours just observed, whose spread is {spread:g}: another unit or place?"
        )
    shift = _shift(past, seen, lags)
    return f"{name} fits what was just observed only when moved by {shift} steps: another clock?" if shift else ""


def _shift(past: Floats, seen: Floats, lags: int) -> int:
    """By how many steps `past` is late, if moving it explains most of its error."""
    error = {
        lag: _mean(np.abs(past[max(lag, 0) : len(past) + min(lag, 0)] - seen[max(-lag, 0) : len(seen) - max(lag, 0)]))
        for lag in range(-lags, lags + 1)
    }
    best = min(error, key=lambda lag: error[lag])
    return best if error[best] < _SHIFTED * error[0] else 0


def _mean(values: Floats) -> float:
    fine = values[np.isfinite(values)]
    return float(fine.mean()) if len(fine) >= _OVERLAP else float("inf")
