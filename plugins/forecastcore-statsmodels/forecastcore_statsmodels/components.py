"""A structural time series (trend and seasons, each free to change) on the Kalman filter of statsmodels.

Harvey (1989), Forecasting, Structural Time Series Models and the Kalman Filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from forecastcore.api import per_series
from forecastcore.errors import PluginError
from forecastcore_statsmodels.common import at_least, is_flat, lean, newest, normal_band, position_of, quiet

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Series, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["ComponentParameters", "UnobservedComponents"]

MIN_HISTORY = 10
LEAST_VARIANCE = 1e-16


@dataclass(frozen=True)
class ComponentParameters:
    """What was learned of one series, on the scale `(y - centre) / spread`.

    Attributes:
        level: the trend in the words of statsmodels.
        seasons: steps of each season.
        harmonics: pairs of sine and cosine, by season.
        variances: of the components' changes, as statsmodels orders them.
        centre: mean of the series.
        spread: its standard deviation.
        start: the instant (UTC) of the window's first row.
    """

    level: str
    seasons: tuple[int, ...]
    harmonics: tuple[int, ...]
    variances: Floats
    centre: float
    spread: float
    start: str


def _model(y: Floats, level: str, seasons: tuple[int, ...], harmonics: tuple[int, ...]) -> Any:
    from statsmodels.tsa.statespace.structural import UnobservedComponents as Components

    waves = [{"period": s, "harmonics": count} for s, count in zip(seasons, harmonics, strict=True)]
    return Components(y, level, freq_seasonal=waves or None)


@per_series
@dataclass(frozen=True)
class UnobservedComponents:
    """Trend plus trigonometric seasons plus noise, each part free to change at a rate found by maximum likelihood.

    Attributes:
        level: `local level` wanders, `local linear trend` has a slope that wanders too, `smooth trend` only the slope,
            `random walk with drift` has a fixed slope.
        harmonics: pairs of sine and cosine for each season, at most half of it.
        season: steps; null takes all of the project's seasons that the history holds twice, 1 none.
        max_history: rows that a fit stands on, the newest; null takes 1000, and at least 6 of the longest season.
        maxiter: steps of the optimiser.
    """

    level: Literal["local level", "local linear trend", "smooth trend", "random walk with drift"] = "local linear trend"
    harmonics: int = 6
    season: int | None = None
    max_history: int | None = None
    maxiter: int = 50

    def __post_init__(self) -> None:
        at_least(1, season=self.season, max_history=self.max_history, maxiter=self.maxiter)
        at_least(0, harmonics=self.harmonics)

    def fit_series(self, series: Series, task: Task) -> ComponentParameters:
        """Find the rates of change.

        Raises:
            HistoryTooShort: fewer than 10 observations.
            PluginError: the optimiser found nothing.
        """
        asked = (self.season,) if self.season else tuple(sorted({task.season, *task.seasons}))
        window = newest(series, self.max_history or max(1000, 6 * asked[-1]), MIN_HISTORY)
        observed = window.y[np.isfinite(window.y)]
        centre, spread = float(np.mean(observed)), float(np.std(observed)) or 1.0
        seasons = tuple(s for s in asked if 1 < s <= len(observed) // 2 and self.harmonics > 0)
        level, start = str(self.level), str(window.ds[0])
        if is_flat(observed / (abs(centre) or 1.0)):
            return ComponentParameters("random walk", (), (), np.array([LEAST_VARIANCE]), centre, spread, start)
        harmonics = tuple(min(self.harmonics, s // 2) for s in seasons)
        with quiet():
            model = _model((window.y - centre) / spread, level, seasons, harmonics)
            tolerance = {"factr": 1e9, "pgtol": 1e-4}  # the default goes on for digits that no forecast shows
            found = model.fit(disp=False, maxiter=self.maxiter, return_params=True, cov_type="none", **tolerance)
        if not np.isfinite(found).all():
            raise PluginError("the optimiser found no rates of change", plugin="unobserved-components")
        variances = np.maximum(found, LEAST_VARIANCE)
        return ComponentParameters(level, seasons, harmonics, variances, centre, spread, start)

    def predict_series(self, params: ComponentParameters, series: Series, future: Series, task: Task) -> Floats:
        """Filter the context with the stored variances and look ahead from its end; nothing is searched for."""
        begin = position_of(params.start, series) or 0
        y = (series.y[begin:] - params.centre) / params.spread
        with quiet():
            model = _model(y, params.level, params.seasons, params.harmonics)
            filtered = model.filter(params.variances, cov_type="none", conserve_memory=lean())
            forecast = filtered.get_forecast(len(future.ds))
        mean = params.centre + params.spread * forecast.predicted_mean
        return normal_band(mean, params.spread * np.sqrt(np.maximum(forecast.var_pred_mean, 0.0)), task.quantiles)
