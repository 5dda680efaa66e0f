"""The Theta method: half the trend, and exponential smoothing, of a series without its season.

Assimakopoulos & Nikolopoulos (2000), International Journal of Forecasting 16(4), 521-530; Hyndman & Billah (2003),
Unmasking the Theta method, 19(2), 287-290.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.api import per_series
from forecastcore_statsmodels.common import at_least, is_flat, newest, normal_band, position_of, quiet, scale_of
from forecastcore_statsmodels.regressors import steps_since

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Series, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["Theta", "ThetaParameters"]

MIN_HISTORY = 6
FOLLOW = 1.0
LEAST = 1e-4  # a smoothing parameter of nought would have no memory to divide by


@dataclass(frozen=True)
class ThetaParameters:
    """What was learned of one series, in units of `scale`.

    Attributes:
        alpha: smoothing parameter.
        slope: of a straight line through the series without its season.
        factors: of the season, first that of the fit's first row, shape (season,).
        multiplicative: whether they multiply.
        sigma: standard deviation of the one-step errors.
        scale: what the series was divided by.
        start: the instant (UTC) of the fit's first row.
    """

    alpha: float
    slope: float
    factors: Floats
    multiplicative: bool
    sigma: float
    scale: float
    start: str


def _levels(y: Floats, alpha: float) -> Floats:
    """Simple exponential smoothing from the first value on."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([alpha], [1.0, alpha - 1.0], y, zi=[(1.0 - alpha) * y[0]])[0])


def _drift(alpha: float, slope: float, rows: Floats) -> Floats:
    """Half the trend that smoothing is behind by after so many rows."""
    return np.asarray(0.5 * slope * (1.0 - (1.0 - alpha) ** rows) / alpha)


@per_series
@dataclass(frozen=True)
class Theta:
    """The Theta method with two lines, after taking out the season where there is one.

    Attributes:
        season: steps; null takes the project's season, 1 none.
        seasonal_test: take the season out only where its autocorrelation is significant (90 %).
        max_history: rows that a fit stands on, the newest; null takes 8 seasons, and at least 2000 rows.
    """

    season: int | None = None
    seasonal_test: bool = True
    max_history: int | None = None

    def __post_init__(self) -> None:
        at_least(1, season=self.season, max_history=self.max_history)

    def fit_series(self, series: Series, task: Task) -> ThetaParameters:
        """Find the season's factors, the line and the smoothing parameter.

        Raises:
            HistoryTooShort: fewer than 6 observations.
        """
        from statsmodels.tsa.forecasting.theta import ThetaModel

        season = self.season or task.season
        window = newest(series, self.max_history or max(2000, 8 * season), MIN_HISTORY)
        scale, start = scale_of(window.y), str(window.ds[0])
        y = window.y / scale
        if is_flat(y):
            return ThetaParameters(FOLLOW, 0.0, np.zeros(1), multiplicative=False, sigma=0.0, scale=scale, start=start)
        seasonal = season > 1 and len(y) > 2 * season
        with quiet():
            model = ThetaModel(y, period=season, deseasonalize=seasonal, use_test=self.seasonal_test)
            found = model.fit()
            slope, alpha = (float(value) for value in found.params)
            factors = np.roll(found.forecast_components(season)["seasonal"].to_numpy(), len(y) % season)
        alpha, multiplicative = max(alpha, LEAST), model.method.startswith("mul")
        plain = y / np.resize(factors, len(y)) if multiplicative else y - np.resize(factors, len(y))
        behind = _drift(alpha, slope, np.arange(1.0, len(y)))
        errors = plain[1:] - _levels(plain, alpha)[:-1] - behind
        return ThetaParameters(alpha, slope, factors, multiplicative, float(np.sqrt(np.mean(errors**2))), scale, start)

    def predict_series(self, params: ThetaParameters, series: Series, future: Series, task: Task) -> Floats:
        """Smooth the context with the stored parameter, and go on from its end along half the stored slope."""
        begin = position_of(params.start, series) or 0
        steps = steps_since(params.start, series, task)[begin:]
        y, season = series.y[begin:] / params.scale, len(params.factors)
        now, ahead = (
            params.factors[steps % season],
            params.factors[(steps[-1] + 1 + np.arange(len(future.ds))) % season],
        )
        level = _levels(y / now if params.multiplicative else y - now, params.alpha)[-1]
        h = np.arange(len(future.ds), dtype=float)
        behind = _drift(params.alpha, params.slope, np.array([max(float(steps[-1] + 1), 1.0)]))
        band = normal_band(level + behind + 0.5 * params.slope * h, self._sd(params, h), task.quantiles)
        return np.asarray(params.scale * (band * ahead[:, None] if params.multiplicative else band + ahead[:, None]))

    @staticmethod
    def _sd(params: ThetaParameters, h: Floats) -> Floats:
        return np.asarray(params.sigma * np.sqrt(1.0 + h * params.alpha**2))
