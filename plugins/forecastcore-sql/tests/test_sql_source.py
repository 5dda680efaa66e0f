import psycopg  # noqa: TID253 - the tests are about it
import pyarrow as pa
import pytest
from forecastcore_sql import SqlSource

from forecastcore.api import Source
from forecastcore.errors import DataError


@pytest.fixture
def filled(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            'CREATE TABLE sales (shop text, "at day" date, at timestamptz, naive timestamp, y numeric(10, 2), n int,'
            " x double precision, promo boolean, id uuid)"
        )
        connection.execute(
            "INSERT INTO sales VALUES ('007', '2024-01-01', '2024-01-01 01:00+01', '2024-01-01 01:00', 1.25, 3, 0.1,"
            " true, '00000000-0000-0000-0000-000000000001'), ('b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
        connection.execute("CREATE VIEW small AS SELECT shop, y FROM sales WHERE y IS NOT NULL")
        connection.execute("CREATE TABLE bare (shop text)")
    return database


def test_columns_arrive_with_their_types(filled):
    source = SqlSource(filled, "sales")
    assert isinstance(source, Source)
    assert dict(zip(source.schema().names, source.schema().types, strict=True)) == {
        "shop": pa.string(),
        "at day": pa.date32(),
        "at": pa.timestamp("us", "UTC"),
        "naive": pa.timestamp("us"),
        "y": pa.float64(),
        "n": pa.int64(),
        "x": pa.float64(),
        "promo": pa.bool_(),
        "id": pa.string(),
    }
    table = source.read(["y", "shop", "at day", "promo", "at", "id"])
    first = {name: column[0] for name, column in table.to_pydict().items()}
    assert (first["y"], first["shop"], first["promo"]) == (1.25, "007", True)
    assert first["at"].isoformat() == "2024-01-01T00:00:00+00:00"
    assert first["id"].endswith("0001")
    assert table.slice(1).to_pylist() == [dict.fromkeys(table.column_names) | {"shop": "b"}]


def test_a_view_is_read_like_a_table(filled):
    assert SqlSource(filled, "small").read(["shop"]).to_pydict() == {"shop": ["007"]}


def test_what_is_not_there_is_told_with_what_is(filled):
    with pytest.raises(DataError, match="is not there") as caught:
        SqlSource(filled, "sale").schema()
    assert "sales" in caught.value.hint
    with pytest.raises(DataError, match="has no rows"):
        SqlSource(filled, "bare").read(["shop"])
    with pytest.raises(DataError, match="cannot be read") as caught:
        SqlSource("postgresql://user:hunter2@127.0.0.1:1/x", "t").schema()
    assert "hunter2" not in str(caught.value)
