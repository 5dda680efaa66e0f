import threading
from collections import Counter
from datetime import UTC, datetime

import psycopg  # noqa: TID253 - the tests are about it
import pyarrow as pa
import pytest
import sqlalchemy as sa  # noqa: TID253 - the tests are about it
from forecastcore_sql import SqlSink, SqlSource
from forecastcore_sql.tables import arrow_schema, forecast_table, view_sql, vintage_table
from psycopg import sql  # noqa: TID253 - the tests are about it
from sqlalchemy.dialects.mssql import pyodbc  # noqa: TID253 - the tests are about it

from forecastcore.api import Sink
from forecastcore.errors import SinkError
from forecastcore.vintages import newest
from tests.support.samples import days, key, publish, rows

SINK = "forecastcore_sql:SqlSink"
# before and after the rows are loaded, before and after the commit
KILLS = [
    f"{call}:{when}:1"
    for call in ("forecastcore_sql.sink:_load", "psycopg:Connection.commit")
    for when in ("before", "after")
]
HOSTILE = [
    "x; DROP TABLE canary; --",
    'x"; DROP TABLE canary; --',
    "x'; DROP TABLE canary; --",
    'x" (id int); DROP TABLE canary; --',
    "x]; DROP TABLE canary; --",
    "x`; DROP TABLE canary; --",
    "%(name)s",
    "%s",
    ":name",
    "x\\",
    'a"b',
    "a.b",
    "select",
    "日本",
    "$$; DROP TABLE canary; $$",
    "'; SELECT pg_sleep(9); --",
    "x') OR ('1'='1",
    "x' OR '1'='1",
    "x' UNION SELECT usename FROM pg_user --",
    "x/**/OR/**/1=1",
    "x%' OR '%'='",
    "\\'; DROP TABLE canary; --",
    "E'\\x27'; DROP TABLE canary; --",
    "U&'\\0027'",
    "\u02bc; DROP TABLE canary; --",
    "\uff07 OR 1=1",
    "{}",
    "{0}",
    "@@version",
    "?",
]


@pytest.fixture
def sink(database):
    return SqlSink(database)


def latest(sink):
    """What the view shows, read as any history is."""
    return rows(
        SqlSource(sink.url, "forecast_latest", sink.schema_name).read(days(1)[0].column_names).cast(days(1)[0].schema)
    )


def test_a_sink_follows_the_protocol(sink):
    assert isinstance(sink, Sink)


def test_what_was_published_is_read_back_value_for_value(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two])))
    assert rows(sink.read(datetime(2024, 1, 2, tzinfo=UTC))).equals(rows(two))
    assert sink.read(datetime(2024, 1, 3, tzinfo=UTC)).num_rows == 0


def test_before_anything_is_published_the_table_is_empty(sink):
    assert sink.read().num_rows == 0
    assert sink.vintages() == []
    assert sink.withdraw(["00000000"]) == 0


def test_the_second_publish_of_a_run_key_writes_nothing_and_says_so(sink):
    [vintage] = days(1)
    first, second = publish(sink, vintage, vintage)
    assert (first.already, second.already) == (False, True)
    assert first.rows == second.rows == 48
    assert sink.read().num_rows == 48


def test_latest_is_a_view_of_the_newest_rows(sink):
    vintages = [*days(2, 1), *days(2, scenario="hot"), *days(1, series=("c",), horizon=3), *days(2, seed=1)]
    publish(sink, *vintages)
    assert latest(sink).equals(rows(newest(vintages)))


def test_text_and_numbers_of_all_kinds_survive(sink):
    texts = ['a,"b"', "line\nbreak", "\\.", "a\n\\.\nb", "", "'", "日本", "=1+1", "\\N", "NULL", " x ", "a\tb", "\r\n"]
    [vintage] = days(1, series=texts, horizon=2)
    numbers = [1e-300, -0.0, 1.7976931348623157e308, float("inf"), float("-inf"), 0.1 + 0.2]
    values = pa.array([*(numbers * 5)[: vintage.num_rows - 1], None], pa.float64())
    vintage = vintage.set_column(vintage.column_names.index("forecast"), "forecast", values)
    publish(sink, vintage)
    assert rows(sink.read()).equals(rows(vintage))


