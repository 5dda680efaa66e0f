"""Every sink, its writer killed at each of its steps while readers look on: it holds what a run leaves that lived.

The plugins' own tests try each step once; here are the numbers.
"""

import io
import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import psycopg  # noqa: TID253 - what is delivered is looked at from outside
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.storage.blob import BlobServiceClient  # noqa: TID253 - what is delivered is looked at from outside
from deltalake import DeltaTable  # noqa: TID253 - what is delivered is looked at from outside
from forecastcore_azure import AzureBlobSink
from forecastcore_delta import DeltaSink
from forecastcore_files import CsvSink, ExcelSink, ParquetSink
from forecastcore_spark import DeltaTableSink
from forecastcore_sql import SqlSink
from psycopg import sql  # noqa: TID253 - what is delivered is looked at from outside

from forecastcore.vintages import newest
from tests.support import postgres, publisher
from tests.support.azurite import server
from tests.support.spark import closing_session, connect_server

__all__ = ["connect_server"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROUNDS = 200
#: where a publish goes through Spark and takes seconds
FEW = 24
#: rows of a vintage, and those of them that the next one does not replace
ROWS, LEFT = 48, 12
KEY = [(name, "ascending") for name in ("project", "unique_id", "scenario", "issued_at", "ds")]


def points(*calls):
    """Before and after each of some calls, `module:attribute:n`."""
    told = (call.rpartition(":") for call in calls)
    return [f"{call}:{when}:{nth}" for call, _, nth in told for when in ("before", "after")]


FILES = points("os:fsync:1", "os:link:1", "os:replace:1", "os:replace:2")
KILLS = {
    "parquet": FILES,
    "csv": FILES,
    "excel": [*FILES, *points(*(f"os:replace:{n}" for n in range(3, 5)), "xlsxwriter:Workbook.close:1")],
    "delta": points("os:fsync:1", *(f"deltalake:DeltaTable.create_write_transaction:{n}" for n in (1, 2))),
    "sql": points("forecastcore_sql.sink:_load:1", "psycopg:Connection.commit:1"),
    "azure-blob": points(
        *(f"azure.storage.blob:ContainerClient.upload_blob:{n}" for n in range(1, 6)),
        "azure.storage.blob:ContainerClient.delete_blob:1",
    ),
}
#: of a client; what goes on inside the server is Delta's own transaction, which this machine's Spark has not
SPARK_KILLS = points(
    "pyspark.sql.connect.readwriter:DataFrameWriter.saveAsTable:1", "pyspark.sql.connect.session:SparkSession.sql:1"
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A sink, and how it is written to and read.

    Attributes:
        kind: its class.
        params: what its writers are made with.
        kills: where they die.
        latest: reads its `forecast_latest` as anybody would.
        left: rows that stay there of a vintage when the next one has come.
        each: reads while a vintage is published.
        rtol: how far from it a number of `forecast_latest` may be.
    """

    kind: type
    params: dict[str, Any]
    kills: list[str]
    latest: Callable[[], pa.Table]
    left: int = LEFT
    each: int = 100
    rtol: float = 0

    @property
    def local(self):
        return set(self.params) == {"path"}

    @property
    def sink(self):
        return self.kind(Path(self.params["path"])) if self.local else self.kind(**self.params)

    @property
    def name(self):
        return f"{self.kind.__module__.partition('.')[0]}:{self.kind.__name__}"


@pytest.fixture(scope="module")
def nursery():
    modules = ("forecastcore_files", "forecastcore_delta", "forecastcore_sql", "forecastcore_azure")
    with publisher.Nursery(*modules, "deltalake", "psycopg", "sqlalchemy", "azure.storage.blob", "pyarrow.csv") as made:
        yield made


@pytest.fixture(scope="module")
def azurite():
    with server.running() as text:
        yield text


@pytest.fixture(scope="module")
def service(azurite):
    with BlobServiceClient.from_connection_string(azurite) as client:
        yield client


@pytest.fixture(scope="module")
def database():
    with postgres.running() as url:
        yield url


def parquet(path, service):
    file = path.parent / "forecast_latest.parquet"  # opened once: pyarrow opens a path twice, and may meet two states
    return {"kind": ParquetSink, "latest": lambda: pq.read_table(io.BytesIO(file.read_bytes()))}


def csv(path, service):
    file = path.parent / "forecast_latest.csv"

    def latest():
        return pa.Table.from_pandas(pd.read_csv(file, float_precision="round_trip"))

    return {"kind": CsvSink, "latest": latest}


def excel(path, service):
    file = path.parent / "forecast_latest.xlsx"

    def latest():
        titles, *rows = openpyxl.load_workbook(io.BytesIO(file.read_bytes()))["forecast"].iter_rows(values_only=True)
        told = pd.DataFrame(rows, columns=titles).rename(columns={"valid_time_utc": "ds"})
        number = (told["issued_at_local"] - publisher.FIRST.replace(tzinfo=None)) // timedelta(hours=6)
        return pa.Table.from_pandas(told.assign(run_key=number.map(key)), preserve_index=False)

    return {"kind": ExcelSink, "latest": latest, "left": 0, "rtol": 1e-15}  # the newest vintage alone


def delta(path, service):
    return {"kind": DeltaSink, "latest": lambda: DeltaTable(path.parent / "forecast_latest").to_pyarrow_table()}


def in_sql(path, service):
    name, url = f"test-{uuid.uuid4().hex[:12]}", service("database")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    columns = ["run_key", "unique_id", "ds", "forecast"]
    view = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(name, "forecast_latest")
    )

    def latest():
        with psycopg.connect(url) as connection:
            return pa.table(list(zip(*connection.execute(view).fetchall(), strict=True)), names=columns)

    return {"kind": SqlSink, "params": {"url": url, "schema_name": name}, "latest": latest, "each": 20}


def azure_blob(path, service):
    name, text = f"test-{uuid.uuid4().hex[:12]}", service("azurite")
    container = service("service").create_container(name)

    def latest():
        pointer = json.loads(container.download_blob("forecasts/forecast_latest.json").readall())
        data = container.download_blob(f"forecasts/{pointer['blob']}").readall()
        table = pq.read_table(io.BytesIO(data))
        assert set(table["run_key"].to_pylist()) == set(pointer["vintages"]), "each has hours of its own"
        return table

    params = {"container": name, "credential": {"connection_string": text}, "path": "forecasts"}
    return {"kind": AzureBlobSink, "params": params, "latest": latest, "each": 20}


PLACES = {"parquet": parquet, "csv": csv, "excel": excel, "delta": delta, "sql": in_sql, "azure-blob": azure_blob}


@pytest.fixture(params=PLACES)
def place(request, tmp_path, monkeypatch):
    monkeypatch.setattr("forecastcore_azure.latest._PATIENCE", 0.1)  # with whose turn it was when it was killed
    path = tmp_path / "forecasts"
    made = PLACES[request.param](path, request.getfixturevalue)
    return Place(**{"params": {"path": str(path)}, "kills": KILLS[request.param], **made})


def vintage(number):
    return publisher.vintage(number)


@cache
def key(number):
    return publisher.key(vintage(number))


def publish(place, number):
    return place.sink.publish(vintage(number), key(number))


def start(nursery, place, tmp_path, number, kill):
    if place.local:
        return nursery.start(place.name, Path(place.params["path"]), [number], kill=kill)
    return nursery.start(place.name, tmp_path / "x", [number], kill=kill, params=place.params)


def is_what_a_clean_run_leaves(place, count):
    """Row for row, in the table and in `forecast_latest`; each visible vintage once in the log."""
    everything = pa.concat_tables([vintage(number) for number in range(count)])
    assert place.sink.read().sort_by(KEY).equals(everything.sort_by(KEY))
    assert Counter(ref.run_key for ref in place.sink.vintages()) == Counter(key(n) for n in range(count))
    same = ["unique_id", "ds", "run_key", "forecast"]
    expected = newest([everything]) if place.left else vintage(count - 1)
    shown, expected = (t.select(same).to_pandas() for t in (place.latest(), expected))
    shown["ds"] = pd.to_datetime(shown["ds"], utc=True).astype(expected["ds"].dtype)
    sides = [frame.sort_values(same[:2], ignore_index=True) for frame in (shown, expected)]
    pd.testing.assert_frame_equal(*sides, check_dtype=False, rtol=place.rtol, atol=0)


def killed_and_retried(place, nursery, tmp_path, rounds):
    publish(place, 0)
    for number in range(1, rounds + 1):
        assert start(nursery, place, tmp_path, number, place.kills[number % len(place.kills)]).was_killed(), number
        there = {ref.run_key: ref.rows for ref in place.sink.vintages()}
        assert set(there.values()) == {ROWS}
        assert {key(n) for n in range(number)} <= set(there) <= {key(n) for n in range(number + 1)}
        again = publish(place, number)
        assert (again.already, again.rows) == (key(number) in there, ROWS)
    is_what_a_clean_run_leaves(place, rounds + 1)


@pytest.mark.row(20, trials=200)
def test_a_kill_at_any_step_and_a_retry_leave_what_a_clean_run_leaves(place, nursery, tmp_path):
    killed_and_retried(place, nursery, tmp_path, ROUNDS)


@pytest.mark.row(20, trials=FEW)
def test_a_client_of_spark_killed_at_any_step_and_a_retry_leave_what_a_clean_run_leaves(connect_server, tmp_path):
    """A table of Parquet in a server's catalog: Spark's Delta is no Python package."""
    name = "s.forecasts"
    params = {"table": name, "remote": connect_server, "format": "parquet"}
    with closing_session(connect_server) as session, publisher.Nursery("forecastcore_spark") as nursery:
        session.sql(f"CREATE SCHEMA s LOCATION '{tmp_path / 's'}'")
        view = "s.forecast_latest"
        place = Place(
            kind=DeltaTableSink, params=params, kills=SPARK_KILLS, latest=lambda: session.table(view).toArrow()
        )
        killed_and_retried(place, nursery, tmp_path, FEW)


class Readers:
    """Two threads that read all the while, and keep what does not agree."""

    def __init__(self, place):
        self._place, self._keys = place, [key(number) for number in range(ROUNDS)]
        self.faults, self.reads, self._over, self._more = [], 0, False, threading.Condition()
        self._threads = [threading.Thread(target=self._watch) for _ in range(2)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self._over = True
        for thread in self._threads:
            thread.join()

    def wait(self, reads):
        """Until they have read so often."""
        with self._more:
            assert self._more.wait_for(lambda: self.reads >= reads or self.faults, 120)
        assert self.faults == []

    def _watch(self):
        try:
            while not self._over and not self.faults:
                self._look(self.reads)
                with self._more:
                    self.reads += 1
                    self._more.notify_all()
        except Exception as error:  # noqa: BLE001 - any at all is a finding
            self.faults.append(error)

    def _look(self, turn):
        shown = Counter(self._place.latest()["run_key"].to_pylist())
        last = max(map(self._keys.index, shown))
        left = dict.fromkeys(self._keys[:last], self._place.left) if self._place.left else {}
        if shown != {**left, self._keys[last]: ROWS}:
            self.faults.append(("forecast_latest", last, shown))
        if turn % 10:
            return
        # what `forecast_latest` shows is in the log by now, and the log tells of whole vintages
        log = {ref.run_key: ref for ref in self._place.sink.vintages()}
        if not set(shown) <= set(log):
            self.faults.append(("log", last, set(shown) - set(log)))
        one = log[random.choice(list(log))]
        if Counter(self._place.sink.read(one.issued_at)["run_key"].to_pylist()) != {one.run_key: one.rows}:
            self.faults.append(("table", last, one))


@pytest.mark.row(21, trials=200)
def test_readers_see_forecasts_log_and_latest_agree_while_writers_are_killed(place, nursery, tmp_path):
    """A hundred reads for each publish, of a database and of Azurite twenty: they take their time."""
    rng = random.Random(21)
    publish(place, 0)
    with Readers(place) as readers:
        for number in range(1, ROUNDS):
            if rng.random() < 0.5:
                assert start(nursery, place, tmp_path, number, rng.choice(place.kills)).was_killed()
            publish(place, number)
            readers.wait(number * place.each)
    assert readers.faults == []
    is_what_a_clean_run_leaves(place, ROUNDS)


def test_the_vintages_overlap_as_the_counts_above_say():
    one, two = vintage(0), vintage(1)
    assert one.num_rows == ROWS
    assert Counter(newest([one, two])["run_key"].to_pylist()) == {key(0): LEFT, key(1): ROWS}
