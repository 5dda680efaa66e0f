"""Forecasts of the covariates that were kept, each with the time it was issued."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path  # noqa: TC003 - the type of a parameter is read at run time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable
from forecastcore.issued import Issued, changed
from forecastcore.timegrid import duration
from forecastcore_assumptions.table import columns_of, table_of

if TYPE_CHECKING:
    from forecastcore.api import Task

__all__ = ["Archive"]


@dataclass(frozen=True)
class Archive:
    """Archived forecasts: a CSV or Parquet file or a Delta table with `ds`, `issued_at` and a column per covariate.

    Of each instant and covariate the forecast issued last counts, among those that could be had at the origin. A past
    origin is so answered as it would have been then: step h by what was said h steps before. With `unique_id` the rows
    hold for that series, without for every one. Where the archive has nothing it says nothing, so that the next link of
    a chain can.

    Attributes:
        path: a `.csv` or `.parquet` file or a folder of such, or the folder of a Delta table.
        column: the table's column, where it is not named as the covariate (often `value`); only with one covariate.
        available_after: how long after `issued_at` a forecast could be had, such as `3h`: weather forecasts are out
            hours after the time they start from.
        timezone: of times without an offset; by default the project's.
    """

    path: Path
    column: str | None = None
    available_after: str = "0h"
    timezone: str | None = None

    def __post_init__(self) -> None:
        duration("available_after", self.available_after)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - the protocol's
        """The archive's value of each asked row, NaN where it has none; `issued_at` is that of the oldest covariate.

        Raises:
            AssumptionUnavailable: the archive cannot be read, or has no value for any asked row.
        """
        columns = columns_of(self.path, self.column, task)
        try:
            stamp = changed(self.path)
        except OSError as error:
            raise AssumptionUnavailable(f"cannot use {self.path.name}: {error}") from error
        zone = self.timezone or task.timezone
        values, issued = _opened(self.path, stamp, tuple(columns), zone, self.available_after).asof(future, task.origin)
        if len(future) and not np.isfinite(values).any():
            msg = f"{self.path.name} has no forecast for any asked row that could be had at {task.origin}"
            raise AssumptionUnavailable(msg, hint="see whether the archive is still written to")
        oldest = pd.DataFrame(issued).min(axis=1).dt.tz_localize("UTC").array
        answer = future[["unique_id", "ds"]].assign(**dict(zip(columns.values(), values.T, strict=True)))
        return answer.assign(issued_at=oldest)


@lru_cache(maxsize=8)
def _opened(path: Path, stamp: int, columns: tuple[str, ...], timezone: str, late: str) -> Issued:  # noqa: ARG001 - a changed file is another key
    table = table_of(path, columns, timezone)
    if "issued_at" not in table:
        msg = f"{path.name} has no column 'issued_at'"
        raise AssumptionUnavailable(msg, hint="add it, or use {type: table} for a plan that never changes")
    return Issued(table, columns, duration("available_after", late))
