"""History from blobs."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from forecastcore.errors import DataError
from forecastcore_azure.account import check_place, credential_of, open_container
from forecastcore_azure.tables import CsvBlob, ParquetBlob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from azure.storage.blob import ContainerClient

    AnyBlob = ParquetBlob | CsvBlob

__all__ = ["AzureBlobSource"]

T = TypeVar("T")

_READERS = 4
_KINDS: dict[str, type[ParquetBlob | CsvBlob]] = {".parquet": ParquetBlob, ".csv": CsvBlob}


@dataclass(frozen=True)
class AzureBlobSource:
    """A Parquet or CSV blob, or all of them below a prefix; of CSV, columns that hold only numbers are numbers.

    Attributes:
        container: the container.
        credential: who asks, and nobody else: a connection string, a managed identity, a service principal, or a
            Prefect block.
        path: a blob that ends in .parquet or .csv, or a prefix.
        account_url: of the storage account, such as https://ACCOUNT.blob.core.windows.net; beside an identity.
    """

    container: str
    credential: str | dict[str, str] = field(repr=False)
    path: str
    account_url: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", check_place(self.container, self.path))
        credential_of(self.credential)

    def schema(self) -> pa.Schema:
        """Names and types of all blobs together: of Parquet from the footers, of CSV from all rows.

        Raises:
            DataError: there is no such blob, or it cannot be read.
        """
        with self._told():
            return self._schema

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns, as they stand in the blobs.

        Raises:
            DataError: as `schema`, or there are no rows.
        """
        with self._told():
            table = _joined(_each(self._blobs, lambda blob: blob.table(columns)), self._schema, columns)
        if not table.num_rows:
            raise DataError(f"{self._where} has no rows")
        return table

    def parts(self) -> list[str]:
        """Row groups of the blobs, each with its blob's ETag and the types; one part where CSV is among them."""
        with self._told():
            blobs, types = self._blobs, base64.b64encode(self._schema.serialize()).decode()
            if any(isinstance(blob, CsvBlob) for blob in blobs):
                return [json.dumps([[[blob.name, blob.size, blob.etag] for blob in blobs], None, types])]
            return [
                json.dumps([[[blob.name, blob.size, blob.etag]], group, types])
                for blob in blobs
                if isinstance(blob, ParquetBlob)
                for group in range(blob.groups)
            ]

    def read_part(self, part: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """A part's columns, as `read` has them.

        Raises:
            DataError: a blob is another one by now, or cannot be read.
        """
        named, group, types = json.loads(part)
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(types)))
        with self._told():
            for blob in (_blob(self._container, *about) for about in named):
                if group is not None and isinstance(blob, ParquetBlob):
                    tables = blob.batches(group, columns)
                else:
                    tables = iter([blob.table(columns)])
                for table in tables:
                    yield from _joined([table], schema, columns).to_batches()

    @property
    def _where(self) -> str:
        return f"azure-blob {self.container}/{self.path}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever the service or Arrow has against it, as an error for whoever wrote the project file."""
        from azure.core.exceptions import AzureError

        try:
            yield
        except (AzureError, OSError, ValueError, pa.ArrowException) as error:
            first = str(error).splitlines()[0] if str(error) else ""
            raise DataError(f"{self._where} cannot be read: {type(error).__name__}: {first}") from error

    @cached_property
    def _container(self) -> ContainerClient:
        credential, url = credential_of(self.credential)
        return open_container(credential, self.account_url or url, self.container)

    @cached_property
    def _blobs(self) -> list[AnyBlob]:
        """Listed once: what comes later is not mixed in."""
        return sorted(self._listed(), key=lambda blob: blob.name)

    @cached_property
    def _schema(self) -> pa.Schema:
        return pa.unify_schemas(_each(self._blobs, lambda blob: blob.schema), promote_options="permissive")

    def _listed(self) -> list[AnyBlob]:
        from azure.core.exceptions import ResourceNotFoundError

        if self.path.endswith(tuple(_KINDS)):
            try:
                found = self._container.get_blob_client(self.path).get_blob_properties()
            except ResourceNotFoundError:
                pass
            else:
                return [_blob(self._container, self.path, found.size, found.etag)]
        below = self._container.list_blobs(name_starts_with=f"{self.path}/")
        blobs = [
            _blob(self._container, found.name, found.size, found.etag)
            for found in below
            if found.name.endswith(tuple(_KINDS)) and not _hidden(found.name.removeprefix(self.path))
        ]
        if not blobs:
            raise DataError(f"{self._where} is no blob, and no Parquet or CSV blob lies below it")
        return blobs


def _blob(container: ContainerClient, name: str, size: int, etag: str) -> AnyBlob:
    kind = next(kind for suffix, kind in _KINDS.items() if name.endswith(suffix))
    return kind(container, name, size, etag)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _joined(tables: Iterable[pa.Table], schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Tables as one, columns that some of them lack left empty there."""
    wanted = pa.schema([schema.field(name) for name in columns])
    table = pa.concat_tables([wanted.empty_table(), *tables], promote_options="permissive")
    return table.select(list(columns)).cast(wanted)


def _each(blobs: Sequence[AnyBlob], told: Callable[[AnyBlob], T]) -> list[T]:
    """What is told of each blob, some asked at a time."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(told, blobs))
