"""Frames, answers and errors as bytes; nothing is pickled."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore.errors import EngineError, ForecastCoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

__all__ = ["answer_of", "bytes_of", "error_bytes", "error_of", "parts_of", "pieces_of", "stream_of", "table_of"]

#: bytes of a row: far below what any link of the chain limits a message to; Spark's driver holds one several times over
_ROW = 1_000_000
_FRAME, _BYTES = b"frame:", b"bytes:"


def stream_of(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    import pyarrow as pa

    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow has no types


def table_of(data: bytes) -> pa.Table:
    """The table of an Arrow stream."""
    import pyarrow as pa

    return pa.ipc.open_stream(data).read_all()


def bytes_of(answer: Any) -> bytes:
    """What a unit's work returned: a frame, with its `attrs`, or bytes."""
    return b"".join(pieces_of(answer))


def pieces_of(answer: Any) -> tuple[bytes, bytes]:
    """The same in two pieces, so that a large answer need not be copied."""
    import pyarrow as pa

    if isinstance(answer, pd.DataFrame):
        return _FRAME, stream_of(pa.Table.from_pandas(answer, preserve_index=False))
    if isinstance(answer, bytes):
        return _BYTES, answer
    raise EngineError(f"the work returned {type(answer).__name__}; an engine carries frames and bytes only")


def answer_of(parts: Iterable[bytes]) -> Any:
    """The answer whose bytes these are, in order; a part is not held once the next is asked for."""
    kind, data = b"", io.BytesIO()
    for part in parts:
        data.write(part if kind else memoryview(part)[len(_FRAME) :])  # its kind stands before the first
        kind = kind or bytes(part[: len(_FRAME)])
    return table_of(data.getvalue()).to_pandas() if kind == _FRAME else data.getvalue()


def parts_of(data: bytes) -> Iterator[bytes]:
    """Slices that fit into a row; at least one."""
    for start in range(0, max(len(data), 1), _ROW):
        yield data[start : start + _ROW]


def error_bytes(error: Exception) -> bytes:
    """What to tell the driver of an error."""
    if isinstance(error, ForecastCoreError):
        return json.dumps([error.message, error.hint]).encode()
    return json.dumps([f"{type(error).__name__}: {error}", None]).encode()


def error_of(data: bytes) -> EngineError:
    """The error that a worker told of."""
    message, hint = json.loads(data)
    return EngineError(f"on a Spark worker: {message}", hint=hint)
