"""Forecasts that need no learning: the yardstick that every other model has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Capabilities, ModelSpec, hookimpl
from forecastcore_baseline.models import FittedSeasonalNaive, Naive, SeasonalNaive

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FittedSeasonalNaive", "Naive", "SeasonalNaive", "forecastcore_models"]


@hookimpl
def forecastcore_models() -> Iterable[ModelSpec]:
    """Offer `seasonal-naive` and `naive`."""
    able = Capabilities(scope="local", missing=True)
    yield ModelSpec(name="seasonal-naive", summary="repeats the last season", factory=SeasonalNaive, capabilities=able)
    yield ModelSpec(name="naive", summary="repeats the last value", factory=Naive, capabilities=able)
