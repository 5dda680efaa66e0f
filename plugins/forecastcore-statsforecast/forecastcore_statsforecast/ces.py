"""Complex exponential smoothing, its kind of season chosen by AICc, by statsforecast.

Svetunkov, Kourentzes & Ord (2022), Complex exponential smoothing, Naval Research Logistics 69(8), 1108-1123.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from forecastcore.api import per_series
from forecastcore.errors import PluginError
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

__all__ = ["AutoCes", "CesParameters", "fit_ces"]

LONGEST_SEASON = 24  # each step of the search carries a whole season of states


@dataclass(frozen=True)
class CesParameters:
    """What was learned of one series.

    Attributes:
        kind: `N` no season, `S` simple, `P` partial, `F` full.
        season: steps; 1 without.
        rates: real and imaginary part of alpha and of beta; NaN where the kind lacks them; shape (4,).
    """

    kind: str
    season: int
    rates: Floats

    @property
    def reach(self) -> int:
        """Two seasons, to read first states off."""
        return max(MIN_HISTORY, 2 * self.season + 1)

    def ahead(self, rows: Rows, _quantiles: Sequence[float]) -> Floats:
        """Smooth the rows with the stored rates and go on from the last state; no quantiles."""
        ces = library("ces")
        alpha_0, alpha_1, beta_0, beta_1 = self.rates
        given = {"alpha_0": alpha_0, "alpha_1": alpha_1, "beta_0": beta_0, "beta_1": beta_1}
        fitted = ces.cesmodel(rows.y, self.season, self.kind, **given, nmse=ONE_STEP)
        return np.asarray(ces.forecast_ces(fitted, len(rows.ahead))["mean"])


def fit_ces(y: Floats, season: int, kind: str = "Z") -> CesParameters:
    """Choose the kind by AICc and find its rates."""
    try:
        found = library("ces").auto_ces(y, m=season, model=kind, nmse=ONE_STEP)
    except Exception as error:
        msg = f"{error}; a season that repeats itself exactly has no likelihood to compare"
        raise PluginError(msg, plugin="auto-ces") from error
    rates = np.array([found["par"][name] for name in ("alpha_0", "alpha_1", "beta_0", "beta_1")], dtype=float)
    return CesParameters(found["seasontype"], int(found["m"]), rates)


@per_series
@dataclass(frozen=True)
class AutoCes:
    """Complex exponential smoothing, its kind of season chosen by AICc, each series for itself.

    A season longer than 24 steps is taken out by STL first.

    Attributes:
        kind: `N` no season, `S` simple, `P` partial, `F` full, `Z` chooses.
        season: steps; null takes the project's season, 1 none.
        max_history: rows that a fit stands on, the newest; null takes 10 seasons, and at least 1000 rows.
    """

    kind: Literal["N", "S", "P", "F", "Z"] = "Z"
    season: int | None = None
    max_history: int | None = None

    def __post_init__(self) -> None:
        at_least(1, season=self.season, max_history=self.max_history)

    def fit_series(self, series: Series, task: Task) -> Learned:
        """Choose the kind and fit it.

        Raises:
            HistoryTooShort: fewer than 8 observations.
        """
        season = self.season or task.season
        long = season > LONGEST_SEASON
        return learn(
            series,
            rows=history_rows(self.max_history, season),
            periods=(season,) if long else (),
            fit=lambda rows: fit_ces(rows.y, 1 if long else season, self.kind),
        )

    def predict_series(self, params: Learned, series: Series, future: Series, task: Task) -> Floats:
        """Smooth the context with the stored rates and look ahead from its end; nothing is searched for."""
        return carry_on(params, series, future, task)
