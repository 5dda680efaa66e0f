"""Forecasts as a Delta table, each vintage in one transaction.

A vintage is written to a file in the table's folder, flushed, read back and compared. The transaction that makes it
part of the table carries the run key as its application id, so that Delta itself refuses it a second time. What a
killed run leaves is a file that no version names; `vacuum` removes it.
"""

from __future__ import annotations

import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path  # noqa: TC003 - the host reads the annotation
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from forecastcore.api import Published
from forecastcore.errors import CommitConflict, SinkError
from forecastcore.vintages import (
    REF_COLUMNS,
    VintageRef,
    check_run_key,
    check_vintage,
    compact,
    dictionary,
    empty_vintage,
    utc,
)
from forecastcore_delta.latest import SETTINGS, Fresh, Seen, foreseen, opened, refresh
from forecastcore_delta.location import Location, fresh_name, is_fresh_name, locate
from forecastcore_delta.staged import Staged, encode, rows_of, stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

__all__ = ["DeltaSink"]

_ATTEMPTS = 20
_REASON, _WITHDRAWAL = "forecastcore.withdrawn", "forecastcore.withdrawal"
_COMMIT_RETRIES = 100


@dataclass(frozen=True)
class DeltaSink:
    """A Delta table of vintages, and the Delta table `forecast_latest` beside it.

    Attributes:
        path: folder of the table; made when needed. In Azure `az://CONTAINER/PATH`, or
            `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`.
        credential: who Azure is asked as, and nobody else: a connection string, a managed identity, a service
            principal, or a Prefect block.
        account_url: of the storage account, where neither path nor credential name it.
    """

    path: Path
    credential: str | dict[str, str] | None = field(default=None, repr=False)
    account_url: str | None = None

    def check(self, columns: pa.Schema) -> None:
        """See, before anything is forecast, that the table takes vintages of these columns.

        Raises:
            SinkError: it has others; the difference is told. Where the table cannot be asked, nothing is said yet.
        """
        from deltalake.exceptions import DeltaError

        place = self._place()
        with suppress(DeltaError, OSError):
            if (delta := place.existing()) is not None:
                _check_columns(delta, columns, place)

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Append the vintage in one transaction, once, and bring `forecast_latest` up to it.

        Raises:
            SinkError: the table has other columns, or the store failed; it says whether the vintage is visible.
        """
        from deltalake.exceptions import DeltaError

        table, place = check_vintage(vintage, run_key), self._place()
        try:
            return self._publish(place, table, run_key)
        except (OSError, pa.ArrowException, DeltaError) as error:
            hint = _after_failure(place, run_key)
            raise SinkError(f"cannot publish to {self.path}: {error}", hint=hint) from error

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none."""
        place = self._place()
        delta = place.existing()
        if delta is None:
            return empty_vintage()
        if issued_at is None:
            return delta.to_pyarrow_dataset().to_table()
        found = list(rows_of(place, delta, _may_hold(delta, issued_at)))
        return pa.concat_tables(found).filter(_issued(issued_at)) if found else empty_vintage()

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first, without reading their forecasts."""
        delta = self._place().existing()
        return [] if delta is None else _refs(delta)

    def show(self, page: bytes) -> str:
        """Put the page of a run beside a table in Azure, in place of the one before; where it is.

        On this machine it stands where `report:` says, and the answer is empty.

        Raises:
            SinkError: the store failed.
        """
        place = self._place()
        if place.is_local:
            return ""
        try:
            place.beside("").written("report.html", pa.py_buffer(page))
        except OSError as error:
            raise SinkError(f"cannot put the page beside {self.path}: {error}") from error
        return place.beside("report.html").uri

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:
        """Take vintages out of what readers see, in one transaction; their run keys stay used up. How many there were.

        The reason stands in the table's history, with an id of this withdrawal.

        Raises:
            CommitConflict: somebody else took them back in the same moment.
            SinkError: the store failed.
        """
        from deltalake.exceptions import DeltaError

        place, wanted = self._place(), {check_run_key(key) for key in run_keys}
        try:
            gone = _deleted(place, wanted, reason or "withdrawn")
            if gone:
                delta = place.table()
                refresh(place, delta, opened(place), Seen.of(delta), None)
        except (OSError, pa.ArrowException, DeltaError) as error:
            raise SinkError(f"cannot take vintages out of {self.path}: {error}", hint="run it again") from error
        return gone

    def leftovers(self, *, remove: bool = False) -> list[str]:
        """Files that deliveries which were broken off more than an hour ago left behind, and no version names."""
        place = self._place()
        delta = place.existing()
        if delta is None:
            return []
        # all that is of no use to this version, without what an earlier version names
        all_of, once_named = (
            set(delta.vacuum(1, dry_run=True, enforce_retention_duration=False, full=full)) for full in (True, False)
        )
        found = sorted(name for name in all_of - once_named if is_fresh_name(name))
        for name in found if remove else ():
            place.remove(name)
        return [f"{place.uri}/{name}" for name in found]

    def _place(self) -> Location:
        try:
            return locate(self.path, self.credential, self.account_url)
        except ValueError as error:
            raise SinkError(f"cannot open {self.path}: {error}") from None

    def _publish(self, place: Location, table: pa.Table, run_key: str) -> Published:
        latest = opened(place)
        delta = place.existing() or _created(place, table.schema)
        already, seen, fresh = delta.transaction_version(run_key) is not None, Seen.of(delta), None
        if not already:
            _check_columns(delta, table.schema, place)
            held = compact(table)
            with ThreadPoolExecutor(1) as pool:
                ahead = pool.submit(foreseen, latest, held)
                staged = _append(place, delta, held, run_key)
            already = staged is None
            fresh = None if staged is None else Fresh(staged, held, ahead.result())
        refresh(place, delta, latest, seen, fresh)
        rows = _rows(delta, table, run_key) if already else table.num_rows
        return Published(location=place.uri, rows=rows, already=already)


def _may_hold(delta: DeltaTable, issued_at: datetime) -> set[str]:
    """The files that may hold rows of an origin, by what the log says of them."""
    files = pa.table(delta.get_add_actions()).to_pylist()
    bounds = [
        (file["path"], (file.get("min") or {}).get("issued_at"), (file.get("max") or {}).get("issued_at"))
        for file in files
    ]
    slack = timedelta(milliseconds=1)  # bounds that others wrote may be cut to that
    return {path for path, low, high in bounds if low is None or high is None or low <= utc(issued_at) <= high + slack}


def _refs(delta: DeltaTable) -> list[VintageRef]:
    """A file that a vintage was published in tells of it in the log; others, such as compacted ones, are read."""
    files = pa.table(delta.get_add_actions()).to_pylist()
    named = {file["path"]: file for file in files if is_fresh_name(file["path"])}
    told = [{**{name: f["max"][name] for name in REF_COLUMNS}, "rows": f["num_records"]} for f in named.values()]
    if len(named) < len(files):
        parts = [part for part in delta.to_pyarrow_dataset().get_fragments() if part.path not in named]
        rows = pa.concat_tables([part.to_table(columns=list(REF_COLUMNS)) for part in parts])
        one = [name for name in REF_COLUMNS if name != "created_at"]
        groups = rows.group_by(one).aggregate([("created_at", "max"), ([], "count_all")])
        told += groups.rename_columns([*one, "created_at", "rows"]).to_pylist()
    return sorted(VintageRef(**ref) for ref in told)


def _deleted(place: Location, wanted: set[str], reason: str) -> int:
    """Delete those that the table holds, in one transaction; how many.

    Raises:
        CommitConflict: they were there, and another writer was faster.
    """
    from deltalake import CommitProperties
    from deltalake.exceptions import CommitFailedError

    mine, seen = uuid.uuid4().hex, 0
    told = CommitProperties(custom_metadata={_REASON: reason, _WITHDRAWAL: mine})
    for attempt in range(_ATTEMPTS):
        delta = place.existing()
        gone = sorted(wanted & {ref.run_key for ref in _refs(delta)}) if delta else []
        if delta is None or not gone:
            break
        keys = ", ".join(f"'{key}'" for key in gone)  # hex digits, as checked
        try:
            delta.delete(f"run_key IN ({keys})", commit_properties=told)
        except CommitFailedError:
            if attempt == _ATTEMPTS - 1:
                raise
            seen = len(gone)
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311 - only to draw two writers apart
        else:
            return len(gone)
    if delta is not None and seen:
        winner = next((entry[_WITHDRAWAL] for entry in delta.history() if _WITHDRAWAL in entry), "")
        if winner != mine:
            raise CommitConflict(f"{place.uri}: somebody else took the vintage back in this moment", winner)
    return seen


def _rows(delta: DeltaTable, table: pa.Table, run_key: str) -> int:
    mine = _issued(table["issued_at"][0].as_py()) & (pc.field("run_key") == run_key)
    return int(delta.to_pyarrow_dataset().count_rows(filter=mine))


def _after_failure(place: Location, run_key: str) -> str:
    from deltalake.exceptions import DeltaError

    try:
        delta = place.existing()
    except (DeltaError, OSError):
        return "the table cannot be opened; publish again once it can, nothing will be there twice"
    if delta is None or delta.transaction_version(run_key) is None:
        return "nothing of this vintage is visible; what was published before is still served"
    return "the vintage is visible, but forecast_latest may lack it; run again to mend it"


def _created(place: Location, schema: pa.Schema) -> DeltaTable:
    from deltalake import Schema
    from deltalake.schema import Field

    said = {entry["name"]: entry["meaning"] for entry in dictionary(schema)}
    fields = [
        Field(f.name, f.type, nullable=f.nullable, metadata={"comment": said[f.name]})
        for f in Schema.from_arrow(schema).fields
    ]
    return place.created(Schema(fields), name=place.name, configuration=SETTINGS)


def _check_columns(delta: DeltaTable, schema: pa.Schema, place: Location) -> None:
    if (reader := delta.protocol().min_reader_version) > 1:
        raise SinkError(
            f"the table {place.uri} needs readers of version {reader}, such as for column mapping or deletion vectors",
            hint="only tables that every reader can read are written to; publish to a new path",
        )
    stored = pa.schema(delta.schema().to_arrow())
    has = {field.name: _type_name(field.type) for field in stored}
    brings = {field.name: _type_name(field.type) for field in schema}
    faults = [f"it lacks {name}" for name in brings if name not in has]
    faults += [f"the vintage lacks {name}" for name in has if name not in brings]
    both = [name for name in brings if name in has and has[name] != brings[name]]
    faults += [f"{name} is {has[name]} there, {brings[name]} in the vintage" for name in both]
    full = [name for name in brings if name in has and not stored.field(name).nullable]
    faults += [f"{name} takes no null there" for name in full if schema.field(name).nullable]
    if faults:
        other = f"{place.beside('new').uri}/{place.name}"
        raise SinkError(
            f"the table {place.uri} has other columns: {'; '.join(faults)}",
            hint=f"publish to a new path, such as {other}, or configure the quantiles it has",
        )


def _type_name(kind: pa.DataType) -> str:
    text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return "string" if text else str(kind)


def _append(place: Location, delta: DeltaTable, table: pa.Table, run_key: str) -> Staged | None:
    """Stage the file, then make it part of the table; None if another process was first with this run key."""
    name, mine = fresh_name(run_key), False
    try:
        staged = stage(place, name, encode(table))
        mine = _commit(place, delta, staged, run_key)
    finally:
        # an error may come after the commit, such as of a lost answer: a file that the table names must stay
        if not mine and not _names(place, name):
            place.remove(name)
    return staged if mine else None


def _commit(place: Location, delta: DeltaTable, staged: Staged, run_key: str) -> bool:
    from deltalake import CommitProperties, Transaction
    from deltalake.exceptions import CommitFailedError

    once = CommitProperties(app_transactions=[Transaction(run_key, 1)], max_commit_retries=_COMMIT_RETRIES)
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - only to draw two writers apart
            delta.update_incremental()
        if delta.transaction_version(run_key) is not None:
            return _names(place, staged.name)
        try:
            actions: list[AddAction | RemoveAction] = [staged.action()]
            delta.create_write_transaction(actions, mode="append", schema=delta.schema(), commit_properties=once)
        except CommitFailedError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return True
    return False


def _names(place: Location, name: str) -> bool:
    """Whether the table holds that file."""
    delta = place.existing()
    return delta is not None and any(uri.endswith(name) for uri in delta.file_uris())


def _issued(instant: datetime) -> Any:
    return pc.field("issued_at") == pa.scalar(utc(instant), pa.timestamp("us", "UTC"))
