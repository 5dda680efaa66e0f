"""How much of a forecast is owed to which inputs.

Shapley values over groups of inputs, against typical ones: every group is exchanged with what is usual for it, in all
orders. They add up to the forecast for any model; for one that is linear in its inputs they are its own terms.

Source: Lundberg & Lee (2017), A unified approach to interpreting model predictions, with groups as players.
"""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["profile_of", "shapley"]

#: seasons whose mean is the usual one
_SEASONS = 8


def shapley(groups: Sequence[str], forecast: Callable[[frozenset[str]], float]) -> dict[str, float]:
    """The share of each group; they sum to `forecast(all) - forecast(none)`.

    Args:
        groups: names.
        forecast: what is forecast where these groups are as they are, and the others as usual.
    """
    count = len(groups)
    known = {frozenset(some): forecast(frozenset(some)) for n in range(count + 1) for some in combinations(groups, n)}
    shares = dict.fromkeys(groups, 0.0)
    for group in groups:
        for some, value in known.items():
            if group not in some:
                weight = factorial(len(some)) * factorial(count - len(some) - 1) / factorial(count)
                shares[group] += weight * (known[some | {group}] - value)
    return shares


def profile_of(y: Floats, season: int) -> tuple[float, Floats]:
    """The usual level of a series, and the series as it would be if every season were the usual one.

    Args:
        y: values, NaN where missing, at least one finite.
        season: steps.
    """
    window = y[-_SEASONS * season :]
    level = float(np.nanmean(window)) if np.isfinite(window).any() else float(np.nanmean(y))
    phase = (np.arange(len(y)) - len(y)) % season
    recent = phase[-len(window) :]
    usual = np.array([_mean(window[recent == number], level) for number in range(season)])
    return level, usual[phase]


def _mean(values: Floats, otherwise: float) -> float:
    fine = values[np.isfinite(values)]
    return float(fine.mean()) if len(fine) else otherwise
