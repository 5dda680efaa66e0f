"""Signed notices of published forecasts over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import SinkSpec, hookimpl
from forecastcore_webhook.sink import WebhookSink

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WebhookSink"]


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """Offer the sink `webhook`."""
    yield SinkSpec(
        name="webhook", summary="a signed notice of each published vintage, told over HTTPS", factory=WebhookSink
    )
