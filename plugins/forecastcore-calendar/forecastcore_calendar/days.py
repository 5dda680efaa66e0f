"""A country's days as arrays: which are holidays, weekends, workdays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]

__all__ = ["Days", "check_country", "days_of"]


@dataclass(frozen=True)
class Days:
    """Flags of consecutive days.

    Attributes:
        first: number of the first day since 1970-01-01.
        holiday: shape (days,).
        weekend: shape (days,).
        workday: neither of both, or a weekend day that the country made a workday; shape (days,).
        school: workday outside the school breaks, shape (days,).
    """

    first: int
    holiday: Bools
    weekend: Bools
    workday: Bools
    school: Bools


def days_of(
    country: str,
    subdivision: str | None,
    years: range,
    extra: Iterable[str] = (),
    breaks: Iterable[tuple[date, date]] = (),
) -> Days:
    """All days of some years.

    Args:
        country: code of the `holidays` package.
        subdivision: code of the `holidays` package.
        years: consecutive years.
        extra: further holidays, `YYYY-MM-DD` or, for every year, `MM-DD`.
        breaks: first and last day of each school break.
    """
    first = np.datetime64(f"{years[0]:04d}-01-01").astype(int)
    flags = np.concatenate([_year(country, subdivision, year) for year in years], axis=1)
    days = np.arange(first, first + flags.shape[1]).astype("datetime64[D]").astype(str)
    named = list(extra)
    own = np.isin(days, named) | np.isin([day[-5:] for day in days], named)
    holiday, weekend, workday = flags[0] | own, flags[1], flags[2] & ~own
    school = workday.copy()
    for start, end in breaks:
        school[(days >= start.isoformat()) & (days <= end.isoformat())] = False
    return Days(int(first), holiday, weekend, workday, school)


@lru_cache(maxsize=2048)
def _year(country: str, subdivision: str | None, year: int) -> Bools:
    """Holiday, weekend and workday of each day of a year, shape (3, days)."""
    import holidays

    calendar = holidays.country_holidays(country, subdiv=subdivision, years=year)
    start = date(year, 1, 1)
    days = [start + timedelta(days=n) for n in range((date(year, 12, 31) - start).days + 1)]
    return np.array([[day in calendar, calendar.is_weekend(day), calendar.is_working_day(day)] for day in days]).T


def check_country(country: str, subdivision: str | None) -> None:
    """See that the `holidays` package knows a place.

    Raises:
        ValueError: it does not; the message says what comes nearest.
    """
    import holidays

    known = holidays.list_supported_countries(include_aliases=True)
    if country not in known:
        msg = f"no country {country!r}; use an ISO code such as DE{_nearest(country, _countries(known))}"
        raise ValueError(msg)
    calendar = holidays.country_holidays(country)
    places = {code: code for code in calendar.subdivisions} | dict(calendar.subdivisions_aliases)
    if subdivision is not None and subdivision not in places:
        codes = ", ".join(sorted(calendar.subdivisions)) or "none at all"
        msg = f"{country} has no subdivision {subdivision!r}{_nearest(subdivision, places)}; it has {codes}"
        raise ValueError(msg)


def _countries(codes: Iterable[str]) -> dict[str, str]:
    """Codes and English names -> code."""
    from holidays.registry import COUNTRIES

    return {name.replace("_", " "): entry[1] for name, entry in COUNTRIES.items()} | {code: code for code in codes}


def _nearest(word: str, known: dict[str, str]) -> str:
    folded = {name.casefold(): code for name, code in known.items()}
    found = get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)
    return f" (did you mean {folded[found[0]]}?)" if found else ""
