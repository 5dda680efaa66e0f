"""Boosted trees of LightGBM for forecastcore: `lightgbm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Capabilities, ModelSpec, hookimpl
from forecastcore_lightgbm.model import LightGBM

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LightGBM", "forecastcore_models"]


@hookimpl
def forecastcore_models() -> Iterable[ModelSpec]:
    """Offer the family."""
    return [
        ModelSpec(
            name="lightgbm",
            summary="LightGBM's boosted trees of all series on lags, calendar and covariates, over a ridge regression",
            factory=LightGBM,
            capabilities=Capabilities(scope="global", covariates=True, quantiles=True, missing=True, min_history=8),
        )
    ]
