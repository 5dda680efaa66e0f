"""A plugin that is always away, for drills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from forecastcore.api import AssumptionSpec, SinkSpec, hookimpl
from forecastcore.errors import AssumptionUnavailable, SinkError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import pandas as pd
    import pyarrow as pa

    from forecastcore.api import Task


@dataclass(frozen=True)
class Away:
    """An assumption that cannot answer."""

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> NoReturn:
        """Never answers."""
        raise AssumptionUnavailable("drill: the service does not answer")


@dataclass(frozen=True)
class Full:
    """A sink that takes nothing."""

    def publish(self, vintage: pa.Table, run_key: str) -> NoReturn:
        """Never delivers."""
        raise SinkError("drill: the sink does not answer")

    def read(self, issued_at: datetime | None = None) -> NoReturn:
        """Never answers."""
        raise SinkError("drill: the sink does not answer")


@hookimpl
def forecastcore_assumptions() -> Iterable[AssumptionSpec]:
    """An assumption that cannot answer."""
    yield AssumptionSpec(name="drill-away", summary="a service that does not answer", factory=Away)


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """A sink that takes nothing."""
    yield SinkSpec(name="drill-full", summary="a sink that does not answer", factory=Full)
