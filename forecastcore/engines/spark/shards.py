"""What Spark tasks do with a source that stays on the cluster: read parts, cut them into shards, work on a shard.

A shard is all rows of some series, in the order of the source. It crosses as bytes of Arrow, so that no type is
converted on the way; whatever is tried again, after a lost executor too, is the same again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forecastcore.engines.spark.worker import check_same
from forecastcore.engines.wire import error_bytes, parts_of, stream_of, table_of
from forecastcore.parcel import unwrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa

    Read = Callable[[str], Iterable[pa.RecordBatch]]

#: some rows of a piece: the first of each stretch, and the one after its last
Ranges = Sequence[tuple[int, int]]
#: where some rows of a piece go: Spark's key of the unit, a name for them, and which they are
Take = tuple[int, str, Ranges]

__all__ = [
    "ANSWERED",
    "CUT",
    "ERROR",
    "LOOKED",
    "MADE",
    "PICKED",
    "TOLD",
    "Ranges",
    "Take",
    "answered",
    "cut",
    "finished",
    "look",
    "make",
    "parcels",
    "picked",
]

#: what was seen of some of the source
LOOKED = "data binary, error boolean"
#: rows of the source on their way to a shard, or a part of a file that it needs
CUT = "slot int, place bigint, name string, data binary"
#: what was made of a shard, of several kinds
MADE = "shard int, place int, kind string, data binary"
#: what is said of something that was made
ANSWERED = "kind string, place int, error boolean, data binary"
#: rows of a panel on their way to a unit
PICKED = "slot int, piece string, data binary"
#: kinds that every shard may have, beside those that are named otherwise
TOLD, ERROR = "#told", "#error"
#: rows that are handled together
_ROWS = 100_000
#: parts of the source's parts that are counted apart
_WITHIN = 32


def look(
    read: Read | None, work: Callable[[Iterator[pa.Table]], bytes], version: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """What a task sees of its rows of the source.

    Args:
        read: the rows of a part; None where the batches are the rows.
        work: makes bytes of them.
        version: of forecastcore on the driver.
        batches: rows, or `number, part`.
    """
    try:
        check_same(version)
        data, failed = work(table for _, table in _tables(read, batches)), False
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the driver's to raise
        data, failed = error_bytes(error), True
    yield _batch(LOOKED, data=[data], error=[failed])


def cut(
    read: Read | None,
    column: str,
    cuts: Sequence[str],
    slots: Sequence[int],
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Rows of the source, each on its way to the shard of its series.

    Args:
        read: see `look`.
        column: names the series.
        cuts: ascending names of series; with each a shard begins, and before the first there is one.
        slots: Spark's keys of the shards.
        batches: see `look`.
    """
    import pyarrow as pa

    begins = np.asarray(cuts, dtype=object)
    for place, table in _tables(read, batches):
        names = table[column].cast(pa.string()).combine_chunks().dictionary_encode()
        known = np.asarray(names.dictionary.to_pylist(), dtype=object)
        shards = np.searchsorted(begins, known, side="right")[np.asarray(names.indices)]
        rows = np.argsort(shards, kind="stable")
        sizes = np.bincount(shards, minlength=len(slots))
        sorted_rows, ends = table.take(pa.array(rows)), np.cumsum(sizes)
        for shard in np.flatnonzero(sizes).tolist():
            mine = sorted_rows.slice(int(ends[shard] - sizes[shard]), int(sizes[shard])).combine_chunks()
            yield _batch(CUT, slot=[slots[shard]], place=[place], name=[None], data=[stream_of(mine)])