def test_a_withdrawn_vintage_is_gone_stays_gone_and_the_one_before_is_the_latest(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert sink.withdraw([key(two)], "a wrong unit") == 1
    assert [ref.run_key for ref in sink.vintages()] == [key(one)]
    assert latest(sink).equals(rows(one))
    [again] = publish(sink, two)
    assert (again.already, again.rows) == (True, 0)
    assert sink.withdraw([key(two)]) == 0


def test_columns_are_explained_in_the_database(sink):
    publish(sink, *days(1))
    with psycopg.connect(sink.url) as connection:
        told = connection.execute("SELECT col_description('forecasts'::regclass, 3)").fetchone()
    assert told == ("base, or the name of a what-if",)


@pytest.mark.row(20)
@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_at_any_point_loses_and_doubles_nothing(kill, sink, publisher, tmp_path):
    one, two, three = (publisher.vintage(number) for number in (1, 2, 3))
    publish(sink, one)
    child = publisher.start(SINK, tmp_path / "x", [2], kill=kill, params={"url": sink.url})
    assert child.was_killed()
    there = kill == "psycopg:Connection.commit:after:1"
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, *[two] * there])))
    assert [answer.already for answer in publish(sink, three, two)] == [False, there]
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two, three])))
    assert latest(sink).equals(rows(newest([one, two, three])))


@pytest.mark.row(11, 12, trials=10)
def test_of_two_processes_with_one_run_key_one_publishes_even_at_the_very_first(sink, publisher, tmp_path):
    gate, numbers = tmp_path / "gate", list(range(10))
    children = [publisher.start(SINK, tmp_path / "x", numbers, gate=gate, params={"url": sink.url}) for _ in range(2)]
    gate.touch()
    answers = [child.answers() for child in children]
    assert [sorted(a["already"] for a in pair) for pair in zip(*answers, strict=True)] == [[False, True]] * 10
    assert rows(sink.read()).equals(rows(pa.concat_tables([publisher.vintage(n) for n in numbers])))


@pytest.mark.row(21, trials=24)
def test_readers_see_only_whole_vintages_while_four_processes_publish(sink, publisher, tmp_path):
    gate, torn, reads, stop = tmp_path / "gate", [], [], threading.Event()
    parts = [list(range(first, first + 6)) for first in (0, 6, 12, 18)]
    children = [publisher.start(SINK, tmp_path / "x", part, gate=gate, params={"url": sink.url}) for part in parts]

    def watch():
        while not stop.wait(0.01):
            counts = Counter(sink.read()["run_key"].to_pylist())
            torn.extend(count for count in counts.values() if count != 48)
            reads.append(len(counts))

    reader = threading.Thread(target=watch)
    reader.start()
    gate.touch()
    for child in children:
        assert not any(answer["already"] for answer in child.answers())
    stop.set()
    reader.join()
    assert torn == []
    assert reads
    everything = [publisher.vintage(number) for part in parts for number in part]
    assert rows(sink.read()).equals(rows(pa.concat_tables(everything)))


@pytest.mark.row(28)
def test_a_vintage_with_other_columns_than_the_table_is_refused_with_the_difference(sink):
    publish(sink, *days(1))
    [other] = days(2)
    with pytest.raises(SinkError, match="it lacks q97_5"):
        publish(sink, other.append_column("q97_5", other["q90"]))
    with pytest.raises(SinkError, match="the vintage lacks q10"):
        publish(sink, other.drop_columns(["q10"]))
    assert sink.read().equals(days(1)[0])
    assert not publish(sink, other)[0].already


DRIFTS = {
    "add": ("ADD COLUMN note text", "the vintage lacks note"),
    "drop": ("DROP COLUMN q90", "it lacks q90"),
    "rename": ("RENAME COLUMN forecast TO value", "it lacks forecast; the vintage lacks value"),
    "widen": ("ALTER COLUMN step TYPE bigint", "step is BIGINT there, INTEGER in the vintage"),
    "narrow": ("ALTER COLUMN q10 TYPE real", "q10 is REAL there, DOUBLE PRECISION in the vintage"),
    "string": ("ALTER COLUMN q10 TYPE text", "q10 is TEXT there, DOUBLE PRECISION in the vintage"),
    "nullability": ("ALTER COLUMN reason SET NOT NULL", "reason takes no null there"),
    "case": ('RENAME COLUMN unique_id TO "Unique_ID"', "it lacks unique_id; the vintage lacks Unique_ID"),
}


