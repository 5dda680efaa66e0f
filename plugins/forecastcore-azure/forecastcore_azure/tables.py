"""Blobs as tables: of Parquet only the columns that are wanted cross the network, of CSV all.

A blob is known by its ETag: what was replaced while it is read is told, and never mixed with what was there before.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from forecastcore.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import WriteableBuffer
    from azure.storage.blob import ContainerClient

__all__ = ["Blob", "CsvBlob", "ParquetBlob"]

#: text that is a number as a person or a program writes it; 007 is a name
_NUMBER = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class Blob:
    """A blob as it was when it was listed.

    Attributes:
        container: where it is.
        name: of the blob.
        size: bytes.
        etag: of these bytes, as the service writes it.
    """

    container: ContainerClient
    name: str
    size: int
    etag: str

    def download(self, offset: int = 0, length: int | None = None) -> bytes:
        """Some of its bytes.

        Raises:
            DataError: it is another one by now.
        """
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

        length = self.size - offset if length is None else length
        if not length:
            return b""  # a range of nothing is refused
        etag = f'"{self.etag.strip(chr(34))}"'  # a list of blobs leaves the quotes out
        try:
            return self.container.download_blob(
                self.name, offset, length, etag=etag, match_condition=MatchConditions.IfNotModified
            ).readall()
        except (ResourceModifiedError, ResourceNotFoundError) as error:
            where = f"{self.container.container_name}/{self.name}"
            hint = "run again once nobody writes to it"
            raise DataError(f"azure-blob {where} was changed while it was read", hint=hint) from error


class _Ranges(io.RawIOBase):
    """A blob as a file: what is read of it is downloaded, and nothing else."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._at = blob, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blob.size}[whence]
        return self._at

    def readinto(self, into: WriteableBuffer) -> int:
        with memoryview(into) as view:
            data = self._blob.download(self._at, max(min(len(view), self._blob.size - self._at), 0))
            view[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclass(frozen=True)
class ParquetBlob(Blob):
    """One of Parquet."""

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types, dictionary columns as what they stand for; from the footer."""
        return pa.schema([pa.field(field.name, _decoded(field.type)) for field in self._file().schema_arrow])

    @property
    def groups(self) -> int:
        """How many row groups it has."""
        return int(self._footer.num_row_groups)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Those of the columns that it has."""
        return self._plain(self._file().read(self._own(columns)))

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """A row group's rows, some at a time; those of the columns that it has."""
        for batch in self._file().iter_batches(row_groups=[group], columns=self._own(columns)):
            yield self._plain(pa.Table.from_batches([batch]))

    @cached_property
    def _footer(self) -> pq.FileMetaData:
        return pq.read_metadata(pa.PythonFile(_Ranges(self), mode="r"))

    def _file(self) -> pq.ParquetFile:
        return pq.ParquetFile(pa.PythonFile(_Ranges(self), mode="r"), metadata=self._footer, pre_buffer=True)

    def _own(self, columns: Sequence[str]) -> list[str]:
        return [name for name in columns if name in self.schema.names]

    def _plain(self, table: pa.Table) -> pa.Table:
        return table.cast(pa.schema([self.schema.field(name) for name in table.column_names]))


@dataclass(frozen=True)
class CsvBlob(Blob):
    """One of CSV; columns that hold only numbers are numbers."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return self._whole.schema

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Those of the columns that it has."""
        return self._whole.select([name for name in columns if name in self._whole.column_names])

    @cached_property
    def _whole(self) -> pa.Table:
        """All of it, downloaded once: nothing less tells what its columns are."""
        data = pa.BufferReader(self.download())
        names = pacsv.open_csv(data).schema.names
        data.seek(0)
        as_text = pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
        )
        table = pacsv.read_csv(data, convert_options=as_text)
        return pa.table([_typed(column) for column in table.columns], names=table.column_names)


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as numbers where every value is one, else as it is."""
    if column.type != pa.string() or column.null_count == len(column):
        return column
    if not pc.all(pc.match_substring_regex(column, _NUMBER)).as_py():
        return column
    return pc.cast(column, pa.float64())
