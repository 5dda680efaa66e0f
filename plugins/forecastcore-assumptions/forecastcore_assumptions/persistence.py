"""What was last is what will be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore_assumptions.panel import Asked, Clock, Past, answer

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.api import Task
    from forecastcore_assumptions.panel import Floats, Ints

__all__ = ["Persistence"]


@dataclass(frozen=True)
class Persistence:
    """The last observed value, or the last one of the same phase.

    A phase that was never observed takes the series' last value; a series that was never observed takes what the mean
    of all series says.

    Attributes:
        season: steps; the last observation of the same phase of a season that ends at the origin. 1 is the last value.
        daily: the last observation at the same local time of day instead.
    """

    season: int = 1
    daily: bool = False

    def __post_init__(self) -> None:
        if self.season < 1:
            msg = f"season must be 1 or more, not {self.season}"
            raise ValueError(msg)
        if self.daily and self.season > 1:
            msg = "give season or daily, not both"
            raise ValueError(msg)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """See the class; `unique_id, ds, <covariates>`, row by row as `future`.

        Raises:
            AssumptionUnavailable: a covariate was never observed.
        """

        def values(past: Past, asked: Asked, clock: Clock) -> Floats:
            if self.daily:
                phases = clock.time_of_day(clock.wall(past.ds)), clock.time_of_day(clock.wall(asked.ds))
                return _last_of_phase(past, asked, *phases, clock.bins)
            ahead = np.concatenate([past.ds, asked.ds])
            steps = clock.steps_after(task.origin, ahead) % self.season
            return _last_of_phase(past, asked, steps[: len(past.ds)], steps[len(past.ds) :], self.season)

        return answer(history, future, task, values)


def _last_of_phase(past: Past, asked: Asked, phase: Ints, asked_phase: Ints, phases: int) -> Floats:
    values = np.empty((len(asked.ds), past.x.shape[1]))
    for number, column in enumerate(past.x.T):
        seen = np.isfinite(column)
        last = np.full(past.count, np.nan)
        last[past.series[seen]] = column[seen]  # ascending in time: the latest is written last and stays
        table = np.repeat(last[:, None], phases, axis=1)
        table[past.series[seen], phase[seen]] = column[seen]
        values[:, number] = table[asked.series, asked_phase]
    return values
