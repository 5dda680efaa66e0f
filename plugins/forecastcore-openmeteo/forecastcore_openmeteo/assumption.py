"""What Open-Meteo forecasts, or forecast then."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable
from forecastcore.timegrid import TimeGrid, duration
from forecastcore_openmeteo.checks import fault
from forecastcore_openmeteo.client import Client, Kept, Store
from forecastcore_openmeteo.decode import Hours, Place, decode, is_sum, unit_of
from forecastcore_openmeteo.steps import on_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.api import Task

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

__all__ = ["OpenMeteo"]

_HOUR = 3600  # seconds
_DAY = 24  # hours
_OVERLAP = 2 * _DAY  # hours before the origin that are compared with what was observed
_AHEAD = 15  # days that the service forecasts, after today
_BACK = 7  # days back that the service keeps each forecast
_LAGS = 6  # hours by which a clock may be off
_PLACES = 100  # per request
_LIVE = "https://api.open-meteo.com", "https://customer-api.open-meteo.com"
_PAST = "https://previous-runs-api.open-meteo.com", "https://customer-previous-runs-api.open-meteo.com"
_NAMES = {"kmh": "kilometres_per_hour", "ms": "metre_per_second", "mph": "miles_per_hour", "kn": "knots"}
_NAMES |= {"mm": "millimetre", "inch": "inch", "celsius": "celsius", "fahrenheit": "fahrenheit"}


@dataclass(frozen=True)
class OpenMeteo:
    """The forecast of Open-Meteo (open-meteo.com) for one place, or for a place per series.

    An origin of the last hours (`live`) is answered by the forecast of now. An older one is answered by the archive of
    previous runs: each hour as it had been forecast 1 to 7 days before, whichever had been out at the origin; so a
    backtest stands on forecasts of then. Beyond 7 days after such an origin it says nothing; let a chain go on.

    Answers are checked before they are believed: place, unit, variable, clock and number of hours by what the answer
    says of itself; range, level and clock by what history knows. One that fails is no answer.

    Attributes:
        latitude: degrees north, where all series lie at one place.
        longitude: degrees east.
        locations: a CSV file with `unique_id, latitude, longitude`, where they do not.
        variables: Open-Meteo's name of a covariate, such as `{temperature: temperature_2m}`; else its own name is used.
        model: weather model, such as `icon_seamless`; by default the best for the place.
        temperature_unit: unit of temperatures in history.
        wind_speed_unit: unit of wind speeds in history.
        precipitation_unit: unit of rain in history.
        live: how far the origin may lie back for the forecast of now to count as known at it, since data come late; at
            most the horizon.
        available_after: how long after its start a previous run was out.
        cached: answer only from what was kept, ask nobody; for the next link of a chain.
        cache: folder where answers are kept, relative to the project file; by default in the user's cache folder.
        max_age: a kept answer younger than this is used again.
        timeout: seconds that a question may take in all.
        retries: how often to ask again after a fault that may pass.
        pause: seconds for which the service is left alone after a failure.
        check: whether answers are compared with history.
        api_key: of a paying customer; write `${env:OPEN_METEO_KEY}`.
        host: of forecasts.
        previous_runs_host: of the archive of previous runs.
    """

    latitude: float | None = None
    longitude: float | None = None
    locations: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    temperature_unit: Literal["celsius", "fahrenheit"] = "celsius"
    wind_speed_unit: Literal["kmh", "ms", "mph", "kn"] = "kmh"
    precipitation_unit: Literal["mm", "inch"] = "mm"
    live: str = "12h"
    available_after: str = "6h"
    cached: bool = False
    cache: Path | None = None
    max_age: str = "1h"
    timeout: float = 20.0
    retries: int = 2
    pause: float = 60.0
    check: bool = True
    api_key: str | None = field(default=None, repr=False)
    host: str | None = None
    previous_runs_host: str | None = None

    def __post_init__(self) -> None:
        here = self.latitude is not None and self.longitude is not None
        if here == (self.locations is not None) or (self.latitude is None) != (self.longitude is None):
            msg = "give latitude and longitude, or locations"
            raise ValueError(msg)
        if here and not (abs(self.latitude or 0) <= 90 and abs(self.longitude or 0) <= 180):  # noqa: PLR2004 - degrees
            msg = f"no such place: latitude {self.latitude}, longitude {self.longitude}"
            raise ValueError(msg)
        for name in ("live", "available_after", "max_age"):
            duration(name, getattr(self, name))
        if not (self.timeout > 0 and self.retries >= 0 and self.pause >= 0):
            msg = "timeout must be above 0, retries and pause 0 or more"
            raise ValueError(msg)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """The forecast of each asked row, NaN where there is none; `issued_at` says when it was issued.

        Raises:
            AssumptionUnavailable: the service gave no answer, or none to be believed.
        """
        grid = TimeGrid(task.frequency, task.timezone)
        places, place_of = self._places(list(dict.fromkeys(future["unique_id"])))
        span = _span(future, task.origin, grid)
        values = np.full((len(future), len(task.covariates)), np.nan)
        issued = np.full(len(future), np.datetime64("NaT", "ns"))
        number = future["unique_id"].map(place_of).to_numpy()
        for first in range(0, len(places), _PLACES):
            told = self._weather(places[first : first + _PLACES], task, span)
            for position, weather in enumerate(told, first):
                rows = np.flatnonzero(number == position)
                ds = future["ds"].iloc[rows]
                sums = [is_sum(self._variable(name)) for name in task.covariates]
                values[rows] = on_grid(weather.values, span[0], ds, grid, sums)
                issued[rows] = weather.issued_of(ds, span[0])
                if self.check:
                    mine = [uid for uid, at in place_of.items() if at == position]
                    self._compare(history[history["unique_id"] == mine[0]], weather, values[rows], task, span[0])
        if len(future) and not np.isfinite(values).any():
            raise AssumptionUnavailable(f"no value from {future['ds'].min()} to {future['ds'].max()}")
        told_at = pd.DatetimeIndex(issued).tz_localize("UTC")
        answer = future[["unique_id", "ds"]].assign(**dict(zip(task.covariates, values.T, strict=True)))
        return answer.assign(issued_at=told_at)

    def _variable(self, covariate: str) -> str:
        return self.variables.get(covariate, covariate)

    def _places(self, ids: list[str]) -> tuple[list[Place], dict[str, int]]:
        """The places to ask for, and the number of each series' place."""
        if self.locations is None:
            return [Place(float(self.latitude or 0), float(self.longitude or 0))], dict.fromkeys(ids, 0)
        try:
            table = pd.read_csv(self.locations, dtype={"unique_id": str})
            rows = zip(table["unique_id"], table["latitude"], table["longitude"], strict=True)
            known = {uid: Place(float(latitude), float(longitude)) for uid, latitude, longitude in rows}
            at = {uid: known[uid] for uid in ids}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AssumptionUnavailable(
                f"cannot use {self.locations.name}: {error}", hint="it needs unique_id, latitude, longitude, a row each"
            ) from error
        places = list(dict.fromkeys(at.values()))
        return places, {uid: places.index(place) for uid, place in at.items()}

    def _weather(self, places: Sequence[Place], task: Task, span: tuple[int, int]) -> list[_Weather]:
        variables = [self._variable(name) for name in task.covariates]
        now = time.time()
        grid = TimeGrid(task.frequency, task.timezone)
        ahead = grid.shift(task.origin, task.horizon) - task.origin
        # A fold of a backtest lies at least a horizon back: what is forecast now was never known there.
        if now - task.origin.timestamp() < min(pd.Timedelta(self.live), ahead).total_seconds():
            return self._now(places, variables, span, now)
        return self._then(places, variables, span, task.origin, now)

    def _now(self, places: Sequence[Place], variables: list[str], span: tuple[int, int], now: float) -> list[_Weather]:
        """The forecast of now."""
        days = {"start_date": _date(span[0]), "end_date": _date(min(span[1], int(now // _HOUR) + _AHEAD * _DAY))}
        kept = self._answer(self._host(self.host, _LIVE), self._question(places, variables), days, now=now)
        told = decode(kept.body, places, variables, self._units(variables))
        issued = np.datetime64(round(kept.fetched * 1000), "ms").astype("datetime64[ns]")
        return [_Weather(_cut(hours, span), np.full(span[1] - span[0], issued)) for hours in told]

    def _then(
        self, places: Sequence[Place], variables: list[str], span: tuple[int, int], origin: pd.Timestamp, now: float
    ) -> list[_Weather]:
        """For each hour the newest of the forecasts of 1 to 7 days before that was out at the origin."""
        back = [f"{name}_previous_day{day}" for name in variables for day in range(1, _BACK + 1)]
        stacks = [np.full((span[1] - span[0], len(back)), np.nan) for _ in places]
        for month in pd.period_range(_date(span[0]), _date(span[1]), freq="M"):
            for stack, hours in zip(stacks, self._month(places, back, month, now), strict=True):
                cut = _cut(hours, span)
                stack[np.isfinite(cut)] = cut[np.isfinite(cut)]
        hour = np.arange(*span)
        known = (origin - pd.Timedelta(self.available_after)).timestamp() / _HOUR
        day = np.maximum(np.ceil((hour - known) / _DAY), 1).astype(int)
        said = day <= _BACK
        issued = (hour - day * _DAY).astype("datetime64[h]").astype("datetime64[ns]")
        issued[~said] = np.datetime64("NaT")
        weathers = []
        for stack in stacks:
            by_day = stack.reshape(len(hour), len(variables), _BACK)
            values = by_day[np.arange(len(hour)), :, np.minimum(day, _BACK) - 1]
            weathers.append(_Weather(np.where(said[:, None], values, np.nan), issued))
        return weathers

    def _month(self, places: Sequence[Place], variables: list[str], month: pd.Period, now: float) -> list[Hours]:
        """A month of previous runs; one that is over never changes, and is asked for once."""
        last = min(month.end_time.timestamp(), now + _AHEAD * _DAY * _HOUR)
        days = {"start_date": _date(int(month.start_time.timestamp() // _HOUR)), "end_date": _date(int(last // _HOUR))}
        over = month.end_time.timestamp() + _DAY * _HOUR < now
        question = {**self._question(places, variables), "month": str(month)}
        kept = self._answer(self._host(self.previous_runs_host, _PAST), question, days, now=now, forever=over)
        return _decoded(kept.body, tuple(places), tuple(variables), tuple(self._units(variables)))

    def _answer(
        self, host: str, question: Mapping[str, str], days: Mapping[str, str], *, now: float, forever: bool = False
    ) -> Kept:
        """A kept answer that is young enough, or a new one."""
        store = Store(self.cache or _cache_folder())
        about = {"host": host, **question}
        fresh = 0.0 if forever or self.cached else now - pd.Timedelta(self.max_age).total_seconds()
        kept = store.newest(about, until=now, since=fresh)
        if kept is not None:
            return kept
        if self.cached:
            raise AssumptionUnavailable("no answer was kept")
        params = {name: value for name, value in question.items() if name != "month"}
        secret = {"apikey": self.api_key} if self.api_key else {}
        body = Client(self.timeout, self.retries, self.pause).get(host, {**params, **days, **secret})
        if not body:
            raise AssumptionUnavailable(f"{host} answered nothing")
        kept = Kept(now, body)
        variables = question["hourly"].split(",")
        decode(body, _places_of(question), variables, self._units(variables))  # only what can be believed is kept
        store.keep(about, kept)
        return kept

    def _question(self, places: Sequence[Place], variables: Sequence[str]) -> dict[str, str]:
        return {
            "latitude": ",".join(f"{place.latitude:.4f}" for place in places),
            "longitude": ",".join(f"{place.longitude:.4f}" for place in places),
            "hourly": ",".join(variables),
            **({"models": self.model} if self.model else {}),
            "temperature_unit": self.temperature_unit,
            "wind_speed_unit": self.wind_speed_unit,
            "precipitation_unit": self.precipitation_unit,
            "timezone": "GMT",
            "format": "flatbuffers",
        }

    def _host(self, named: str | None, known: tuple[str, str]) -> str:
        return named or known[1 if self.api_key else 0]

    def _units(self, variables: Sequence[str]) -> list[str]:
        chosen = {
            "temperature": _NAMES[self.temperature_unit],
            "wind_speed": _NAMES[self.wind_speed_unit],
            "precipitation": _NAMES[self.precipitation_unit],
            "snowfall": "inch" if self.precipitation_unit == "inch" else "centimetre",
        }
        return [chosen.get(unit, unit) for unit in map(unit_of, variables)]

    def _compare(self, history: pd.DataFrame, weather: _Weather, said: Floats, task: Task, first: int) -> None:
        """See whether the answer can be of the covariates that history knows.

        Raises:
            AssumptionUnavailable: it cannot.
        """
        grid = TimeGrid(task.frequency, task.timezone)
        last = history[history["ds"] > task.origin - pd.Timedelta(hours=_OVERLAP)]
        past = on_grid(
            weather.values, first, last["ds"], grid, [is_sum(self._variable(name)) for name in task.covariates]
        )
        step = (grid.shift(task.origin, 1) - task.origin).total_seconds() / _HOUR
        lags = int(_LAGS / step) if step <= _LAGS else 0
        for number, name in enumerate(task.covariates):
            observed, seen = history[name].to_numpy(dtype=float), last[name].to_numpy(dtype=float)
            words = fault(name, said[:, number], past[:, number], seen, observed, lags)
            if words:
                raise AssumptionUnavailable(words, hint="set check: false if it is right all the same")


@dataclass(frozen=True)
class _Weather:
    """The hours of one place: values of shape (hours, variables), and when each was issued."""

    values: Floats
    issued: npt.NDArray[np.datetime64]

    def issued_of(self, ds: pd.Series, first: int) -> npt.NDArray[np.datetime64]:
        hour = ds.to_numpy(dtype="datetime64[h]").astype(np.int64) - first
        return np.asarray(self.issued[np.clip(hour, 0, len(self.issued) - 1)])


def _span(future: pd.DataFrame, origin: pd.Timestamp, grid: TimeGrid) -> tuple[int, int]:
    """First hour, and the one after the last, since 1970, of what is asked and of what is compared."""
    last = grid.shift(future["ds"].max(), 1) if len(future) else origin
    return int(origin.timestamp() // _HOUR) - _OVERLAP, int(-(-last.timestamp() // _HOUR)) + 1


def _cut(hours: Hours, span: tuple[int, int]) -> Floats:
    """The rows of a span of hours, NaN where there are none."""
    out = np.full((span[1] - span[0], hours.rows.shape[1]), np.nan)
    start, end = max(hours.first, span[0]), min(hours.first + len(hours.rows), span[1])
    if start < end:
        out[start - span[0] : end - span[0]] = hours.rows[start - hours.first : end - hours.first]
    return out


def _cache_folder() -> Path:
    from platformdirs import user_cache_path

    named = os.environ.get("FORECASTCORE_CACHE")
    return (Path(named) if named else user_cache_path("forecastcore", appauthor=False)) / "open-meteo"


def _date(hour: int) -> str:
    return str(np.datetime64(hour, "h").astype("datetime64[D]"))


def _places_of(question: Mapping[str, str]) -> list[Place]:
    pairs = zip(question["latitude"].split(","), question["longitude"].split(","), strict=True)
    return [Place(float(latitude), float(longitude)) for latitude, longitude in pairs]


@lru_cache(maxsize=64)
def _decoded(body: bytes, places: tuple[Place, ...], variables: tuple[str, ...], units: tuple[str, ...]) -> list[Hours]:
    """`decode`, once for all the origins of a month."""
    return decode(body, places, variables, units)
