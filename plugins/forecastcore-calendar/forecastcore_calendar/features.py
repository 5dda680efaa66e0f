"""What can be said of an instant by its local day and time: one function per feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from forecastcore_calendar.days import Days

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

__all__ = ["FEATURES", "Moments"]

_DAY = 86_400 * 10**9  # ns
_REACH = 14  # days that days_to_holiday and days_since_holiday look ahead and back


@dataclass(frozen=True)
class Moments:
    """Instants on the local calendar.

    Attributes:
        days: flags of all days around.
        start: first local day of each instant's period, as a place in `days`, shape (rows,).
        end: the day after its last; `start + 1` for data of a day or finer.
        time: local time of day, ns, shape (rows,).
    """

    days: Days
    start: Ints
    end: Ints
    time: Ints

    def count(self, flags: npt.NDArray[np.bool_]) -> Floats:
        """How many days of each period have the flag: 0 or 1 for data of a day or finer."""
        total = np.r_[0, np.cumsum(flags)]
        return np.asarray(total[self.end] - total[self.start], dtype=float)

    @property
    def date(self) -> npt.NDArray[np.datetime64]:
        """First local day of each period."""
        return (self.start + self.days.first).astype("datetime64[D]")


def _shifted(flags: npt.NDArray[np.bool_], days: int) -> npt.NDArray[np.bool_]:
    """The flag that each day's neighbour has, `days` later."""
    return np.roll(flags, -days)


def _bridge(moments: Moments) -> Floats:
    workday = moments.days.workday
    return moments.count(workday & ~_shifted(workday, -1) & ~_shifted(workday, 1))


def _distance(moments: Moments, direction: int) -> Floats:
    holiday, places = moments.days.holiday, moments.start
    found = np.full(len(places), float(_REACH))
    for away in range(_REACH - 1, -1, -1):
        found[holiday[places + direction * away]] = away
    return found


def _weekday(moments: Moments) -> Floats:
    return ((moments.start + moments.days.first + 3) % 7).astype(float)  # 1970-01-01 was a Thursday


def _hour(moments: Moments) -> Floats:
    return moments.time * 24 / _DAY


def _month(moments: Moments) -> Floats:
    return moments.date.astype("datetime64[M]").astype(int) % 12 + 1.0


def _share_of_year(moments: Moments) -> Floats:
    year = moments.date.astype("datetime64[Y]")
    new_year = year.astype("datetime64[D]")
    length = (year + 1).astype("datetime64[D]") - new_year
    return np.asarray((moments.date - new_year) / length)


def _wave(share: Callable[[Moments], Floats], wave: np.ufunc, period: float = 1.0) -> Callable[[Moments], Floats]:
    return lambda moments: np.asarray(wave(2 * np.pi * share(moments) / period))


#: feature -> how it is made; a flag is 0 or 1, and for periods longer than a day the number of such days in it
FEATURES: dict[str, Callable[[Moments], Floats]] = {
    "is_holiday": lambda moments: moments.count(moments.days.holiday),
    "holiday": lambda moments: moments.count(moments.days.holiday),
    "is_weekend": lambda moments: moments.count(moments.days.weekend),
    "is_workday": lambda moments: moments.count(moments.days.workday),
    "is_school_day": lambda moments: moments.count(moments.days.school),
    "is_bridge_day": _bridge,
    "day_before_holiday": lambda moments: moments.count(_shifted(moments.days.holiday, 1)),
    "day_after_holiday": lambda moments: moments.count(_shifted(moments.days.holiday, -1)),
    "days_to_holiday": lambda moments: _distance(moments, 1),
    "days_since_holiday": lambda moments: _distance(moments, -1),
    "weekday": _weekday,
    "month": _month,
    "hour": _hour,
    "hour_sin": _wave(_hour, np.sin, 24),
    "hour_cos": _wave(_hour, np.cos, 24),
    "weekday_sin": _wave(_weekday, np.sin, 7),
    "weekday_cos": _wave(_weekday, np.cos, 7),
    "day_of_year_sin": _wave(_share_of_year, np.sin),
    "day_of_year_cos": _wave(_share_of_year, np.cos),
}
