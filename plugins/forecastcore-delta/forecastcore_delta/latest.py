"""`forecast_latest`: a Delta table beside the vintages, brought up to them in one transaction.

A vintage that is the newest, as nearly all are, is taken in as the file it is, and only what it leaves of older ones is
written anew; else the table is overwritten whole. The transaction remembers which version of which table it was made
of. So the next run adds what came since, whoever wrote it, and a run that was killed in between is made good.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from forecastcore.errors import SinkError
from forecastcore.vintages import newest
from forecastcore_delta.location import fresh_name
from forecastcore_delta.overlap import Change, change
from forecastcore_delta.staged import Staged, rows_of, stage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from deltalake import CommitProperties, DeltaTable

    from forecastcore_delta.location import Location

__all__ = ["NAME", "SETTINGS", "Fresh", "Seen", "foreseen", "opened", "refresh"]

NAME = "forecast_latest"
#: a table is opened by its last checkpoint and what came after; delta-rs would let a hundred transactions come
SETTINGS = {"delta.checkpointInterval": "10"}
_ATTEMPTS = 20
#: seconds that a writer leaves the work to those who come after it
_PATIENCE = 5.0
_OWNER = "forecastcore.of"
_VACUUM_EVERY = 20
_KEEP_HOURS = 24


def opened(place: Location) -> DeltaTable | None:
    """`forecast_latest` beside `place`, once it is seen to be of the table there; None where there is none yet.

    Raises:
        SinkError: it is of another table.
    """
    latest = place.beside(NAME).existing()
    owner = latest.metadata().configuration.get(_OWNER, place.name) if latest else place.name
    if place.name == NAME or (owner != place.name and _still_there(place.beside(owner))):
        raise SinkError(
            f"{place.beside(NAME).uri} belongs to the table {owner!r} beside {place.name!r}",
            hint=f"give this sink a parent of its own, such as path: {place.uri}/forecasts",
        )
    return latest


def _still_there(place: Location) -> bool:
    return Path(place.uri).is_dir() if place.is_local else place.existing() is not None


@dataclass(frozen=True)
class Seen:
    """What a table held when a writer looked.

    Attributes:
        version: of the table.
        files: their names.
    """

    version: int
    files: frozenset[str]

    @classmethod
    def of(cls, delta: DeltaTable) -> Seen:
        """What it holds now."""
        return cls(delta.version(), frozenset(_files(delta)))


@dataclass(frozen=True)
class Fresh:
    """A vintage that was just published, and what it changes.

    Attributes:
        staged: its file.
        table: its rows, as `vintages.compact` has them.
        change: what it changes in `forecast_latest`, if nobody else changes that first.
    """

    staged: Staged
    table: pa.Table
    change: Change | None


def foreseen(latest: DeltaTable | None, vintage: pa.Table) -> Change | None:
    """What the vintage will change in `forecast_latest`, as it is now; found while its file is being written."""
    return None if latest is None else change(latest, vintage)


def refresh(place: Location, vintages: DeltaTable, latest: DeltaTable | None, seen: Seen, fresh: Fresh | None) -> None:
    """Bring `forecast_latest` up to the version that the table at `place` has now, or a newer one.

    Of several writers at a time one succeeds, and takes with it what the others have committed by then; so it is not
    the newest version that a loser waits for, only the one that holds its own vintage. Who sees that others are
    committing too gives them a moment first: the last to commit does the work of all.

    Args:
        place: of the table of vintages.
        vintages: this table, opened before what was committed now.
        latest: `forecast_latest`, where there is one.
        seen: what the table held before.
        fresh: the vintage that is at hand already.

    Raises:
        CommitFailedError: other writers were faster, again and again.
    """
    from deltalake import CommitProperties, Transaction
    from deltalake.exceptions import CommitFailedError

    took = _brought_up(vintages)
    wanted, table_id = vintages.version(), str(vintages.metadata().id)
    latest = latest or place.beside(NAME).existing() or _created(place.beside(NAME), vintages, place.name)
    crowded, patience, attempts = wanted > seen.version + 1, time.monotonic() + _PATIENCE, 0
    while True:
        more = False
        if crowded:
            time.sleep(random.uniform(1, 5) * max(took, 0.01))  # noqa: S311 - only to draw two writers apart
            version, took = vintages.version(), _brought_up(latest, vintages)
            more = vintages.version() > version
        done = latest.transaction_version(table_id)
        if done is not None and done >= wanted:
            return
        if more and time.monotonic() < patience:
            continue
        remember = CommitProperties(app_transactions=[Transaction(table_id, vintages.version())], max_commit_retries=0)
        before = seen.files if seen.version == done else _files_at(place, done)
        made = latest.version() + 1
        try:
            _bring_up(place, vintages, latest, before, fresh, remember)
        except CommitFailedError:
            crowded, attempts = True, attempts + 1
            if attempts == _ATTEMPTS:
                raise
        else:
            if made % _VACUUM_EVERY == 0:
                _tidy(latest)
            return


def _brought_up(*tables: DeltaTable) -> float:
    """Let them be what the store holds now; how many seconds the store needed to say."""
    began = time.monotonic()
    for table in tables:
        table.update_incremental()
    return time.monotonic() - began


def _bring_up(
    place: Location,
    vintages: DeltaTable,
    latest: DeltaTable,
    before: frozenset[str] | None,
    fresh: Fresh | None,
    remember: CommitProperties,
) -> None:
    """One transaction: what came since, or everything where files were taken away."""
    from deltalake import write_deltalake

    now = _files(vintages)
    keep = before is not None and before <= now
    added = now - before if before is not None and keep else now
    if fresh is not None and added == {fresh.staged.name} and (keep or not _files(latest)):
        changed = fresh.change
        if changed is None or changed.version != latest.version():
            changed = change(latest, fresh.table)
        if changed is not None:
            _take_in(place, latest, fresh.staged, changed, remember)
            return
    rows = newest(_parts(place, vintages, latest if keep else None, added, fresh))
    write_deltalake(latest, rows, mode="overwrite", commit_properties=remember)


def _take_in(place: Location, latest: DeltaTable, fresh: Staged, changed: Change, remember: CommitProperties) -> None:
    """The vintage's file as it is, and what it leaves of others; files of an attempt that failed are removed."""
    from deltalake.transaction import RemoveAction

    beside, at = place.beside(NAME), int(time.time() * 1000)
    names, mine = [fresh.name], False
    actions: list[Any] = [RemoveAction(name, True, at, size, {}) for name, size in changed.leaves]  # noqa: FBT003
    try:
        place.copy(fresh.name, beside)
        actions.append(fresh.action())
        if changed.rest is not None:
            names.append(fresh_name("rest"))
            actions.append(stage(beside, names[-1], changed.rest).action())
        latest.create_write_transaction(actions, mode="append", schema=latest.schema(), commit_properties=remember)
        mine = True
    finally:
        if not mine and not _files(beside.table()) & set(names):
            for name in names:
                beside.remove(name)


