"""Regression with seasonal ARIMA errors, on the Kalman filter of statsmodels.

The mean (drift, Fourier terms, covariates) is fitted by generalised least squares and the errors by maximum likelihood,
in turn: an optimiser of 3 to 5 parameters instead of 30. Both maximise the same likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from forecastcore.api import per_series
from forecastcore.errors import HistoryTooShort, PluginError
from forecastcore_statsmodels.common import at_least, is_flat, lean, newest, normal_band, position_of, quiet
from forecastcore_statsmodels.regressors import Design, filled, independent, steps_since

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Series, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["Sarimax", "SarimaxParameters"]

MIN_HISTORY = 12
LONGEST_SEASON = 24  # the filter's work grows with the square of the season; longer ones become Fourier terms
ROUNDS = 2
LEAST_VARIANCE = 1e-16
NOTHING = 1e-8  # residuals below it, of a series of unit variance, hold nothing to learn
SIGNIFICANT = 2.0  # standard errors that a drift must be away from nought


@dataclass(frozen=True)
class SarimaxParameters:
    """What was learned of one series, on the scale `(y - centre) / spread`.

    Attributes:
        order: p, d, q.
        seasonal_order: P, D, Q, season; season 0 without.
        arma: coefficients of AR, MA, seasonal AR and seasonal MA, in that order.
        variance: of the one-step errors.
        design: the columns of the mean.
        beta: their coefficients.
        centre: mean of the series.
        spread: its standard deviation.
        start: the instant (UTC) of the window's first row.
    """

    order: tuple[int, int, int]
    seasonal_order: tuple[int, int, int, int]
    arma: Floats
    variance: float
    design: Design
    beta: Floats
    centre: float
    spread: float
    start: str


def _model(y: Floats, order: tuple[int, ...], seasonal: tuple[int, ...], **options: Any) -> Any:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    return SARIMAX(y, order=order, seasonal_order=seasonal, **options)


def _difference(rows: Floats, order: tuple[int, ...], seasonal: tuple[int, ...]) -> Floats:
    for _ in range(seasonal[1]):
        rows = rows[seasonal[3] :] - rows[: -seasonal[3]]
    return np.diff(rows, n=order[1], axis=0)


def _fit_arma(
    residual: Floats, order: tuple[int, ...], seasonal: tuple[int, ...], start: Floats | None, maxiter: int
) -> tuple[Floats, Any]:
    """The most likely ARMA coefficients of a differenced series, and its filter under them and unit variance."""
    orders = (order[0], 0, order[2]), (seasonal[0], 0, *seasonal[2:])
    model = _model(residual, *orders, concentrate_scale=True)
    arma = np.zeros(model.k_params)
    if len(arma) and np.nanmax(np.abs(residual)) > NOTHING:
        tolerance = {"factr": 1e9, "pgtol": 1e-4}  # the default goes on for digits that no forecast shows
        arma = model.fit(start, disp=False, maxiter=maxiter, return_params=True, cov_type="none", **tolerance)
    return arma, _model(residual, *orders).filter(np.r_[arma, 1.0], cov_type="none")


def _whitened(filtered: Any, columns: Floats) -> Floats:
    """One-step errors of each column under the filter, over their standard deviation; rows without y are left out."""
    ssm = filtered.filter_results
    transition, design = ssm.transition[:, :, 0], ssm.design[0, :, 0]
    seen = np.isfinite(filtered.model.endog[:, 0])
    state = np.zeros((len(transition), columns.shape[1]))
    errors = np.empty_like(columns)
    for row, values in enumerate(columns):
        errors[row] = values - design @ state
        state = transition @ state
        if seen[row]:
            state += np.outer(ssm.kalman_gain[:, 0, row], errors[row])
    return np.asarray(errors[seen] / np.sqrt(ssm.forecasts_error_cov[0, 0, seen])[:, None])


def _least_squares(y: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """Coefficients, and how many standard errors each is away from nought."""
    beta, *_ = np.linalg.lstsq(columns, y, rcond=None)
    variance = float(np.mean((y - columns @ beta) ** 2))
    inverse = np.linalg.pinv(columns.T @ columns)
    return np.asarray(beta), np.abs(beta) / np.sqrt(np.maximum(variance * np.diag(inverse), LEAST_VARIANCE))


@per_series
@dataclass(frozen=True)
class Sarimax:
    """Regression with seasonal ARIMA errors: y = covariates + Fourier terms + drift + SARIMA.

    A season of up to 24 steps is modelled by seasonal differences; longer ones, and the others of the project's seasons
    (such as the week of hourly data), by Fourier terms. Covariates that never move or repeat others are left out.

    Attributes:
        order: p, d, q; null takes (1, 0, 1) for seasonal series and (1, 1, 1) for others.
        seasonal_order: P, D, Q; used where three seasons of history are there.
        season: steps of the seasonal part, of any length; null takes the project's season if it is at most 24, 1
            switches all seasons off.
        fourier: pairs of sine and cosine for each longer season.
        trend: `c` a constant of the differenced series (a drift where there is one difference), `n` none, `auto` a
            constant without differences, and a drift where it is twice its standard error.
        max_history: rows that a fit stands on, the newest; null takes 1000, and at least 6 of the longest season.
        maxiter: steps of the optimiser.
    """

    order: tuple[int, int, int] | None = None
    seasonal_order: tuple[int, int, int] = (0, 1, 1)
    season: int | None = None
    fourier: int = 10
    trend: Literal["auto", "c", "n"] = "auto"
    max_history: int | None = None
    maxiter: int = 50

    def __post_init__(self) -> None:
        at_least(1, season=self.season, max_history=self.max_history, maxiter=self.maxiter)
        at_least(0, fourier=self.fourier, order=min(self.order or (0,)), seasonal_order=min(self.seasonal_order))

    def fit_series(self, series: Series, task: Task) -> SarimaxParameters:
        """Fit the mean and the errors.

        Raises:
            HistoryTooShort: too few observations for the orders and covariates.
            PluginError: the optimiser found nothing.
        """
        rows = self.max_history or max(1000, 6 * max(task.season, *task.seasons))
        window = newest(series, rows, MIN_HISTORY)
        observed = window.y[np.isfinite(window.y)]
        centre, spread = float(np.mean(observed)), float(np.std(observed)) or 1.0
        y = (window.y - centre) / spread
        window = type(window)(window.unique_id, window.ds, y, filled(window.x, task.season))
        flat = is_flat(observed / (abs(centre) or 1.0))
        learned = self._flat(window) if flat else self._learn(window, task)
        return replace(learned, centre=centre, spread=spread, start=str(window.ds[0]))

    def predict_series(self, params: SarimaxParameters, series: Series, future: Series, task: Task) -> Floats:
        """Filter the context with the stored parameters and look ahead from its end; nothing is searched for."""
        begin = position_of(params.start, series) or 0
        steps = steps_since(params.start, series, task)[begin:]
        x = filled(np.concatenate([series.x, future.x]), task.season)[begin:]
        ahead = steps[-1] + 1 + np.arange(len(future.ds))
        mean = params.design.columns(np.concatenate([steps, ahead]), x) @ params.beta
        errors = (series.y[begin:] - params.centre) / params.spread - mean[: len(steps)]
        with quiet():
            model = _model(errors, params.order, params.seasonal_order)
            filtered = model.filter(np.r_[params.arma, params.variance], cov_type="none", conserve_memory=lean())
            forecast = filtered.get_forecast(len(ahead))
        middle = params.centre + params.spread * (mean[len(steps) :] + forecast.predicted_mean)
        sd = params.spread * np.sqrt(np.maximum(forecast.var_pred_mean, 0.0))
        return normal_band(middle, sd, task.quantiles)

    def _orders(self, observations: int, task: Task) -> tuple[tuple[int, int, int], tuple[int, int, int, int]]:
        season = self.season or (task.season if task.season <= LONGEST_SEASON else 1)
        if season > 1 and any(self.seasonal_order) and observations >= 3 * season + MIN_HISTORY:
            return self.order or (1, 0, 1), (*self.seasonal_order, season)
        fourier = self.fourier > 0 and any(2 * s <= observations for s in self._longer(1, task))
        return self.order or ((1, 0, 1) if fourier else (1, 1, 1)), (0, 0, 0, 0)

    def _longer(self, season: int, task: Task) -> tuple[int, ...]:
        """Seasons for Fourier terms: those of the project beyond what the seasonal part takes."""
        if self.season == 1:
            return ()
        return tuple(s for s in sorted({task.season, *task.seasons}) if s > max(season, 2 if season > 1 else 1))

    def _design(self, window: Series, observations: int, differences: int, season: int, task: Task) -> Design:
        pairs = {s: min(self.fourier, (s - 1) // 2, observations // 20) for s in self._longer(season, task)}
        seasons = tuple(s for s, count in pairs.items() if count > 0 and 2 * s <= observations)
        power = None if self.trend == "n" or (self.trend == "auto" and differences > 1) else differences
        spread = window.x.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        harmonics = tuple(pairs[s] for s in seasons)
        return Design(power, seasons, harmonics, window.x.mean(axis=0), spread, len(window.y))

    def _flat(self, window: Series) -> SarimaxParameters:
        """A series that never moved: repeat its last value."""
        none = np.zeros(window.x.shape[1])
        design = Design(None, (), (), none, none + 1.0, len(window.y), ())
        return SarimaxParameters(
            (0, 1, 0), (0, 0, 0, 0), np.empty(0), LEAST_VARIANCE, design, np.empty(0), 0.0, 1.0, ""
        )

    def _learn(self, window: Series, task: Task) -> SarimaxParameters:
        observations = int(np.isfinite(window.y).sum())
        order, seasonal = self._orders(observations, task)
        differences = order[1] + seasonal[1]
        design = self._design(window, observations, differences, seasonal[3], task)
        y = _difference(window.y, order, seasonal)
        columns = _difference(design.columns(np.arange(len(window.y)), window.x), order, seasonal)
        seen = np.isfinite(y)
        kept = independent(columns[seen])
        needed = 3 * len(kept) + 2 * sum((*order, *seasonal[:3]))
        if seen.sum() < max(needed, MIN_HISTORY // 2):
            raise HistoryTooShort(len(window.y) - int(seen.sum()) + max(needed, MIN_HISTORY // 2), observations)
        return self._turns(y, columns, order, seasonal, replace(design, kept=kept))

    def _turns(
        self,
        y: Floats,
        columns: Floats,
        order: tuple[int, int, int],
        seasonal: tuple[int, int, int, int],
        design: Design,
    ) -> SarimaxParameters:
        """Coefficients given the errors' model, and the errors' model given the coefficients, in turn."""
        seen, kept = np.isfinite(y), design.kept or ()
        beta, _ = _least_squares(y[seen], columns[seen][:, list(kept)])
        arma: Floats | None = None
        with quiet():
            for _ in range(ROUNDS if kept else 1):
                mean = columns[:, list(kept)]
                arma, filtered = _fit_arma(y - mean @ beta, order, seasonal, arma, self.maxiter)
                white = _whitened(filtered, np.column_stack([np.nan_to_num(y), mean]))
                beta, strength = _least_squares(white[:, 0], white[:, 1:])
                drift = self.trend == "auto" and design.power == 1 and kept[:1] == (0,)
                if drift and strength[0] < SIGNIFICANT:
                    kept, white = kept[1:], np.delete(white, 1, axis=1)
                    beta, _ = _least_squares(white[:, 0], white[:, 1:])
        variance = float(np.mean((white[:, 0] - white[:, 1:] @ beta) ** 2))
        if arma is None or not (np.isfinite(arma).all() and np.isfinite(beta).all() and np.isfinite(variance)):
            msg = f"the optimiser found no SARIMA{order}{seasonal} for this series"
            raise PluginError(msg, plugin="sarimax", hint="set a lower order")
        learned = replace(design, kept=tuple(kept))
        return SarimaxParameters(order, seasonal, arma, max(variance, LEAST_VARIANCE), learned, beta, 0.0, 1.0, "")
