"""Tables of a Spark catalog: a local session's, of Parquet, since Spark's Delta is no Python package."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from forecastcore_spark import DeltaTableSink, SparkTableSource, forecastcore_sinks, forecastcore_sources

from forecastcore.api import Example, Sink, Source
from forecastcore.engines.spark.session import open_session
from forecastcore.errors import DataError, SinkError
from forecastcore.testing import conformance
from forecastcore.vintages import newest
from tests.support.samples import days, key

WAREHOUSE = "spark.sql.warehouse.dir"
#: a Spark with a catalog takes its time to start; that of the engine's tests has none
pytestmark = pytest.mark.slow
(SOURCE,), (SINK,) = forecastcore_sources(), forecastcore_sinks()


@pytest.fixture(scope="module", autouse=True)
def session(tmp_path_factory):
    """The session that is there, with a catalog in memory; it ends with the module."""
    where = str(tmp_path_factory.mktemp("warehouse"))
    session = open_session(
        "local[1]", None, {"spark.driver.memory": "1g", WAREHOUSE: where, "spark.sql.shuffle.partitions": 1}
    )
    yield session
    session.stop()


@pytest.fixture
def schema(session, tmp_path):
    """A schema of its own."""
    name = f"s_{abs(hash(tmp_path))}"
    session.sql(f"CREATE SCHEMA {name} LOCATION '{tmp_path}'")
    return name


def put(folder: Path, table: pa.Table) -> Example:
    name = f"history_{abs(hash(folder))}"
    session = open_session(None, None, {})
    session.createDataFrame(table).write.mode("overwrite").saveAsTable(name)
    return Example(params={"table": name})


def room(folder: Path) -> Example:
    name = f"room_{abs(hash(folder))}"
    open_session(None, None, {}).sql(f"CREATE SCHEMA IF NOT EXISTS {name}")
    return Example(params={"table": f"{name}.forecasts", "format": "parquet"})


test_a_source = conformance(dataclasses.replace(SOURCE, example=put), quick=True)
test_a_sink = conformance(dataclasses.replace(SINK, example=room), quick=True)


def test_columns_arrive_with_their_types(session, schema):
    session.sql(
        f"CREATE TABLE {schema}.sales AS SELECT '007' AS shop, DATE'2024-01-01' AS `at day`, 1.5D AS y, 3 AS `a``b`,"
        " TIMESTAMP'2024-01-01 01:00:00+01:00' AS at, TIMESTAMP_NTZ'2024-01-01 01:00:00' AS naive, true AS promo"
    )
    source = SparkTableSource(f"{schema}.sales")
    assert isinstance(source, Source)
    assert dict(zip(source.schema().names, source.schema().types, strict=True)) == {
        "shop": pa.string(),
        "at day": pa.date32(),
        "y": pa.float64(),
        "a`b": pa.int32(),
        "at": pa.timestamp("us", "UTC"),
        "naive": pa.timestamp("us"),
        "promo": pa.bool_(),
    }
    (row,) = source.read(["a`b", "at", "at day"]).to_pylist()
    assert (row["a`b"], row["at"]) == (3, datetime(2024, 1, 1, tzinfo=UTC))


def test_what_is_not_there_is_told(schema, session):
    with pytest.raises(DataError, match=r"spark-table .* cannot be read: .*TABLE_OR_VIEW_NOT_FOUND"):
        SparkTableSource(f"{schema}.nothing").schema()
    session.sql(f"CREATE TABLE {schema}.bare (y DOUBLE) USING parquet")
    with pytest.raises(DataError, match="has no rows"):
        SparkTableSource(f"{schema}.bare").read(["y"])
    for hostile in ("a.b.c.d", "x; DROP TABLE y", "`x`", "", "a..b"):
        with pytest.raises(ValueError, match="is none of table"):
            SparkTableSource(hostile)


def rows(table, like):
    order = [(name, "ascending") for name in ("issued_at", "scenario", "unique_id", "ds")]
    return table.select(like.column_names).sort_by(order)


def test_a_vintage_arrives_once_and_the_view_shows_the_newest(schema, session):
    sink = DeltaTableSink(f"{schema}.forecasts", format="parquet")
    assert isinstance(sink, Sink)
    assert (sink.read().num_rows, sink.vintages()) == (0, [])
    one, two = days(1, 2)
    told = [sink.publish(table, key(table)) for table in (one, two, one)]
    assert [(t.rows, t.already) for t in told] == [(one.num_rows, False), (two.num_rows, False), (one.num_rows, True)]
    assert rows(sink.read(), one).equals(rows(pa.concat_tables([one, two]), one))
    assert rows(sink.read(datetime(2024, 1, 2, tzinfo=UTC) + timedelta(0)), one).equals(rows(two, one))
    assert [ref.run_key for ref in sink.vintages()] == [key(one), key(two)]
    latest = SparkTableSource(f"{schema}.forecast_latest").read(one.column_names)
    assert rows(latest, one).equals(rows(newest([one, two]), one))


def test_a_withdrawn_vintage_is_gone_stays_gone_and_the_one_before_is_the_latest(schema, session):
    sink = DeltaTableSink(f"{schema}.forecasts", format="parquet")
    one, two = days(1, 2)
    for table in (one, two):
        sink.publish(table, key(table))
    assert sink.withdraw([key(two)], "a wrong unit") == 1
    assert rows(sink.read(), one).equals(one)
    assert [ref.run_key for ref in sink.vintages()] == [key(one)]
    latest = SparkTableSource(f"{schema}.forecast_latest").read(one.column_names)
    assert rows(latest, one).equals(rows(newest([one]), one))
    again = sink.publish(two, key(two))
    assert (again.already, again.rows) == (True, 0)
    assert sink.withdraw([key(two)]) == 0
    assert [ref.run_key for ref in sink.vintages()] == [key(one)]
    (noted,) = session.table(f"{schema}.forecasts_withdrawn").collect()
    assert (noted.run_key, noted.reason, noted.rows) == (key(two), "a wrong unit", two.num_rows)
    with pytest.raises(SinkError, match="run key"):
        sink.withdraw(["x' OR 1=1"])


def test_a_table_without_a_column_of_the_vintage_is_left_alone(schema, session):
    more = days(2)[0]
    few = days(1)[0].drop_columns("q10")
    sink = DeltaTableSink(f"{schema}.forecasts", format="parquet")
    sink.publish(few, key(few))
    with pytest.raises(SinkError, match="has no column q10"):
        sink.publish(more, key(more))
    assert sink.read().num_rows == few.num_rows


def test_without_delta_the_fault_is_told_in_a_sentence(schema):
    (table,) = days(1)
    with pytest.raises(SinkError, match=r"cannot publish to delta-table .*DATA_SOURCE_NOT_FOUND.*delta"):
        DeltaTableSink(f"{schema}.forecasts").publish(table, key(table))
