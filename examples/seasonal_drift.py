"""A model of one's own: the last season again, moved on by the drift from season to season."""

from dataclasses import dataclass

import numpy as np

from forecastcore.api import ModelSpec, hookimpl, per_series
from forecastcore.errors import HistoryTooShort
from forecastcore.naive import repeat_season


@per_series
@dataclass(frozen=True)
class SeasonalDrift:
    seasons: int = 8  # a parameter: `seasons: 4` beside `type` sets it, `grid: {seasons: [4, 8]}` searches over it

    def fit_series(self, series, task):
        season = task.seasons[-1]
        if len(series.y) <= season:
            raise HistoryTooShort(season + 1, len(series.y))
        rises = series.y[season:] - series.y[:-season]
        return {"rise": float(np.median(rises[-self.seasons * season :]))}

    def predict_series(self, params, series, future, task):
        laps = np.arange(len(future.ds)) // task.seasons[-1] + 1
        return repeat_season(series.y, task.seasons[-1], len(future.ds)) + params["rise"] * laps


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="seasonal-drift", summary="last season plus drift", factory=SeasonalDrift)
