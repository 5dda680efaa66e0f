"""History from a table of a Spark catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forecastcore.errors import DataError, ForecastCoreError
from forecastcore_spark.catalog import arrow, check_name, open_session, quoted, said

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from pyspark.sql import DataFrame

__all__ = ["SparkTableSource"]


@dataclass(frozen=True)
class SparkTableSource:
    """A table or view of a Spark catalog; joins and filters belong into a view.

    Attributes:
        table: its name, such as catalog.schema.table.
        version: of a Delta table, to read it as it was; default: as it is.
        remote: a Spark Connect server; default: the session that is there.
        master: where to run a session of our own, such as local[2].
    """

    table: str
    version: int | None = None
    remote: str | None = None
    master: str | None = None

    def __post_init__(self) -> None:
        check_name(self.table)

    def schema(self) -> pa.Schema:
        """Names and types, from the catalog.

        Raises:
            DataError: there is no such table, or Spark does not answer.
        """
        return self._asked([], rows=0).schema

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns, as they stand in the table.

        Raises:
            DataError: as `schema`, or there are no rows.
        """
        table = self._asked(columns)
        if not table.num_rows:
            raise DataError(f"{self._where} has no rows")
        return table

    def frame(self, columns: Sequence[str]) -> DataFrame:
        """The named columns, nothing read yet.

        Raises:
            DataError: as `schema`.
        """
        try:
            return self._frame().select(*(quoted([name]) for name in columns))
        except ForecastCoreError:
            raise
        except Exception as error:
            raise DataError(f"{self._where} cannot be read: {said(error)}") from error

    @property
    def _where(self) -> str:
        return f"spark-table {self.table}"

    def _asked(self, columns: Sequence[str], rows: int | None = None) -> pa.Table:
        try:
            chosen = self.frame(columns) if columns else self._frame()
            return arrow(chosen if rows is None else chosen.limit(rows))
        except ForecastCoreError:
            raise
        except Exception as error:
            raise DataError(f"{self._where} cannot be read: {said(error)}") from error

    def _frame(self) -> DataFrame:
        spark = open_session(self.master, self.remote, {})
        if self.version is None:
            return spark.table(quoted(self.table))
        return spark.sql(f"SELECT * FROM {quoted(self.table)} VERSION AS OF {int(self.version)}")  # noqa: S608 - quoted
