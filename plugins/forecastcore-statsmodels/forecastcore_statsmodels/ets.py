"""Exponential smoothing in state-space form (ETS), fitted by statsmodels.

Hyndman, Koehler, Ord & Snyder (2008), Forecasting with Exponential Smoothing: the state space approach.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from forecastcore.api import per_series
from forecastcore.errors import HistoryTooShort, PluginError
from forecastcore_statsmodels.common import at_least, is_flat, newest, normal_band, position_of, quiet, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from forecastcore.api import Series, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["Ets", "EtsParameters"]

MIN_HISTORY = 6
LONGEST_SEASON = 400
LONGEST_ESTIMATED_SEASON = 24  # beyond it the optimiser would have to find too many initial states
MARGIN = 30.0  # of AICc: a form farther behind the best is not fitted in full
PATHS = 1000
FOLLOW = 0.9999  # the largest smoothing parameter that statsmodels allows
PERFECT = 1e-24  # a mean squared error below this counts as none


class Form(NamedTuple):
    """Which components a model has, in the words of statsmodels."""

    error: str
    trend: str | None
    damped: bool
    seasonal: str | None

    @property
    def linear(self) -> bool:
        return self.error == "add" and self.seasonal != "mul"


@dataclass(frozen=True)
class EtsParameters:
    """What was learned of one series; states are in units of `scale`.

    Attributes:
        error: `add` or `mul`.
        trend: `add` or None.
        damped: whether the trend fades.
        seasonal: `add`, `mul` or None.
        season: steps of the seasonal pattern; 1 without.
        smoothing: alpha, then beta, gamma and phi where the form has them.
        level: initial level.
        slope: initial trend; 0 without.
        pattern: initial seasonal states in the order of time, shape (season,).
        sigma: standard deviation of the one-step errors; relative where `error` is `mul`.
        scale: what the series was divided by.
        start: the instant (UTC) before which the initial states stand.
        aicc: corrected information criterion, on the scaled series.
    """

    error: str
    trend: str | None
    damped: bool
    seasonal: str | None
    season: int
    smoothing: Floats
    level: float
    slope: float
    pattern: Floats
    sigma: float
    scale: float
    start: str
    aicc: float

    @property
    def form(self) -> Form:
        """The components."""
        return Form(self.error, self.trend, self.damped, self.seasonal)

    @property
    def rates(self) -> tuple[float, float, float, float]:
        """Alpha, beta, gamma, phi; 0, 0 and 1 for those that the form lacks."""
        given = iter(self.smoothing)
        alpha = float(next(given))
        beta = float(next(given)) if self.trend else 0.0
        gamma = float(next(given)) if self.seasonal else 0.0
        return alpha, beta, gamma, float(next(given)) if self.damped else 1.0


def _model(y: Floats, form: Form, season: int, **initial: Any) -> Any:
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    return ETSModel(
        y,
        error=form.error,
        trend=form.trend,
        damped_trend=form.damped,
        seasonal=form.seasonal,
        seasonal_periods=season if form.seasonal else None,
        initialization_method="known" if initial else "estimated",
        **initial,
    )


def _heuristic(y: Floats, form: Form, season: int) -> dict[str, Any]:
    """Initial states from the first cycles of the data, without any search."""
    model = _model(y, form, season)
    return {
        "initial_level": float(model.initial_level),
        "initial_trend": float(model.initial_trend),
        "initial_seasonal": np.array(np.atleast_1d(model.initial_seasonal), dtype=float),
    }


def _known(params: EtsParameters) -> dict[str, Any]:
    return {"initial_level": params.level, "initial_trend": params.slope, "initial_seasonal": params.pattern}


def _aicc(y: Floats, fitted: Floats, form: Form, season: int) -> tuple[float, float]:
    """Information criterion and standard deviation of the one-step errors."""
    errors = (y - fitted) / (fitted if form.error == "mul" else 1.0)
    variance = float(np.mean(errors**2))
    fit = len(y) * np.log(max(variance, PERFECT)) + (2 * np.log(np.abs(fitted)).sum() if form.error == "mul" else 0.0)
    k = 3 + 2 * (form.trend is not None) + form.damped + (season if form.seasonal else 0)
    spare = len(y) - k - 1
    return float(fit + 2 * k + 2 * k * (k + 1) / spare) if spare > 0 else float("inf"), float(np.sqrt(variance))


def _fit(y: Floats, form: Form, season: int, *, estimate: bool, maxiter: int) -> EtsParameters | None:
    """Smoothing parameters, and initial states if asked, by maximum likelihood; None where the search went nowhere."""
    season = season if form.seasonal else 1
    initial = _heuristic(y, form, season)
    model = _model(y, form, season) if estimate else _model(y, form, season, **initial)
    found = model.fit(disp=False, maxiter=maxiter, return_params=True)
    rates = 1 + (form.trend is not None) + (form.seasonal is not None) + form.damped
    if estimate:
        states = iter(found[rates:])
        initial["initial_level"] = float(next(states))
        initial["initial_trend"] = float(next(states)) if form.trend else 0.0
        initial["initial_seasonal"] = np.array(list(states)[::-1] if form.seasonal else [0.0])
    aicc, sigma = _aicc(y, model.smooth(found, return_raw=True)[0], form, season)
    if not np.isfinite(found).all() or not np.isfinite(sigma) or np.isnan(aicc):
        return None
    level, slope, pattern = initial.values()
    return EtsParameters(*form, season, found[:rates].copy(), level, slope, pattern, sigma, 1.0, "", aicc)


def _flat(y: Floats) -> EtsParameters:
    """A series that never moved: its level, ready to follow when it does."""
    still, rate = Form("add", None, damped=False, seasonal=None), np.array([FOLLOW])
    return EtsParameters(*still, 1, rate, float(y[0]), 0.0, np.zeros(1), 0.0, 1.0, "", -np.inf)


def _ahead(params: EtsParameters, y: Floats, initial: dict[str, Any]) -> tuple[float, float, Floats]:
    """Level, trend and the next season's pattern at the end of `y`."""
    _, states = _model(y, params.form, params.season, **initial).smooth(params.smoothing, return_raw=True)
    slope = float(states[-1, 1]) if params.trend else 0.0
    if not params.seasonal:
        return float(states[-1, 0]), slope, np.zeros(1)
    past = np.r_[initial["initial_seasonal"], states[:, -1]]
    return float(states[-1, 0]), slope, past[-params.season :]


