"""Delta tables through delta-rs, as a source of history and as a sink of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import SinkSpec, SourceSpec, hookimpl
from forecastcore_delta.sink import DeltaSink
from forecastcore_delta.source import DeltaSource

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DeltaSink", "DeltaSource"]


@hookimpl
def forecastcore_sources() -> Iterable[SourceSpec]:
    """Offer the source `delta`."""
    yield SourceSpec(name="delta", summary="a Delta table, as it is or as it was", factory=DeltaSource)


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """Offer the sink `delta`."""
    yield SinkSpec(name="delta", summary="a Delta table, each vintage in one transaction", factory=DeltaSink)
