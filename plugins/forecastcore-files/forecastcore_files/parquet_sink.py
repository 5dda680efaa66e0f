"""Forecasts as a folder of Parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the host reads the annotation
from typing import IO, TYPE_CHECKING, ClassVar

import pyarrow.parquet as pq

from forecastcore_files.folder import VintageFolder

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from forecastcore.api import Published

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


class _Parquet:
    """Parquet files with microsecond instants."""

    suffix: ClassVar[str] = ".parquet"

    def write(self, table: pa.Table, handle: IO[bytes]) -> None:
        pq.write_table(table, handle)

    def read(self, path: Path) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read()

    def rows(self, path: Path) -> int:
        return int(pq.read_metadata(path).num_rows)
