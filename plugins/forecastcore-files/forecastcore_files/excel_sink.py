"""The newest forecast as a workbook for people, made from vintages that are kept as Parquet files."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path  # noqa: TC003 - the host reads the annotation
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd
import pyarrow as pa

from forecastcore.errors import SinkError
from forecastcore.vintages import empty_vintage, is_quantile
from forecastcore_files.locks import locked
from forecastcore_files.parquet_sink import ParquetSink
from forecastcore_files.staging import replace, staged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import IO

    from forecastcore.api import Published
    from forecastcore.vintages import VintageRef

__all__ = ["ExcelSink"]

#: rows of a sheet, less that of the titles; characters of a cell
_ROWS: Final = 1_048_575
_CHARACTERS: Final = 32_767
_QUALITY: Final = {"ok": "good", "degraded": "substitute", "failed": "none"}
#: day 0 of a spreadsheet
_EPOCH: Final = pd.Timestamp("1899-12-30")
_KEY: Final = ["project", "unique_id", "scenario", "ds"]
_MEANINGS: Final = {
    "unique_id": "the series",
    "valid_time_local": "the moment that is forecast, on the wall clock of {timezone}",
    "forecast": "what is expected; empty where there is no forecast",
    "changed_since_last": "forecast less what the vintage before said of the same moment; empty where it said nothing",
    "quality": "good; substitute: a simpler method had to step in; none: no forecast could be made",
    "remark": "why the quality is not good",
    "assumption_source": "what stood in for what cannot be known yet, such as next week's weather",
    "scenario": "base, or a what-if of the project",
    "issued_at_local": "the last moment whose information was used, on the wall clock of {timezone}",
    "valid_time_utc": "the moment that is forecast, in UTC: hours that the wall clock shows twice are apart here",
    "step": "how far ahead, counted from the origin",
    "model": "the kind of model",
    "model_version": "the registered version",
    "project": "the project",
}


@dataclass(frozen=True)
class ExcelSink:
    """What `parquet` does, and beside it `forecast_latest.xlsx`: the newest vintage in plain words.

    The workbook is made anew with each vintage and appears whole; the Parquet files are what is read back. Text is
    never a formula or a link, numbers are numbers, moments are Excel's own dates on the wall clock.

    Attributes:
        path: the folder; made when needed. The workbook lies beside it.
        timezone: of the wall clock, such as `Europe/Rome`.
    """

    path: Path
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            msg = f"timezone {self.timezone!r} is not a zone such as Europe/Rome"
            raise ValueError(msg) from None

    @property
    def workbook(self) -> Path:
        """The workbook's place."""
        return self.path.parent / "forecast_latest.xlsx"

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Let the vintage appear, once, and bring the workbook up to it.

        Raises:
            SinkError: the disk failed, or the workbook cannot be replaced; the vintage itself may be visible.
        """
        published = ParquetSink(self.path).publish(vintage, run_key)
        self._refresh()
        return published

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none."""
        return ParquetSink(self.path).read(issued_at)

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first."""
        return ParquetSink(self.path).vintages()

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:
        """Take vintages out of what readers see, the workbook's too."""
        gone = ParquetSink(self.path).withdraw(run_keys, reason)
        self._refresh()
        return gone

    def leftovers(self, *, remove: bool = False) -> list[str]:
        """Files that deliveries which were broken off left behind; see `VintageFolder.leftovers`."""
        return ParquetSink(self.path).leftovers(remove=remove)

    def _refresh(self) -> None:
        """Make the workbook anew where it does not show the newest vintage of each project and scenario."""
        if not self.path.is_dir():
            return
        state = self.path.parent / ".forecast_latest.xlsx.json"
        with locked(self.path.parent / ".forecast_latest.xlsx.lock"):
            newest, before = _shown(self.vintages())
            wanted = json.dumps([self.timezone, sorted(ref.run_key for ref in (*newest, *before))])
            if self.workbook.exists() and state.exists() and state.read_text(encoding="utf-8") == wanted:
                return
            told = plain(self._rows(newest), self._rows(before), self.timezone)
            if len(told) > _ROWS:
                hint = "the Parquet files are delivered; use csv or delta, or a project for each region"
                raise SinkError(f"{len(told)} rows are more than a sheet of Excel holds ({_ROWS})", hint=hint)
            self._replace(self.workbook, _workbook(told, self.timezone))
            self._replace(state, wanted.encode())

    def _rows(self, refs: Sequence[VintageRef]) -> pd.DataFrame:
        keys = {ref.run_key for ref in refs}
        found = [self.read(origin) for origin in sorted({ref.issued_at for ref in refs})]
        table = pa.concat_tables(found, promote_options="default") if found else empty_vintage()
        frame: pd.DataFrame = table.to_pandas()
        return frame[frame["run_key"].isin(keys)]

    def _replace(self, target: Path, content: bytes) -> None:
        def write(handle: IO[bytes]) -> None:
            handle.write(content)

        try:
            with staged(self.path / ".staging", "workbook", write) as aside:
                replace(aside, target)
        except OSError as error:
            hint = "the Parquet files are delivered; close it where it is open in Excel, then run again"
            raise SinkError(f"cannot replace {target}: {error}", hint=hint) from error


