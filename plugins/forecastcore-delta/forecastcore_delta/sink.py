"""Forecasts as a Delta table, each vintage in one transaction.

A vintage is written to a file in the table's folder, flushed and hashed. The transaction that makes it part of the
table carries the run key as its application id, so that Delta itself refuses it a second time. What a killed run
leaves is a file that no version names; `vacuum` removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - the host reads the annotation
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forecastcore.api import Published
from forecastcore.errors import SinkError
from forecastcore.vintages import check_vintage, empty_vintage
from forecastcore_delta.latest import check_owner, refresh

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["DeltaSink"]

_ATTEMPTS = 20
_COMMIT_RETRIES = 100


@dataclass(frozen=True)
class DeltaSink:
    """A Delta table of vintages, and the Delta table `forecast_latest` beside it.

    Attributes:
        path: folder of the table; made when needed.
    """

    path: Path

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Append the vintage in one transaction, once, and bring `forecast_latest` up to it.

        Raises:
            SinkError: the table has other columns, or the disk failed; the message says whether the vintage is visible.
        """
        from deltalake.exceptions import DeltaError

        table = check_vintage(vintage, run_key)
        try:
            return self._publish(table, run_key)
        except (OSError, pa.ArrowException, DeltaError) as error:
            raise SinkError(f"cannot publish to {self.path}: {error}", hint=self._after_failure(run_key)) from error

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none."""
        delta = _existing(self.path)
        if delta is None:
            return empty_vintage()
        return delta.to_pyarrow_dataset().to_table(filter=None if issued_at is None else _issued(issued_at))

    def _publish(self, table: pa.Table, run_key: str) -> Published:
        check_owner(self.path)
        delta = _existing(self.path) or _created(self.path, table.schema)
        already = delta.transaction_version(run_key) is not None
        fresh: dict[str, pa.Table] = {}
        if not already:
            _check_columns(delta, table, self.path)
            name = f"part-{run_key}-{uuid.uuid4().hex}.parquet"
            already = not _append(self.path, name, table, run_key)
            fresh = {name: table}
        refresh(self.path, fresh)
        rows = self._rows(table, run_key) if already else table.num_rows
        return Published(location=str(self.path), rows=rows, already=already)

    def _rows(self, table: pa.Table, run_key: str) -> int:
        from deltalake import DeltaTable

        mine = _issued(table["issued_at"][0].as_py()) & (pc.field("run_key") == run_key)
        return int(DeltaTable(self.path).to_pyarrow_dataset().count_rows(filter=mine))

    def _after_failure(self, run_key: str) -> str:
        from deltalake.exceptions import DeltaError

        try:
            delta = _existing(self.path)
        except (DeltaError, OSError):
            return "the table cannot be opened; publish again once it can, nothing will be there twice"
        if delta is None or delta.transaction_version(run_key) is None:
            return "nothing of this vintage is visible; what was published before is still served"
        return "the vintage is visible, but forecast_latest may lack it; run again to mend it"


def _existing(path: Path) -> DeltaTable | None:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(path)
    except TableNotFoundError:
        return None


def _created(path: Path, schema: pa.Schema) -> DeltaTable:
    """A new table, or the one that another process made in this moment."""
    from deltalake import DeltaTable, Schema
    from deltalake.exceptions import DeltaError

    path.mkdir(parents=True, exist_ok=True)
    try:
        return DeltaTable.create(path, schema=Schema.from_arrow(schema), name=path.name)
    except DeltaError:
        if (delta := _existing(path)) is None:
            raise
        return delta


def _check_columns(delta: DeltaTable, table: pa.Table, path: Path) -> None:
    if (reader := delta.protocol().min_reader_version) > 1:
        raise SinkError(
            f"the table {path} needs readers of version {reader}, such as for column mapping or deletion vectors",
            hint="only tables that every reader can read are written to; publish to a new path",
        )
    has = {field.name: _type_name(field.type) for field in pa.schema(delta.schema().to_arrow())}
    brings = {field.name: _type_name(field.type) for field in table.schema}
    faults = [f"it lacks {name}" for name in brings if name not in has]
    faults += [f"the vintage lacks {name}" for name in has if name not in brings]
    both = [name for name in brings if name in has and has[name] != brings[name]]
    faults += [f"{name} is {has[name]} there, {brings[name]} in the vintage" for name in both]
    if faults:
        raise SinkError(
            f"the table {path} has other columns: {'; '.join(faults)}",
            hint=f"publish to a new path, such as {path.parent / 'new' / path.name}, or configure the quantiles it has",
        )


def _type_name(kind: pa.DataType) -> str:
    text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return "string" if text else str(kind)


def _append(path: Path, name: str, table: pa.Table, run_key: str) -> bool:
    """Stage the file, then make it part of the table; False if another process was first with this run key."""
    mine = False
    try:
        size = _stage(path / name, table)
        mine = _commit(path, name, size, table, run_key)
    finally:
        # an error may come after the commit, such as of a lost answer: a file that the table names must stay
        if not mine and not _names(path, name):
            (path / name).unlink(missing_ok=True)
    return mine


def _commit(path: Path, name: str, size: int, table: pa.Table, run_key: str) -> bool:
    from deltalake import CommitProperties, DeltaTable, Transaction
    from deltalake.exceptions import CommitFailedError
    from deltalake.transaction import AddAction

    action = AddAction(name, size, {}, int(time.time() * 1000), True, _statistics(table))  # noqa: FBT003 - its order
    once = CommitProperties(app_transactions=[Transaction(run_key, 1)], max_commit_retries=_COMMIT_RETRIES)
    for attempt in range(_ATTEMPTS):
        delta = DeltaTable(path)
        if delta.transaction_version(run_key) is not None:
            return _names(path, name)
        try:
            delta.create_write_transaction([action], mode="append", schema=delta.schema(), commit_properties=once)
        except CommitFailedError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311 - only to draw two writers apart
        else:
            return True
    return False


def _stage(file: Path, table: pa.Table) -> int:
    """Write the file, flush it to the disk, and see that it holds what was written; its size."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    content = buffer.getvalue()
    with file.open("xb") as raw:
        raw.write(content)
        raw.flush()
        os.fsync(raw.fileno())
    with file.open("rb") as raw:
        same = hashlib.file_digest(raw, "sha256").digest() == hashlib.sha256(content).digest()
    if not same or pq.read_metadata(file).num_rows != table.num_rows:
        raise SinkError(f"what is on the disk at {file} is not what was written", hint="check the disk")
    return int(content.size)


