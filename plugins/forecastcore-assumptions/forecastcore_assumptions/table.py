"""Values that somebody wrote down: a forecast from elsewhere, a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the type of a parameter is read at run time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable
from forecastcore.issued import Issued, read

if TYPE_CHECKING:
    from forecastcore.api import Task

__all__ = ["Table", "columns_of", "table_of"]


@dataclass(frozen=True)
class Table:
    """A CSV or Parquet file or a Delta table: `ds`, a column per covariate, perhaps `unique_id` and `issued_at`.

    Without `unique_id` the values hold for every series. With `issued_at` only rows issued at or before the origin are
    used, of each `ds` the one issued last; so past origins are answered as they would have been then.

    Attributes:
        path: a `.csv` or `.parquet` file, or the folder of a Delta table.
        column: the file's column, where it is not named as the covariate; only with a single covariate.
        timezone: of times without an offset; by default the project's.
    """

    path: Path
    column: str | None = None
    timezone: str | None = None

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - the protocol's
        """The file's value of each asked row; `unique_id, ds, <covariates>`, row by row as `future`.

        Raises:
            AssumptionUnavailable: the file cannot be read, or has no value for an asked row; the first one is named.
        """
        columns = columns_of(self.path, self.column, task)
        table = self._dated(table_of(self.path, tuple(columns), self.timezone or task.timezone))
        found, _ = Issued(table, tuple(columns)).asof(future, task.origin)
        missing = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(missing):
            self._refuse(future.iloc[missing], len(future))
        return future[["unique_id", "ds"]].assign(**dict(zip(columns.values(), found.T, strict=True)))

    def _dated(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with `issued_at`; a plan without one has always been known."""
        if "issued_at" in table:
            return table
        keys = [key for key in ("unique_id", "ds") if key in table]
        twice = table[table.duplicated(keys)]
        if len(twice):
            msg = f"{self.path.name} has {twice['ds'].iloc[0]} more than once"
            raise AssumptionUnavailable(msg, hint="keep one row each, or add a column issued_at")
        return table.assign(issued_at=pd.Timestamp(0, tz="UTC"))

    def _refuse(self, missing: pd.DataFrame, asked: int) -> None:
        first = missing.sort_values("ds", kind="stable").iloc[0]
        msg = (
            f"{self.path.name} has no value for {len(missing)} of {asked} asked rows, first at {first['ds']}"
            f" for series {first['unique_id']!r}"
        )
        raise AssumptionUnavailable(msg, hint="add the missing rows to the file")


def columns_of(path: Path, column: str | None, task: Task) -> dict[str, str]:
    """The table's column -> the covariate it fills.

    Raises:
        AssumptionUnavailable: one column is named for several covariates.
    """
    if column is None:
        return {name: name for name in task.covariates}
    if len(task.covariates) != 1:
        names = ", ".join(map(repr, task.covariates))
        msg = f"column {column!r} of {path.name} cannot fill {names} all at once"
        raise AssumptionUnavailable(msg, hint="leave `column` out and name the file's columns as the covariates")
    return {column: task.covariates[0]}


def table_of(path: Path, columns: tuple[str, ...], timezone: str) -> pd.DataFrame:
    """What stands in a table; see `forecastcore.issued.read`.

    Raises:
        AssumptionUnavailable: it cannot be read.
    """
    try:
        return read(path, columns, timezone)
    except (OSError, ValueError) as error:
        msg = f"cannot use {path.name}: {error}"
        raise AssumptionUnavailable(msg, hint="mend the file, or assume the covariate otherwise") from error
