"""Weather forecasts of Open-Meteo as assumptions for forecastcore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import AssumptionSpec, hookimpl
from forecastcore_openmeteo.assumption import OpenMeteo

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OpenMeteo", "forecastcore_assumptions"]


@hookimpl
def forecastcore_assumptions() -> Iterable[AssumptionSpec]:
    """Offer `open-meteo`."""
    yield AssumptionSpec(
        name="open-meteo", summary="the weather forecast of Open-Meteo, as issued by the origin", factory=OpenMeteo
    )