def make(
    work: Callable[[pa.Table, Path], Iterable[tuple[str, bytes]]],
    shards: Mapping[int, int],
    version: str,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Work on a shard.

    Args:
        work: given the rows of all of its series and a folder with the files that it needs, makes bytes by kind.
        shards: number of the shard by Spark's key.
        version: of forecastcore on the driver.
        batches: as `cut` made them, and parts of parcels with the names of the folders that they fill.
    """
    rows: list[tuple[int, bytes]] = []
    files: dict[str, list[tuple[int, bytes]]] = {}
    shard = 0
    for batch in batches:
        for slot, place, name, data in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            (rows if name is None else files.setdefault(name, [])).append((place, data))
            shard = shards[slot]
    if not rows:
        return
    for place, (kind, data) in enumerate(_worked(work, rows, files, version)):
        yield _batch(MADE, shard=[shard], place=[place], kind=[kind], data=[data])


def _worked(
    work: Callable[[pa.Table, Path], Iterable[tuple[str, bytes]]],
    rows: list[tuple[int, bytes]],
    files: Mapping[str, list[tuple[int, bytes]]],
    version: str,
) -> Iterator[tuple[str, bytes]]:
    import pyarrow as pa

    try:
        check_same(version)
        with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
            for name, parts in files.items():
                unwrap(b"".join(data for _, data in sorted(parts, key=itemgetter(0))), Path(scratch) / name)
            tables = [table_of(data) for _, data in sorted(rows, key=itemgetter(0))]
            rows.clear()
            yield from work(pa.concat_tables(tables), Path(scratch))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the driver's to raise
        yield ERROR, error_bytes(error)


def answered(
    work: Callable[[pa.Table], bytes], rows: Mapping[str, Ranges], version: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """What is said of some rows of each piece.

    Args:
        work: makes bytes of them.
        rows: which, by piece.
        version: of forecastcore on the driver.
        batches: `kind, data`.
    """
    for batch in batches:
        for kind, data in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            try:
                check_same(version)
                answer, failed = work(_stretches(table_of(data), rows[kind])), False
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the driver's to raise
                answer, failed = error_bytes(error), True
            for place, part in enumerate(parts_of(answer)):
                yield _batch(ANSWERED, kind=[kind], place=[place], error=[failed], data=[part])


def picked(takes: Mapping[str, Sequence[Take]], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of a panel's pieces, on their way to the units that need them.

    Args:
        takes: of each piece what goes where.
        batches: `kind, data`: names of pieces, and their rows.
    """
    for batch in batches:
        for kind, data in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            table = table_of(data)
            for slot, name, rows in takes[kind]:
                mine = _stretches(table, rows)
                yield _batch(PICKED, slot=[slot], piece=[name], data=[data if mine is table else stream_of(mine)])


def _stretches(table: pa.Table, rows: Ranges) -> pa.Table:
    """Some rows of a table; itself where they are all."""
    import pyarrow as pa

    if sum(end - begin for begin, end in rows) == table.num_rows:
        return table
    return pa.concat_tables([table.slice(begin, end - begin) for begin, end in rows]).combine_chunks()


def finished(finish: Callable[[pa.Table], pa.Table], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows that were made, as Spark's own.

    Args:
        finish: what is still to be done to them.
        batches: `data`.
    """
    for batch in batches:
        for data in batch.column(0).to_pylist():
            yield from finish(table_of(data)).to_batches()


def _tables(read: Read | None, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Rows of the source, a good number at a time, each with a place that sorts as they stand in the source."""
    if read is None:
        from pyspark import TaskContext

        task: Any = TaskContext.get()
        yield from _grown(task.partitionId() << _WITHIN, batches)
        return
    for batch in batches:
        for number, part in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield from _grown(number << _WITHIN, read(part))


def _grown(place: int, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in batches:
        held += [batch] if batch.num_rows else []
        if sum(one.num_rows for one in held) >= _ROWS:
            yield place, pa.Table.from_batches(held)
            place, held = place + 1, []
    if held:
        yield place, pa.Table.from_batches(held)


def _batch(ddl: str, **columns: list[Any]) -> pa.RecordBatch:
    import pyarrow as pa

    types = {"int": pa.int32(), "bigint": pa.int64(), "string": pa.string(), "binary": pa.binary()}
    fields = [field.split() for field in ddl.split(", ")]
    schema = pa.schema([(name, types.get(word, pa.bool_())) for name, word in fields])
    return pa.RecordBatch.from_pydict(columns, schema=schema)


def parcels(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, int, bytes]]:
    """Parcels as rows: the folder that each fills, and its parts in order."""
    return ((name, place, part) for name, data in files for place, part in enumerate(parts_of(data)))