def plain(rows: pd.DataFrame, before: pd.DataFrame, timezone: str) -> pd.DataFrame:
    """Rows of vintages as people read them.

    Args:
        rows: of the newest vintage of each project and scenario, with the forecast table's columns.
        before: of the vintage before it; may be empty.
        timezone: of the wall clock.

    Returns:
        The columns of the sheet in their order, sorted by project, scenario, series and moment; moments without zone.
    """
    said = before[[*_KEY, "forecast"]].rename(columns={"forecast": "before"})
    told = rows.merge(said, on=_KEY, how="left").sort_values(["project", "scenario", "unique_id", "ds"], kind="stable")
    told["changed_since_last"] = told["forecast"] - told["before"].astype(float)
    for name, column in (("valid_time_local", "ds"), ("issued_at_local", "issued_at")):
        told[name] = told[column].dt.tz_convert(timezone).dt.tz_localize(None)
    told["valid_time_utc"] = told["ds"].dt.tz_localize(None)
    told["quality"] = told["status"].map(_QUALITY)
    told = told.rename(columns={"reason": "remark", "assumed_by": "assumption_source"})
    quantiles = {name: f"p{name[1:]}" for name in told.columns if is_quantile(name)}
    told = told.rename(columns=quantiles)
    first = ["unique_id", "valid_time_local", "forecast", *quantiles.values()]
    return told[[*first, *(name for name in _MEANINGS if name not in first)]]


def _shown(refs: Sequence[VintageRef]) -> tuple[list[VintageRef], list[VintageRef]]:
    """The newest vintage of each project and scenario, and the one of the origin before it."""
    newest, before = [], []
    for _, group in groupby(sorted(refs, key=_whose), key=_whose):
        mine = sorted(group)
        newest.append(mine[-1])
        before += [ref for ref in mine if ref.issued_at < mine[-1].issued_at][-1:]
    return newest, before


def _whose(ref: VintageRef) -> tuple[str, str]:
    return ref.project, ref.scenario


def _workbook(told: pd.DataFrame, timezone: str) -> bytes:
    """Two sheets: the rows, and what each column means."""
    import xlsxwriter

    safe = {"strings_to_formulas": False, "strings_to_numbers": False, "strings_to_urls": False}
    made = io.BytesIO()
    with xlsxwriter.Workbook(made, {**safe, "in_memory": True, "nan_inf_to_errors": False}) as book:
        title, moment = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet = book.add_worksheet("forecast")
        sheet.freeze_panes(1, 2)
        sheet.autofilter(0, 0, max(len(told), 1), len(told.columns) - 1)
        for number, name in enumerate(told.columns):
            column = told[name]
            dates = pd.api.types.is_datetime64_any_dtype(column)
            sheet.set_column(number, number, 17 if dates else 14, moment if dates else None)
            sheet.write_string(0, number, name, title)
            _write_column(sheet, number, column)
        meanings = book.add_worksheet("columns")
        meanings.set_column(0, 0, 20)
        meanings.set_column(1, 1, 100)
        meanings.write_row(0, 0, ["column", "meaning"], title)
        for number, name in enumerate(told.columns, start=1):
            meanings.write_row(number, 0, [name, _meaning(name, timezone)])
    return made.getvalue()


def _write_column(sheet: Any, number: int, column: pd.Series[Any]) -> None:
    if pd.api.types.is_datetime64_any_dtype(column):
        write, values = sheet.write_number, (column - _EPOCH) / pd.Timedelta(days=1)
    elif pd.api.types.is_numeric_dtype(column):
        write, values = sheet.write_number, column
    else:
        write, values = sheet.write_string, column.str.slice(0, _CHARACTERS)
    for row, value in enumerate(values.tolist(), start=1):
        if isinstance(value, str) or (value is not None and math.isfinite(value)):
            write(row, number, value)


def _meaning(column: str, timezone: str) -> str:
    if column in _MEANINGS:
        return _MEANINGS[column].format(timezone=timezone)
    return f"a value that the truth is expected to stay under in {column[1:].replace('_', '.')} of 100 cases"
