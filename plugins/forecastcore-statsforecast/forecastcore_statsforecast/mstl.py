"""Several seasons taken out by loess (MSTL), and a model of the rest.

Bandara, Hyndman & Bergmeir (2021), MSTL: a seasonal-trend decomposition algorithm for time series with multiple
seasonal patterns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from forecastcore.api import per_series
from forecastcore_statsforecast.arima import MIN_HISTORY, fit_arima
from forecastcore_statsforecast.common import Core, Learned, at_least, carry_on, history_rows, learn
from forecastcore_statsforecast.ets import fit_ets
from forecastcore_statsforecast.theta import fit_theta

if TYPE_CHECKING:
    from forecastcore.api import Series, Task
    from forecastcore_statsforecast.common import Floats, Rows

__all__ = ["Mstl"]


def _rest(rows: Rows, trend: str) -> Core:
    if trend == "arima":
        return fit_arima(rows, 1, approximation=True)
    if trend == "theta":
        return fit_theta(rows.y, 1, "DOTM")
    return fit_ets(rows.y, 1, "ZZN")


@per_series
@dataclass(frozen=True)
class Mstl:
    """All seasons of the project taken out, such as day and week; what is left is forecast by a model without season.

    The decomposition is a fixed recipe: predict applies it to the newest context, and the stored model to the rest.

    Attributes:
        trend: the model of the rest: `ets`, `arima` or `theta`.
        seasons: steps; null takes all of the project's. Those that the history does not hold twice are left out.
        log: decompose logarithms (seasons grow with the level) of positive series; `auto`: where they are likelier.
        max_history: rows that a fit stands on, the newest; null takes 10 of the longest season, and at least 1000 rows.
    """

    trend: Literal["ets", "arima", "theta"] = "ets"
    seasons: tuple[int, ...] | None = None
    log: bool | Literal["auto"] = "auto"
    max_history: int | None = None

    def __post_init__(self) -> None:
        at_least(1, seasons=min(self.seasons or (1,)), max_history=self.max_history)

    def fit_series(self, series: Series, task: Task) -> Learned:
        """Take out the seasons and fit the model of the rest.

        Raises:
            HistoryTooShort: fewer than 12 observations.
        """
        seasons = self.seasons or (task.season, *task.seasons)
        return learn(
            series,
            rows=history_rows(self.max_history, *seasons),
            periods=seasons,
            fit=lambda rows: _rest(rows, self.trend),
            log=self.log,
            least=MIN_HISTORY,
        )

    def predict_series(self, params: Learned, series: Series, future: Series, task: Task) -> Floats:
        """Decompose the context by the same recipe, and let the stored model go on; nothing is searched for."""
        return carry_on(params, series, future, task)
