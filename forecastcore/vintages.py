"""The forecast table as Arrow: what a vintage must look like, and which vintage is the newest.

Sinks share this, so that every place holds the same rows and `forecast_latest` means the same everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forecastcore.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

__all__ = [
    "MEANINGS",
    "REF_COLUMNS",
    "SCHEMA",
    "VintageRef",
    "check_run_key",
    "check_vintage",
    "compact",
    "dictionary",
    "empty_vintage",
    "expired",
    "is_quantile",
    "newest",
    "ref_of",
    "utc",
]

_INSTANT = pa.timestamp("us", "UTC")

#: the table's columns without its quantiles, which stand after `forecast`
SCHEMA = pa.schema(
    [
        ("project", pa.string()),
        ("unique_id", pa.string()),
        ("scenario", pa.string()),
        ("issued_at", _INSTANT),
        ("ds", _INSTANT),
        ("step", pa.int32()),
        ("forecast", pa.float64()),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("assumed_by", pa.string()),
        ("run_key", pa.string()),
        ("created_at", _INSTANT),
    ]
)
#: what each column means, in words; quantiles have words of their own
MEANINGS = {
    "project": "name of the project",
    "unique_id": "name of the series",
    "scenario": "base, or the name of a what-if",
    "issued_at": "the origin: last instant whose information was used; UTC",
    "ds": "the instant forecast; UTC",
    "step": "1 to the horizon",
    "forecast": "point forecast; null only where status is failed",
    "model": "family of the model that made the row",
    "model_version": "registered version that served",
    "status": "ok; degraded (a fallback made it); failed (no forecast)",
    "reason": "code and words where status is not ok",
    "assumed_by": "which assumption filled which covariate",
    "run_key": "identity of the vintage: hash of project, origin, scenario, settings, data and model version",
    "created_at": "when the row was made; UTC",
}
#: the columns that make a reference to a vintage
REF_COLUMNS = ("issued_at", "created_at", "run_key", "project", "scenario")
_KEY = ("project", "unique_id", "scenario", "ds")
_NEVER_NULL = (*_KEY, "issued_at", "step", "run_key", "created_at")
_ONE_VALUE = ("project", "scenario", "issued_at", "run_key")
_ROOM = 2**62
_BATCH = 2_000_000
_RUN_KEY = re.compile(r"[0-9a-f]{8,64}")
_QUANTILE = re.compile(r"q[0-9]+(_[0-9]+)?")


def is_quantile(column: str) -> bool:
    """Whether a column is a quantile, such as `q10` or `q2_5`."""
    return _QUANTILE.fullmatch(column) is not None


def check_run_key(run_key: str) -> str:
    """The run key, once it is seen to be 8 to 64 lowercase hex digits: it becomes part of file names.

    Raises:
        SinkError: it is anything else.
    """
    if not _RUN_KEY.fullmatch(run_key):
        raise SinkError(f"{run_key!r} is not a run key", hint="a run key is 8 to 64 hex digits, as predict makes it")
    return run_key


def check_vintage(vintage: pa.Table, run_key: str) -> pa.Table:
    """The vintage as every sink stores it: plain strings, NaN as null.

    Args:
        vintage: all rows of one project, scenario and origin; columns as in `SCHEMA` with any number of quantiles.
        run_key: 8 to 64 hex digits, the value of the column `run_key`.

    Raises:
        SinkError: columns are missing or of another type, a row has no key, or it is not one vintage.
    """
    check_run_key(run_key)
    plain = _plain(vintage)
    _check_columns(plain.schema)
    if not plain.num_rows:
        raise SinkError("the vintage has no rows", hint="a failed series still has its rows, with status 'failed'")
    blank = [name for name in _NEVER_NULL if plain[name].null_count]
    if blank:
        raise SinkError(f"the vintage has rows without {', '.join(blank)}")
    for name in _ONE_VALUE:
        if not _is_one(plain[name]) or (name == "run_key" and plain[name][0].as_py() != run_key):
            shown = ", ".join(map(str, pc.unique(plain[name]).to_pylist()[:3]))
            raise SinkError(
                f"not the vintage of run key {run_key}: its {name} is {shown}", hint="publish one at a time"
            )
    return plain


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class VintageRef:
    """One visible vintage of a sink, without its rows; they sort from the oldest to the newest.

    Attributes:
        issued_at: the origin, UTC.
        created_at: when it was made, UTC.
        run_key: its identity.
        project: whose.
        scenario: `base` or a what-if.
        rows: how many.
    """

    issued_at: datetime
    created_at: datetime
    run_key: str
    project: str
    scenario: str
    rows: int


def ref_of(vintage: pa.Table) -> VintageRef:
    """The reference to a vintage whose rows are at hand."""
    first = {name: vintage[name][0].as_py() for name in REF_COLUMNS}
    return VintageRef(**first, rows=vintage.num_rows)


def expired(
    refs: Iterable[VintageRef], *, vintages: int | None = None, days: float | None = None, now: datetime | None = None
) -> list[VintageRef]:
    """The vintages that a retention rule lets go, oldest first; of each project and scenario the newest always stays.

    Args:
        refs: all that a sink holds.
        vintages: how many of each project and scenario stay.
        days: for how many days after its origin a vintage stays.
        now: from when days are counted, UTC.
    """
    groups: dict[tuple[str, str], list[VintageRef]] = {}
    for ref in sorted(refs, reverse=True):
        groups.setdefault((ref.project, ref.scenario), []).append(ref)
    horizon = None if days is None else (now or datetime.now(UTC)) - timedelta(days=days)
    gone = [
        ref
        for group in groups.values()
        for place, ref in enumerate(group)
        if place
        and ((vintages is not None and place >= vintages) or (horizon is not None and utc(ref.issued_at) < horizon))
    ]
    return sorted(gone)


def utc(instant: datetime) -> datetime:
    """An instant in UTC; a naive one is in UTC already."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def dictionary(columns: pa.Schema) -> list[dict[str, str]]:
    """What each column of a forecast table is: `name, type, meaning`, for a data dictionary beside the table."""
    return [
        {
            "name": field.name,
            "type": str(field.type),
            "meaning": MEANINGS.get(field.name) or _quantile_words(field.name),
        }
        for field in columns
    ]


