"""Values that somebody wrote down: a forecast from elsewhere, a plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path  # noqa: TC003 - the type of a parameter is read at run time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable

if TYPE_CHECKING:
    from forecastcore.api import Task

__all__ = ["Table"]

_OFFSET = r"(?:Z|[+-]\d{2}(?::?\d{2})?)$"
_TIME_AND_OFFSET = r"\d:\d{2}.*" + _OFFSET


@dataclass(frozen=True)
class Table:
    """A CSV or Parquet file with the columns `ds`, one per covariate, and optionally `unique_id` and `issued_at`.

    Without `unique_id` the values hold for every series. With `issued_at` only rows issued at or before the origin are
    used, of each `ds` the one issued last; so past origins are answered as they would have been then.

    Attributes:
        path: a `.csv` or `.parquet` file.
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
        columns = self._columns(task)
        table = self._issued(self._read(tuple(columns), task.timezone), task.origin)
        keys = [key for key in ("unique_id", "ds") if key in table]
        asked = future[["unique_id", "ds"]].assign(ds=pd.DatetimeIndex(future["ds"]).as_unit("ns"))
        found = asked.merge(table, on=keys, how="left")[list(columns)].to_numpy(dtype=float)
        missing = ~np.isfinite(found).all(axis=1)
        if missing.any():
            self._refuse(asked[missing], len(asked))
        return future[["unique_id", "ds"]].assign(**dict(zip(columns.values(), found.T, strict=True)))

    def _columns(self, task: Task) -> dict[str, str]:
        """The file's column -> the covariate it fills."""
        if self.column is None:
            return {name: name for name in task.covariates}
        if len(task.covariates) != 1:
            names = ", ".join(map(repr, task.covariates))
            msg = f"column {self.column!r} of {self.path.name} cannot fill {names} all at once"
            raise AssumptionUnavailable(msg, hint="leave `column` out and name the file's columns as the covariates")
        return {self.column: task.covariates[0]}

    def _read(self, columns: tuple[str, ...], timezone: str) -> pd.DataFrame:
        try:
            changed = self.path.stat().st_mtime_ns
            return _read(self.path, changed, columns, self.timezone or timezone)
        except (OSError, ValueError) as error:
            msg = f"cannot use {self.path.name}: {error}"
            raise AssumptionUnavailable(msg, hint="mend the file, or assume the covariate otherwise") from error

    def _issued(self, table: pd.DataFrame, origin: pd.Timestamp) -> pd.DataFrame:
        """The latest row known at the origin per series and instant."""
        keys = [key for key in ("unique_id", "ds") if key in table]
        if "issued_at" in table:
            known = table[table["issued_at"] <= origin].sort_values("issued_at", kind="stable")
            return known.drop_duplicates(keys, keep="last").drop(columns="issued_at")
        twice = table[table.duplicated(keys)]
        if len(twice):
            msg = f"{self.path.name} has {twice['ds'].iloc[0]} more than once"
            raise AssumptionUnavailable(msg, hint="keep one row each, or add a column issued_at")
        return table

    def _refuse(self, missing: pd.DataFrame, asked: int) -> None:
        first = missing.sort_values("ds", kind="stable").iloc[0]
        msg = (
            f"{self.path.name} has no value for {len(missing)} of {asked} asked rows, first at {first['ds']}"
            f" for series {first['unique_id']!r}"
        )
        raise AssumptionUnavailable(msg, hint="add the missing rows to the file")


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, columns: tuple[str, ...], timezone: str) -> pd.DataFrame:  # noqa: ARG001 - a changed file is another key
    """The file's `ds`, the named columns as floats, and `unique_id` and `issued_at` where it has them."""
    table = _file(path)
    absent = [name for name in ("ds", *columns) if name not in table]
    if absent:
        msg = f"it has no column {', '.join(map(repr, absent))}; it has {', '.join(map(repr, table.columns))}"
        raise ValueError(msg)
    kept: dict[str, pd.Series | pd.DatetimeIndex] = {name: pd.to_numeric(table[name]).astype(float) for name in columns}
    kept["ds"] = _instants(table["ds"], timezone)
    if "issued_at" in table:
        kept["issued_at"] = _instants(table["issued_at"], timezone)
    if "unique_id" in table:
        kept["unique_id"] = table["unique_id"].astype(str)
    return pd.DataFrame(kept)


def _file(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"unique_id": str, "ds": str, "issued_at": str})
    msg = f"a table is a .csv or .parquet file, not {path.suffix or 'one without an ending'}"
    raise ValueError(msg)


def _instants(times: pd.Series, timezone: str) -> pd.DatetimeIndex:
    """Times as UTC; those without an offset are on the clock of `timezone`."""
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return pd.DatetimeIndex(times).tz_convert("UTC").as_unit("ns")
    if pd.api.types.is_datetime64_dtype(times):
        return _localized(pd.DatetimeIndex(times), timezone)
    words = times.astype(str)
    told = words.str.contains(_TIME_AND_OFFSET)
    if told.any() and not told.all():
        msg = f"{times.name} {words[~told].iloc[0]!r} has no offset from UTC, others have one; write all times alike"
        raise ValueError(msg)
    parsed = pd.DatetimeIndex(pd.to_datetime(words, utc=bool(told.all()), format="ISO8601"))
    return parsed.as_unit("ns") if parsed.tz is not None else _localized(parsed, timezone)


def _localized(times: pd.DatetimeIndex, timezone: str) -> pd.DatetimeIndex:
    """Wall-clock times as UTC; a day whose midnight happens twice begins the first time."""
    if times.hasnans:
        msg = "a time is empty"
        raise ValueError(msg)
    dates = bool((times == times.normalize()).all())
    ambiguous: Any = np.ones(len(times), dtype=bool) if dates else "NaT"
    local = times.as_unit("ns").tz_localize(timezone, nonexistent="shift_forward", ambiguous=ambiguous)
    if local.hasnans:
        msg = (
            f"{times[local.isna()][0]} happens twice in {timezone}; write times with an offset: 2024-10-27T02:30+01:00"
        )
        raise ValueError(msg)
    return local.tz_convert("UTC")