def _parts(
    place: Location, vintages: DeltaTable, latest: DeltaTable | None, added: Collection[str], fresh: Fresh | None
) -> Iterator[pa.Table]:
    if latest is not None:
        yield latest.to_pyarrow_table()
    stored = set(added)
    if fresh is not None and fresh.staged.name in stored:
        stored.remove(fresh.staged.name)
        yield fresh.table.cast(pa.schema([(f.name, _plain(f.type)) for f in fresh.table.schema]))
    yield from rows_of(place, vintages, stored)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _files(delta: DeltaTable) -> set[str]:
    return set(pa.table(delta.get_add_actions())["path"].to_pylist())


def _files_at(place: Location, version: int | None) -> frozenset[str] | None:
    """Files of an older version; None where its log is gone."""
    from deltalake.exceptions import DeltaError

    try:
        return None if version is None else Seen.of(place.table(version)).files
    except DeltaError:
        return None


def _created(place: Location, vintages: DeltaTable, owner: str) -> DeltaTable:
    """An empty table of the same columns, or the one that another process made in this moment."""
    settings = {_OWNER: owner, **SETTINGS, "delta.logRetentionDuration": "interval 1 day"}  # as long as its files stay
    return place.created(vintages.schema(), name=NAME, configuration=settings, raise_if_key_not_exists=False)


def _tidy(latest: DeltaTable) -> None:
    """Remove the files of versions that nobody reads any more."""
    latest.update_incremental()
    latest.vacuum(retention_hours=_KEEP_HOURS, dry_run=False, enforce_retention_duration=False)
