"""SQL databases, as a source of history and as a sink of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import SinkSpec, SourceSpec, hookimpl
from forecastcore_sql.sink import SqlSink
from forecastcore_sql.source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SqlSink", "SqlSource"]


@hookimpl
def forecastcore_sources() -> Iterable[SourceSpec]:
    """Offer the source `sql`."""
    yield SourceSpec(name="sql", summary="a table or view of PostgreSQL or Azure SQL", factory=SqlSource)


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """Offer the sink `sql`."""
    yield SinkSpec(
        name="sql", summary="a table of PostgreSQL or Azure SQL, each vintage in one transaction", factory=SqlSink
    )
