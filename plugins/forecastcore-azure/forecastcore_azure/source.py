"""History from blobs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from forecastcore.errors import DataError
from forecastcore_azure.account import check_place, credential_of, open_container

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azure.storage.blob import ContainerClient

__all__ = ["AzureBlobSource"]

_READERS = 4
_SUFFIXES = (".parquet", ".csv")
#: text that is a number as a person or a program writes it; 007 is a name
_NUMBER = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"


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
    _read: list[pa.Table] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", check_place(self.container, self.path))
        credential_of(self.credential)

    def schema(self) -> pa.Schema:
        """Names and types of all blobs together.

        Raises:
            DataError: there is no such blob, or it cannot be read.
        """
        return self._table().schema

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns, as they stand in the blobs.

        Raises:
            DataError: as `schema`, or there are no rows.
        """
        table = self._table()
        if not table.num_rows:
            raise DataError(f"{self._where} has no rows")
        return table.select(list(columns))

    @property
    def _where(self) -> str:
        return f"azure-blob {self.container}/{self.path}"

    def _table(self) -> pa.Table:
        """What the blobs hold, downloaded once: neither format tells its types without most of its bytes."""
        if not self._read:
            self._read.append(self._downloaded())
        return self._read[0]

    def _downloaded(self) -> pa.Table:
        from azure.core.exceptions import AzureError

        credential, url = credential_of(self.credential)
        try:
            container = open_container(credential, self.account_url or url, self.container)
            names = self._names(container)
            with ThreadPoolExecutor(_READERS) as pool:
                tables = list(pool.map(lambda name: _parsed(name, container.download_blob(name).readall()), names))
            return pa.concat_tables(tables, promote_options="permissive")
        except (AzureError, OSError, ValueError, pa.ArrowException) as error:
            first = str(error).splitlines()[0] if str(error) else ""
            raise DataError(f"{self._where} cannot be read: {type(error).__name__}: {first}") from error

    def _names(self, container: ContainerClient) -> list[str]:
        if self.path.endswith(_SUFFIXES) and container.get_blob_client(self.path).exists():
            return [self.path]
        below = [str(name) for name in container.list_blob_names(name_starts_with=f"{self.path}/")]
        found = [name for name in below if name.endswith(_SUFFIXES) and not _hidden(name.removeprefix(self.path))]
        if not found:
            raise DataError(f"{self._where} is no blob, and no Parquet or CSV blob lies below it")
        return sorted(found)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _parsed(name: str, data: bytes) -> pa.Table:
    if name.endswith(".parquet"):
        table = pq.read_table(pa.BufferReader(data))
        plain = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
        return pa.table(plain, names=table.column_names)
    names = pacsv.open_csv(pa.BufferReader(data)).schema.names
    table = pacsv.read_csv(
        pa.BufferReader(data),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )
    return pa.table([_typed(column) for column in table.columns], names=table.column_names)


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as numbers where every value is one, else as it is."""
    if column.type != pa.string() or column.null_count == len(column):
        return column
    if not pc.all(pc.match_substring_regex(column, _NUMBER)).as_py():
        return column
    return pc.cast(column, pa.float64())
