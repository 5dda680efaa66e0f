"""Azure Blob Storage, as a source of history and as a sink of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import SinkSpec, SourceSpec, hookimpl
from forecastcore_azure.sink import AzureBlobSink
from forecastcore_azure.source import AzureBlobSource

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["AzureBlobSink", "AzureBlobSource"]


@hookimpl
def forecastcore_sources() -> Iterable[SourceSpec]:
    """Offer the source `azure-blob`."""
    yield SourceSpec(
        name="azure-blob",
        summary="Parquet or CSV blobs in Azure Blob Storage, one or all below a prefix",
        factory=AzureBlobSource,
    )


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """Offer the sink `azure-blob`."""
    yield SinkSpec(
        name="azure-blob",
        summary="Parquet blobs in Azure Blob Storage, each vintage made visible by one PUT",
        factory=AzureBlobSink,
    )
