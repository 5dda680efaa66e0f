"""The Theta methods: a line and exponential smoothing of a series without its season, by statsforecast.

Fiorucci, Pellegrini, Louzada, Petropoulos & Koehler (2016), International Journal of Forecasting 32(4), 1151-1161.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from forecastcore.api import per_series
from forecastcore_statsforecast.common import (
    MIN_HISTORY,
    ONE_STEP,
    Learned,
    at_least,
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

__all__ = ["AutoTheta", "ThetaParameters", "fit_theta", "seasonal_factors"]

Kind = Literal["STM", "OTM", "DSTM", "DOTM"]
PATHS = 200  # the library's own
BURN_IN = 3  # the library leaves the first errors out of their spread


@dataclass(frozen=True)
class ThetaParameters:
    """What was learned of one series.

    Attributes:
        kind: the library's name: Standard or Optimised Theta Model, `D` where the line moves along.
        season: steps; 1 without.
        multiplicative: whether the season multiplies.
        level: of the smoothing before the window's first row.
        alpha: smoothing parameter.
        theta: how much of the line's curvature is kept.
        sigma: standard deviation of the one-step errors.
    """

    kind: str
    season: int
    multiplicative: bool
    level: float
    alpha: float
    theta: float
    sigma: float

    @property
    def reach(self) -> int:
        """Two seasons, for their factors."""
        return max(MIN_HISTORY, 2 * self.season + 1)

    def ahead(self, rows: Rows, quantiles: Sequence[float]) -> Floats:
        """Smooth the rows with the stored parameters and go on from their end; paths give the quantiles."""
        theta, steps = library("theta"), len(rows.ahead)
        plain, season = self._without_season(rows.y, steps)
        given = {"initial_smoothed": self.level, "alpha": self.alpha, "theta": self.theta}
        fitted = theta.thetamodel(plain, self.season, self.kind, **given, nmse=ONE_STEP)
        paths = self._paths(fitted["states"][-1], float(fitted["mean_y"]), len(plain), steps)
        answer = np.column_stack([theta.forecast_theta(fitted, steps)["mean"], np.quantile(paths, quantiles, axis=1).T])
        return np.asarray(answer * season[:, None] if self.multiplicative else answer + season[:, None])

    def _paths(self, state: Floats, mean: Floats | float, rows: int, steps: int) -> Floats:
        """Sample paths, shape (steps, paths), the line moving along each; the library's own draws.

        Args:
            state: level, mean, intercept and slope at the end of the rows.
            mean: of the rows.
            rows: how many there are.
            steps: asked.
        """
        draws = np.random.default_rng(0)
        level, intercept, slope = (np.full(PATHS, state[position]) for position in (0, 2, 3))
        paths = np.empty((steps, PATHS))
        for step, t in enumerate(range(rows, rows + steps)):
            line = intercept * (1 - self.alpha) ** t + slope * (1 - (1 - self.alpha) ** (t + 1)) / self.alpha
            paths[step] = level + (1 - 1 / self.theta) * line + draws.normal(scale=self.sigma, size=PATHS)
            level = self.alpha * paths[step] + (1 - self.alpha) * level
            mean = (t * mean + paths[step]) / (t + 1)
            slope = ((t - 1) * slope + 6 * (paths[step] - mean) / (t + 1)) / (t + 2)
            intercept = mean - slope * (t + 2) / 2
        return paths

    def _without_season(self, y: Floats, steps: int) -> tuple[Floats, Floats]:
        """Values without the season, and the last season again for the steps ahead."""
        if self.season == 1:
            return y, np.zeros(steps)
        season = seasonal_factors(y, self.season, multiplicative=self.multiplicative)
        ahead = season[(len(y) + np.arange(steps)) % self.season]
        season = np.resize(season, len(y))
        return y / season if self.multiplicative else y - season, ahead


def seasonal_factors(y: Floats, season: int, *, multiplicative: bool) -> Floats:
    """The season of a classical decomposition by moving averages, from the phase of the first row on; shape (season,).

    What statsmodels' `seasonal_decompose` gives, at a tenth of its time: its work is frames.
    """
    half, even = season // 2, season % 2 == 0
    weights = np.full(season + even, 1 / season)
    if even:
        weights[[0, -1]] /= 2
    rest = np.full(len(y), np.nan)
    trend = np.convolve(y, weights, mode="valid")
    middle = slice(half, half + len(trend))
    rest[middle] = y[middle] / trend if multiplicative else y[middle] - trend
    rows = -(-len(y) // season)
    by_phase = np.append(rest, np.full(rows * season - len(y), np.nan)).reshape(rows, season)
    means = np.nanmean(by_phase, axis=0)
    return np.asarray(means / means.mean() if multiplicative else means - means.mean())


def fit_theta(y: Floats, season: int, kind: Kind | Literal["auto"]) -> ThetaParameters:
    """Find the parameters; of `auto` those of the kind with the smallest squared error."""
    found = library("theta").auto_theta(y, m=season, model=None if kind == "auto" else kind, nmse=ONE_STEP)
    seasonal = bool(found.get("decompose", False))
    errors = found["residuals"][BURN_IN:]
    return ThetaParameters(
        kind=found["modeltype"],
        season=season if seasonal else 1,
        multiplicative=seasonal and found["decomposition_type"] == "multiplicative",
        level=float(found["par"]["initial_smoothed"]),
        alpha=float(found["par"]["alpha"]),
        theta=float(found["par"]["theta"]),
        sigma=float(np.std(errors, ddof=1)),
    )


@per_series
@dataclass(frozen=True)
class AutoTheta:
    """The Theta method, dynamic and optimised.

    The season is taken out by classical decomposition where its autocorrelation is significant (90 %).

    Attributes:
        kind: `STM` (standard), `OTM` (optimised), `DSTM`, `DOTM` (the line moves along); `auto` chooses by the squared
            error in the history, which is dearer and seldom better.
        season: steps; null takes the project's season, 1 none.
        max_history: rows that a fit stands on, the newest; null takes 10 seasons, and at least 1000 rows.
    """

    kind: Kind | Literal["auto"] = "DOTM"
    season: int | None = None
    max_history: int | None = None

    def __post_init__(self) -> None:
        at_least(1, season=self.season, max_history=self.max_history)

    def fit_series(self, series: Series, task: Task) -> Learned:
        """Find the kind and its parameters.

        Raises:
            HistoryTooShort: fewer than 8 observations.
        """
        season = self.season or task.season
        rows = history_rows(self.max_history, season)
        return learn(series, rows=rows, fit=lambda rows: fit_theta(rows.y, season, self.kind))

    def predict_series(self, params: Learned, series: Series, future: Series, task: Task) -> Floats:
        """Smooth the context with the stored parameters and look ahead from its end; nothing is searched for."""
        return carry_on(params, series, future, task)
