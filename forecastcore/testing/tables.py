"""A small forecast table, to try a sink on."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["sample_vintage"]


def sample_vintage(
    *,
    issued_at: datetime = datetime(2024, 1, 1, tzinfo=UTC),
    scenario: str = "base",
    series: Sequence[str] = ("a", "b"),
    horizon: int = 24,
    seed: int = 0,
) -> pa.Table:
    """One vintage of hourly forecasts with quantiles 0.1 and 0.9; its run key is a hash of the arguments.

    Args:
        issued_at: the origin, UTC.
        scenario: `base` or a what-if.
        series: ids, in order.
        horizon: steps of an hour.
        seed: of the values; another seed stands for another run of the same origin, made a minute later.
    """
    rows = len(series) * horizon
    step = np.tile(np.arange(1, horizon + 1, dtype=np.int32), len(series))
    ds = [issued_at + timedelta(hours=int(s)) for s in step[:horizon]] * len(series)
    forecast = np.random.default_rng(seed).normal(size=rows)
    key = hashlib.sha256(repr((issued_at, scenario, tuple(series), horizon, seed)).encode()).hexdigest()
    instant = pa.timestamp("us", "UTC")

    def text(value: str | None) -> pa.Array:
        return pa.array([value] * rows, pa.string())

    return pa.table(
        {
            "project": text("sample"),
            "unique_id": pa.array(np.repeat(np.array(series, dtype=object), horizon), pa.string()),
            "scenario": text(scenario),
            "issued_at": pa.array([issued_at] * rows, instant),
            "ds": pa.array(ds, instant),
            "step": pa.array(step),
            "forecast": pa.array(forecast),
            "q10": pa.array(forecast - 1.0),
            "q90": pa.array(forecast + 1.0),
            "model": text("naive"),
            "model_version": text("1"),
            "status": text("ok"),
            "reason": text(None),
            "assumed_by": text(None),
            "run_key": text(key),
            "created_at": pa.array([issued_at + timedelta(minutes=seed)] * rows, instant),
        }
    )
