"""Tables of a Spark catalog, such as Unity Catalog's, as a source of history and as a sink of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import SinkSpec, SourceSpec, hookimpl
from forecastcore_spark.sink import DeltaTableSink
from forecastcore_spark.source import SparkTableSource

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DeltaTableSink", "SparkTableSource"]


@hookimpl
def forecastcore_sources() -> Iterable[SourceSpec]:
    """Offer the source `spark-table`."""
    yield SourceSpec(name="spark-table", summary="a table or view of a Spark catalog", factory=SparkTableSource)


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """Offer the sink `delta-table`."""
    yield SinkSpec(
        name="delta-table",
        summary="a Delta table of a Spark catalog, each vintage in one transaction",
        factory=DeltaTableSink,
    )
