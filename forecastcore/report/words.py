"""Numbers and instants as people write them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["NOTHING", "Clock", "change", "count", "duration", "frequency", "moment", "number", "share"]

NOTHING = "\N{EN DASH}"
_PERCENT = "\N{NO-BREAK SPACE}%"

_UNITS = {"s": "second", "min": "minute", "h": "hour", "D": "day", "B": "working day", "W": "week"}
_UNITS |= {"M": "month", "Q": "quarter", "Y": "year"}
_HOUR, _DAY = 3600, 86400


def number(value: float | None) -> str:
    """Three significant digits, or all digits before the point: 0.0123, 1.23, 12.3, 1,234."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    if decimals > 6:  # noqa: PLR2004 - more zeros than anyone counts
        return f"{value:.2e}"
    return f"{value:,.{max(decimals, 0)}f}"


def share(value: float | None, digits: int = 0) -> str:
    """A share as percent."""
    return (
        NOTHING
        if value is None or not math.isfinite(value)
        else f"{round(100 * value, digits) + 0.0:.{digits}f}{_PERCENT}"
    )


def change(after: float, before: float) -> str:
    """A relative change with its sign."""
    if not (math.isfinite(after) and math.isfinite(before)) or before == 0:
        return NOTHING
    return f"{round(100 * (after - before) / abs(before), 1) + 0.0:+.1f}{_PERCENT}"


def count(quantity: int, noun: str, plural: str = "") -> str:
    """A number of things."""
    return f"{quantity:,} {noun if quantity == 1 else plural or noun + 's'}"


def moment(instant: datetime | pd.Timestamp, timezone: str, *, clock: bool = True) -> str:
    """An instant on the local clock: Sun 6 Nov 2022, 23:00."""
    stamp = pd.Timestamp(instant)
    local = (stamp.tz_localize("UTC") if stamp.tz is None else stamp).tz_convert(timezone)
    day = f"{local:%a} {local.day} {local:%b %Y}"
    return f"{day}, {local:%H:%M}" if clock else day


def frequency(alias: str) -> str:
    """One step of the grid: hour, 30 minutes, week."""
    from forecastcore.timegrid import parse_frequency

    offset = parse_frequency(alias)
    code = offset.rule_code.split("-")[0]
    unit = _UNITS.get(code) or _UNITS.get(code.removesuffix("S").removesuffix("E").removeprefix("B"), alias)
    return unit if offset.n == 1 else count(offset.n, unit)


def duration(span: pd.Timedelta) -> str:
    """A length of time in its largest fitting unit: 7 days, 90 minutes."""
    seconds = round(span.total_seconds())
    if seconds >= 2 * _DAY:
        return count(round(seconds / _DAY), "day")
    if seconds >= _HOUR:
        return count(round(seconds / _HOUR), "hour")
    return count(round(seconds / 60), "minute")


@dataclass(frozen=True)
class Clock:
    """Instants in words on a local clock.

    Attributes:
        timezone: IANA zone.
        hours: whether the time of day matters.
    """

    timezone: str
    hours: bool

    def __call__(self, instant: object) -> str:
        """An instant in words."""
        return moment(instant, self.timezone, clock=self.hours)  # type: ignore[arg-type]  # whatever pandas takes
