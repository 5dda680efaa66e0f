"""Frequency, origin and horizon as instants.

A frequency below a day (`30min`, `1h`) is a fixed duration: its grid is even in UTC, so a local day has 23, 24 or 25
hours. A frequency of days or more (`D`, `W-MON`, `MS`, `QS`) follows the local calendar: its instants are local
midnights, and two of them are 23, 24 or 25 hours apart where the clocks change.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["TimeGrid", "duration", "nanoseconds", "parse_frequency", "say_an_offset", "seasons_of"]

_DAY = pd.Timedelta(days=1)
_NO_PHASE = pd.Timedelta(0)
_SEASONS = {"D": (7,), "B": (5,), "W": (52,), "M": (12,), "Q": (4,), "Y": (1,)}
_OLD = {"T": "min", "H": "h", "S": "s", "M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "BM": "BME", "AS": "YS"}


#: a sign or Z, as far as none of it stands in a date: a minus follows an hour
_OFFSET = r"[+Zz]|\d[Tt ]\s*\d.*-"


def say_an_offset(texts: pd.Series) -> pd.Series:
    """Of each text in ISO 8601 whether it says how far from UTC its clock is."""
    return texts.astype(str).str.contains(_OFFSET) & texts.notna()


def nanoseconds(instants: pd.DatetimeIndex) -> npt.NDArray[np.int64]:
    """Nanoseconds since 1970; of UTC where the instants have a zone."""
    return instants.to_numpy(dtype="datetime64[ns]").astype(np.int64)


def _duration(offset: pd.offsets.BaseOffset) -> pd.Timedelta | None:
    """The offset as a duration; None of offsets that have none, such as months."""
    return pd.Timedelta(offset.nanos, "ns") if isinstance(offset, pd.offsets.Tick) else None


def _unit(offset: pd.offsets.BaseOffset) -> str:
    """`D`, `B`, `W`, `M`, `Q` or `Y` of an offset of a day or more."""
    if isinstance(offset, pd.offsets.Tick):
        return "D"
    return offset.rule_code.split("-")[0].removesuffix("S").removesuffix("E").removeprefix("B") or "B"


def parse_frequency(alias: str) -> pd.offsets.BaseOffset:
    """The offset of a pandas alias; aliases of older pandas (`H`, `T`, `M`) are understood.

    Raises:
        ValueError: it is none, or it does not go forward.
    """
    number = (
        alias.strip().rstrip("".join(c for c in alias if not c.isdigit() and c != " ")) if alias[:1].isdigit() else ""
    )
    name = alias.strip()[len(number) :]
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        try:
            offset = pd.tseries.frequencies.to_offset(number + _OLD.get(name, name))
        except (ValueError, FutureWarning):
            offset = None
    if offset is None or offset.n < 1:
        msg = f"{alias!r} is not a frequency; write a pandas alias such as 30min, h, D, W-MON, MS or QS"
        raise ValueError(msg)
    return offset


def seasons_of(alias: str) -> tuple[int, ...]:
    """Natural seasons in steps, ascending: (24, 168) for hours, (7,) for days, (12,) for months.

    The yearly season of data finer than a week is left out; models learn it from the calendar.
    """
    offset = parse_frequency(alias)
    duration = _duration(offset)
    if duration is not None and duration < _DAY:
        day, odd = divmod(_DAY, duration)
        return (1,) if odd else (int(day), 7 * int(day)) if day > 1 else (7,)
    step = _SEASONS.get(_unit(offset), (1,))
    return tuple(season // offset.n for season in step) if all(season % offset.n == 0 for season in step) else (1,)


@dataclass(frozen=True)
class TimeGrid:
    """The instants that a project's data may have.

    Attributes:
        frequency: pandas alias.
        timezone: IANA zone of the local calendar; matters for days and longer.
        phase: where the grid stands inside its period: an offset from UTC midnight for fixed frequencies, from local
            midnight for calendar ones.
    """

    frequency: str
    timezone: str = "UTC"
    phase: pd.Timedelta = _NO_PHASE

    @cached_property
    def offset(self) -> pd.offsets.BaseOffset:
        """The step of the grid."""
        return parse_frequency(self.frequency)

    @cached_property
    def fixed(self) -> bool:
        """Whether a step is a fixed duration, so that the grid is even in UTC."""
        duration = _duration(self.offset)
        return duration is not None and duration < _DAY

    @cached_property
    def _length(self) -> pd.Timedelta:
        """The step as a duration; only of offsets that have one."""
        return pd.Timedelta(self.offset.nanos, "ns")

    def anchored_at(self, first: pd.Timestamp) -> TimeGrid:
        """The same grid with the phase that makes `first` (UTC) one of its instants, where a phase can do that."""
        if self.fixed:
            step = self._length
            return TimeGrid(self.frequency, self.timezone, (first - first.normalize()) % step)
        local = first.tz_convert(self.timezone).tz_localize(None)
        plain_week = self.frequency.strip() == "W"  # the data says which day its weeks end on
        frequency = f"W-{local.day_name()[:3].upper()}" if plain_week else self.frequency
        return TimeGrid(frequency, self.timezone, local - local.normalize())

    def _wall(self, instants: pd.DatetimeIndex) -> pd.DatetimeIndex:
        return instants.tz_convert(self.timezone).tz_localize(None) - self.phase

    def _utc(self, wall: pd.DatetimeIndex) -> pd.DatetimeIndex:
        # A midnight that the clocks skip starts when they have moved on; one that happens twice starts the first time.
        first = np.ones(len(wall), dtype=bool)
        local = (wall + self.phase).tz_localize(self.timezone, nonexistent="shift_forward", ambiguous=first)
        return local.tz_convert("UTC")

    def on_grid(self, instants: pd.DatetimeIndex) -> npt.NDArray[np.bool_]:
        """Which instants (UTC) are on the grid."""
        if self.fixed:
            step = self._length.value
            return np.asarray((nanoseconds(instants) - self.phase.value) % step == 0)
        wall = self._wall(instants)
        unique, back = np.unique(wall.to_numpy(), return_inverse=True)
        days = pd.DatetimeIndex(unique)
        anchors = days.normalize()
        if isinstance(self.offset, pd.offsets.Tick):  # days: every midnight, or every n-th from the epoch
            good = (nanoseconds(anchors) // _DAY.value) % self._length.days == 0
        else:
            good = np.fromiter((self.offset.is_on_offset(day) for day in anchors), dtype=bool, count=len(anchors))
        skipped = self._utc(anchors) == self._utc(days)
        return np.asarray((good & ((days == anchors) | skipped))[back])

    def floor(self, instant: pd.Timestamp) -> pd.Timestamp:
        """The last instant of the grid that is not later than `instant` (UTC)."""
        if self.fixed:
            step = self._length.value
            value = instant.as_unit("ns").value
            return pd.Timestamp(value - (value - self.phase.value) % step, tz="UTC")
        wall = self._wall(pd.DatetimeIndex([instant]))[0].normalize()
        if isinstance(self.offset, pd.offsets.Tick):
            days = self._length.days
            anchor = wall - ((wall.value // _DAY.value) % days) * _DAY
        else:
            anchor = pd.Timestamp(self.offset.rollback(wall))
        found = self._utc(pd.DatetimeIndex([anchor]))[0]
        return found if found <= instant else self.shift(found, -1)

    def shift(self, instant: pd.Timestamp, steps: int) -> pd.Timestamp:
        """The instant `steps` after (or before) one of the grid."""
        if self.fixed:
            return pd.Timestamp(instant + steps * self._length)
        wall = self._wall(pd.DatetimeIndex([instant]))[0].round("D")
        return self._utc(pd.DatetimeIndex([wall + steps * self.offset]))[0]

    def number(self, instant: pd.Timestamp) -> int:
        """Where an instant of the grid stands on the local calendar: neighbours differ by one."""
        wall = self._wall(pd.DatetimeIndex([instant]))[0]
        if self.fixed:
            return int(wall.value // self._length.value)
        day = wall.round("D")
        days, months = day.value // _DAY.value, 12 * day.year + day.month
        weekdays = int(np.busday_count("1970-01-01", day.date()))
        count = {"D": days, "B": weekdays, "W": days // 7, "M": months, "Q": months // 3, "Y": day.year}
        return int(count[_unit(self.offset)] // self.offset.n)

    def ahead(self, origin: pd.Timestamp, horizon: int) -> pd.DatetimeIndex:
        """Steps 1 … horizon after an origin on the grid, UTC."""
        return self.between(self.shift(origin, 1), self.shift(origin, horizon))

    def between(self, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
        """All instants from `first` to `last`, both on the grid, UTC."""
        if self.fixed:
            return pd.date_range(first, last, freq=self.offset, unit="ns")
        ends = self._wall(pd.DatetimeIndex([first, last])).round("D")
        return self._utc(pd.date_range(ends[0], ends[1], freq=self.offset, unit="ns"))

    def local(self, instants: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Wall-clock times of instants, without a zone."""
        return instants.tz_convert(self.timezone).tz_localize(None)


def duration(name: str, text: str) -> pd.Timedelta:
    """A length of time as people write it, such as `12h` or `2D`.

    Args:
        name: what it is, for the error.
        text: as it was written.

    Raises:
        ValueError: it is none, or below zero.
    """
    try:
        length = pd.Timedelta(text)
    except ValueError:
        length = pd.Timedelta(-1)
    if not length >= pd.Timedelta(0):
        raise ValueError(f"{name} must be a length of time such as 12h, not {text!r}")
    return length
