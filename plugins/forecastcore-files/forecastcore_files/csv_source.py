"""History from CSV files, without destroying what stands in them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the host reads the annotation
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pacsv

from forecastcore.errors import DataError
from forecastcore_files.paths import find
from forecastcore_files.typing_text import typed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CsvSource"]

_DELIMITERS = ",;\t|"
_HEAD = _MIB = 1 << 20


@dataclass(frozen=True)
class CsvSource:
    """A CSV file, or a folder of them with the same columns.

    A column becomes numbers only if every value in it is a plain number: an id such as `007` stays text, and so does a
    column with `1.234,5` in it. Spaces around values are cut. An empty value is null; `NA`, `NaN` and `null`
    are null among numbers and instants, but text among text.

    Attributes:
        path: file or folder.
        delimiter: between values.
        decimal: mark of numbers, `.` or `,`.
        encoding: of the files; a byte order mark is understood.
        date_format: strptime format of instants that are not ISO 8601, such as `%d.%m.%Y %H:%M`.
        max_mib: MiB that all files together may have. They are read whole, in up to four times their size of memory.
    """

    path: Path
    delimiter: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    date_format: str | None = None
    max_mib: int = 2048

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.decimal not in {".", ","} or self.delimiter == self.decimal:
            msg = f"delimiter {self.delimiter!r} and decimal {self.decimal!r} must be two single signs, decimal . or ,"
            raise ValueError(msg)

    def schema(self) -> pa.Schema:
        """Names and types; every value is looked at, since the last one may be what makes a column text.

        Raises:
            DataError: as `read`.
        """
        return self._table(None).schema

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns.

        Raises:
            DataError: no file, too large a one, no rows, rows of different lengths, another encoding, or files with
                different columns.
        """
        return self._table(columns)

    def _table(self, columns: Sequence[str] | None) -> pa.Table:
        files = find(self.path, ".csv")
        self._must_fit(files)
        headers = {file: self._header(file) for file in files}
        first = headers[files[0]]
        for file, header in headers.items():
            if set(header) != set(first):
                differ = ", ".join(sorted(set(header) ^ set(first)))
                raise DataError(f"{file.absolute()} and {files[0].name} do not both have the columns {differ}")
        names = list(first if columns is None else columns)
        text = pa.concat_tables([self._text(file, headers[file], names) for file in files])
        if not text.num_rows:
            raise DataError(f"{self.path.absolute()} has no rows")
        arrays = [typed(column, decimal=self.decimal, date_format=self.date_format) for column in text.columns]
        return pa.table(arrays, names=names)

    def _must_fit(self, files: Sequence[Path]) -> None:
        size = sum(file.stat().st_size for file in files) / _MIB
        if size > self.max_mib:
            raise DataError(
                f"{self.path.absolute()} has {size:,.0f} MiB of text, and is read whole: {self.max_mib:,} are allowed",
                hint="write it to Parquet or Delta, which are read in parts, or set max_mib: if there is memory for it",
            )

    def _header(self, file: Path) -> list[str]:
        """Column names, spaces around them cut."""
        try:
            with file.open(encoding="utf-8-sig" if self._is_utf8 else self.encoding, newline="") as handle:
                names = next(csv.reader(io.StringIO(handle.readline(_HEAD)), delimiter=self.delimiter), [])
        except (UnicodeError, LookupError, csv.Error, OSError) as error:
            raise self._unreadable(file, error) from error
        names = [name.strip() for name in names]
        if not names:
            raise DataError(f"{file.absolute()} is empty")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{file.absolute()} has two columns named {', '.join(map(repr, twice))}")
        other = next((sign for sign in _DELIMITERS if len(names) == 1 and sign in names[0]), None)
        if other:
            raise DataError(f"{file.absolute()} has one column, {names[0]!r}", hint=f"set delimiter: {other!r}")
        return names

    def _text(self, file: Path, header: Sequence[str], names: Sequence[str]) -> pa.Table:
        """The named columns as text, just as they stand."""
        try:
            return pacsv.read_csv(
                file,
                read_options=pacsv.ReadOptions(
                    column_names=header, skip_rows=1, encoding="utf8" if self._is_utf8 else self.encoding
                ),
                parse_options=pacsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.string()), include_columns=names, strings_can_be_null=False
                ),
            )
        except (pa.ArrowException, UnicodeError, OSError) as error:
            raise self._unreadable(file, error) from error

    @property
    def _is_utf8(self) -> bool:
        return self.encoding.lower().replace("_", "-") in {"utf-8", "utf8", "utf-8-sig"}

    def _unreadable(self, file: Path, error: Exception) -> DataError:
        hint = None
        if isinstance(error, UnicodeError | LookupError) or "UTF8" in str(error):
            hint = f"it is not {self.encoding}; set encoding:, for instance cp1252"
        return DataError(f"{file.absolute()} cannot be read: {error}", hint=hint)
