"""Forecasts in a Delta table of a Spark catalog, each vintage in one transaction.

The append carries the run key as Delta's application id: the table's own log then refuses a second one with that key,
also of a run that goes on at the same time. `forecast_latest` is a view beside the table. What was taken back stands in
the table TABLE_withdrawn, with the reason: readers do not see it from then on, and its run key stays used up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from forecastcore.api import Published
from forecastcore.errors import ForecastCoreError, SinkError
from forecastcore.vintages import REF_COLUMNS, VintageRef, check_run_key, check_vintage, empty_vintage, utc
from forecastcore_spark.catalog import arrow, check_name, open_session, quoted, said

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["DeltaTableSink"]

_KEY = "project, unique_id, scenario, ds"
_AGE = "issued_at DESC, created_at DESC, run_key DESC"
_WITHDRAWN = "run_key STRING, withdrawn_at TIMESTAMP, reason STRING, rows BIGINT"


@dataclass(frozen=True)
class DeltaTableSink:
    """A Delta table of a Spark catalog, such as Unity Catalog's, and the view `forecast_latest` beside it.

    Attributes:
        table: its name, such as catalog.schema.forecasts; it is made where it is not there.
        remote: a Spark Connect server; default: the session that is there.
        master: where to run a session of our own, such as local[2].
        format: delta; parquet is for trials without Delta: nothing holds two writers apart there.
    """

    table: str
    remote: str | None = None
    master: str | None = None
    format: Literal["delta", "parquet"] = "delta"

    def __post_init__(self) -> None:
        check_name(self.table)
        if self.table.rpartition(".")[2] == "forecast_latest":
            raise ValueError("forecast_latest is the view beside the table; name the table otherwise")

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Append the vintage in one transaction, once.

        Raises:
            SinkError: the table has other columns, or Spark failed; run again, and it is written or found.
        """
        table = check_vintage(vintage, run_key)
        return self._publish(lambda spark: spark.createDataFrame(table), table.num_rows, run_key)

    def publish_frame(self, vintage: DataFrame, rows: int, run_key: str) -> Published:
        """Append a vintage that Spark holds in one transaction, once; no row of it comes to the driver.

        Raises:
            SinkError: as `publish`, or the session is not the one that holds the vintage.
        """
        return self._publish(lambda _: vintage, rows, check_run_key(run_key))

    def _publish(self, vintage: Callable[[SparkSession], DataFrame], rows: int, run_key: str) -> Published:
        try:
            spark = self._spark()
            gone = run_key in self._withdrawn(spark)
            there = 0 if gone else self._count(spark, run_key)
            if not there and not gone:
                self._append(spark, vintage(spark), rows, run_key)
            self._show_latest(spark)
        except ForecastCoreError:
            raise
        except Exception as error:
            words = f"cannot publish to {self._where}: {said(error)}"
            raise SinkError(words, hint="run again: a vintage that is there is not written twice") from error
        already = gone or bool(there)
        return Published(location=self._where, rows=there if already else rows, already=already)

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none.

        Raises:
            SinkError: Spark failed.
        """
        from pyspark.sql import functions as sql

        spark = self._reading()
        if not self._is_there(spark, self.table):
            return empty_vintage()
        frame = self._visible(spark)
        if issued_at is not None:
            frame = frame.where(sql.col("issued_at") == sql.lit(utc(issued_at)))
        return arrow(frame)

    def vintages(self) -> list[VintageRef]:
        """The vintages, oldest first."""
        spark = self._reading()
        if not self._is_there(spark, self.table):
            return []
        counted = arrow(self._visible(spark).groupBy(*REF_COLUMNS).count()).to_pylist()
        return sorted(VintageRef(**{name: row[name] for name in REF_COLUMNS}, rows=row["count"]) for row in counted)

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:
        """Take vintages out of what readers see; their run keys stay used up. How many were visible.

        Raises:
            SinkError: Spark failed; run again, and what is left of it is done.
        """
        wanted = {check_run_key(key) for key in run_keys}
        spark = self._reading()
        try:
            seen = {ref.run_key: ref.rows for ref in self.vintages() if ref.run_key in wanted}
            if seen:
                now = datetime.now(UTC)
                marks = [(key, now, reason or "withdrawn", rows) for key, rows in sorted(seen.items())]
                log = spark.createDataFrame(marks, _WITHDRAWN).coalesce(1)
                log.write.format(self.format).mode("append").saveAsTable(quoted(self._log))
                self._show_latest(spark)
            if self.format == "delta" and (gone := wanted & self._withdrawn(spark)):
                keys = ", ".join(f"'{key}'" for key in sorted(gone))  # hex digits, as checked
                spark.sql(f"DELETE FROM {quoted(self.table)} WHERE run_key IN ({keys})")  # noqa: S608 - quoted
        except ForecastCoreError:
            raise
        except Exception as error:
            words = f"cannot take vintages out of {self._where}: {said(error)}"
            raise SinkError(words, hint="run again: what is left of it is done then") from error
        return len(seen)

    @property
    def _where(self) -> str:
        return f"{self.format}-table {self.table}"

    @property
    def _log(self) -> str:
        return f"{self.table}_withdrawn"

    def _is_there(self, spark: SparkSession, table: str) -> bool:
        there = spark.catalog.tableExists(quoted(table))
        if there and self.format == "parquet":  # a session remembers its files; those of Delta stand in its log
            spark.catalog.refreshTable(quoted(table))
        return there

    def _withdrawn(self, spark: SparkSession) -> set[str]:
        """Run keys of vintages that were taken back."""
        if not self._is_there(spark, self._log):
            return set()
        return {row.run_key for row in spark.table(quoted(self._log)).select("run_key").distinct().collect()}

    def _visible(self, spark: SparkSession) -> DataFrame:
        """The table without what was taken back."""
        from pyspark.sql import functions as sql

        gone, frame = self._withdrawn(spark), spark.table(quoted(self.table))
        return frame.where(~sql.col("run_key").isin(sorted(gone))) if gone else frame

    def _spark(self) -> SparkSession:
        return open_session(self.master, self.remote, {})

    def _reading(self) -> SparkSession:
        try:
            return self._spark()
        except ForecastCoreError as error:
            raise SinkError(f"{self._where} cannot be read: {error}") from error

    def _count(self, spark: SparkSession, run_key: str) -> int:
        from pyspark.sql import functions as sql

        if not self._is_there(spark, self.table):
            return 0
        return int(spark.table(quoted(self.table)).where(sql.col("run_key") == run_key).count())

    def _append(self, spark: SparkSession, frame: DataFrame, rows: int, run_key: str) -> None:
        name = quoted(self.table)
        if not spark.catalog.tableExists(name):
            frame.limit(0).write.format(self.format).mode("ignore").saveAsTable(name)
        columns = spark.table(name).columns
        if unknown := [column for column in frame.columns if column not in columns]:
            raise SinkError(
                f"{self._where} has no column {', '.join(unknown)}",
                hint="add it with ALTER TABLE … ADD COLUMN, or name another table",
            )
        there = set(frame.columns)
        wanted = [c if c in there else f"CAST(NULL AS DOUBLE) AS {quoted([c])}" for c in columns]
        writer = frame.selectExpr(*wanted).write.format(self.format).mode("append")
        writer.option("txnAppId", run_key).option("txnVersion", 1).saveAsTable(name)
        if (arrived := self._count(spark, run_key)) != rows:
            raise SinkError(f"{arrived} of {rows} rows are in {self._where}", hint="look at its history")

    def _show_latest(self, spark: SparkSession) -> None:
        name = self.table.split(".")
        columns = ", ".join(quoted([column]) for column in spark.table(quoted(name)).columns)
        there = quoted(name)
        if spark.catalog.tableExists(quoted(self._log)):
            there += f" WHERE run_key NOT IN (SELECT run_key FROM {quoted(self._log)})"  # noqa: S608 - quoted
        ranked = f"SELECT *, row_number() OVER (PARTITION BY {_KEY} ORDER BY {_AGE}) AS age FROM {there}"  # noqa: S608 - quoted
        latest = quoted([*name[:-1], "forecast_latest"])
        spark.sql(f"CREATE OR REPLACE VIEW {latest} AS SELECT {columns} FROM ({ranked}) WHERE age = 1")  # noqa: S608 - quoted
