"""A file that lies in a table's folder and waits for the transaction that makes it part of the table."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forecastcore.errors import SinkError
from forecastcore_delta.location import Location, is_fresh_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from deltalake import DeltaTable
    from deltalake.transaction import AddAction

__all__ = ["Encoded", "Staged", "encode", "rows_of", "stage"]

#: rows that the writer of Parquet takes at a time; its default is 1024
_BATCH = 65536


@dataclass(frozen=True)
class Encoded:
    """A file that is written nowhere yet.

    Attributes:
        content: Parquet.
        statistics: what a transaction says of its columns, as JSON.
    """

    content: pa.Buffer
    statistics: str


@dataclass(frozen=True)
class Staged:
    """A file that no version of the table names yet.

    Attributes:
        name: of the file.
        size: in bytes.
        statistics: what the transaction says of its columns, as JSON.
    """

    name: str
    size: int
    statistics: str

    def action(self) -> AddAction:
        """What makes it part of a table."""
        from deltalake.transaction import AddAction

        return AddAction(self.name, self.size, {}, int(time.time() * 1000), True, self.statistics)  # noqa: FBT003


def encode(table: pa.Table) -> Encoded:
    """A table as Parquet; quickest where `vintages.compact` made it.

    A column without nulls is written as one that can have none: there is no mark for each row to write and to read.
    """
    buffer = pa.BufferOutputStream()
    few = [field.name for field in table.schema if not pa.types.is_floating(field.type)]  # forecasts seldom repeat
    full = pa.schema([field.with_nullable(table[field.name].null_count > 0) for field in table.schema])
    pq.write_table(table.cast(full), buffer, use_dictionary=few, store_schema=False, write_batch_size=_BATCH)
    content = buffer.getvalue()
    return Encoded(content, _statistics(table, pq.read_metadata(pa.BufferReader(content))))


def stage(place: Location, name: str, encoded: Encoded) -> Staged:
    """Write a new file, flush it, and see that it holds what was written.

    Raises:
        SinkError: it does not.
    """
    if not place.written(name, encoded.content).equals(encoded.content):
        raise SinkError(f"what is stored at {place.uri}/{name} is not what was written", hint="check the store")
    return Staged(name, int(encoded.content.size), encoded.statistics)


def rows_of(place: Location, delta: DeltaTable, names: Collection[str]) -> Iterator[pa.Table]:
    """The rows of some files of a table, each as its schema has them.

    Those that were staged here are read as they are: a dataset makes something of every file of the table first.
    """
    own, others = [name for name in sorted(names) if is_fresh_name(name)], {n for n in names if not is_fresh_name(n)}
    schema = pa.schema([(field.name, _plain(field.type)) for field in pa.schema(delta.schema().to_arrow())])
    for name in own:
        yield pq.read_table(pa.BufferReader(place.read(name))).select(schema.names).cast(schema)
    for part in delta.to_pyarrow_dataset().get_fragments() if others else ():
        if part.path in others:
            yield part.to_table(columns=schema.names).cast(schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _statistics(table: pa.Table, told: pq.FileMetaData) -> str:
    """What lets readers leave the file out: rows, bounds, nulls, of every column.

    Every one, because delta-rs takes a column without bounds for one without values, and a filter on it finds nothing.
    """
    bounds = {name: _bounds(table[name], told, place) for place, name in enumerate(table.column_names)}
    known = {name: bound for name, bound in bounds.items() if bound is not None}
    return json.dumps(
        {
            "numRecords": table.num_rows,
            "minValues": {name: _said(low) for name, (low, _) in known.items()},
            "maxValues": {name: _said(high) for name, (_, high) in known.items()},
            "nullCount": {name: table[name].null_count for name in table.column_names},
        },
        allow_nan=False,
    )


def _bounds(column: pa.ChunkedArray, told: pq.FileMetaData, place: int) -> tuple[Any, Any] | None:
    """Least and greatest value: Parquet's writer has found them, but for long text and what is null throughout."""
    groups = [told.row_group(number).column(place).statistics for number in range(told.num_row_groups)]
    if all(group is not None and group.has_min_max for group in groups):
        return min(group.min for group in groups), max(group.max for group in groups)
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    bound = pc.min_max(plain).as_py()
    return None if bound["min"] is None else (bound["min"], bound["max"])


def _said(value: Any) -> Any:
    """A value as Delta's statistics write it; infinity, which JSON lacks, as the largest number."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, float):
        return min(max(value, -sys.float_info.max), sys.float_info.max)
    return value
