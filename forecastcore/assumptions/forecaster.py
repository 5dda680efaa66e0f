"""A model lent to an assumption, so that it can forecast a covariate like any other series."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore import guard
from forecastcore.errors import AssumptionUnavailable

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Model, Task
    from forecastcore.guard import Offered

    Floats = npt.NDArray[np.float64]

__all__ = ["Forecaster"]

#: answers kept per process; candidates and folds ask the same questions again
_KEPT = 512


@dataclass(frozen=True, eq=False)
class Forecaster:
    """Fits a model on what is known at an origin and forecasts from there; the same question is worked out once.

    Attributes:
        offered: the model's offer.
        model: the model, its parameters set.
    """

    offered: Offered
    model: Model
    _kept: OrderedDict[bytes, Floats] = field(default_factory=OrderedDict)

    def __call__(self, history: pd.DataFrame, future: pd.DataFrame, *, task: Task) -> pd.DataFrame:
        """See `Task.forecast`.

        Raises:
            AssumptionUnavailable: the model can forecast none of the series.
        """
        key = _digest(history, future, task)
        if key not in self._kept:
            self._kept[key] = self._worked_out(history, future, task)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return future[["unique_id", "ds"]].assign(forecast=self._kept[key])

    def _worked_out(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> Floats:
        asked = replace(task, covariates=(), replay=None, forecast=None, horizon=int(future["step"].max()))
        screened = guard.screen(history, 1.0)
        able = history[~history["unique_id"].isin(list(screened))].reset_index(drop=True)
        fitted, failures = guard.fit(self.offered, self.model, able, asked) if len(able) else (None, {})
        local = self.offered.spec.capabilities.scope == "local"
        ids = tuple(uid for uid in able["unique_id"].unique() if uid not in failures)
        part = guard.Part(ids if local else None, fitted, failures)
        answer = guard.answer(self.offered, [part], history, future, asked, screened)
        constant = [uid for uid, reason in screened.items() if reason == "constant-history"]
        last = history[history["unique_id"].isin(constant)].groupby("unique_id")["y"].last()
        forecast = np.where(
            np.isfinite(answer.forecast), answer.forecast, future["unique_id"].map(last).to_numpy(dtype=float)
        )
        if len(future) and not np.isfinite(forecast).any():
            reason, _ = Counter(answer.failures.values()).most_common(1)[0]
            raise AssumptionUnavailable(f"{self.offered.spec.name} can forecast none of the series: {reason}")
        return np.asarray(forecast)


def _digest(history: pd.DataFrame, future: pd.DataFrame, task: Task) -> bytes:
    """Equal for equal questions."""
    told = hashlib.blake2b(repr((task.origin, task.seasons, task.seed)).encode(), digest_size=16)
    for frame in (history[["unique_id", "ds", "y"]], future[["unique_id", "ds", "step"]]):
        told.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return told.digest()
