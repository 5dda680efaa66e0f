"""Names of a Spark catalog, and the session that knows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from forecastcore.engines.spark.session import open_session, said

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from pyspark.sql import DataFrame

__all__ = ["arrow", "check_name", "open_session", "quoted", "said"]

#: catalog, schema, table
_MOST_PARTS = 3


def check_name(name: str) -> None:
    """See that a name is `table`, `schema.table` or `catalog.schema.table`.

    Raises:
        ValueError: it is not.
    """
    parts = name.split(".")
    if len(parts) > _MOST_PARTS or not all(re.fullmatch(r"[\w-]{1,255}", part) for part in parts):
        raise ValueError(
            f"table {name!r} is none of table, schema.table and catalog.schema.table, each of letters, digits, _ and -"
        )


def quoted(parts: str | Sequence[str]) -> str:
    """Names as SQL takes them whatever stands in them; text with dots is a table's whole name."""
    names = parts.split(".") if isinstance(parts, str) else parts
    return ".".join(f"`{name.replace('`', '``')}`" for name in names)


def arrow(frame: DataFrame) -> pa.Table:
    """All rows of a frame, instants in UTC."""
    import pyarrow as pa

    table = frame.toArrow()
    instants = {
        number: field.with_type(pa.timestamp("us", "UTC"))
        for number, field in enumerate(table.schema)
        if pa.types.is_timestamp(field.type) and field.type.tz is not None
    }
    for number, field in instants.items():
        table = table.set_column(number, field, table.column(number).cast(field.type))
    return table
