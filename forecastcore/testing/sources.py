"""What every source must do: hand over what is there, all of it, as it is."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from forecastcore import parameters
from forecastcore.api import PartedSource
from forecastcore.errors import ForecastCoreError
from forecastcore.testing.child import Report, run_child, write_job
from forecastcore.testing.manners import PROBES as MANNERS
from forecastcore.testing.manners import QUIET, secrets_stay_out_of_repr
from forecastcore.testing.samples import sample_history
from forecastcore.testing.suite import Fault, Skip, must, other_processes, probe, said

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forecastcore.api import SourceSpec

__all__ = ["PROBES", "SourceTrial"]


def sample_table(rows: int = 48) -> pa.Table:
    """Two series as a source may hold them: text, instants, numbers with gaps, whole numbers, truth values."""
    history = sample_history(series=2, rows=rows // 2, covariates=("temperature",))
    history.loc[3::7, "y"] = np.nan
    return pa.table(
        {
            "unique_id": pa.array(history["unique_id"], pa.string()),
            "ds": pa.array(history["ds"].dt.tz_convert("UTC"), pa.timestamp("us", "UTC")),
            "y": pa.array(history["y"], from_pandas=True),
            "temperature": pa.array(history["temperature"]),
            "visitors": pa.array(np.arange(len(history)), pa.int64()),
            "is_open": pa.array((np.arange(len(history)) % 2).astype(bool)),
        }
    )


@dataclass
class SourceTrial:
    """A source on trial.

    Attributes:
        spec: the offer; its `example` puts a table where the source finds it.
        params: more parameters, as a project file would give them.
        folder: that it may use.
        quick: leave out what needs other processes.
    """

    spec: SourceSpec
    params: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    quick: bool = False

    def __post_init__(self) -> None:
        if self.spec.example is None:
            msg = (
                f"the source {self.spec.name!r} says no `example`: the suite cannot know how a table gets there;"
                " SourceSpec(…, example=function of (folder, table) that writes it and returns Example(params=…))"
            )
            raise ForecastCoreError(msg)
        self.given: dict[str, Any] = dict(self.params)
        self.params = {**self.spec.example(self.folder, sample_table()).params, **self.given}

    def make(self) -> Any:
        """The source of the sample table."""
        return self.spec.factory(**parameters.values(self.spec.factory, self.params, root=self.folder))

    def holding(self, table: pa.Table) -> Any:
        """A source that holds a table of its own."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        assert self.spec.example is not None  # noqa: S101 - seen to when this was made
        params = {**self.spec.example(folder, table).params, **self.given}
        return self.spec.factory(**parameters.values(self.spec.factory, params, root=folder))

    @functools.cached_property
    def table(self) -> pa.Table:
        """What it gives of the sample table."""
        return self.make().read(sample_table().column_names)

    @functools.cached_property
    def report(self) -> Report:
        """What a fresh process noticed while it read."""
        other_processes(quick=self.quick)
        write_job(self.folder, "source", self.spec.factory, self.params, columns=sample_table().column_names)
        return run_child(self.folder)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def _numbers(column: pa.ChunkedArray) -> list[float]:
    return [float("nan") if value is None else float(value) for value in column.to_pylist()]


def _instants(column: pa.ChunkedArray) -> list[Any]:
    return list(pd.to_datetime(pd.Series(column.to_pylist()), utc=True))


@probe(gate=True)
def reads(trial: SourceTrial) -> str | None:
    """`read` returns an Arrow table with rows and columns."""
    must(isinstance(trial.table, pa.Table), f"read returned {type(trial.table).__name__}, not a pyarrow Table")
    return None


@probe()
def the_schema_names_all_columns(trial: SourceTrial) -> str | None:
    """`schema` names every column that is there."""
    schema = trial.make().schema()
    must(isinstance(schema, pa.Schema), f"schema returned {type(schema).__name__}, not a pyarrow Schema")
    lacking = [name for name in sample_table().column_names if name not in schema.names]
    must(not lacking, f"schema lacks {lacking}")
    return None


@probe("the-schema-names-all-columns")
def schema_and_table_agree(trial: SourceTrial) -> str | None:
    """What `schema` says of a column's type is the type that `read` gives."""
    schema = trial.make().schema()
    wrong = [
        f"{f.name} is {f.type}, schema says {schema.field(f.name).type}"
        for f in trial.table.schema
        if schema.field(f.name).type != f.type
    ]
    must(not wrong, "; ".join(wrong))
    return None


@probe()
def columns_come_in_the_order_asked(trial: SourceTrial) -> str | None:
    """The columns asked for, in the order asked, and no others."""
    for asked in (["y", "unique_id", "ds"], ["temperature"], ["ds", "y"]):
        got = trial.make().read(asked).column_names
        must(got == asked, f"asked for {asked}, it gives {got}")
    return None


@probe(gate=True)
def no_row_is_lost(trial: SourceTrial) -> str | None:
    """Every row is there, also where values are missing."""
    want = sample_table().num_rows
    must(trial.table.num_rows == want, f"{trial.table.num_rows} rows of {want}")
    return None


