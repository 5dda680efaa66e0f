"""Forecasts in a SQL database, each vintage in one transaction.

The transaction inserts the run key into the log of vintages, where it is the primary key, then loads the rows in bulk,
and commits: of two runs with one key the second waits for the first, and finds its row. `forecast_latest` is a view.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pacsv

from forecastcore.api import Published
from forecastcore.errors import SinkError
from forecastcore.vintages import VintageRef, check_vintage, empty_vintage, is_quantile, ref_of, utc
from forecastcore_sql.database import BATCH, check_name, columns_to_arrow, connected, shown, url_of, words_of
from forecastcore_sql.tables import (
    arrow_schema,
    check_columns,
    create,
    forecast_table,
    stored_quantiles,
    vintage_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

__all__ = ["SqlSink"]

_CHUNK = 100_000


@dataclass(frozen=True)
class SqlSink:
    """A table of PostgreSQL or Azure SQL, a log of its vintages, and the view `forecast_latest`.

    Attributes:
        url: postgresql://user@host/database, or mssql://…?driver=ODBC+Driver+18+for+SQL+Server; never shown.
        table: of the forecasts; the log is called the same with `_vintages` behind.
        schema_name: of the schema that holds them; default: the user's own.
    """

    url: str = field(repr=False)
    table: str = "forecasts"
    schema_name: str | None = None

    def __post_init__(self) -> None:
        check_name(self.table, "table")
        if self.schema_name is not None:
            check_name(self.schema_name, "schema_name")
        url_of(self.url)

    def check(self, columns: pa.Schema) -> None:
        """See, before anything is forecast, that the table takes vintages of these columns.

        Raises:
            SinkError: it has others; the difference is told. Where the database cannot be asked, nothing is said yet.
        """
        import sqlalchemy as sa
        from sqlalchemy.exc import SQLAlchemyError

        wanted = arrow_schema([name for name in columns.names if is_quantile(name)])
        table = forecast_table(sa.MetaData(), self.table, self.schema_name, wanted)
        with suppress(SQLAlchemyError), connected(url_of(self.url)) as connection:
            if self._there(connection):
                check_columns(connection, table)

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Insert the vintage in one transaction, once.

        Raises:
            SinkError: the table has other columns, or the database failed; nothing of this vintage is visible, unless
                the answer to the commit was lost: then the next run finds it.
        """
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        table = check_vintage(vintage, run_key)
        try:
            with connected(url_of(self.url)) as connection:
                already = not self._insert(connection, table)
                rows = self._logged_rows(connection, run_key) if already else table.num_rows
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            words = f"cannot publish to {self._where}: {words_of(cause, self.url)}"
            raise SinkError(words, hint="run again: a vintage that is there is not written twice") from None
        return Published(location=self._where, rows=rows, already=already)

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none.

        Raises:
            SinkError: the database failed.
        """
        import sqlalchemy as sa

        with self._reading() as connection:
            if not self._there(connection):
                return empty_vintage()
            columns = arrow_schema(stored_quantiles(connection, self.table, self.schema_name))
            table = forecast_table(sa.MetaData(), self.table, self.schema_name, columns)
            query = sa.select(*table.c)
            if issued_at is not None:
                query = query.where(table.c.issued_at == utc(issued_at))
            result = connection.execution_options(stream_results=True).execute(query)
            parts = [columns_to_arrow([tuple(row) for row in rows], columns) for rows in result.partitions(BATCH)]
        return pa.concat_tables(parts) if parts else columns.empty_table()

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first."""
        import sqlalchemy as sa

        with self._reading() as connection:
            if not self._there(connection):
                return []
            log = vintage_table(sa.MetaData(), self.table, self.schema_name)
            names = ("issued_at", "created_at", "run_key", "project", "scenario", "rows")
            query = sa.select(*[log.c[name] for name in names]).where(log.c.withdrawn_at.is_(None))
            found = [dict(zip(names, row, strict=True)) for row in connection.execute(query)]
        instants = ("issued_at", "created_at")
        return sorted(VintageRef(**{**row, **{name: utc(row[name]) for name in instants}}) for row in found)

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:
        """Take vintages out of what readers see, in one transaction; their run keys stay used up. How many were."""
        import sqlalchemy as sa

        with self._reading() as connection:
            if not self._there(connection):
                return 0
            log = vintage_table(sa.MetaData(), self.table, self.schema_name)
            forecasts = forecast_table(sa.MetaData(), self.table, self.schema_name, arrow_schema([]))
            visible = log.c.run_key.in_(list(run_keys)) & log.c.withdrawn_at.is_(None)
            marked = connection.execute(
                sa.update(log).where(visible).values(withdrawn_at=datetime.now(UTC), reason=reason or "withdrawn")
            )
            connection.execute(sa.delete(forecasts).where(forecasts.c.run_key.in_(list(run_keys))))
            return int(marked.rowcount)

    @property
    def _where(self) -> str:
        return f"{shown(url_of(self.url))}/{f'{self.schema_name}.' if self.schema_name else ''}{self.table}"

    def _reading(self) -> Any:
        return connected(url_of(self.url))

    def _there(self, connection: Connection) -> bool:
        import sqlalchemy as sa

        return bool(sa.inspect(connection).has_table(f"{self.table}_vintages", schema=self.schema_name))

    def _insert(self, connection: Connection, table: pa.Table) -> bool:
        """The log's row, then the forecasts; False where the key is in the log already."""
        import sqlalchemy as sa
        from sqlalchemy.exc import IntegrityError

        metadata = sa.MetaData()
        columns = arrow_schema([name for name in table.column_names if is_quantile(name)])
        forecasts = forecast_table(metadata, self.table, self.schema_name, columns)
        log = vintage_table(metadata, self.table, self.schema_name)
        create(connection, forecasts, log)
        ref = ref_of(table)
        row = {
            name: getattr(ref, name) for name in ("run_key", "project", "scenario", "issued_at", "created_at", "rows")
        }
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(log).values(**row, published_at=datetime.now(UTC)))
        except IntegrityError:
            return False
        check_columns(connection, forecasts)
        loaded = _load(connection, forecasts, table.select(columns.names))
        if loaded != table.num_rows:
            raise SinkError(f"{loaded} of {table.num_rows} rows arrived in {self._where}; nothing was published")
        return True

    def _logged_rows(self, connection: Connection, run_key: str) -> int:
        import sqlalchemy as sa

        log = vintage_table(sa.MetaData(), self.table, self.schema_name)
        query = sa.select(log.c.rows).where((log.c.run_key == run_key) & log.c.withdrawn_at.is_(None))
        return int(connection.execute(query).scalar() or 0)


