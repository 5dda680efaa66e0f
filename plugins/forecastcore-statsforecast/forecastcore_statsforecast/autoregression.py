"""A linear autoregression on the lags of all seasons at once, shrunk where the history is short.

Ridge regression with its penalty chosen by generalised cross-validation: Golub, Heath & Wahba (1979), Technometrics
21(2), 215-223. Scale chosen by likelihood, with the Jacobian of the logarithm: Box & Cox (1964), JRSS B 26(2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from forecastcore.api import per_series
from forecastcore_statsforecast.arima import Columns
from forecastcore_statsforecast.common import Learned, at_least, carry_on, history_rows, learn, normal_band

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.api import Series, Task
    from forecastcore_statsforecast.common import Rows

    Floats = npt.NDArray[np.float64]

__all__ = ["Autoregression", "AutoregressionParameters", "lags_of"]

PENALTIES = (0.1, 1.0, 10.0, 100.0)  # in units of the squared standard deviation of the values
CYCLES = 3  # a season that the history does not hold so often has no lags


@dataclass(frozen=True)
class AutoregressionParameters:
    """What was learned of one series, on the scale `(value - centre) / spread` after the logarithm where there is one.

    Attributes:
        log: whether values are logarithms.
        lags: steps back, ascending.
        weights: of the lags, the covariates in use and the constant, in that order.
        columns: the covariates in use.
        centre: mean of the values.
        spread: their standard deviation.
        sigma: standard deviation of the one-step errors, on that scale.
        bounds: the least and the most that is forecast: the history's range, widened by its width on both sides.
    """

    log: bool
    lags: tuple[int, ...]
    weights: Floats
    columns: Columns
    centre: float
    spread: float
    sigma: float
    bounds: tuple[float, float]

    @property
    def reach(self) -> int:
        """The longest lag."""
        return self.lags[-1]

    def ahead(self, rows: Rows, quantiles: Sequence[float]) -> Floats:
        """Go on from the last values, step by step."""
        steps, back = len(rows.ahead), np.asarray(self.lags)
        known = rows.y[-self.lags[-1] :]
        known = ((np.log(np.maximum(known, np.exp(self._lowest))) if self.log else known) - self.centre) / self.spread
        path = np.concatenate([known, np.empty(steps)])
        own, rest = self.weights[: len(back)], self.weights[len(back) :]
        driven = self.columns(rows.ahead) @ rest[:-1] + rest[-1]
        for step in range(len(known), len(path)):
            path[step] = np.clip(path[step - back] @ own + driven[step - len(known)], *self.bounds)
        band = normal_band(path[len(known) :], self._spread_ahead(steps), quantiles)
        values = self.centre + self.spread * np.clip(band, *self.bounds)
        return np.exp(values) if self.log else values

    @property
    def _lowest(self) -> float:
        return self.centre + self.spread * self.bounds[0]

    def _spread_ahead(self, steps: int) -> Floats:
        """Standard deviations by step: the errors so far, each carried on by the lags."""
        carried, lags = np.zeros(steps), np.asarray(self.lags)
        carried[0] = 1.0
        for step in range(1, steps):
            back = lags[lags <= step]
            carried[step] = self.weights[: len(back)] @ carried[step - back]
        with np.errstate(over="ignore"):
            return self.sigma * np.sqrt(np.cumsum(carried**2))


def lags_of(seasons: Sequence[int], rows: int) -> tuple[int, ...]:
    """Lags for a history of so many rows, at most a third of them.

    These are the latest rows, a whole shortest season, its multiples up to the longest, and the longest's neighbours.
    """
    held = [season for season in sorted({*seasons} - {1}) if rows >= CYCLES * season + 5]
    lags = {1, 2, 3}
    for season in held:
        lags |= {season - 1, season, season + 1, *range(held[0], season + 1, held[0])}
    lags |= set(range(1, held[0] + 2)) if held else set()
    return tuple(sorted(lag for lag in lags if 1 <= lag <= max(1, rows // CYCLES)))


def _ridge(columns: Floats, target: Floats) -> tuple[Floats, float]:
    """Weights with the penalty of the lowest cross-validated error, the last column unpenalised; and that error."""
    rows = len(target)
    gram, right = columns.T @ columns, columns.T @ target
    free = np.ones(len(gram))
    free[-1] = 0.0
    best, lowest = np.zeros(len(gram)), np.inf
    for penalty in PENALTIES:
        inverse = np.linalg.inv(gram + np.diag(penalty * free))
        weights = inverse @ right
        spare = rows - float(np.sum(inverse * gram))  # the trace of their product: columns in use, after shrinking
        error = rows * float(np.sum((target - columns @ weights) ** 2)) / max(spare, 1.0) ** 2
        if error < lowest:
            best, lowest = weights, error
    return best, lowest


def fit_autoregression(rows: Rows, seasons: Sequence[int], *, log: bool) -> tuple[AutoregressionParameters, float]:
    """Find the weights on one scale.

    Returns:
        The parameters, and minus twice the log-likelihood per row on the scale of the data.
    """
    values = np.log(rows.y) if log else rows.y
    centre, spread = float(values.mean()), float(values.std())
    scaled = (values - centre) / spread
    columns, lags = Columns.of(rows.x), lags_of(seasons, len(values))
    first = lags[-1]
    back = [scaled[first - lag : len(scaled) - lag] for lag in lags]
    design = np.column_stack([*back, columns(rows.x)[first:], np.ones(len(scaled) - first)])
    weights, error = _ridge(design, scaled[first:])
    low, high = float(scaled.min()), float(scaled.max())
    bounds = (2 * low - high, 2 * high - low)
    params = AutoregressionParameters(log, lags, weights, columns, centre, spread, float(np.sqrt(error)), bounds)
    jacobian = 2 * float(values[first:].mean()) if log else 0.0
    return params, float(np.log(max(error * spread**2, np.finfo(float).tiny))) + jacobian


@per_series
@dataclass(frozen=True)
class Autoregression:
    """The next value from the latest ones and those of the same phase of each season: the hour, day and week before.

    One ridge regression per series: quick, knows several seasons, uses covariates. A forecast stays within the range of
    the history widened by once its width on both sides.

    Attributes:
        log: learn logarithms: true, false, or `auto`: where all values are positive and they are the likelier scale.
        seasons: steps; null takes all of the project's. Those that the history does not hold three times are left out.
        max_history: rows that a fit stands on, the newest; null takes 10 of the longest season, and at least 1000 rows.
    """

    log: bool | Literal["auto"] = "auto"
    seasons: tuple[int, ...] | None = None
    max_history: int | None = None

    def __post_init__(self) -> None:
        at_least(1, seasons=min(self.seasons or (1,)), max_history=self.max_history)

    def fit_series(self, series: Series, task: Task) -> Learned:
        """Find the weights.

        Raises:
            HistoryTooShort: fewer than 8 observations.
        """
        seasons = self.seasons or (task.season, *task.seasons)

        def fit(rows: Rows) -> AutoregressionParameters:
            positive = bool((rows.y > 0).all())
            scales = [False, True] if self.log == "auto" else [bool(self.log)]
            found = [fit_autoregression(rows, seasons, log=log and positive) for log in scales]
            return min(found, key=lambda each: each[1])[0]

        return learn(series, rows=history_rows(self.max_history, *seasons), fit=fit)

    def predict_series(self, params: Learned, series: Series, future: Series, task: Task) -> Floats:
        """Go on from the context's last values with the stored weights; nothing is searched for."""
        return carry_on(params, series, future, task)
