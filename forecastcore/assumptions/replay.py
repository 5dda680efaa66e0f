"""What would have been assumed at past origins: `Task.replay`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.frames import offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore.assumptions.filling import Assumptions
    from forecastcore.timegrid import TimeGrid

    Floats = npt.NDArray[np.float64]

__all__ = ["replayer"]


def replayer(
    assumptions: Assumptions, panel: pd.DataFrame, grid: TimeGrid, task: Task
) -> Callable[[Sequence[pd.Timestamp]], pd.DataFrame] | None:
    """What `Task.replay` is: covariates as they would have been assumed at past origins.

    Args:
        assumptions: all that the project assumes.
        panel: the frame contract, none later than `task.origin`.
        grid: the time grid.
        task: whose origin nothing may exceed.

    Returns:
        None where no covariate is assumed: the actual ones are then what will be known.
    """
    if not assumptions.guessed:
        return None
    replay = _Replay(assumptions, panel, grid, task)
    return lambda origins: pd.concat([replay.at(origin) for origin in origins], ignore_index=True)


class _Replay:
    """Past origins, one after the other.

    Weather is often the same in all series; it is then asked for once and not for each of them, if at the first origin
    that makes no difference to the answer.
    """

    def __init__(self, assumptions: Assumptions, panel: pd.DataFrame, grid: TimeGrid, task: Task) -> None:
        self._assumptions, self._panel, self._grid, self._task = assumptions, panel, grid, task
        self._guessed = list(assumptions.guessed)
        self._instants = panel["ds"].to_numpy(dtype="datetime64[ns]")
        self._one = self._longest()
        self._same: bool | None = None if self._all_alike() else False

    def at(self, origin: pd.Timestamp) -> pd.DataFrame:
        """`unique_id, origin, ds, step, <covariates>` of the rows after an origin that the panel has."""
        rows = self._later(self._panel, self._instants, origin)
        ahead = pd.DatetimeIndex(rows["ds"]).unique().sort_values()
        step = (ahead.get_indexer(pd.DatetimeIndex(rows["ds"])) + 1).astype(np.int32)
        if self._same is None:
            self._same = np.array_equal(self._alike(origin, rows), self._each(origin, rows), equal_nan=True)
        values = self._alike(origin, rows) if self._same else self._each(origin, rows)
        rows = rows.assign(**{name: values[:, n] for n, name in enumerate(self._guessed)})
        rows.insert(1, "origin", origin)
        rows.insert(3, "step", step)
        return rows[["unique_id", "origin", "ds", "step", *self._assumptions.names]]

    def _longest(self) -> pd.DataFrame:
        starts = offsets(self._panel)
        longest = int(np.argmax(np.diff(starts)))
        return self._panel.iloc[starts[longest] : starts[longest + 1]].reset_index(drop=True)

    def _all_alike(self) -> bool:
        place = np.searchsorted(self._one["ds"].to_numpy(dtype="datetime64[ns]"), self._instants)
        one, every = (frame[self._guessed].to_numpy(dtype=float) for frame in (self._one, self._panel))
        return bool(np.array_equal(one[place], every, equal_nan=True))

    def _later(self, panel: pd.DataFrame, instants: npt.NDArray[Any], origin: pd.Timestamp) -> pd.DataFrame:
        """Rows within the horizon after an origin, of the series that had begun by then."""
        last = self._grid.shift(origin, self._task.horizon).to_datetime64()
        begun = set(panel["unique_id"].to_numpy()[instants == origin.to_datetime64()].tolist())
        rows = panel[(instants > origin.to_datetime64()) & (instants <= last)]
        return rows[rows["unique_id"].isin(begun)].drop(columns="y").reset_index(drop=True)

    def _ask(self, origin: pd.Timestamp, panel: pd.DataFrame, rows: pd.DataFrame) -> Floats:
        past = panel[panel["ds"] <= origin]
        known = rows[["unique_id", "ds", *(c for c in rows.columns if c in self._assumptions.names)]]
        blank = rows[["unique_id", "ds"]].assign(step=rows.groupby("unique_id").cumcount().to_numpy(np.int32) + 1)
        asked = replace(self._task, origin=origin, replay=None)
        got = self._assumptions.only(self._guessed).ahead(past, known, blank, asked)
        return got.frame[self._guessed].to_numpy(dtype=float)

    def _each(self, origin: pd.Timestamp, rows: pd.DataFrame) -> Floats:
        return self._ask(origin, self._panel, rows)

    def _alike(self, origin: pd.Timestamp, rows: pd.DataFrame) -> Floats:
        one = self._later(self._one, self._one["ds"].to_numpy(dtype="datetime64[ns]"), origin)
        answer = self._ask(origin, self._one, one)
        return np.tile(answer, (len(rows) // max(len(one), 1), 1))
