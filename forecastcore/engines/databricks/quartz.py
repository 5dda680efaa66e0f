"""Schedules as Prefect has them, said as Databricks wants them: Quartz expressions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["quartz"]

_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = 5
_MINUTE, _HOUR, _DAY, _WEEK = 60, 3600, 86400, 7 * 86400
_PART = re.compile(r"(\*|[0-9]+(-[0-9]+)?)(/[0-9]+)?")
_WEEKDAY = re.compile(r"([0-7]|[A-Z]{3})(-([0-7]|[A-Z]{3}))?")


def quartz(schedule: Mapping[str, Any], timezone: str) -> str:
    """The expression of a schedule of `prefect.yaml`: `cron`, or `interval` with `anchor_date`.

    Args:
        schedule: as it stands there.
        timezone: whose clock counts.

    Raises:
        UsageError: Quartz cannot say it.
    """
    if isinstance(said := schedule.get("cron"), str):
        return _of_cron(said)
    interval = schedule.get("interval")
    if isinstance(interval, int | float) and not isinstance(interval, bool):
        return _of_interval(int(interval), str(schedule.get("anchor_date") or "1970-01-01"), timezone)
    raise _beyond(f"the schedule {dict(schedule)}", "give it a cron or an interval in seconds")


def _of_cron(said: str) -> str:
    fields = said.upper().split()
    if len(fields) != _FIELDS:
        raise _beyond(f"cron {said!r}", "write its five fields out")
    minute, hour, day, month, weekday = fields
    if not all(_PART.fullmatch(part) for field in (minute, hour, day) for part in field.split(",")):
        raise _beyond(f"cron {said!r}", "write numbers, lists, ranges and steps")
    if weekday == "*":
        return f"0 {minute} {hour} {day} {month} ?"
    if day != "*":
        raise _beyond(f"cron {said!r}", "name days of the month or of the week, not both")
    return f"0 {minute} {hour} ? {month} {','.join(_weekdays(part, said) for part in weekday.split(','))}"


def _weekdays(part: str, said: str) -> str:
    """Days of the week by name: numbers mean other days there."""
    if not _WEEKDAY.fullmatch(part):
        raise _beyond(f"cron {said!r}", "name the days of the week: MON-FRI")
    return "-".join(_DAYS[int(one) % 7] if one.isdigit() else one for one in part.split("-"))


def _of_interval(interval: int, anchor: str, timezone: str) -> str:
    try:
        at = pd.Timestamp(anchor)
        at = (at if at.tzinfo else at.tz_localize("UTC")).tz_convert(timezone)
    except (ValueError, KeyError) as error:  # zoneinfo's error is a KeyError
        raise _beyond(f"anchor_date {anchor!r} in {timezone!r}", "write a moment and a zone") from error
    if interval == _WEEK:
        return f"0 {at.minute} {at.hour} ? * {at.strftime('%a').upper()}"
    if interval == _DAY:
        return f"0 {at.minute} {at.hour} * * ?"
    if interval >= _HOUR and interval % _HOUR == 0 and _DAY % interval == 0:
        hours = interval // _HOUR
        return f"0 {at.minute} {at.hour % hours}/{hours} * * ?"
    if interval >= _MINUTE and interval % _MINUTE == 0 and _HOUR % interval == 0:
        minutes = interval // _MINUTE
        return f"0 {at.minute % minutes}/{minutes} * * * ?"
    raise _beyond(f"an interval of {interval} s", "take one that divides an hour or a day, a day, a week, or a cron")


def _beyond(what: str, hint: str) -> UsageError:
    return UsageError(f"{what} cannot be said as a schedule of Databricks", hint=hint)
