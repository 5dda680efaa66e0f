"""Which rows of `forecast_latest` a new vintage leaves behind, and how little has to be written for that.

A vintage that is newer than all it meets counts whole: its file becomes part of `forecast_latest` as it is. Files that
it does not meet stay. Of those it meets, the rows that it does not replace are written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forecastcore_delta.staged import Encoded, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import numpy.typing as npt
    from deltalake import DeltaTable

__all__ = ["Change", "change"]

#: files that `forecast_latest` may have before it is made one again
_MOST = 16
_DENSE = 8
_SLACK = timedelta(milliseconds=1)  # bounds that others wrote may be cut to that


@dataclass(frozen=True)
class Change:
    """What a new vintage changes.

    Attributes:
        version: of `forecast_latest`, to which it applies.
        leaves: files that are no longer part of `forecast_latest`: name and size.
        rest: the file of their rows that still count; None where there are none.
    """

    version: int
    leaves: Sequence[tuple[str, int]]
    rest: Encoded | None


def change(latest: DeltaTable, vintage: pa.Table) -> Change | None:
    """What the vintage changes; None where all rows have to be compared: it is not the newest, or not on a grid.

    Args:
        latest: `forecast_latest`.
        vintage: what came, of one project, scenario and origin, as `vintages.compact` has it.
    """
    grid, files = _Grid.of(vintage), _files(latest)
    if grid is None or files is None or len(files) >= _MOST:
        return None
    met = {file["path"]: file for file in files if grid.meets(file)}
    if any(file["max"]["issued_at"] + _SLACK >= grid.issued_at for file in met.values()):
        return None
    old = _read(latest, set(met))
    if len(old) != len(met):
        return None
    left = [table.filter(pc.invert(grid.covers(table))) for table in old]
    leaves = [(name, int(file["size_bytes"])) for name, file in met.items()]
    rest = encode(pa.concat_tables(left).unify_dictionaries()) if any(table.num_rows for table in left) else None
    return Change(latest.version(), leaves, rest)


def _read(latest: DeltaTable, names: set[str]) -> list[pa.Table]:
    """Files with their text as it is stored, each distinct value once: most of it will be thrown away."""
    fields = pa.schema(latest.schema().to_arrow())
    text = [field.name for field in fields if _is_text(field.type)]
    code = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema([(field.name, code if field.name in text else field.type) for field in fields])
    parts = [part for part in latest.to_pyarrow_dataset().get_fragments() if part.path in names]
    read = partial(pq.read_table, read_dictionary=text)  # a scanner of the dataset takes twice as long
    return [read(part.path, filesystem=part.filesystem).select(schema.names).cast(schema) for part in parts]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _files(latest: DeltaTable) -> list[dict[str, Any]] | None:
    """Name, size and bounds of each file; None where one has no bounds."""
    files = pa.table(latest.get_add_actions())
    if not files.num_rows:
        return []
    if not {"min", "max"} <= set(files.column_names):
        return None
    rows: list[dict[str, Any]] = files.select(["path", "size_bytes", "min", "max"]).to_pylist()
    wanted = ("project", "scenario", "ds", "issued_at")
    known = all((row[end] or {}).get(name) is not None for row in rows for end in ("min", "max") for name in wanted)
    return rows if known else None


@dataclass(frozen=True)
class _Grid:
    """The series and instants that a vintage has forecasts of.

    Attributes:
        project, scenario, issued_at: whose.
        ids, instants: distinct.
        cells: whether there is a row of the series and instant; one line for each series.
    """

    project: str
    scenario: str
    issued_at: datetime
    ids: pa.Array
    instants: pa.Array
    cells: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, vintage: pa.Table) -> _Grid | None:
        """None where a row is there twice, or where series have few instants in common."""
        (ids, series), (instants, place) = _coded(vintage["unique_id"]), _coded(vintage["ds"])
        size = len(ids) * len(instants)
        if size > _DENSE * vintage.num_rows + 1000:
            return None
        counts = np.bincount(series * len(instants) + place, minlength=size)
        if counts.max() > 1:
            return None
        project, scenario, issued_at = (vintage[name][0].as_py() for name in ("project", "scenario", "issued_at"))
        return cls(project, scenario, issued_at, ids, instants, counts > 0)

    def meets(self, file: dict[str, Any]) -> bool:
        """Whether a file may hold rows that the vintage replaces."""
        low, high, here = file["min"], file["max"], pc.min_max(self.instants).as_py()
        return bool(
            low["project"] <= self.project <= high["project"]
            and low["scenario"] <= self.scenario <= high["scenario"]
            and low["ds"] <= here["max"]
            and here["min"] <= high["ds"] + _SLACK
        )

    def covers(self, table: pa.Table) -> pa.Array:
        """Which rows of a table the vintage replaces."""
        series = _per_value(table["unique_id"], lambda ids: pc.fill_null(pc.index_in(ids, value_set=self.ids), -1))
        place = np.asarray(pc.fill_null(pc.index_in(table["ds"], value_set=self.instants), -1).combine_chunks())
        both = (series >= 0) & (place >= 0)
        covered = both & self.cells[np.where(both, series.astype(np.int64) * len(self.instants) + place, 0)]
        for name, value in (("project", self.project), ("scenario", self.scenario)):
            covered &= _per_value(table[name], partial(pc.equal, pa.scalar(value)))
        return pa.array(covered)


def _per_value(column: pa.ChunkedArray, ask: Callable[[pa.Array], pa.Array]) -> npt.NDArray[Any]:
    """An answer for each row, asked once for each distinct value."""
    if not len(column):
        return np.zeros(0, dtype=bool)
    column = column.unify_dictionaries()
    answers = np.asarray(ask(column.chunk(0).dictionary))
    return np.concatenate([answers[np.asarray(chunk.indices)] for chunk in column.chunks])


def _coded(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The distinct values, and each row's place among them."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary, np.asarray(encoded.indices).astype(np.int64)