@probe()
def rows_keep_their_order(trial: SourceTrial) -> str | None:
    """The rows come in the order they have there; sorting is the host's."""
    table = sample_table()
    backwards = table.take(pa.array(range(table.num_rows - 1, -1, -1)))
    got = trial.holding(backwards).read(["visitors"])
    must(_numbers(got["visitors"]) == _numbers(backwards["visitors"]), "the rows come in another order")
    return None


@probe()
def rows_that_stand_twice_stay(trial: SourceTrial) -> str | None:
    """A row that stands twice is given twice; the quality check is the host's."""
    table = sample_table()
    double = pa.concat_tables([table, table.slice(0, 3)])
    got = trial.holding(double).read(["unique_id", "ds"]).num_rows
    must(got == double.num_rows, f"{got} rows of {double.num_rows}, of which 3 stand twice")
    return None


@probe()
def numbers_come_as_they_are(trial: SourceTrial) -> str | None:
    """Numbers come back to the last bit."""
    for name in ("temperature", "visitors"):
        must(_numbers(trial.table[name]) == _numbers(sample_table()[name]), f"{name} comes back changed")
    return None


@probe()
def what_is_missing_stays_missing(trial: SourceTrial) -> str | None:
    """A missing number is null or NaN, not zero, not text."""
    got = np.isnan(_numbers(trial.table["y"]))
    want = np.isnan(_numbers(sample_table()["y"]))
    must(
        np.array_equal(got, want), f"{int(want.sum())} values are missing, of which it shows {int((got & want).sum())}"
    )
    return None


@probe()
def instants_come_as_they_are(trial: SourceTrial) -> str | None:
    """Instants are timestamps, and the same moments in UTC."""
    kind = trial.table["ds"].type
    must(pa.types.is_timestamp(kind), f"ds is {kind}, not a timestamp")
    must(_instants(trial.table["ds"]) == _instants(sample_table()["ds"]), "instants are moved")
    return None


@probe()
def truth_values_come_as_they_are(trial: SourceTrial) -> str | None:
    """Truth values come as truth values or as 0 and 1."""
    got = [float(v) if not isinstance(v, str) else v for v in trial.table["is_open"].to_pylist()]
    must(got == _numbers(sample_table()["is_open"]), f"true and false come as {got[:2]}")
    return None


@probe("rows-keep-their-order")
def names_of_series_stay_text(trial: SourceTrial) -> str | None:
    """Ids in any script come back as they are."""
    names = ["ünïcödé 日本", 'comma, quote "', "a'b", "x y"]
    table = sample_table(8).slice(0, 4)
    table = table.set_column(0, "unique_id", pa.array(names))
    got = _texts(trial.holding(table).read(["unique_id"])["unique_id"])
    must(got == names, f"{names} come as {got}")
    return None


@probe("rows-keep-their-order")
def leading_zeros_stay(trial: SourceTrial) -> str | None:
    """An id such as 007 is text, and stays 007."""
    table = sample_table(8).slice(0, 3)
    table = table.set_column(0, "unique_id", pa.array(["007", "010", "1"]))
    got = _texts(trial.holding(table).read(["unique_id"])["unique_id"])
    must(got == ["007", "010", "1"], f"007, 010, 1 come as {got}")
    return None


@probe("rows-keep-their-order")
def large_and_small_numbers_stay(trial: SourceTrial) -> str | None:
    """Numbers from 10⁻³⁰⁰ to 10³⁰⁰ come back to the last bit."""
    numbers = [1e300, -1e-300, 0.1 + 0.2, 1 / 3]
    table = sample_table(8).slice(0, 4)
    table = table.set_column(2, "y", pa.array(numbers))
    got = _numbers(trial.holding(table).read(["y"])["y"])
    must(got == numbers, f"{numbers} come as {got}")
    return None


@probe("columns-come-in-the-order-asked")
def odd_column_names_stay(trial: SourceTrial) -> str | None:
    """Columns with spaces, dots and umlauts in their names are found by them."""
    odd = ["wind speed", "a.b", "Größe"]
    table = sample_table(8)
    table = table.rename_columns([*table.column_names[:3], *odd])
    source = trial.holding(table)
    got = source.read(odd)
    must(got.column_names == odd and got.num_rows == table.num_rows, f"asked for {odd}, it gives {got.column_names}")
    return None


@probe()
def a_table_of_one_row(trial: SourceTrial) -> str | None:
    """A single row is read as a single row."""
    got = trial.holding(sample_table().slice(0, 1)).read(["unique_id", "ds", "y"]).num_rows
    must(got == 1, f"{got} rows of one")
    return None


@probe()
def a_table_without_rows(trial: SourceTrial) -> str | None:
    """A table without rows gives no rows, or a named error; the host says that there is no history."""
    try:
        got = trial.holding(sample_table().slice(0, 0)).read(["unique_id", "ds", "y"]).num_rows
    except ForecastCoreError as error:
        return f"refused: {error}"
    must(got == 0, f"{got} rows of none")
    return None


