"""What-ifs: another assumption's values, changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.errors import PluginError

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.api import Task

__all__ = ["Scale", "Shift"]


@dataclass(frozen=True)
class Shift:
    """Another assumption's values, plus a constant: five degrees warmer.

    Attributes:
        of: name of the other assumption.
        add: in the covariate's unit.
    """

    of: str
    add: float

    def __post_init__(self) -> None:
        _finite("add", self.add)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - the protocol's
        """The values that `future` holds, plus `add`."""
        return _changed(future, task, 1.0, self.add)


@dataclass(frozen=True)
class Scale:
    """Another assumption's values, times a constant: prices ten percent up.

    Attributes:
        of: name of the other assumption.
        factor: 1.1 is ten percent more.
    """

    of: str
    factor: float

    def __post_init__(self) -> None:
        _finite("factor", self.factor)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - the protocol's
        """The values that `future` holds, times `factor`."""
        return _changed(future, task, self.factor, 0.0)


def _finite(name: str, value: float) -> None:
    if not np.isfinite(value):
        msg = f"{name} must be a finite number, not {value}"
        raise ValueError(msg)


def _changed(future: pd.DataFrame, task: Task, factor: float, add: float) -> pd.DataFrame:
    missing = [name for name in task.covariates if name not in future]
    if missing:
        msg = f"the assumption that this one stands on gave no values of {', '.join(map(repr, missing))}"
        raise PluginError(msg, hint="name under `of:` an assumption that fills the same covariates")
    changed = {name: factor * future[name].astype(float) + add for name in task.covariates}
    return future[["unique_id", "ds"]].assign(**changed)
