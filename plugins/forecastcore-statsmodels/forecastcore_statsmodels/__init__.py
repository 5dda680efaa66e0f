"""Model families of statsmodels for forecastcore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Capabilities, ModelSpec, hookimpl
from forecastcore_statsmodels import components, ets, sarimax, theta

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["forecastcore_models"]


@hookimpl
def forecastcore_models() -> Iterable[ModelSpec]:
    """Offer the families."""
    yield ModelSpec(
        name="ets",
        summary="exponential smoothing, error, trend and season chosen by AICc",
        factory=ets.Ets,
        capabilities=Capabilities(quantiles=True, min_history=ets.MIN_HISTORY),
    )
    yield ModelSpec(
        name="sarimax",
        summary="seasonal ARIMA errors around covariates, drift and Fourier terms",
        factory=sarimax.Sarimax,
        capabilities=Capabilities(covariates=True, quantiles=True, missing=True, min_history=sarimax.MIN_HISTORY),
    )
    yield ModelSpec(
        name="theta",
        summary="Theta method: exponential smoothing and half the trend, season taken out",
        factory=theta.Theta,
        capabilities=Capabilities(quantiles=True, min_history=theta.MIN_HISTORY),
    )
    yield ModelSpec(
        name="unobserved-components",
        summary="structural model: trend and trigonometric seasons that change over time",
        factory=components.UnobservedComponents,
        capabilities=Capabilities(quantiles=True, missing=True, min_history=components.MIN_HISTORY),
    )