def _quantile_words(column: str) -> str:
    if not is_quantile(column):
        return ""
    level = column[1:].replace("_", ".")
    return f"quantile: {level} % of outcomes are expected below"


def empty_vintage() -> pa.Table:
    """A forecast table without rows or quantiles."""
    return SCHEMA.empty_table()


def newest(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of the newest vintage per project, series, scenario and `ds`, sorted by these.

    Of two vintages of one origin, the one created later counts. Columns are united by name; what a table lacks is null.

    Args:
        tables: forecast tables in any order; only a few of them are held at a time.
    """
    held = [empty_vintage()]
    for table in tables:
        held = [table] if not held[0].num_rows else [*held, table]
        if sum(part.num_rows for part in held[1:]) > max(_BATCH, held[0].num_rows):
            held = [_newest(held)]
    return _newest(held)


def _newest(tables: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables, promote_options="default")
    if not table.num_rows:
        return table
    key = _combined([table[name] for name in _KEY])
    age = _combined([table[name] for name in ("issued_at", "created_at", "run_key")])
    order = np.lexsort([age, key])
    last = np.append(key[order][1:] != key[order][:-1], True)
    rows = order[last]
    if np.array_equal(rows, np.arange(table.num_rows)):
        return table
    return table.take(pa.array(rows))


def _combined(columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.int64]:
    """One whole number per row that sorts as the columns do together."""
    code, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        ranks, count = _ranks(column)
        if size * count > _ROOM:
            distinct, code = np.unique(code, return_inverse=True)
            size = len(distinct)
        code, size = code * count + ranks, size * count
    return code


def _ranks(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], int]:
    """Each value's rank among the distinct ones, and their number."""
    encoded = column.dictionary_encode().unify_dictionaries()
    values = encoded.chunk(0).dictionary
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.asarray(pc.sort_indices(values))] = np.arange(len(values))
    return ranks[np.concatenate([np.asarray(chunk.indices) for chunk in encoded.chunks])], len(values)


def compact(table: pa.Table) -> pa.Table:
    """The same table, with each distinct text held once: a writer of Parquet need not look at each row.

    Written with `store_schema=False` the file is the same to its readers.
    """
    return pa.table([_compact(column) for column in table.columns], names=table.column_names)


def _compact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(column.type) or not len(column):
        return column
    if column.null_count or not _is_one(column):
        return column.dictionary_encode().unify_dictionaries()
    indices = pa.array(np.zeros(len(column), dtype=np.int32))
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array([column[0].as_py()], column.type))])


def _is_one(column: pa.ChunkedArray) -> bool:
    """Whether a column without nulls has one value throughout: each chunk equals itself moved by a row."""
    return all(not len(c) or (c[0] == column[0] and c[1:].equals(c[:-1])) for c in column.chunks)


def _plain(table: pa.Table) -> pa.Table:
    """Text as plain strings, NaN as null, no metadata."""
    arrays = [_plain_column(column) for column in table.columns]
    return pa.table(arrays, names=table.column_names)


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column if column.type == pa.string() else column.cast(pa.string())
    if pa.types.is_floating(kind) and pc.any(pc.is_nan(column)).as_py():
        return pc.if_else(pc.is_nan(column), None, column)
    return column


def _check_columns(schema: pa.Schema) -> None:
    wanted = {field.name: field.type for field in SCHEMA}
    wanted |= {name: pa.float64() for name in schema.names if is_quantile(name)}
    faults = [f"no column {name}" for name in wanted if name not in schema.names]
    faults += [f"two columns {name}" for name in sorted({n for n in schema.names if schema.names.count(n) > 1})]
    if not faults:
        got = {name: schema.field(name).type for name in wanted}
        faults = [f"{name} is {got[name]}, not {kind}" for name, kind in wanted.items() if got[name] != kind]
    if faults:
        raise SinkError(
            f"not a forecast table: {'; '.join(faults)}", hint="its columns are in forecastcore.vintages.SCHEMA"
        )
