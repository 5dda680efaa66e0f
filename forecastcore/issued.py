"""Values that were written down, and when: tables with `ds`, perhaps `issued_at`, read and asked as of an origin.

A table of forecasts holds each instant many times, once for each time it was forecast. As of an origin only what had
been issued by then counts, and of that the newest: so a step of h is answered by what was said h steps before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.timegrid import say_an_offset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Instants = npt.NDArray[np.datetime64]

__all__ = ["Issued", "changed", "read"]

_LOG = "_delta_log"


@dataclass(frozen=True, eq=False)
class Issued:
    """A table that can be asked as of any origin, in a time that does not grow with the table.

    Attributes:
        frame: `ds`, `issued_at`, optionally `unique_id`, and columns of values; instants in UTC, in any order. Without
            `unique_id` a row holds for every series.
        columns: the columns of values.
        available_after: how long after `issued_at` a row could be had; None: at once.
    """

    frame: pd.DataFrame
    columns: tuple[str, ...]
    available_after: pd.Timedelta | None = None

    def asof(self, future: pd.DataFrame, origin: pd.Timestamp) -> tuple[Floats, Instants]:
        """What was said last of each row, of all that could be had at the origin, and when it was issued.

        Args:
            future: `unique_id, ds`.
            origin: UTC.

        Returns:
            Two arrays of shape (rows, columns): values, NaN where nothing had been said; instants, NaT there.
        """
        values = np.full((len(future), len(self.columns)), np.nan)
        issued = np.full(values.shape, np.datetime64("NaT", "ns"))
        group = self._group_of(future)
        latest = origin if self.available_after is None else origin - self.available_after
        known = np.searchsorted(self._times, latest.as_unit("ns").to_datetime64(), "right")
        for number, (key, said) in enumerate(self._index):
            place = np.searchsorted(key, group * self._ranks + known) - 1
            found = (group >= 0) & (place >= 0)
            found[found] = key[place[found]] // self._ranks == group[found]
            values[found, number] = said[place[found]]
            issued[found, number] = self._times[key[place[found]] % self._ranks]
        return values, issued

    @cached_property
    def _times(self) -> Instants:
        """Every instant at which something was issued, ascending."""
        return np.unique(self.frame["issued_at"].to_numpy(dtype="datetime64[ns]"))

    @property
    def _ranks(self) -> int:
        return len(self._times) + 1

    @cached_property
    def _axes(self) -> tuple[pd.Index, pd.Index]:
        """Series, where the table tells them apart, and instants."""
        ids = pd.Index(self.frame["unique_id"].unique()) if "unique_id" in self.frame else pd.Index([])
        return ids, pd.Index(np.unique(self.frame["ds"].to_numpy(dtype="datetime64[ns]")))

    def _group_of(self, frame: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Number of each row's series and instant; -1 where the table has none of them."""
        ids, instants = self._axes
        at = instants.get_indexer(pd.Index(frame["ds"].to_numpy(dtype="datetime64[ns]")))
        series = ids.get_indexer(pd.Index(frame["unique_id"])) if "unique_id" in self.frame else np.zeros_like(at)
        group = series.astype(np.int64) * len(instants) + at
        return np.asarray(np.where((at < 0) | (series < 0), -1, group))

    @cached_property
    def _index(self) -> list[tuple[npt.NDArray[np.int64], Floats]]:
        """For each column its values in the order of (series and instant, time of issue), and that order's keys."""
        rank = np.searchsorted(self._times, self.frame["issued_at"].to_numpy(dtype="datetime64[ns]"))
        key = self._group_of(self.frame) * self._ranks + rank
        order = np.argsort(key, kind="stable")  # of equal ones the last in the table stays last, and is the one found
        index = []
        for column in self.columns:
            said = self.frame[column].to_numpy(dtype=float)[order]
            told = np.isfinite(said)
            index.append((key[order][told], said[told]))
        return index


def changed(path: Path) -> int:
    """A number that is another one when the file, folder or Delta table has changed.

    Raises:
        OSError: there is none.
    """
    log = path / _LOG
    return (log if log.is_dir() else path).stat().st_mtime_ns


def read(path: Path, columns: Sequence[str], timezone: str) -> pd.DataFrame:
    """`ds`, the named columns as floats, and `unique_id` and `issued_at` where the table has them.

    Args:
        path: a `.csv` file, a `.parquet` file or folder of them, or the folder of a Delta table.
        columns: columns of values.
        timezone: of times without an offset.

    Raises:
        OSError: it cannot be read.
        ValueError: it lacks a column, or what stands in one is no number or no time.
    """
    return _read(path, changed(path), tuple(columns), timezone)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, columns: tuple[str, ...], timezone: str) -> pd.DataFrame:  # noqa: ARG001 - a changed file is another key
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
    if (path / _LOG).is_dir():
        return _delta(path)
    if path.suffix == ".parquet" or path.is_dir():
        return pd.read_parquet(path)
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"unique_id": str, "ds": str, "issued_at": str})
    msg = f"a table is a .csv or .parquet file or a Delta table, not {path.suffix or 'one without an ending'}"
    raise ValueError(msg)


def _delta(path: Path) -> pd.DataFrame:
    try:
        from deltalake import DeltaTable
    except ImportError as error:
        msg = "a Delta table needs the package deltalake (pip install forecastcore-delta)"
        raise ValueError(msg) from error
    frame: pd.DataFrame = DeltaTable(path).to_pyarrow_table().to_pandas()
    return frame


def _instants(times: pd.Series, timezone: str) -> pd.DatetimeIndex:
    """Times as UTC; those without an offset are on the clock of `timezone`."""
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return pd.DatetimeIndex(times).tz_convert("UTC").as_unit("ns")
    if pd.api.types.is_datetime64_dtype(times):
        return _localized(pd.DatetimeIndex(times), timezone)
    words, told = times.astype(str), say_an_offset(times)
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
