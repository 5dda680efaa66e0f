"""Model families of statsforecast for forecastcore, quick ones first of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Capabilities, ModelSpec, hookimpl
from forecastcore_statsforecast import arima, autoregression, ces, common, ets, intermittent, mstl, theta

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["forecastcore_models"]


@hookimpl
def forecastcore_models() -> Iterable[ModelSpec]:
    """Offer the families."""
    yield ModelSpec(
        name="auto-ets",
        summary="exponential smoothing, error, trend and season chosen by AICc",
        factory=ets.AutoEts,
        capabilities=Capabilities(quantiles=True, min_history=common.MIN_HISTORY),
    )
    yield ModelSpec(
        name="auto-arima",
        summary="seasonal ARIMA around covariates, orders chosen by AICc",
        factory=arima.AutoArima,
        capabilities=Capabilities(covariates=True, quantiles=True, min_history=arima.MIN_HISTORY),
    )
    yield ModelSpec(
        name="auto-theta",
        summary="Theta method, dynamic and optimised, the season taken out where it is significant",
        factory=theta.AutoTheta,
        capabilities=Capabilities(quantiles=True, min_history=common.MIN_HISTORY),
    )
    yield ModelSpec(
        name="auto-ces",
        summary="complex exponential smoothing, its kind of season chosen by AICc",
        factory=ces.AutoCes,
        capabilities=Capabilities(min_history=common.MIN_HISTORY),
    )
    yield ModelSpec(
        name="mstl",
        summary="several seasons taken out by loess, and a model of the rest",
        factory=mstl.Mstl,
        capabilities=Capabilities(quantiles=True, min_history=arima.MIN_HISTORY),
    )
    yield ModelSpec(
        name="autoregression",
        summary="ridge regression on the lags of all seasons and on covariates, on logarithms where they are likelier",
        factory=autoregression.Autoregression,
        capabilities=Capabilities(covariates=True, quantiles=True, min_history=common.MIN_HISTORY),
    )
    yield ModelSpec(
        name="croston",
        summary="rare demand: size and interval smoothed apart",
        factory=intermittent.Croston,
    )
    yield ModelSpec(
        name="tsb",
        summary="rare demand: size and probability smoothed apart, fades where demand stops",
        factory=intermittent.Tsb,
    )
    yield ModelSpec(
        name="adida",
        summary="rare demand: smoothed on sums over the mean interval",
        factory=intermittent.Adida,
    )
    yield ModelSpec(
        name="imapa",
        summary="rare demand: smoothed on sums of several lengths, the mean of their forecasts",
        factory=intermittent.Imapa,
    )