def _mean(params: EtsParameters, level: float, slope: float, pattern: Floats, horizon: int) -> Floats:
    phi = params.rates[3]
    base = level + slope * np.cumsum(phi ** np.arange(1, horizon + 1))
    repeated = np.tile(pattern, -(-horizon // len(pattern)))[:horizon]
    return base * repeated if params.seasonal == "mul" else base + repeated


def _linear_sd(params: EtsParameters, horizon: int) -> Floats:
    """Exact standard deviations of a linear form (book, section 6.1)."""
    alpha, beta, gamma, phi = params.rates
    steps = np.arange(1, horizon)
    weights = alpha + beta * np.cumsum(phi**steps)
    if params.seasonal:
        weights = weights + gamma * (steps % params.season == 0)
    return np.asarray(params.sigma * np.sqrt(np.cumsum(np.r_[1.0, weights**2])))


def _simulated(params: EtsParameters, state: tuple[float, float, Floats], horizon: int, seed: int) -> Floats:
    """Sample paths, shape (paths, horizon): a multiplicative form's distribution has no closed form."""
    alpha, beta, gamma, phi = params.rates
    half = np.random.default_rng(seed).normal(scale=params.sigma, size=(horizon, PATHS // 2))
    noise = np.maximum(np.concatenate([half, -half], axis=1), -0.99 if params.error == "mul" else -np.inf)
    level, slope = np.full(PATHS, state[0]), np.full(PATHS, state[1])
    pattern = np.repeat(state[2][:, None], PATHS, axis=1)
    paths = np.empty((PATHS, horizon))
    for step in range(horizon):
        now = step % len(pattern)
        base, seasonal = level + phi * slope, pattern[now]
        mean = base * seasonal if params.seasonal == "mul" else base + seasonal
        error = noise[step] * (mean if params.error == "mul" else 1.0)
        paths[:, step] = mean + error
        level = base + alpha * error / (seasonal if params.seasonal == "mul" else 1.0)
        slope = phi * slope + beta * error / (seasonal if params.seasonal == "mul" else 1.0)
        pattern[now] = seasonal + gamma * error / (base if params.seasonal == "mul" else 1.0)
    return paths


@per_series
@dataclass(frozen=True)
class Ets:
    """Exponential smoothing; what is `auto` is chosen by AICc, each series for itself.

    The forms are screened with initial states read off the data, and the best of each kind of season is then fitted in
    full. A series that is not longer than two seasons, and a season of more than 400 steps, gets a form without one.

    Attributes:
        error: `add`, `mul`, or `auto`: multiplicative where the seasonal pattern is.
        trend: `add`, null for none, or `auto`.
        damped: whether the trend fades, or `auto`.
        seasonal: `add`, `mul` (positive series only), null for none, or `auto`.
        season: steps; null takes the project's season.
        max_history: rows that a fit stands on, the newest; null takes 8 seasons, and at least 2000 rows.
        maxiter: steps of the optimiser, for each form.
    """

    error: Literal["add", "mul", "auto"] = "auto"
    trend: Literal["add", "auto"] | None = "auto"
    damped: bool | Literal["auto"] = "auto"
    seasonal: Literal["add", "mul", "auto"] | None = "auto"
    season: int | None = None
    max_history: int | None = None
    maxiter: int = 100

    def __post_init__(self) -> None:
        at_least(1, season=self.season, max_history=self.max_history, maxiter=self.maxiter)
        if self.damped is True and self.trend is None:
            raise ValueError("damped needs a trend; set trend to add or auto")

    def fit_series(self, series: Series, task: Task) -> EtsParameters:
        """Choose a form and fit it.

        Raises:
            HistoryTooShort: fewer than 6 observations.
            PluginError: no form asked for can be fitted to this series.
        """
        season = self.season or task.season
        window = newest(series, self.max_history or max(2000, 8 * season), MIN_HISTORY)
        scale = scale_of(window.y)
        y = window.y / scale
        best = _flat(y) if is_flat(y) else self._search(y, season)
        return EtsParameters(**{**vars(best), "scale": scale, "start": str(window.ds[0])})

    def predict_series(self, params: EtsParameters, series: Series, future: Series, task: Task) -> Floats:
        """Smooth the context with the stored parameters and look ahead from its end.

        The stored initial states are used if the context still holds the window's start; otherwise initial states are
        read off the context. Nothing is searched for.

        Raises:
            HistoryTooShort: the context does not hold the start, and is too short to read initial states from.
            PluginError: the form is multiplicative and the context is not positive.
        """
        begin = position_of(params.start, series)
        y = series.y[begin or 0 :] / params.scale
        if not params.form.linear and (y <= 0).any():
            msg = "a multiplicative form needs positive values, and the newest history holds others"
            raise PluginError(
                msg, plugin="ets", series=series.unique_id, hint="retrain, or set error and seasonal to add"
            )
        needed = max(MIN_HISTORY, 2 * params.season)
        if begin is None and len(y) < needed:
            raise HistoryTooShort(needed, len(y))
        initial = _known(params) if begin is not None else _heuristic(y, params.form, params.season)
        state = _ahead(params, y, initial)
        mean = _mean(params, *state, len(future.ds))
        if params.form.linear:
            return params.scale * normal_band(mean, _linear_sd(params, len(mean)), task.quantiles)
        paths = _simulated(params, state, len(mean), task.seed)
        return params.scale * np.column_stack([mean, np.quantile(paths, task.quantiles, axis=0).T])

    def _search(self, y: Floats, season: int) -> EtsParameters:
        """The form of the lowest AICc, fitted in full."""
        seasonal = 1 < season <= LONGEST_SEASON and len(y) > 2 * season
        forms = list(self._forms(positive=bool((y > 0).all()), seasonal=seasonal))
        with quiet():
            screened = [_fit(y, form, season, estimate=False, maxiter=self.maxiter) for form in forms]
            found = [params for params in screened if params is not None]
            if not found:
                msg = (
                    f"error={self.error}, trend={self.trend}, seasonal={self.seasonal} cannot be fitted to this series"
                )
                raise PluginError(msg, plugin="ets", hint="multiplicative parts need positive values; auto avoids them")
            ranked = sorted(found, key=lambda params: params.aicc)
            kinds = {params.seasonal: params for params in reversed(ranked) if params.aicc <= ranked[0].aicc + MARGIN}
            short = [params for params in kinds.values() if params.season <= LONGEST_ESTIMATED_SEASON]
            full = [_fit(y, params.form, season, estimate=True, maxiter=self.maxiter) for params in short]
        return min([*ranked, *(params for params in full if params is not None)], key=lambda params: params.aicc)

    def _forms(self, *, positive: bool, seasonal: bool) -> Iterable[Form]:
        """Forms asked for that suit the data; `auto` leaves out the mixtures known to be unstable."""
        trends = ("add", None) if self.trend == "auto" else (self.trend,)
        dampings = (True, False) if self.damped == "auto" else (self.damped,)
        patterns = (("add", "mul", None) if self.seasonal == "auto" else (self.seasonal,)) if seasonal else (None,)
        for pattern, trend, damped in product(patterns, trends, dampings):
            error = (pattern or "add") if self.error == "auto" else self.error
            if (damped and trend is None and self.damped == "auto") or (not positive and "mul" in {error, pattern}):
                continue
            if not (self.seasonal == "auto" and error == "add" and pattern == "mul"):
                yield Form(error, trend, damped and trend is not None, pattern)
