"""The tables of the sink: the forecasts, the log of vintages, and the view of the newest rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from forecastcore.errors import SinkError
from forecastcore.vintages import SCHEMA, dictionary, is_quantile

if TYPE_CHECKING:
    from sqlalchemy import Column, MetaData, Table
    from sqlalchemy.engine import Connection, Dialect

__all__ = ["VIEW", "arrow_schema", "check_columns", "create", "forecast_table", "vintage_table"]

VIEW = "forecast_latest"
_KEY = ("project", "unique_id", "scenario", "ds")
_AGE = ("issued_at", "created_at", "run_key")


def _type(kind: pa.DataType) -> Any:
    import sqlalchemy as sa
    from sqlalchemy.dialects import mssql

    if pa.types.is_timestamp(kind):
        exact = mssql.DATETIMEOFFSET(6)  # type: ignore[no-untyped-call]  # the library has no types there
        return sa.DateTime(timezone=True).with_variant(exact, "mssql")
    if pa.types.is_integer(kind):
        return sa.Integer()
    if pa.types.is_floating(kind):
        return sa.Double()
    return sa.Text().with_variant(mssql.NVARCHAR(400), "mssql")


def _column(field: pa.Field, **options: Any) -> Column[Any]:
    import sqlalchemy as sa
    from sqlalchemy.sql import quoted_name

    comment = dictionary(pa.schema([field]))[0]["meaning"] or None
    return sa.Column(quoted_name(field.name, quote=True), _type(field.type), comment=comment, **options)


def forecast_table(metadata: MetaData, name: str, schema: str | None, columns: pa.Schema) -> Table:
    """The forecasts; found by origin without an index that would slow the loading down."""
    import sqlalchemy as sa
    from sqlalchemy.sql import quoted_name

    table = sa.Table(quoted_name(name, quote=True), metadata, *map(_column, columns), schema=_quoted(schema))
    sa.Index(quoted_name(f"{name}_by_origin", quote=True), table.c.issued_at, postgresql_using="brin")
    return table


def vintage_table(metadata: MetaData, name: str, schema: str | None) -> Table:
    """One row for each vintage ever published; its key is what makes a second one impossible."""
    import sqlalchemy as sa
    from sqlalchemy.sql import quoted_name

    fields = {field.name: field for field in SCHEMA}
    key = sa.Column("run_key", sa.String(64), primary_key=True)
    kept = [_column(fields[n], nullable=False) for n in ("project", "scenario", "issued_at", "created_at")]
    return sa.Table(
        quoted_name(f"{name}_vintages", quote=True),
        metadata,
        key,
        *kept,
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("published_at", _type(pa.timestamp("us", "UTC")), nullable=False),
        sa.Column("withdrawn_at", _type(pa.timestamp("us", "UTC"))),
        sa.Column("reason", _type(pa.string())),
        schema=_quoted(schema),
    )


def _quoted(schema: str | None) -> Any:
    from sqlalchemy.sql import quoted_name

    return None if schema is None else quoted_name(schema, quote=True)


def create(connection: Connection, forecasts: Table, log: Table) -> None:
    """Make what is not there yet: tables, view."""
    import sqlalchemy as sa

    if sa.inspect(connection).has_table(log.name, schema=log.schema):
        return
    if connection.dialect.name == "postgresql":  # of two first runs one makes the tables, the other waits
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(log.fullname))))
        if sa.inspect(connection).has_table(log.name, schema=log.schema):
            return
    forecasts.metadata.create_all(connection, checkfirst=True)
    connection.exec_driver_sql(view_sql(connection.dialect, forecasts))


def view_sql(dialect: Dialect, forecasts: Table) -> str:
    """The statement that makes `forecast_latest`: the newest row per project, series, scenario and `ds`."""
    import sqlalchemy as sa

    ranked = sa.select(
        *forecasts.c,
        sa.func.row_number()
        .over(
            partition_by=[forecasts.c[name] for name in _KEY],
            order_by=[forecasts.c[name].desc() for name in _AGE],
        )
        .label("place"),
    ).subquery("ranked")
    newest = sa.select(*[ranked.c[column.name] for column in forecasts.c]).where(ranked.c.place == sa.text("1"))
    name = dialect.identifier_preparer.format_table(sa.table(VIEW, schema=forecasts.schema))
    body = newest.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return f"CREATE VIEW {name} AS {body}"


def arrow_schema(quantiles: list[str]) -> pa.Schema:
    """The forecast table's columns with these quantiles, in order."""
    fields = list(SCHEMA)
    place = SCHEMA.names.index("forecast") + 1
    return pa.schema([*fields[:place], *((name, pa.float64()) for name in quantiles), *fields[place:]])


def stored_quantiles(connection: Connection, name: str, schema: str | None) -> list[str]:
    """The quantile columns that the table has, in order."""
    import sqlalchemy as sa

    return [c["name"] for c in sa.inspect(connection).get_columns(name, schema=schema) if is_quantile(c["name"])]


def check_columns(connection: Connection, forecasts: Table) -> None:
    """See that the stored table has the columns of the vintage.

    Raises:
        SinkError: it has others; the difference is told.
    """
    import sqlalchemy as sa

    columns = sa.inspect(connection).get_columns(forecasts.name, schema=forecasts.schema)
    there = {column["name"]: column for column in columns}
    brings = {column.name: column for column in forecasts.c}
    faults = [f"it lacks {name}" for name in sorted(brings.keys() - there)]
    faults += [f"the vintage lacks {name}" for name in sorted(there.keys() - brings)]
    for name in sorted(brings.keys() & there) if connection.dialect.name == "postgresql" else ():
        has, ours = (kind.compile(connection.dialect) for kind in (there[name]["type"], brings[name].type))
        faults += [f"{name} is {has} there, {ours} in the vintage"] if has != ours else []
        faults += [f"{name} takes no null there"] if brings[name].nullable and not there[name]["nullable"] else []
    if faults:
        raise SinkError(
            f"the table {forecasts.fullname} has other columns: {'; '.join(faults)}",
            hint="publish to a new table, or configure the quantiles it has",
        )
