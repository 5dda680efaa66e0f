"""A model lent to an assumption, so that it can forecast a covariate like any other series."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from forecastcore import guard
from forecastcore.errors import AssumptionUnavailable
from forecastcore.guard import Part
from forecastcore.timegrid import TimeGrid

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from forecastcore.api import Model, Task
    from forecastcore.guard import Offered

    Floats = npt.NDArray[np.float64]

__all__ = ["Forecaster"]

#: fitted models and answers kept per process; candidates and folds ask the same questions again
_KEPT = 512
T = TypeVar("T")


class _Memory(OrderedDict[bytes, T]):
    """What was worked out, the newest of it."""

    def get_or(self, key: bytes, work: Callable[[], T]) -> T:
        """What is kept under a key, or what `work` returns, which is kept from then on."""
        if key not in self:
            self[key] = work()
            if len(self) > _KEPT:
                self.popitem(last=False)
        return self[key]


@dataclass(frozen=True, eq=False)
class Forecaster:
    """A model fitted on what is known at an origin, forecasting from there.

    It is fitted anew once per horizon of time, at instants that hang on nothing but the calendar, and in between the
    parameters are applied to the newer data, as in service: so that replaying a year of origins does not fit a thousand
    models. The same question is worked out once.

    Attributes:
        offered: the model's offer.
        model: the model, its parameters set.
    """

    offered: Offered
    model: Model
    _parts: _Memory[Part] = field(default_factory=_Memory)
    _answers: _Memory[Floats] = field(default_factory=_Memory)

    def __call__(self, history: pd.DataFrame, future: pd.DataFrame, *, task: Task) -> pd.DataFrame:
        """See `Task.forecast`.

        Raises:
            AssumptionUnavailable: the model can forecast none of the series.
        """
        asked = replace(task, covariates=(), replay=None, forecast=None)
        key = _digest(asked, history[["unique_id", "ds", "y"]], future[["unique_id", "ds", "step"]])
        forecast = self._answers.get_or(key, lambda: self._forecast(history, future, asked))
        return future[["unique_id", "ds"]].assign(forecast=forecast)

    def _forecast(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> Floats:
        learnt = _upto_refit(history, task)
        at = replace(task, origin=learnt["ds"].max())
        key = _digest(at, learnt[["unique_id", "ds", "y"]])
        part = self._parts.get_or(key, lambda: self._fit(learnt, at))
        screened = guard.screen(history, 1.0)
        answer = guard.answer(self.offered, [part], history, future, task, screened)
        constant = [uid for uid, reason in screened.items() if reason == "constant-history"]
        last = history[history["unique_id"].isin(constant)].groupby("unique_id")["y"].last()
        forecast = np.where(
            np.isfinite(answer.forecast), answer.forecast, future["unique_id"].map(last).to_numpy(dtype=float)
        )
        if len(future) and not np.isfinite(forecast).any():
            reason, _ = Counter(answer.failures.values()).most_common(1)[0]
            raise AssumptionUnavailable(f"{self.offered.spec.name} can forecast none of the series: {reason}")
        return np.asarray(forecast)

    def _fit(self, history: pd.DataFrame, task: Task) -> Part:
        screened = guard.screen(history, 1.0)
        able = history[~history["unique_id"].isin(list(screened))].reset_index(drop=True)
        fitted, failures = guard.fit(self.offered, self.model, able, task) if len(able) else (None, {})
        ids = tuple(uid for uid in able["unique_id"].unique() if uid not in failures)
        return Part(ids if self.offered.spec.capabilities.scope == "local" else None, fitted, failures)


def _upto_refit(history: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The history up to the last time to refit; all of it where that would leave out the half of a series."""
    grid = TimeGrid(task.frequency, task.timezone)
    span = grid.shift(task.origin, task.horizon) - task.origin
    until = pd.Timestamp(task.origin.as_unit("ns").value // span.value * span.value, tz="UTC")
    learnt = history[history["ds"] <= until]
    rows, kept = history["unique_id"].value_counts(), learnt["unique_id"].value_counts()
    few = kept.reindex(rows.index).fillna(0) < rows / 2
    return history if not grid.fixed or few.any() else learnt.reset_index(drop=True)


def _digest(task: Task, *frames: pd.DataFrame) -> bytes:
    """Equal for equal questions."""
    told = hashlib.blake2b(repr(task).encode(), digest_size=16)
    for frame in frames:
        told.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return told.digest()
