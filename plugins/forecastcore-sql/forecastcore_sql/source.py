"""History from a SQL database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from forecastcore.errors import DataError
from forecastcore_sql.database import BATCH, check_name, columns_to_arrow, connected, shown, url_of, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

__all__ = ["SqlSource"]

T = TypeVar("T")


@dataclass(frozen=True)
class SqlSource:
    """A table or view of PostgreSQL or Azure SQL; joins and filters belong into a view.

    Attributes:
        url: postgresql://user@host/database, or mssql://…?driver=ODBC+Driver+18+for+SQL+Server; never shown.
        table: or view.
        schema_name: of the schema that holds it; default: the user's own.
    """

    url: str = field(repr=False)
    table: str
    schema_name: str | None = None

    def __post_init__(self) -> None:
        check_name(self.table, "table")
        if self.schema_name is not None:
            check_name(self.schema_name, "schema_name")
        url_of(self.url)

    def schema(self) -> pa.Schema:
        """Names and types, from the database's catalogue.

        Raises:
            DataError: there is no such table, or the database does not answer.
        """
        return self._asked(self._columns)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns, as they stand in the table.

        Raises:
            DataError: as `schema`, or there are no rows.
        """
        return self._asked(lambda connection: self._rows(connection, columns))

    @property
    def _where(self) -> str:
        place = f"{self.schema_name}." if self.schema_name else ""
        return f"sql {shown(url_of(self.url))}/{place}{self.table}"

    def _asked(self, work: Callable[[Connection], T]) -> T:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            with connected(url_of(self.url)) as connection:
                return work(connection)
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise DataError(f"{self._where} cannot be read: {words_of(cause, self.url)}") from None

    def _columns(self, connection: Connection) -> pa.Schema:
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        try:
            found = inspector.get_columns(self.table, schema=self.schema_name)
        except sa.exc.NoSuchTableError:
            names = [*inspector.get_table_names(self.schema_name), *inspector.get_view_names(self.schema_name)]
            there = ", ".join(sorted(names)[:10]) or "no table"
            raise DataError(f"{self._where} is not there", hint=f"there is {there}") from None
        return pa.schema([(column["name"], _kind(column["type"])) for column in found])

    def _rows(self, connection: Connection, columns: Sequence[str]) -> pa.Table:
        import sqlalchemy as sa
        from sqlalchemy.sql import quoted_name

        there = self._columns(connection)
        schema = pa.schema([there.field(name) for name in columns])
        place = None if self.schema_name is None else quoted_name(self.schema_name, quote=True)
        wanted: list[Any] = [sa.column(quoted_name(name, quote=True)) for name in columns]
        table = sa.table(quoted_name(self.table, quote=True), *wanted, schema=place)
        query = sa.select(*table.c)
        result = connection.execution_options(stream_results=True).execute(query)
        parts = [columns_to_arrow([tuple(row) for row in rows], schema) for rows in result.partitions(BATCH)]
        if not parts:
            raise DataError(f"{self._where} has no rows")
        return pa.concat_tables(parts)


def _kind(column: Any) -> pa.DataType:
    """The Arrow type of a column of the database; what has none here is read as text."""
    import sqlalchemy as sa

    if isinstance(column, sa.Boolean):
        return pa.bool_()
    if isinstance(column, sa.Integer):
        return pa.int64()
    if isinstance(column, sa.Numeric):  # floats are numerics too; a decimal is read as the float nearest to it
        return pa.float64()
    if isinstance(column, sa.DateTime):
        zone = getattr(column, "timezone", False) or type(column).__name__ == "DATETIMEOFFSET"
        return pa.timestamp("us", "UTC" if zone else None)
    if isinstance(column, sa.Date):
        return pa.date32()
    return pa.string()
