"""Delta tables through delta-rs, as a source of history and as a sink of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Example, SinkSpec, SourceSpec, hookimpl
from forecastcore_delta.sink import DeltaSink
from forecastcore_delta.source import DeltaSource

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

__all__ = ["DeltaSink", "DeltaSource"]


def _source_example(folder: Path, table: pa.Table) -> Example:
    from deltalake import write_deltalake

    write_deltalake(str(folder / "history"), table)
    return Example(params={"path": str(folder / "history")})


@hookimpl
def forecastcore_sources() -> Iterable[SourceSpec]:
    """Offer the source `delta`."""
    yield SourceSpec(
        name="delta", summary="a Delta table, as it is or as it was", factory=DeltaSource, example=_source_example
    )


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """Offer the sink `delta`."""
    yield SinkSpec(name="delta", summary="a Delta table, each vintage in one transaction", factory=DeltaSink)
