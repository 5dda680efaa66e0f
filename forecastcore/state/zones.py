"""Time zones as a name or an offset in seconds."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

__all__ = ["zone_from", "zone_of"]


def zone_of(zone: tzinfo) -> str | float:
    """IANA name, or offset from UTC in seconds.

    Raises:
        ValueError: the zone has neither.
    """
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if isinstance(name, str):
        return name
    offset = zone.utcoffset(None)
    if offset is None:
        raise ValueError(f"time zone {zone!r} has no IANA name; use zoneinfo")
    return offset.total_seconds()


def zone_from(stored: str | float) -> tzinfo:
    """The zone of a name or an offset; a name cannot lead out of the time zone database."""
    if isinstance(stored, str):
        return ZoneInfo(stored)
    return timezone(timedelta(seconds=stored)) if stored else UTC
