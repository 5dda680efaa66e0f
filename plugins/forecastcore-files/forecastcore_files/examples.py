"""How to try the sources: a table written where they find it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Example

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

__all__ = ["csv_example", "parquet_example"]


def parquet_example(folder: Path, table: pa.Table) -> Example:
    """The table as a Parquet file."""
    import pyarrow.parquet as pq

    pq.write_table(table, folder / "history.parquet")
    return Example(params={"path": str(folder / "history.parquet")})


def csv_example(folder: Path, table: pa.Table) -> Example:
    """The table as a CSV file."""
    import pyarrow.csv as pacsv

    pacsv.write_csv(table, folder / "history.csv")
    return Example(params={"path": str(folder / "history.csv")})
