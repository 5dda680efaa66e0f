"""History from a Delta table."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from forecastcore.errors import DataError
from forecastcore_delta.location import locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deltalake import DeltaTable

__all__ = ["DeltaSource"]


@dataclass(frozen=True)
class DeltaSource:
    """A Delta table, as it is now or as it was.

    Attributes:
        path: folder of the table; in Azure `az://CONTAINER/PATH`, or
            `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`.
        version: this version of it.
        as_of: the version that was current at this instant; without an offset it is in UTC.
        credential: who Azure is asked as, and nobody else: a connection string, a managed identity, a service
            principal, or a Prefect block.
        account_url: of the storage account, where neither path nor credential name it.
    """

    path: Path
    version: int | None = None
    as_of: datetime | None = None
    credential: str | dict[str, str] | None = field(default=None, repr=False)
    account_url: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.as_of is not None:
            msg = "version and as_of both say which state of the table is meant; keep one"
            raise ValueError(msg)

    def schema(self) -> pa.Schema:
        """Names and types, from the table's log.

        Raises:
            DataError: there is no such table or version.
        """
        return _plain(pa.schema(self._table().schema().to_arrow()))

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns, as they stand in the table.

        Raises:
            DataError: as `schema`, or the table has no rows or cannot be read.
        """
        from deltalake.exceptions import DeltaError

        delta = self._table()
        try:
            table = _read(delta, list(columns))
        except (OSError, UnicodeError, pa.ArrowException, DeltaError) as error:
            raise DataError(f"{self._where} cannot be read: {error}") from error
        if not table.num_rows:
            raise DataError(f"{self._where} has no rows")
        return table.cast(_plain(table.schema))

    def parts(self) -> list[str]:
        """The version that is read, with each of its files; one part where its files are not all that counts."""
        delta = self._table()
        version = delta.version()
        if not _is_plain(delta):
            return [json.dumps([version, None])]
        return [json.dumps([version, part.path]) for part in delta.to_pyarrow_dataset().get_fragments()]

    def read_part(self, part: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """A file's columns, as `read` has them.

        Raises:
            DataError: as `read`.
        """
        version, path = json.loads(part)
        if path is None:
            yield from replace(self, version=version, as_of=None).read(columns).to_batches()
            return
        dataset = self._table(version).to_pyarrow_dataset()
        wanted = _plain(pa.schema([dataset.schema.field(name) for name in columns]))
        file = next(fragment for fragment in dataset.get_fragments() if fragment.path == path)
        try:
            for batch in file.to_batches(dataset.schema, columns=list(columns)):
                yield from pa.Table.from_batches([batch]).cast(wanted).to_batches()
        except (OSError, UnicodeError, pa.ArrowException) as error:
            raise DataError(f"{self._where} cannot be read: {error}") from error

    @property
    def _where(self) -> str:
        return str(self.path.absolute() if isinstance(self.path, Path) else self.path)

    def _table(self, version: int | None = None) -> DeltaTable:
        """The table in a version; default: in that of the parameters."""
        from deltalake.exceptions import DeltaError

        try:
            place = locate(self.path, self.credential, self.account_url)
            delta = place.existing()
        except (DeltaError, OSError, ValueError) as error:
            raise DataError(f"{self._where} has a log that cannot be read: {error}"[:500]) from error
        if delta is None:
            raise DataError(f"{self._where} is not a Delta table", hint="it needs a folder _delta_log")
        version = self.version if version is None else version
        try:
            if version is not None:
                return place.table(version)
            if self.as_of is not None:
                _load_as_of(delta, self.as_of)
        except (DeltaError, OSError, OverflowError) as error:
            wanted = f"version {version}" if version is not None else f"state of {self.as_of}"
            raise DataError(f"{self._where} has no {wanted}", hint=_versions(place.table())) from error
        return delta


def _load_as_of(delta: DeltaTable, as_of: datetime) -> None:
    """Go back to that instant; delta-rs itself would answer an instant before the first version with that version."""
    moment = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of
    if moment.timestamp() * 1000 < min(entry["timestamp"] for entry in delta.history()):
        msg = "the table is younger"
        raise OverflowError(msg)
    delta.load_as_version(moment)


def _versions(delta: DeltaTable) -> str:
    """Which versions there are, in words."""
    history = delta.history()
    first, last = history[-1], history[0]
    since = datetime.fromtimestamp(first["timestamp"] / 1000, UTC).isoformat(timespec="seconds")
    return f"it has versions {first.get('version', 0)} to {last.get('version')}, since {since}"


def _read(delta: DeltaTable, columns: list[str]) -> pa.Table:
    if not _is_plain(delta):
        return pa.table(delta.scan(columns=columns))
    return delta.to_pyarrow_dataset().to_table(columns=columns)


def _is_plain(delta: DeltaTable) -> bool:
    """Without deletion vectors or column mapping: the dataset refuses the one and reads nulls for the other."""
    return delta.protocol().min_reader_version <= 1


def _plain(schema: pa.Schema) -> pa.Schema:
    """Text as plain strings, dictionaries as what they stand for."""
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_string_view(inner) else inner
