"""`forecast_latest`: a Delta table beside the vintages, overwritten whole in one transaction.

The transaction remembers which version of which table it was made of. So the next run adds what came since, whoever
wrote it, and a run that was killed in between is made good.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from forecastcore.errors import SinkError
from forecastcore.vintages import newest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltalake import DeltaTable

    from forecastcore_delta.location import Location

__all__ = ["NAME", "check_owner", "refresh"]

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


def refresh(place: Location, fresh: dict[str, pa.Table]) -> None:
    """Bring `forecast_latest` up to the version that the table at `place` has now, or a newer one.

    Of several writers at a time one succeeds, and takes with it what the others have committed by then; so it is not
    the newest version that a loser waits for, only the one that holds its own vintage.

    Args:
        place: of the table of vintages.
        fresh: content of files of the table that are at hand already, by name.

    Raises:
        CommitFailedError: other writers were faster, again and again.
    """
    from deltalake import CommitProperties, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    wanted = place.table().version()
    for attempt in range(_ATTEMPTS):
        vintages = place.table()
        version, table_id = vintages.version(), str(vintages.metadata().id)
        latest = place.beside(NAME).existing() or _created(place.beside(NAME), vintages, place.name)
        done = latest.transaction_version(table_id)
        if done is not None and done >= wanted:
            return
        rows = _rows(place, vintages, latest, done, fresh)
        remember = CommitProperties(app_transactions=[Transaction(table_id, version)], max_commit_retries=0)
        try:
            write_deltalake(latest, rows, mode="overwrite", commit_properties=remember)
        except CommitFailedError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311 - only to draw two writers apart
        else:
            break
    _tidy(place.beside(NAME))


def _rows(
    place: Location, vintages: DeltaTable, latest: DeltaTable, done: int | None, fresh: dict[str, pa.Table]
) -> pa.Table:
    """The newest rows, from what `forecast_latest` holds and what came since; from all where files were taken away."""
    now = _files(vintages)
    before = None if done is None else _files_at(place, done)
    keep = before is not None and before <= now
    added = now - before if before is not None and keep else now
    return newest(_parts(vintages, latest if keep else None, added, fresh))


def _parts(
    vintages: DeltaTable, latest: DeltaTable | None, added: set[str], fresh: dict[str, pa.Table]
) -> Iterator[pa.Table]:
    if latest is not None:
        yield latest.to_pyarrow_table()
    yield from (table for name, table in fresh.items() if name in added)
    if stored := added - set(fresh):
        dataset = vintages.to_pyarrow_dataset()
        yield from (part.to_table(schema=dataset.schema) for part in dataset.get_fragments() if part.path in stored)


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
