"""What a sink takes to write a vintage of a million rows, beside its library alone: `python bench/sinks.py [NAME]...`.

The two take turns in one run, so that a slow moment of the machine hits both; the ratio is the median of the turns'.
Counted from the second vintage on: then there is a `forecast_latest` to be brought up to date, which is ours alone.
"""

from __future__ import annotations

import importlib.util
import io
import math
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from measure import Row, compared, keep, seconds, show

from forecastcore.testing import sample_vintage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROWS = 1_000_000
HORIZON = 100
RUNS = 5
START = datetime(2024, 1, 1, tzinfo=UTC)


def vintage(number: int) -> pa.Table:
    """A vintage of an origin a day after the one before."""
    ids = [f"series-{n:05d}" for n in range(ROWS // HORIZON)]
    return sample_vintage(issued_at=START + timedelta(days=number), series=ids, horizon=HORIZON)


def contest(name: str, against: str, sink: Any, bare: Callable[[pa.Table, int], Any], most: float) -> Row:
    """Let both write the same vintages in turn; who goes first changes."""
    mine, theirs = [], []
    for number in range(RUNS + 1):
        table = vintage(number)
        key = table["run_key"][0].as_py()
        first = number % 2 == 0
        for ours_now in (first, not first):
            work = partial(sink.publish, table, key) if ours_now else partial(bare, table, number)
            (mine if ours_now else theirs).append(seconds(work))
    what = f"sink {name}: a vintage of {ROWS:,} rows with its forecast_latest, against {against}"
    return compared(what, f"python bench/sinks.py {name}", mine[1:], theirs[1:], most=most)


def delta(folder: Path) -> Row:
    """Beside `write_deltalake`."""
    from deltalake import write_deltalake
    from forecastcore_delta import DeltaSink

    bare = folder / "bare"
    sink = DeltaSink(folder / "ours" / "forecasts")
    return contest("delta", "write_deltalake", sink, lambda t, _: write_deltalake(bare, t, mode="append"), 1.5)


def parquet(folder: Path) -> Row:
    """Beside `pyarrow.parquet.write_table`."""
    from forecastcore_files import ParquetSink

    folder.mkdir()
    sink = ParquetSink(folder / "forecasts")
    row = contest("parquet", "pyarrow", sink, lambda t, n: pq.write_table(t, folder / f"{n}.parquet"), math.inf)
    return replace(row, reach="none set")


def csv(folder: Path) -> Row:
    """Beside `pyarrow.csv.write_csv`."""
    from forecastcore_files import CsvSink

    folder.mkdir()
    sink = CsvSink(folder / "forecasts")
    return contest("csv", "pyarrow.csv", sink, lambda t, n: pacsv.write_csv(t, folder / f"{n}.csv"), 1.5)


def sql(url: str) -> Row:
    """Beside COPY of the same CSV into a table of the same columns."""
    import psycopg
    from forecastcore_sql import SqlSink

    sink = SqlSink(url)
    first = vintage(1000)
    sink.publish(first, first["run_key"][0].as_py())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare AS SELECT * FROM forecasts WITH NO DATA")

        def copy(table: pa.Table, _: int) -> None:
            text = io.BytesIO()
            pacsv.write_csv(table, text, pacsv.WriteOptions(include_header=False))
            with connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN (FORMAT csv)") as stream:
                stream.write(text.getvalue())

        return contest("sql", "COPY", sink, copy, 1.5)


def postgres() -> Any:
    """The tests' own server."""
    path = Path(__file__).parents[1] / "tests" / "support" / "postgres.py"
    spec = importlib.util.spec_from_file_location("postgres", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.running()


def rows(wanted: Sequence[str] = (), *, full: bool = False) -> Iterator[Row]:  # noqa: ARG001 - called like the others
    """A row for each sink that is named, or for all."""
    files = {"delta": delta, "parquet": parquet, "csv": csv}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in wanted or [*files, "sql"]:
            yield sql(stack.enter_context(postgres())) if name == "sql" else files[name](folder / name)


if __name__ == "__main__":
    keep("sinks", show(rows(sys.argv[1:])))
