"""The assumption `holidays`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date  # noqa: TC003 - the type of a parameter is read at run time
from difflib import get_close_matches
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from forecastcore.errors import PluginError
from forecastcore.timegrid import TimeGrid, nanoseconds
from forecastcore_calendar.days import check_country, days_of
from forecastcore_calendar.features import FEATURES, Moments

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Task

    Ints = npt.NDArray[np.int64]

__all__ = ["Holidays"]

_DAY = 86_400 * 10**9  # ns
_WORKDAYS = ("B", "C")
_DAYS = {"D": 1, "W": 7}
_PERIOD_ENDS = ("ME", "QE", "YE", "BME", "BQE", "BYE", "CBME", "SME")


@dataclass(frozen=True)
class Holidays:
    """Features of the local day and time of each instant, named by the covariate; see `FEATURES` for all of them.

    Flags are 0 or 1: `is_holiday` (or `holiday`), `is_weekend` and `is_workday` as the country has them,
    `is_school_day` (a workday outside `school_breaks`), `is_bridge_day` (a single workday between days off),
    `day_before_holiday`, `day_after_holiday`. Numbers: `days_to_holiday` and `days_since_holiday` (0 … 14), `weekday`
    (Monday is 0), `month`, `hour` (with its fraction), and `_sin` and `_cos` of `hour`, `weekday` and `day_of_year`.

    For frequencies longer than a day a flag becomes the number of such days in the period: the one that begins at the
    instant, or ends with it where the frequency names ends (`ME`, `QE`); numbers are those of its first day.

    The calendar is the `holidays` package's of today. One-off holidays that were decreed at short notice are in it, so
    a backtest over them knows more than one could at the time.

    Attributes:
        country: ISO code, such as DE.
        subdivision: state or region, such as BY.
        timezone: whose local day counts; by default the project's.
        names: covariate -> feature, for covariates that are named otherwise.
        extra: further holidays, `YYYY-MM-DD` or, for every year, `MM-DD`: a patron saint's day, a works holiday.
        school_breaks: first and last day of each break.
    """

    country: str
    subdivision: str | None = None
    timezone: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    extra: tuple[date | str, ...] = ()
    school_breaks: tuple[tuple[date, date], ...] = ()

    def __post_init__(self) -> None:
        check_country(self.country, self.subdivision)
        for feature in self.names.values():
            _check_feature(feature)
        for day in self.extra:
            _check_day(str(day))
        for start, end in self.school_breaks:
            if end < start:
                msg = f"the school break from {start} ends before it begins, on {end}"
                raise ValueError(msg)
        if self.timezone is not None:
            _check_zone(self.timezone)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - a calendar needs no past
        """The features of the rows of `future`, which may lie in the past as well.

        Returns:
            `unique_id, ds, <covariates>`, row by row as `future`.

        Raises:
            PluginError: a covariate is no feature, and `names` does not say which one it is.
        """
        features = {name: self._feature(name) for name in task.covariates}
        if not len(future):
            return future[["unique_id", "ds"]].assign(**dict.fromkeys(features, np.empty(0)))
        instants, rows = np.unique(nanoseconds(pd.DatetimeIndex(future["ds"])), return_inverse=True)
        moments = self._moments(instants, TimeGrid(task.frequency, self.timezone or task.timezone))
        columns = {name: FEATURES[feature](moments)[rows] for name, feature in features.items()}
        return future[["unique_id", "ds"]].assign(**columns)

    def _feature(self, covariate: str) -> str:
        feature = self.names.get(covariate, covariate)
        try:
            _check_feature(feature)
        except ValueError as error:
            hint = f"map it to one of them: names: {{{covariate}: is_holiday}}"
            raise PluginError(str(error), plugin="holidays", hint=hint) from None
        if feature == "is_school_day" and not self.school_breaks:
            msg = f"covariate {covariate!r} needs to know the school breaks"
            raise PluginError(msg, plugin="holidays", hint="list them: school_breaks: [[2026-07-30, 2026-09-14]]")
        return feature

    def _moments(self, instants: Ints, grid: TimeGrid) -> Moments:
        wall = _wall(instants, grid)
        start, end = _periods(instants, wall // _DAY, grid)
        years = np.array([start.min() - 31, end.max() + 31]).astype("datetime64[D]").astype("datetime64[Y]").astype(int)
        span = range(int(years[0]) + 1970, int(years[1]) + 1971)
        days = days_of(self.country, self.subdivision, span, map(str, self.extra), self.school_breaks)
        return Moments(days, start - days.first, end - days.first, wall % _DAY)


def _wall(instants: Ints, grid: TimeGrid) -> Ints:
    return nanoseconds(grid.local(pd.DatetimeIndex(instants, tz="UTC")))


def _periods(instants: Ints, day: Ints, grid: TimeGrid) -> tuple[Ints, Ints]:
    """First local day of each instant's period, and the day after its last, as numbers since 1970."""
    code = grid.offset.rule_code.split("-")[0]
    if grid.fixed or code in _WORKDAYS:
        return day, day + 1
    if code in _DAYS:  # a week begins on whatever day the instant is
        return day, day + _DAYS[code] * grid.offset.n
    first, last = (grid.floor(pd.Timestamp(int(at), tz="UTC")) for at in (instants[0], instants[-1]))
    marks = nanoseconds(grid.between(grid.shift(first, -1), grid.shift(last, 1)))
    place = np.searchsorted(marks, instants, side="right")  # of the next mark
    days = _wall(marks, grid) // _DAY
    return (days[place - 2] + 1, day + 1) if code in _PERIOD_ENDS else (day, days[place])


def _check_feature(feature: str) -> None:
    if feature not in FEATURES:
        near = get_close_matches(feature, FEATURES, n=1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        msg = f"no calendar feature is called {feature!r}{guess}; there are {', '.join(FEATURES)}"
        raise ValueError(msg)


def _check_day(day: str) -> None:
    try:
        np.datetime64(day if len(day) > len("MM-DD") else f"2024-{day}", "D")
        good = len(day) in {len("MM-DD"), len("YYYY-MM-DD")}
    except ValueError:
        good = False
    if not good:
        msg = f"extra: {day!r} is no day; write YYYY-MM-DD or, for every year, MM-DD"
        raise ValueError(msg)


def _check_zone(timezone: str) -> None:
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        msg = f"no time zone {timezone!r}; use an IANA name such as Europe/Berlin"
        raise ValueError(msg) from None
