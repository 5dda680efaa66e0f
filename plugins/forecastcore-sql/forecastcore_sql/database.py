"""Connections and names: a URL that is never shown, identifiers that are only ever quoted."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from sqlalchemy.engine import URL, Connection, Engine

__all__ = ["BATCH", "check_name", "columns_to_arrow", "connected", "shown", "url_of", "words_of"]

#: rows that travel at a time
BATCH = 50_000
_LONGEST = 50
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mssql": "mssql+pyodbc"}


def url_of(text: str) -> URL:
    """The URL, with the drivers used here.

    Raises:
        ValueError: it is none; its words do not hold it.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("url is no database URL such as postgresql://user@host/database") from None
    if "@" in f"{url.host} {url.database}":
        # a part of the password; it would be told as host or database
        raise ValueError("the password in url holds @ or / as it is; write %40 and %2F there")
    name = _DRIVERS.get(url.drivername, url.drivername)
    if name.partition("+")[0] not in {"postgresql", "mssql"}:
        raise ValueError(f"url is of {url.drivername}; PostgreSQL and Azure SQL (mssql) are written to")
    return url.set(drivername=name)


def check_name(name: str, what: str) -> str:
    """A name of a table or schema: any characters, since it is only ever quoted, but none that no database takes.

    Raises:
        ValueError: it is empty, too long to be kept whole, or has control characters.
    """
    if not name or len(name.encode()) > _LONGEST or re.search(r"[\x00-\x1f\x7f]", name):
        raise ValueError(f"{what} {name[:60]!r} is no name of 1 to {_LONGEST} bytes without control characters")
    return name


def shown(url: URL) -> str:
    """Where it is, without who asks."""
    return f"{url.drivername.partition('+')[0]}://{url.host or ''}/{url.database or ''}"


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """A connection in one transaction: committed at the end, rolled back by an error; nothing stays open."""
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(url: URL) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    options: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    if url.drivername == "mssql+pyodbc":
        options["fast_executemany"] = True
    if url.drivername == "postgresql+psycopg":
        options["connect_args"] = {"connect_timeout": 30, "application_name": "forecastcore"}
    return create_engine(url, **options)


def words_of(error: BaseException | None, url: str) -> str:
    """The first line of what the database says, without what the URL holds."""
    text = str(error).strip()
    words = f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
    password = url_of(url).password
    return words.replace(str(password), "***") if password else words


def columns_to_arrow(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows as they come from a cursor, column by column; decimals as floats, what has no type of its own as text."""
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else [() for _ in schema]
    return pa.table([_array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema)


def _array(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return pa.array([None if value is None else float(value) for value in values], kind)
    if pa.types.is_string(kind):
        return pa.array([value if value is None or isinstance(value, str) else str(value) for value in values], kind)
    return pa.array(values, kind)
