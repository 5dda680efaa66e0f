"""Exponential smoothing in state-space form, the form chosen by AICc, by statsforecast.

Hyndman, Koehler, Ord & Snyder (2008), Forecasting with Exponential Smoothing: the state space approach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.api import per_series
from forecastcore_statsforecast.common import (
    LEVEL,
    MIN_HISTORY,
    ONE_STEP,
    Learned,
    at_least,
    band_of,
    carry_on,
    history_rows,
    learn,
    library,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.api import Series, Task
    from forecastcore_statsforecast.common import Rows

    Floats = npt.NDArray[np.float64]

__all__ = ["AutoEts", "EtsParameters", "fit_ets"]

LONGEST_SEASON = 24  # the library's own limit


@dataclass(frozen=True)
class EtsParameters:
    """What was learned of one series.

    Attributes:
        components: error, trend, season (`A`, `M` or `N`) and damping (`D` or `N`), such as `MAMD`.
        season: steps; 1 without.
        rates: alpha, beta, gamma, phi; NaN where the form lacks them.
        states: level, slope and season before the window's first row.
        variance: of the one-step errors; relative where the error is `M`.
    """

    components: str
    season: int
    rates: Floats
    states: Floats
    variance: float

    @property
    def reach(self) -> int:
        """Two seasons, to read first states off."""
        return max(MIN_HISTORY, 2 * self.season + 1)

    def ahead(self, rows: Rows, quantiles: Sequence[float]) -> Floats:
        """Smooth the rows with the stored rates and go on from the last state."""
        ets = library("ets")
        states = self.states if rows.held else self._read_off(rows.y)
        stored = {"m": self.season, "components": self.components, "par": np.r_[self.rates, states]}
        fitted = ets.ets_f(rows.y, m=self.season, model={**stored, "fit": None, "n_params": 0}, nmse=ONE_STEP)
        return band_of(ets.forecast_ets({**fitted, "sigma2": self.variance}, len(rows.ahead), [LEVEL]), quantiles)

    def _read_off(self, y: Floats) -> Floats:
        """First states as the library reads them off data, for a context that begins later than the fit."""
        trend, season = self.components[1], self.components[2]
        states = library("ets").initstate(y, self.season, trend, season)
        if season == "N":
            return np.asarray(states)
        rest = (self.season if season == "M" else 0) - states[1 + (trend != "N") :].sum()
        return np.append(states, rest)


def fit_ets(y: Floats, season: int, model: str = "ZZZ", *, damped: bool | None = None) -> EtsParameters:
    """Choose a form by AICc and find its rates and first states."""
    found = library("ets").ets_f(y, m=season, model=model, damped=damped, nmse=ONE_STEP)
    rates, states = found["par"][:4].copy(), found["par"][4:].copy()
    return EtsParameters(found["components"], int(found["m"]), rates, states, float(found["sigma2"]))


@per_series
@dataclass(frozen=True)
class AutoEts:
    """Exponential smoothing; error, trend and season chosen by AICc, each series for itself.

    A season longer than 24 steps is taken out by STL first.

    Attributes:
        model: error (`A`, `M`, `Z`), trend (`N`, `A`, `Z`) and season (`N`, `A`, `M`, `Z`); `Z` chooses.
        damped: whether the trend fades; null chooses.
        season: steps; null takes the project's season, 1 none.
        max_history: rows that a fit stands on, the newest; null takes 10 seasons, and at least 1000 rows.
    """

    model: str = "ZZZ"
    damped: bool | None = None
    season: int | None = None
    max_history: int | None = None

    def __post_init__(self) -> None:
        at_least(1, season=self.season, max_history=self.max_history)
        kinds = ("AMZ", "NAZ", "NAMZ")
        if len(self.model) != len(kinds) or any(part not in kind for part, kind in zip(self.model, kinds, strict=True)):
            msg = f"model is error (A, M, Z), trend (N, A, Z), season (N, A, M, Z), such as ZZZ, not {self.model!r}"
            raise ValueError(msg)

    def fit_series(self, series: Series, task: Task) -> Learned:
        """Choose a form and fit it.

        Raises:
            HistoryTooShort: fewer than 8 observations.
        """
        season = self.season or task.season

        def fit(rows: Rows) -> EtsParameters:
            short = season > LONGEST_SEASON or 2 * season >= len(rows.y)
            model = f"{self.model[:2]}N" if short else self.model
            return fit_ets(rows.y, 1 if short else season, model, damped=self.damped)

        out = (season,) if season > LONGEST_SEASON else ()
        return learn(series, rows=history_rows(self.max_history, season), periods=out, fit=fit)

    def predict_series(self, params: Learned, series: Series, future: Series, task: Task) -> Floats:
        """Smooth the context with the stored rates and look ahead from its end; nothing is searched for."""
        return carry_on(params, series, future, task)
