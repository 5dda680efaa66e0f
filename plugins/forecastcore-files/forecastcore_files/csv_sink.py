"""Forecasts as a folder of CSV files that are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import mmap
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the host reads the annotation
from typing import IO, TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from forecastcore.vintages import REF_COLUMNS, SCHEMA, is_quantile, ref_of
from forecastcore_files.folder import VintageFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from forecastcore.api import Published
    from forecastcore.vintages import VintageRef

__all__ = ["CsvSink"]

_BOM = b"\xef\xbb\xbf"
# a spreadsheet may run a cell that starts so (CWE-1236); the quote is here so that reading can undo it
_RISKY = "^['=+\\-@\t\r\n\\x00＝＋－＠]"  # noqa: RUF001 - the full-width signs are meant


@dataclass(frozen=True)
class CsvSink:
    """A folder with one CSV file per vintage, and `forecast_latest.csv` beside it.

    Instants are ISO 8601 in UTC. Text that a spreadsheet could take for a formula gets a single quote in front; `read`
    takes it away again. Numbers stay numbers.

    Attributes:
        path: the folder; made when needed.
        delimiter: between values.
        decimal: mark of numbers, `.` or `,`.
        excel: start the file with the mark by which Excel knows UTF-8.
    """

    path: Path
    delimiter: str = ","
    decimal: str = "."
    excel: bool = True

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.decimal not in {".", ","} or self.delimiter == self.decimal:
            msg = f"delimiter {self.delimiter!r} and decimal {self.decimal!r} must be two single signs, decimal . or ,"
            raise ValueError(msg)

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Let the vintage appear as a file, once; see `VintageFolder.publish`."""
        return VintageFolder(self.path, _Csv(self.delimiter, self.decimal, self.excel)).publish(vintage, run_key)

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none."""
        return VintageFolder(self.path, _Csv(self.delimiter, self.decimal, self.excel)).read(issued_at)

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first."""
        return VintageFolder(self.path, _Csv(self.delimiter, self.decimal, self.excel)).vintages()

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:  # noqa: ARG002 - files keep no reasons
        """Take vintages out of what readers see; see `VintageFolder.withdraw`."""
        return VintageFolder(self.path, _Csv(self.delimiter, self.decimal, self.excel)).withdraw(run_keys)

    def leftovers(self, *, remove: bool = False) -> list[str]:
        """Files that deliveries which were broken off left behind; see `VintageFolder.leftovers`."""
        return VintageFolder(self.path, _Csv(self.delimiter, self.decimal, self.excel)).leftovers(remove=remove)


@dataclass(frozen=True)
class _Csv:
    """CSV files; reading finds delimiter and decimal mark by itself, since an older file may have others."""

    delimiter: str
    decimal: str
    excel: bool

    suffix: ClassVar[str] = ".csv"

    def write(self, table: pa.Table, handle: IO[bytes]) -> None:
        cells = [_cells(column, self.decimal) for column in table.columns]
        if self.excel:
            handle.write(_BOM)
        plain = pa.table(cells, names=table.column_names)
        pacsv.write_csv(plain, handle, pacsv.WriteOptions(delimiter=self.delimiter))

    def read(self, path: Path) -> pa.Table:
        names, delimiter = _header(path)
        numbers = [name for name in names if _kind(name) == pa.float64()]
        try:
            table = _parse(path, delimiter, {name: _kind(name) for name in names})
        except pa.ArrowInvalid:  # numbers with a comma
            types = {name: pa.string() if name in numbers else _kind(name) for name in names}
            table = _parse(path, delimiter, types)
            for name in numbers:
                column = pc.replace_substring(table[name], ",", ".").cast(pa.float64())
                table = table.set_column(table.column_names.index(name), name, column)
        columns = [_unquoted(column) if column.type == pa.string() else column for column in table.columns]
        return pa.table(columns, names=names)

    def rows(self, path: Path) -> int:
        return int(_parse(path, _header(path)[1], {"step": pa.int32()}, only=["step"]).num_rows)

    def ref(self, path: Path) -> VintageRef:
        types = {name: _kind(name) for name in REF_COLUMNS}
        table = _parse(path, _header(path)[1], types, only=list(REF_COLUMNS))
        columns = [_unquoted(column) if column.type == pa.string() else column for column in table.columns]
        return ref_of(pa.table(columns, names=table.column_names))


def _kind(name: str) -> pa.DataType:
    if is_quantile(name):
        return pa.float64()
    return SCHEMA.field(name).type if name in SCHEMA.names else pa.string()


def _header(path: Path) -> tuple[list[str], str]:
    """Column names, which are all in double quotes, and the sign between them."""
    with path.open(encoding="utf-8-sig") as handle:
        line = handle.readline().rstrip("\n")
    first = re.match(r'"[^"]*"(.)', line)
    delimiter = first[1] if first else ","
    return next(csv.reader([line], delimiter=delimiter)), delimiter


def _parse(path: Path, delimiter: str, types: dict[str, pa.DataType], only: list[str] | None = None) -> pa.Table:
    data, mark = _without_nul(path)
    table = pacsv.read_csv(
        path if data is None else pa.BufferReader(data),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=types,
            include_columns=only or [],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    if data is None:
        return table
    columns = [pc.replace_substring(c, mark, "\0") if pa.types.is_string(c.type) else c for c in table.columns]
    return pa.table(columns, names=table.column_names)


def _without_nul(path: Path) -> tuple[bytes | None, str]:
    """What a file with NUL holds, which Arrow would miscount, and what stands for NUL there; None for other files."""
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if whole.find(b"\0") < 0:
            return None, ""
        mark = next(letter for letter in map(chr, range(0xF0000, 0xFFFFE)) if whole.find(letter.encode()) < 0)
        return whole[:].replace(b"\0", mark.encode()), mark


def _cells(column: pa.ChunkedArray, decimal: str) -> pa.ChunkedArray:
    """The column as it is to stand in the file."""
    if pa.types.is_string(column.type):
        return _per_value(column, _quoted)
    if pa.types.is_timestamp(column.type):
        return _per_value(column, _iso)
    if pa.types.is_floating(column.type) and decimal != ".":
        return pc.replace_substring(column.cast(pa.string()), ".", decimal)
    return column


def _per_value(column: pa.ChunkedArray, change: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """Change each distinct value once."""
    if not len(column):
        return pa.chunked_array([], pa.string())
    encoded = column.dictionary_encode().unify_dictionaries()
    values = change(encoded.chunk(0).dictionary)
    return pa.chunked_array([values.take(chunk.indices) for chunk in encoded.chunks], values.type)


def _quoted(text: pa.Array) -> pa.Array:
    risky = pc.match_substring_regex(text, _RISKY)
    return pc.if_else(risky, pc.binary_join_element_wise("'", text, ""), text)


def _unquoted(text: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.starts_with(text, "'"), pc.utf8_slice_codeunits(text, 1), text)


def _iso(instants: pa.Array) -> pa.Array:
    with suppress(pa.ArrowInvalid):  # some have microseconds
        instants = instants.cast(pa.timestamp("s", "UTC"))
    return pc.strftime(instants, "%Y-%m-%dT%H:%M:%SZ")