@pytest.mark.row(28)
@pytest.mark.parametrize("drift", DRIFTS)
def test_what_has_drifted_is_told_before_and_when_it_is_published_to(drift, sink):
    change, words = DRIFTS[drift]
    [one] = days(1)
    sink.check(one.schema)
    publish(sink, one.set_column(one.column_names.index("reason"), "reason", pa.array(["x"] * len(one))))
    sink.check(one.schema)
    with psycopg.connect(sink.url, autocommit=True) as connection:
        connection.execute("DROP VIEW forecast_latest")
        connection.execute(sql.SQL("ALTER TABLE forecasts {}").format(sql.SQL(change)))
    with pytest.raises(SinkError, match=words):
        sink.check(one.schema)
    with pytest.raises(SinkError, match=words):
        publish(sink, *days(2))


@pytest.fixture
def canary(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE canary (id int)")
        yield connection
        assert connection.execute("SELECT to_regclass('canary')").fetchone() == ("canary",)


@pytest.mark.row(52)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_tables_and_schemas_are_only_names(canary, database, name):
    canary.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    sink = SqlSink(database, name, name)
    [vintage] = days(1)
    assert [answer.already for answer in publish(sink, vintage, vintage)] == [False, True]
    assert rows(sink.read(datetime(2024, 1, 1, tzinfo=UTC))).equals(rows(vintage))
    assert latest(sink).equals(rows(vintage))
    assert sink.withdraw([key(vintage)]) == 1


@pytest.mark.row(52)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ids_and_scenarios_are_only_values(canary, database, name):
    [vintage] = days(1, series=(name, "b"), scenario=name)
    sink = SqlSink(database)
    publish(sink, vintage)
    assert rows(sink.read()).equals(rows(vintage))
    assert sink.withdraw([name, f"'{name}"]) == 0


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "x" * 51, "é" * 26])
def test_a_name_that_no_database_keeps_whole_is_refused(name):
    with pytest.raises(ValueError, match="table"):
        SqlSink("postgresql://localhost/x", name)


@pytest.mark.parametrize("url", ["", "nonsense hunter2", "sqlite:///x.db", "mysql://root:hunter2@localhost/x"])
def test_a_url_that_is_none_or_of_another_database_is_refused_without_showing_it(url):
    with pytest.raises(ValueError, match="url is") as caught:
        SqlSink(url)
    assert "hunter2" not in str(caught.value)


def test_no_password_is_shown_when_the_database_does_not_answer():
    sink = SqlSink("postgresql://user:hunter2@127.0.0.1:1/x")
    with pytest.raises(SinkError, match=r"cannot publish to postgresql://127\.0\.0\.1/x/forecasts") as caught:
        publish(sink, *days(1))
    assert "hunter2" not in str(caught.value) + repr(sink) + repr(caught.value.__cause__)
    assert caught.value.__cause__ is None


def test_azure_sql_gets_statements_of_its_own():
    dialect = pyodbc.dialect()
    metadata = sa.MetaData()
    forecasts = forecast_table(metadata, "a]b", "dbo", arrow_schema(["q10"]))
    made = str(sa.schema.CreateTable(forecasts).compile(dialect=dialect))
    assert "CREATE TABLE [dbo].[a]]b]" in made
    assert "DATETIMEOFFSET(6)" in made
    assert "NVARCHAR(400)" in made
    assert "run_key" in str(sa.schema.CreateTable(vintage_table(metadata, "a]b", "dbo")).compile(dialect=dialect))
    view = view_sql(dialect, forecasts)
    assert view.startswith("CREATE VIEW [dbo].forecast_latest AS SELECT")
    assert "row_number() OVER (PARTITION BY" in view
    assert "INSERT INTO [dbo].[a]]b]" in str(sa.insert(forecasts).compile(dialect=dialect))
