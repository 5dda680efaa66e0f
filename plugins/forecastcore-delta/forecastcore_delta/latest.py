"""`forecast_latest`: a Delta table beside the vintages, overwritten whole in one transaction.

The transaction remembers which version of which table it was made of. So the next run adds what came since, whoever
wrote it, and a run that was killed in between is made good.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pyarrow as pa

from forecastcore.errors import SinkError
from forecastcore.vintages import newest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deltalake import DeltaTable

__all__ = ["NAME", "check_owner", "refresh"]

NAME = "forecast_latest"
_ATTEMPTS = 20
_OWNER = "forecastcore.of"
_VACUUM_EVERY = 20
_KEEP_HOURS = 24


def check_owner(path: Path) -> None:
    """See that `forecast_latest` beside `path` is not that of another table.

    Raises:
        SinkError: it is.
    """
    latest = _existing(path.parent / NAME)
    owner = latest.metadata().configuration.get(_OWNER, path.name) if latest else path.name
    if path.name == NAME or (owner != path.name and (path.parent / owner).is_dir()):
        raise SinkError(
            f"{path.parent / NAME} belongs to the table {owner!r} beside {path.name!r}",
            hint=f"give this sink a parent of its own, such as path: {path / 'forecasts'}",
        )


def refresh(path: Path, fresh: dict[str, pa.Table]) -> None:
    """Bring `forecast_latest` up to the version that the table at `path` has now, or a newer one.

    Of several writers at a time one succeeds, and takes with it what the others have committed by then; so it is not
    the newest version that a loser waits for, only the one that holds its own vintage.

    Args:
        path: the table of vintages.
        fresh: content of files of the table that are at hand already, by name.

    Raises:
        CommitFailedError: other writers were faster, again and again.
    """
    from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    wanted = DeltaTable(path).version()
    for attempt in range(_ATTEMPTS):
        vintages = DeltaTable(path)
        version, table_id = vintages.version(), str(vintages.metadata().id)
        latest = _existing(path.parent / NAME) or _created(path.parent / NAME, vintages, path.name)
        done = latest.transaction_version(table_id)
        if done is not None and done >= wanted:
            return
        rows = _rows(path, vintages, latest, done, fresh)
        remember = CommitProperties(app_transactions=[Transaction(table_id, version)], max_commit_retries=0)
        try:
            write_deltalake(latest, rows, mode="overwrite", commit_properties=remember)
        except CommitFailedError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311 - only to draw two writers apart
        else:
            break
    _tidy(path.parent / NAME)


def _rows(
    path: Path, vintages: DeltaTable, latest: DeltaTable, done: int | None, fresh: dict[str, pa.Table]
) -> pa.Table:
    """The newest rows, from what `forecast_latest` holds and what came since; from all where files were taken away."""
    now = _files(vintages)
    before = None if done is None else _files_at(path, done)
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


def _files_at(path: Path, version: int) -> set[str] | None:
    """Files of an older version; None where its log is gone."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return _files(DeltaTable(path, version=version))
    except DeltaError:
        return None


def _existing(path: Path) -> DeltaTable | None:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(path)
    except TableNotFoundError:
        return None


def _created(path: Path, vintages: DeltaTable, owner: str) -> DeltaTable:
    """An empty table of the same columns, or the one that another process made in this moment."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    path.mkdir(parents=True, exist_ok=True)
    try:
        return DeltaTable.create(
            path,
            schema=vintages.schema(),
            name=NAME,
            configuration={_OWNER: owner},
            raise_if_key_not_exists=False,
        )
    except DeltaError:
        if (delta := _existing(path)) is None:
            raise
        return delta


def _tidy(path: Path) -> None:
    """Now and then remove the files of versions that nobody reads any more."""
    from deltalake import DeltaTable

    delta = DeltaTable(path)
    if delta.version() % _VACUUM_EVERY == 0:
        delta.vacuum(retention_hours=_KEEP_HOURS, dry_run=False, enforce_retention_duration=False)
