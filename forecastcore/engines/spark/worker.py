"""What a Spark task does: puts its pieces together, and lets a process beside it do the work."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore import __version__
from forecastcore.engines.local import in_pool
from forecastcore.engines.wire import bytes_of, error_bytes, parts_of, table_of
from forecastcore.errors import EngineError
from forecastcore.parcel import unwrap
from forecastcore.ports import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pandas as pd
    import pyarrow as pa

__all__ = ["ANSWER", "check_same", "lost", "serve"]

#: a part of an answer, or of what is told of an error
ANSWER = "unit int, place int, error boolean, data binary"


def serve(
    work: Callable[[pd.DataFrame, str], Any], timeout: float, version: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Do the units of a partition.

    Args:
        work: see `ports.Engine.map`.
        timeout: seconds that a unit may take.
        version: of forecastcore on the driver.
        batches: `data, piece, request`: pieces with their bytes, and orders without.
    """
    pieces: dict[str, bytes] = {}
    orders: list[dict[str, Any]] = []
    for batch in batches:
        for data, piece, request in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if request is None:
                pieces[piece] = data
            else:
                orders.append(json.loads(request))
    for order in orders:
        try:
            check_same(version)
            answer = bytes_of(_done(work, timeout, order, pieces))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the driver's to raise
            yield from _rows(order["unit"], error_bytes(error), failed=True)
        else:
            yield from _rows(order["unit"], answer, failed=False)


def check_same(version: str) -> None:
    """See that this worker has the driver's forecastcore.

    Raises:
        EngineError: it has another version.
    """
    if version != __version__:
        raise EngineError(
            f"forecastcore {__version__} is installed there, {version} on the driver",
            hint="install the driver's version on the cluster",
        )


def lost() -> EngineError:
    """Something is not what it was when it was made: a worker that held it is gone, and the source is another now."""
    return EngineError(
        "a worker that held a part of the history was lost, and the source was changed since it was read",
        hint="run again once nobody writes to it",
    )


def _done(
    work: Callable[[pd.DataFrame, str], Any], timeout: float, order: Mapping[str, Any], pieces: Mapping[str, bytes]
) -> Any:
    import pyarrow as pa

    if not {*order["panel"]} <= pieces.keys():
        raise lost()
    panel = pa.concat_tables([table_of(pieces[name]) for name in order["panel"]]).unify_dictionaries()
    with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
        folder = Path(scratch) if order["folder"] else None
        if folder is not None:
            unwrap(b"".join(pieces[name] for name in order["folder"]), folder)
        ids = None if order["ids"] is None else tuple(order["ids"])
        unit = Unit(ids, order["request"], order["barred"], folder)
        ((_, answer),) = in_pool(work, panel, [unit], workers=1, timeout=timeout)
    return answer


def _rows(unit: int, data: bytes, *, failed: bool) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    number = pa.int32()
    schema = pa.schema([("unit", number), ("place", number), ("error", pa.bool_()), ("data", pa.binary())])
    for place, part in enumerate(parts_of(data)):
        columns = {"unit": [unit], "place": [place], "error": [failed], "data": [part]}
        yield pa.RecordBatch.from_pydict(columns, schema=schema)