def _names(path: Path, name: str) -> bool:
    """Whether the table holds that file."""
    delta = _existing(path)
    return delta is not None and any(uri.endswith(name) for uri in delta.file_uris())


def _statistics(table: pa.Table) -> str:
    """What lets readers leave the file out: rows, bounds, nulls, of every column.

    Every one, because delta-rs takes a column without bounds for one without values, and a filter on it finds nothing.
    """
    bounds = {name: pc.min_max(table[name]).as_py() for name in table.column_names}
    known = {name: bound for name, bound in bounds.items() if bound["min"] is not None}
    return json.dumps(
        {
            "numRecords": table.num_rows,
            "minValues": {name: _bound(bound["min"]) for name, bound in known.items()},
            "maxValues": {name: _bound(bound["max"]) for name, bound in known.items()},
            "nullCount": {name: table[name].null_count for name in table.column_names},
        },
        allow_nan=False,
    )


def _bound(value: Any) -> Any:
    """A value as Delta's statistics write it; infinity, which JSON lacks, as the largest number."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, float):
        return min(max(value, -sys.float_info.max), sys.float_info.max)
    return value


def _issued(instant: datetime) -> Any:
    utc = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return pc.field("issued_at") == pa.scalar(utc, pa.timestamp("us", "UTC"))
