"""pandas objects as Parquet, and back exactly as they were."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from typing import Any

__all__ = ["read_frame", "write_frame"]


def write_frame(frame: pd.DataFrame) -> tuple[bytes, str | None]:
    """Parquet bytes of a frame with its index, and the index's frequency, which Parquet has no place for.

    Raises:
        ValueError: Parquet cannot keep it, or would give it back changed.
    """
    plain = frame.copy(deep=False)
    plain.attrs = {}
    sink = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pandas(plain), sink)
    except pa.ArrowException as error:
        raise ValueError(f"Parquet cannot keep it: {error}") from error
    data = sink.getvalue()
    frequency: str | None = getattr(frame.index, "freqstr", None) if _has_frequency(frame.index) else None
    if not _same(frame, read_frame(data, frequency)):
        raise ValueError("Parquet would give it back with other types, names or index")
    return data, frequency


def read_frame(data: bytes, frequency: str | None) -> pd.DataFrame:
    """The frame that `write_frame` wrote.

    Raises:
        ValueError: the bytes are not a Parquet file, or not one of a frame.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            frame: pd.DataFrame = file.read().to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"Parquet cannot be read: {error}") from error
    if frequency is not None:
        index: Any = frame.index
        index.freq = frequency
    return frame


def _has_frequency(index: pd.Index[Any]) -> bool:
    return isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex)


def _same(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    return (
        type(before.index) is type(after.index)
        and before.index.identical(after.index)
        and _same_columns(before.columns, after.columns)
        and list(before.dtypes) == list(after.dtypes)
        and before.equals(after)
    )


def _same_columns(before: pd.Index[Any], after: pd.Index[Any]) -> bool:
    # Numbered columns come back written out, 0, 1, 2, instead of as a range; none at all come back without a type.
    if before.empty and after.empty:
        return True
    return before.equals(after) and before.dtype == after.dtype and list(before.names) == list(after.names)
