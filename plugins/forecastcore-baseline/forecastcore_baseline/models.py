"""Seasonal naive and naive over a whole chunk of series at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Task

__all__ = ["FittedSeasonalNaive", "Naive", "SeasonalNaive"]


@dataclass(frozen=True)
class FittedSeasonalNaive:
    """Nothing but the season; what is repeated comes from the context, so newer data is used as soon as it is there.

    Attributes:
        season: steps.
    """

    season: int

    def predict(self, context: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - the protocol's
        """For each asked row the latest observed value of the same phase of the season.

        Args:
            context: `unique_id, ds, y`, each series without holes up to the origin, NaN where missing.
            future: `unique_id, ds, step`; any of the context's series, any steps.
            task: not needed.

        Returns:
            `unique_id, ds, forecast`, row by row as `future`. A phase that was never observed takes the series' last
            observed value; a series without any observation gets NaN.
        """
        ids, names = pd.factorize(context["unique_id"].to_numpy())
        asked = pd.Index(names).get_indexer(future["unique_id"].to_numpy())
        steps = future["step"].to_numpy()
        table = self._latest(ids, len(names), context["y"].to_numpy(dtype=float), int(steps.max(initial=1)))
        return future[["unique_id", "ds"]].assign(forecast=table[asked, (steps - 1) % self.season])

    def _latest(
        self, ids: npt.NDArray[np.intp], series: int, y: npt.NDArray[np.float64], horizon: int
    ) -> npt.NDArray[np.float64]:
        """Latest value by series and phase, shape (series + 1, phases); the last row is of the unknown series: NaN."""
        phases = min(self.season, horizon)
        ends = np.cumsum(np.bincount(ids, minlength=series))
        phase = (np.arange(len(ids)) - ends[ids]) % self.season
        seen = np.isfinite(y)
        last = np.full(series + 1, np.nan)
        last[ids[seen]] = y[seen]  # where a place is written repeatedly, the last one written stays
        table = np.repeat(last[:, None], phases, axis=1)
        used = seen & (phase < phases)
        table[ids[used], phase[used]] = y[used]
        return table


@dataclass(frozen=True)
class SeasonalNaive:
    """Repeats the last season: the same hour of yesterday, the same day of last week.

    Attributes:
        season: steps of the season; by default the project's. 1 repeats the last value.
    """

    season: int | None = None

    def __post_init__(self) -> None:
        if self.season is not None and self.season < 1:
            msg = f"season must be 1 or more, not {self.season}"
            raise ValueError(msg)

    def fit(self, history: pd.DataFrame, task: Task) -> FittedSeasonalNaive:  # noqa: ARG002 - nothing is learned
        """Choose the season; nothing is learned from `history`."""
        return FittedSeasonalNaive(self.season or task.season)


@dataclass(frozen=True)
class Naive:
    """Repeats the last observed value."""

    def fit(self, history: pd.DataFrame, task: Task) -> FittedSeasonalNaive:  # noqa: ARG002 - nothing is learned
        """Nothing is learned."""
        return FittedSeasonalNaive(1)