def _load(connection: Connection, forecasts: Table, table: pa.Table) -> int:
    """Load the rows in bulk; how many the database says it took."""
    if connection.dialect.name == "postgresql":
        return _copy(connection, forecasts, table)
    import sqlalchemy as sa

    rows = 0
    for batch in table.to_batches(max_chunksize=_CHUNK):  # with fast_executemany, an array of parameters at a time
        connection.execute(sa.insert(forecasts), batch.to_pylist())
        rows += batch.num_rows
    return rows


def _copy(connection: Connection, forecasts: Table, table: pa.Table) -> int:
    """COPY of CSV that Arrow writes: no value passes through Python. Text is quoted, so that only null is empty."""
    from psycopg import sql

    names = sql.SQL(", ").join(sql.Identifier(name) for name in table.column_names)
    place = [part for part in (forecasts.schema, forecasts.name) if part is not None]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier(*map(str, place)), names)
    options = pacsv.WriteOptions(include_header=False)
    cursor: Any = connection.connection.cursor()
    with cursor:
        with cursor.copy(statement) as copy:
            for start in range(0, table.num_rows, _CHUNK):
                buffer = pa.BufferOutputStream()
                pacsv.write_csv(table.slice(start, _CHUNK), buffer, options)
                copy.write(memoryview(buffer.getvalue()))
        return int(cursor.rowcount)
