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
from forecastcore_delta.staged import Staged, stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltalake import CommitProperties, DeltaTable

    from forecastcore_delta.location import Location

__all__ = ["NAME", "Fresh", "check_owner", "foreseen", "refresh"]

NAME = "forecast_latest"
_ATTEMPTS = 20
_OWNER = "forecastcore.of"
_VACUUM_EVERY = 20
_KEEP_HOURS = 24


def check_owner(place: Location) -> None:
    """See that `forecast_latest` beside `place` is not that of another table.

    Raises:
        SinkError: it is.
    """
    latest = place.beside(NAME).existing()
    owner = latest.metadata().configuration.get(_OWNER, place.name) if latest else place.name
    if place.name == NAME or (owner != place.name and _still_there(place.beside(owner))):
        raise SinkError(
            f"{place.beside(NAME).uri} belongs to the table {owner!r} beside {place.name!r}",
            hint=f"give this sink a parent of its own, such as path: {place.uri}/forecasts",
        )


def _still_there(place: Location) -> bool:
    return Path(place.uri).is_dir() if place.is_local else place.existing() is not None


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


def foreseen(place: Location, vintage: pa.Table) -> Change | None:
    """What the vintage will change in `forecast_latest`, as it is now; found while its file is being written."""
    latest = place.beside(NAME).existing()
    return None if latest is None else change(latest, vintage)


def refresh(place: Location, fresh: Fresh | None = None) -> None:
    """Bring `forecast_latest` up to the version that the table at `place` has now, or a newer one.

    Of several writers at a time one succeeds, and takes with it what the others have committed by then; so it is not
    the newest version that a loser waits for, only the one that holds its own vintage.

    Args:
        place: of the table of vintages.
        fresh: the vintage that is at hand already.

    Raises:
        CommitFailedError: other writers were faster, again and again.
    """
    from deltalake import CommitProperties, Transaction
    from deltalake.exceptions import CommitFailedError

    wanted = place.table().version()
    for attempt in range(_ATTEMPTS):
        vintages = place.table()
        version, table_id = vintages.version(), str(vintages.metadata().id)
        latest = place.beside(NAME).existing() or _created(place.beside(NAME), vintages, place.name)
        done = latest.transaction_version(table_id)
        if done is not None and done >= wanted:
            return
        remember = CommitProperties(app_transactions=[Transaction(table_id, version)], max_commit_retries=0)
        try:
            _bring_up(place, vintages, latest, done, fresh, remember)
        except CommitFailedError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311 - only to draw two writers apart
        else:
            break
    _tidy(place.beside(NAME))


def _bring_up(
    place: Location,
    vintages: DeltaTable,
    latest: DeltaTable,
    done: int | None,
    fresh: Fresh | None,
    remember: CommitProperties,
) -> None:
    """One transaction: what came since, or everything where files were taken away."""
    from deltalake import write_deltalake

    now = _files(vintages)
    before = None if done is None else _files_at(place, done)
    keep = before is not None and before <= now
    added = now - before if before is not None and keep else now
    if fresh is not None and added == {fresh.staged.name} and (keep or not _files(latest)):
        changed = fresh.change
        if changed is None or changed.version != latest.version():
            changed = change(latest, fresh.table)
        if changed is not None:
            _take_in(place, latest, fresh.staged, changed, remember)
            return
    rows = newest(_parts(vintages, latest if keep else None, added, fresh))
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


def _parts(vintages: DeltaTable, latest: DeltaTable | None, added: set[str], fresh: Fresh | None) -> Iterator[pa.Table]:
    if latest is not None:
        yield latest.to_pyarrow_table()
    stored = set(added)
    if fresh is not None and fresh.staged.name in stored:
        stored.remove(fresh.staged.name)
        yield fresh.table.cast(pa.schema([(f.name, _plain(f.type)) for f in fresh.table.schema]))
    if stored:
        dataset = vintages.to_pyarrow_dataset()
        yield from (part.to_table(schema=dataset.schema) for part in dataset.get_fragments() if part.path in stored)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _files(delta: DeltaTable) -> set[str]:
    return set(pa.table(delta.get_add_actions())["path"].to_pylist())


def _files_at(place: Location, version: int) -> set[str] | None:
    """Files of an older version; None where its log is gone."""
    from deltalake.exceptions import DeltaError

    try:
        return _files(place.table(version))
    except DeltaError:
        return None


def _created(place: Location, vintages: DeltaTable, owner: str) -> DeltaTable:
    """An empty table of the same columns, or the one that another process made in this moment."""
    return place.created(vintages.schema(), name=NAME, configuration={_OWNER: owner}, raise_if_key_not_exists=False)


def _tidy(place: Location) -> None:
    """Now and then remove the files of versions that nobody reads any more."""
    delta = place.table()
    if delta.version() % _VACUUM_EVERY == 0:
        delta.vacuum(retention_hours=_KEEP_HOURS, dry_run=False, enforce_retention_duration=False)
