"""Keys that Spark sends to a task each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["slots"]

#: found keys, by their number; the hash is part of what Spark promises of its tables, so they hold for any session
_SLOTS: dict[int, list[int]] = {}


def slots(spark: SparkSession, count: int) -> list[int]:
    """Keys that Spark's own hash sends to as many different partitions, so that each has a task to itself."""
    if count in _SLOTS:
        return _SLOTS[count]
    rows = (
        spark.range(32 * count)
        .selectExpr("cast(id as int) as key", f"pmod(hash(cast(id as int)), {count}) as place")
        .groupBy("place")
        .agg({"key": "min"})
        .collect()
    )
    keys = [int(row[1]) for row in rows]
    _SLOTS[count] = keys + [-n for n in range(1, count - len(keys) + 1)]
    return _SLOTS[count]
