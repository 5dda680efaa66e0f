"""Regression with seasonal ARIMA errors, its orders chosen step by step, by statsforecast.

Hyndman & Khandakar (2008), Automatic time series forecasting, Journal of Statistical Software 27(3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from forecastcore.api import per_series
from forecastcore.errors import HistoryTooShort
from forecastcore_statsforecast.common import Learned, at_least, carry_on, history_rows, learn, library, normal_band

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.api import Series, Task
    from forecastcore_statsforecast.common import Rows

    Floats = npt.NDArray[np.float64]

__all__ = ["ArimaParameters", "AutoArima", "Columns", "fit_arima"]

MIN_HISTORY = 12
LONGEST_SEASON = 23  # the filter's work grows with the square of the season; longer ones are taken out by STL first
ALIKE = 1e-7  # a column whose own part is smaller than this share of it says nothing new


@dataclass(frozen=True)
class Columns:
    """Which covariates are used, and their scale; learned once, applied to any rows.

    Attributes:
        kept: positions; the others repeat them or never move.
        centre: their means in the fit.
        spread: their standard deviations.
    """

    kept: tuple[int, ...]
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, x: Floats) -> Columns:
        """Columns that move, and are no combination of those before them."""
        basis = np.ones((len(x), 1)) / np.sqrt(len(x))
        kept = []
        for position, column in enumerate(x.T):
            own = column - basis @ (basis.T @ column)
            own = own - basis @ (basis.T @ own)  # once more, for what rounding left
            if np.linalg.norm(own) > ALIKE * np.linalg.norm(column):
                kept.append(position)
                basis = np.column_stack([basis, own / np.linalg.norm(own)])
        used = x[:, kept]
        return cls(tuple(kept), used.mean(axis=0), used.std(axis=0))

    def __call__(self, x: Floats) -> Floats:
        """The covariates in use, scaled; shape (rows, len(kept))."""
        return (x[:, list(self.kept)] - self.centre) / self.spread


@dataclass(frozen=True)
class ArimaParameters:
    """What was learned of one series.

    Attributes:
        order: p, d, q.
        seasonal_order: P, D, Q.
        season: steps; 1 without.
        arma: coefficients of AR, MA, seasonal AR and seasonal MA, in that order.
        trend: `c` a constant, `t` a drift, empty for none.
        beta: coefficients of the trend and of the covariates in use.
        columns: the covariates in use.
        variance: of the one-step errors.
    """

    order: tuple[int, int, int]
    seasonal_order: tuple[int, int, int]
    season: int
    arma: Floats
    trend: str
    beta: Floats
    columns: Columns
    variance: float

    @property
    def reach(self) -> int:
        """What the differences take, and as much again to be filtered."""
        return max(MIN_HISTORY, 2 * (self.order[1] + self.seasonal_order[1] * self.season))

    def ahead(self, rows: Rows, quantiles: Sequence[float]) -> Floats:
        """Filter the rows with the stored coefficients and go on from the last state."""
        arima, n, steps = library("arima"), len(rows.y), len(rows.ahead)
        mean = self._mean(np.concatenate([rows.x, rows.ahead]))
        seasonal = {"order": self.seasonal_order, "period": self.season}
        fixed = self.arma.copy()
        filtered = arima.arima(rows.y - mean[:n], self.order, seasonal, include_mean=False, fixed=fixed, method="ML")
        errors, sd = arima.predict_arima({**filtered, "sigma2": self.variance}, steps)
        return normal_band(mean[n:] + errors, sd, quantiles)

    def _mean(self, x: Floats) -> Floats:
        trends = {"c": np.ones((len(x), 1)), "t": np.arange(1.0, len(x) + 1)[:, None]}
        return np.column_stack([*([trends[self.trend]] if self.trend else []), self.columns(x)]) @ self.beta


def fit_arima(rows: Rows, season: int, **options: Any) -> ArimaParameters:
    """Choose the orders by AICc and find the coefficients.

    Args:
        rows: the window.
        season: steps of the seasonal part; 1 for none.
        options: of the library's search.

    Raises:
        HistoryTooShort: too few rows for the covariates.
    """
    columns = Columns.of(rows.x)
    needed = MIN_HISTORY + 3 * len(columns.kept)
    if len(rows.y) < needed:
        raise HistoryTooShort(needed, len(rows.y))
    found = library("arima").auto_arima_f(
        rows.y, xreg=columns(rows.x) if columns.kept else None, period=season, **options
    )
    p, q, seasonal_p, seasonal_q, period, d, seasonal_d = found["arma"]
    names, values = list(found["coef"]), np.array(list(found["coef"].values()), dtype=float)
    count = p + q + seasonal_p + seasonal_q
    trend = {"intercept": "c", "drift": "t"}.get(names[count], "") if len(names) > count else ""
    return ArimaParameters(
        order=(p, d, q),
        seasonal_order=(seasonal_p, seasonal_d, seasonal_q),
        season=period,
        arma=values[:count],
        trend=trend,
        beta=values[count:],
        columns=columns,
        variance=float(found["sigma2"]),
    )


@per_series
@dataclass(frozen=True)
class AutoArima:
    """ARIMA with seasonal part and covariates; orders chosen by AICc, each series for itself.

    A season of 24 steps and more is taken out first by STL, of the covariates too. Covariates that never move or repeat
    others are left out.

    Attributes:
        max_order: of p + q + P + Q.
        max_p: AR terms at most.
        max_q: MA terms at most.
        approximation: search with conditional sums of squares, and fit only the chosen orders by likelihood: quicker.
        models: tried at most; 8 is the least.
        season: steps; null takes the project's season, 1 none.
        max_history: rows that a fit stands on, the newest; null takes 10 seasons, and at least 1000 rows.
    """

    max_order: int = 5
    max_p: int = 5
    max_q: int = 5
    approximation: bool = True
    models: int = 94
    season: int | None = None
    max_history: int | None = None

    def __post_init__(self) -> None:
        at_least(8, models=self.models)
        at_least(1, season=self.season, max_history=self.max_history)
        at_least(0, max_order=self.max_order, max_p=self.max_p, max_q=self.max_q)

    def fit_series(self, series: Series, task: Task) -> Learned:
        """Choose the orders and fit them.

        Raises:
            HistoryTooShort: fewer than 12 observations, or 3 more for each covariate.
        """
        season = self.season or task.season
        long = season > LONGEST_SEASON
        options = {
            "max_order": self.max_order,
            "max_p": self.max_p,
            "max_q": self.max_q,
            "approximation": self.approximation,
            "nmodels": self.models,
        }
        return learn(
            series,
            rows=history_rows(self.max_history, season),
            periods=(season,) if long else (),
            fit=lambda rows: fit_arima(rows, 1 if long else season, **options),
            least=MIN_HISTORY,
        )

    def predict_series(self, params: Learned, series: Series, future: Series, task: Task) -> Floats:
        """Filter the context with the stored coefficients and look ahead from its end; nothing is searched for."""
        return carry_on(params, series, future, task)
