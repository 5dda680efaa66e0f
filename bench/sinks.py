"""What a sink takes to write a vintage of a million rows, beside its library alone: `python bench/sinks.py`.

The two alternate in one run, so that a slow moment of the machine hits both; the ratio is of the medians. The sink's
second vintage counts: then there is a `forecast_latest` to be merged with.
"""

from __future__ import annotations

import importlib.util
import io
import statistics
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from measure import seconds

from forecastcore.testing import sample_vintage

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 1_000_000
HORIZON = 100
RUNS = 3
START = datetime(2024, 1, 1, tzinfo=UTC)


def vintage(number: int) -> pa.Table:
    """A vintage of an origin a day after the one before."""
    ids = [f"series-{n:05d}" for n in range(ROWS // HORIZON)]
    return sample_vintage(issued_at=START + timedelta(days=number), series=ids, horizon=HORIZON)


def contest(name: str, sink: Any, bare: Callable[[pa.Table, int], Any]) -> None:
    """Let both write the same vintages in turn."""
    ours, theirs = [], []
    for number in range(RUNS + 1):
        table = vintage(number)
        key = table["run_key"][0].as_py()
        ours.append(seconds(lambda table=table, key=key: sink.publish(table, key)))
        theirs.append(seconds(lambda table=table, number=number: bare(table, number)))
    one, other = statistics.median(ours[1:]), statistics.median(theirs[1:])
    print(f"{name:<10} {one:6.2f} s, bare {other:6.2f} s, ratio {one / other:.2f}", flush=True)


def delta(folder: Path) -> None:
    """Beside `write_deltalake`."""
    from deltalake import write_deltalake
    from forecastcore_delta import DeltaSink

    bare = folder / "bare"
    contest("delta", DeltaSink(folder / "ours" / "forecasts"), lambda t, _: write_deltalake(bare, t, mode="append"))


def parquet(folder: Path) -> None:
    """Beside `pyarrow.parquet.write_table`."""
    from forecastcore_files import ParquetSink

    folder.mkdir()
    contest("parquet", ParquetSink(folder / "forecasts"), lambda t, n: pq.write_table(t, folder / f"{n}.parquet"))


def csv(folder: Path) -> None:
    """Beside `pyarrow.csv.write_csv`."""
    from forecastcore_files import CsvSink

    folder.mkdir()
    contest("csv", CsvSink(folder / "forecasts"), lambda t, n: pacsv.write_csv(t, folder / f"{n}.csv"))


def sql(url: str) -> None:
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

        contest("sql", sink, copy)


def postgres() -> Any:
    """The tests' own server."""
    path = Path(__file__).parents[1] / "tests" / "support" / "postgres.py"
    spec = importlib.util.spec_from_file_location("postgres", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.running()


def main(wanted: list[str]) -> None:
    """Run those that are named, or all."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {"delta": delta, "parquet": parquet, "csv": csv}
        for name in wanted or [*files, "sql"]:
            if name == "sql":
                sql(stack.enter_context(postgres()))
            else:
                files[name](folder / name)


if __name__ == "__main__":
    main(sys.argv[1:])
