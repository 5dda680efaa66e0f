"""Intermittent demand: how much, and how often, smoothed apart; by statsforecast.

Values below zero (returns) count as no demand. A series without any demand is forecast as zero.

Croston (1972), Operational Research Quarterly 23(3), 289-303; Syntetos & Boylan (2005), International Journal of
Forecasting 21(2), 303-314; Teunter, Syntetos & Babai (2011), European Journal of Operational Research 214(3), 606-615;
Nikolopoulos et al. (2011), JORS 62(3), 544-554 (ADIDA); Petropoulos & Kourentzes (2015), JORS 66(6), 914-924 (IMAPA).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from forecastcore.api import per_series
from forecastcore.errors import HistoryTooShort
from forecastcore_statsforecast.common import at_least, library

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Series, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["Adida", "Croston", "Imapa", "SmoothingParameters", "Tsb"]

ALPHA = 0.1  # Croston's own
BOUNDS = (0.1, 0.3)  # for a rate that is searched for: the range advised for rare demand
SBA = 0.95  # 1 - ALPHA / 2: takes out the bias of a ratio of two smoothed values


@dataclass(frozen=True)
class SmoothingParameters:
    """What was learned of one series.

    Attributes:
        rates: of smoothing: for the sizes of demand and for intervals (or probability), or one for each of `sums`.
        sums: numbers of rows that are summed before smoothing; empty where none are.
    """

    rates: Floats
    sums: tuple[int, ...] = ()


def _demand(series: Series) -> Floats:
    """What was asked for; returns are no demand.

    Raises:
        HistoryTooShort: no row at all.
    """
    if not len(series.y):
        raise HistoryTooShort(1, 0)
    return np.maximum(series.y, 0.0)


def _intervals(y: Floats) -> Floats:
    """Rows from one demand to the next; the first counts from the beginning."""
    return np.diff(np.flatnonzero(y) + 1.0, prepend=0.0)


def _level(values: Floats, alpha: float) -> float:
    """Where simple exponential smoothing ends, begun at the first value."""
    from scipy.signal import lfilter

    smooth, _ = lfilter([alpha], [1.0, alpha - 1.0], values, zi=[(1.0 - alpha) * values[0]])
    return float(smooth[-1])


def _best_rate(values: Floats) -> float:
    """The rate of the smallest one-step errors, within the bounds advised for rare demand."""
    return float(library("_lib").ses.golden_section_ses(values, *BOUNDS))


def _summed(y: Floats, rows: int) -> Floats:
    """Sums of so many rows, the oldest left out where they do not come out even."""
    return np.asarray(y[len(y) % rows :].reshape(-1, rows).sum(axis=1))


@per_series
@dataclass(frozen=True)
class Croston:
    """Size of demand and interval between demands, smoothed apart; their ratio is the forecast of every step.

    Attributes:
        variant: `classic` with rates of 0.1; `sba` the same without its bias (times 0.95); `optimized` with rates from
            0.1 to 0.3, found for each series.
    """

    variant: Literal["classic", "sba", "optimized"] = "sba"

    def fit_series(self, series: Series, _task: Task) -> SmoothingParameters:
        """Find the rates.

        Raises:
            HistoryTooShort: no observation.
        """
        y = _demand(series)
        if self.variant != "optimized" or not y.any():
            return SmoothingParameters(np.array([ALPHA, ALPHA]))
        return SmoothingParameters(np.array([_best_rate(y[y > 0]), _best_rate(_intervals(y))]))

    def predict_series(self, params: SmoothingParameters, series: Series, future: Series, _task: Task) -> Floats:
        """Smooth the context with the stored rates; nothing is searched for."""
        y, level = _demand(series), 0.0
        if y.any():
            level = _level(y[y > 0], params.rates[0]) / _level(_intervals(y), params.rates[1])
        return np.full(len(future.ds), level * (SBA if self.variant == "sba" else 1.0))


@per_series
@dataclass(frozen=True)
class Tsb:
    """Size and probability of demand, smoothed apart; unlike Croston's it fades where demand has stopped.

    Attributes:
        alpha_demand: smoothing rate of the sizes.
        alpha_probability: smoothing rate of the probability.
    """

    alpha_demand: float = 0.2
    alpha_probability: float = 0.2

    def __post_init__(self) -> None:
        at_least(0, alpha_demand=self.alpha_demand, alpha_probability=self.alpha_probability)
        if max(self.alpha_demand, self.alpha_probability) > 1:
            raise ValueError("alpha_demand and alpha_probability must be at most 1")

    def fit_series(self, series: Series, _task: Task) -> SmoothingParameters:
        """The rates are given.

        Raises:
            HistoryTooShort: no observation.
        """
        _demand(series)
        return SmoothingParameters(np.array([self.alpha_demand, self.alpha_probability]))

    def predict_series(self, params: SmoothingParameters, series: Series, future: Series, _task: Task) -> Floats:
        """Smooth the context with the given rates."""
        y, level = _demand(series), 0.0
        if y.any():
            level = _level(y[y > 0], params.rates[0]) * _level((y > 0).astype(float), params.rates[1])
        return np.full(len(future.ds), level)


class _Sums:
    """Demand smoothed on sums of rows, long enough that few of them are empty."""

    def fit_series(self, series: Series, _task: Task) -> SmoothingParameters:
        """Choose the numbers of rows to sum, and find the rates.

        Raises:
            HistoryTooShort: no observation.
        """
        y = _demand(series)
        mean = round(float(_intervals(y).mean())) if y.any() else 1
        sums = self.sums(mean)
        return SmoothingParameters(np.array([_best_rate(_summed(y, rows)) for rows in sums]), sums)

    def predict_series(self, params: SmoothingParameters, series: Series, future: Series, _task: Task) -> Floats:
        """Smooth the context's sums with the stored rates; nothing is searched for.

        Raises:
            HistoryTooShort: the context is shorter than a sum.
        """
        y = _demand(series)
        if len(y) < max(params.sums):
            raise HistoryTooShort(max(params.sums), len(y))
        levels = [_level(_summed(y, rows), rate) / rows for rows, rate in zip(params.sums, params.rates, strict=True)]
        return np.full(len(future.ds), np.mean(levels))

    def sums(self, mean: int) -> tuple[int, ...]:
        """Numbers of rows to sum, given the mean interval between demands."""
        raise NotImplementedError


@per_series
@dataclass(frozen=True)
class Adida(_Sums):
    """Demand smoothed on sums over the mean interval between demands."""

    def sums(self, mean: int) -> tuple[int, ...]:
        """The mean interval."""
        return (mean,)


@per_series
@dataclass(frozen=True)
class Imapa(_Sums):
    """Demand smoothed on sums over 1, 2 … up to the mean interval between demands; the forecasts' mean."""

    def sums(self, mean: int) -> tuple[int, ...]:
        """All up to the mean interval."""
        return tuple(range(1, mean + 1))
