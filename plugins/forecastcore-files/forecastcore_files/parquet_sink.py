"""Forecasts as a folder of Parquet files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path  # noqa: TC003 - the host reads the annotation
from typing import IO, TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from forecastcore.vintages import REF_COLUMNS, compact, ref_of
from forecastcore_files.folder import VintageFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from forecastcore.api import Published
    from forecastcore.vintages import VintageRef

__all__ = ["ParquetSink"]


@dataclass(frozen=True)
class ParquetSink:
    """A folder with one Parquet file per vintage, and `forecast_latest.parquet` beside it.

    Attributes:
        path: the folder; made when needed.
    """

    path: Path

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Let the vintage appear as a file, once; see `VintageFolder.publish`."""
        return VintageFolder(self.path, _Parquet()).publish(vintage, run_key)

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none."""
        return VintageFolder(self.path, _Parquet()).read(issued_at)

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first."""
        return VintageFolder(self.path, _Parquet()).vintages()

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:  # noqa: ARG002 - files keep no reasons
        """Take vintages out of what readers see; see `VintageFolder.withdraw`."""
        return VintageFolder(self.path, _Parquet()).withdraw(run_keys)

    def leftovers(self, *, remove: bool = False) -> list[str]:
        """Files that deliveries which were broken off left behind; see `VintageFolder.leftovers`."""
        return VintageFolder(self.path, _Parquet()).leftovers(remove=remove)


class _Parquet:
    """Parquet files with microsecond instants."""

    suffix: ClassVar[str] = ".parquet"

    def write(self, table: pa.Table, handle: IO[bytes]) -> None:
        few = [field.name for field in table.schema if not pa.types.is_floating(field.type)]  # forecasts seldom repeat
        pq.write_table(compact(table), handle, use_dictionary=few, store_schema=False)

    def read(self, path: Path) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read()

    def rows(self, path: Path) -> int:
        return int(pq.read_metadata(path).num_rows)

    def ref(self, path: Path) -> VintageRef:
        with pq.ParquetFile(path) as file:
            first = next(file.iter_batches(1, columns=list(REF_COLUMNS)))
            return replace(ref_of(pa.Table.from_batches([first])), rows=int(file.metadata.num_rows))