@probe()
def it_reads_twice_the_same(trial: SourceTrial) -> str | None:
    """Read twice, it gives the same; so does another one with the same parameters."""
    names, source = sample_table().column_names, trial.make()
    first = source.read(names)
    must(
        first.equals(source.read(names)) and first.equals(trial.make().read(names)),
        "read again, it gives something else",
    )
    return None


@probe()
def parts_are_the_whole(trial: SourceTrial) -> str | None:
    """Parts that other objects read, put together in order, are what the source gives."""
    source, names = trial.make(), sample_table().column_names
    if not isinstance(source, PartedSource):
        raise Skip("it is not read in parts")
    parts = source.parts()
    batches = [batch for part in parts for batch in trial.make().read_part(part, names)]
    must(pa.Table.from_batches(batches).equals(source.read(names)), "its parts give other rows or types")
    return f"{len(parts)} parts"


@probe()
def reading_changes_nothing(trial: SourceTrial) -> str | None:
    """Reading leaves the source as it was, byte for byte."""
    before = _digests(trial.folder)
    source = trial.make()
    source.schema()
    source.read(["y"])
    must(_digests(trial.folder) == before, "files of the source were changed")
    return None


def _digests(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _named(call: Callable[[], Any], what: str) -> str:
    """An error of forecastcore, with words."""
    try:
        call()
    except ForecastCoreError as error:
        must(" " in str(error), f"{what}: the error says only {str(error)!r}")
        return str(error)
    except Exception as error:
        raise Fault(f"{what}: it raised {said(error)}; raise DataError with what, where and what next") from error
    raise Fault(f"{what}: it raised nothing")


@probe()
def a_source_that_is_gone_is_named(trial: SourceTrial) -> str | None:
    """Where the data is gone, `schema` and `read` raise an error of forecastcore that says where they looked."""
    with tempfile.TemporaryDirectory() as place:
        gone = {
            k: str(Path(place) / Path(str(v)).name) if str(v).startswith(str(trial.folder)) else v
            for k, v in trial.params.items()
        }
        if gone == dict(trial.params):
            raise Skip("its parameters name no file")
        source = trial.spec.factory(**parameters.values(trial.spec.factory, gone, root=Path(place)))
        _named(source.schema, "schema of what is gone")
        return _named(lambda: source.read(["y"]), "read of what is gone")


@probe()
def a_damaged_source_is_named(trial: SourceTrial) -> str | None:
    """Where the data is garbage, it raises an error of forecastcore, or gives none of the columns."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        assert trial.spec.example is not None  # noqa: S101 - seen to when the trial was made
        params = {**trial.spec.example(folder, sample_table()).params, **trial.given}
        files = [file for file in folder.rglob("*") if file.is_file()]
        if not files:
            raise Skip("its example writes no file")
        for file in files:
            file.write_bytes(b"\x00\xff\xfe garbage \x9c" * 40)
        source = trial.spec.factory(**parameters.values(trial.spec.factory, params, root=folder))
        return _named(lambda: source.read(["unique_id", "ds", "y"]), "read of garbage")


@probe()
def it_starts_with_no_data_read(trial: SourceTrial) -> str | None:
    """Making one reads nothing: a project file can be checked where the data is not."""
    with tempfile.TemporaryDirectory() as place:
        gone = {
            k: str(Path(place) / "gone") if str(v).startswith(str(trial.folder)) else v for k, v in trial.params.items()
        }
        trial.spec.factory(**parameters.values(trial.spec.factory, gone, root=Path(place)))
    return None


@probe()
def a_hundred_thousand_rows(trial: SourceTrial) -> str | None:
    """100,000 rows are read; the seconds are told."""
    table = sample_table(100_000)
    source = trial.holding(table)
    started = time.perf_counter()
    got = source.read(table.column_names)
    must(got.num_rows == table.num_rows, f"{got.num_rows} rows of {table.num_rows}")
    return f"{time.perf_counter() - started:.2f} s"


PROBES: tuple[Any, ...] = (
    reads,
    no_row_is_lost,
    the_schema_names_all_columns,
    schema_and_table_agree,
    columns_come_in_the_order_asked,
    rows_keep_their_order,
    rows_that_stand_twice_stay,
    numbers_come_as_they_are,
    what_is_missing_stays_missing,
    instants_come_as_they_are,
    truth_values_come_as_they_are,
    names_of_series_stay_text,
    leading_zeros_stay,
    large_and_small_numbers_stay,
    odd_column_names_stay,
    a_table_of_one_row,
    a_table_without_rows,
    it_reads_twice_the_same,
    parts_are_the_whole,
    reading_changes_nothing,
    a_source_that_is_gone_is_named,
    a_damaged_source_is_named,
    it_starts_with_no_data_read,
    a_hundred_thousand_rows,
    *MANNERS,
    QUIET[0],
    secrets_stay_out_of_repr,
)
