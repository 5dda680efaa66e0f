"""The service's FlatBuffers: what stands in an answer, and whether it is what was asked for."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from forecastcore.errors import AssumptionUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["Hours", "Place", "decode", "is_sum", "unit_of"]

_HOUR = 3600
_FAR_KM = 75.0  # cells of global models are up to 50 km wide
_EARTH_KM = 6371.0
_SUMS = re.compile(r"(precipitation|rain|showers|snowfall|sunshine_duration|evapotranspiration|et0_)(?!_probability)")
_UNITS = (
    (re.compile(r"(apparent_|soil_|wet_bulb_|surface_)?temperature|dew_?point"), "temperature"),
    (re.compile(r"wind_(speed|gusts)"), "wind_speed"),
    (re.compile(r"(precipitation|rain|showers)(?!_probability|_hours|_type)"), "precipitation"),
    (re.compile(r"relative_humidity|cloud_cover|precipitation_probability"), "percentage"),
    (re.compile(r"(pressure_msl|surface_pressure)"), "hectopascal"),
    (re.compile(r".*radiation|.*irradiance"), "watt_per_square_metre"),
    (re.compile(r"snowfall$"), "snowfall"),
)


@dataclass(frozen=True)
class Place:
    """Where the weather is asked for."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class Hours:
    """The answer for one place.

    Attributes:
        first: hours since 1970 of the first row, UTC.
        rows: shape (hours, variables), NaN where missing.
    """

    first: int
    rows: Floats


def is_sum(variable: str) -> bool:
    """Whether values of hours are added up for longer steps, as rain is."""
    return _SUMS.match(variable) is not None


def unit_of(variable: str) -> str:
    """What kind of unit a variable has, or the unit itself; empty where it is not known."""
    return next((unit for pattern, unit in _UNITS if pattern.match(variable)), "")


def decode(body: bytes, places: Sequence[Place], variables: Sequence[str], units: Sequence[str]) -> list[Hours]:
    """The hours of each place, in the order asked.

    Args:
        body: messages of the service's schema, each after its length.
        places: that were asked for.
        variables: that were asked for, such as `temperature_2m` or `rain_previous_day2`.
        units: names of the units that each variable must have; empty where any will do.

    Raises:
        AssumptionUnavailable: it is no such answer, or not to this question: another place, unit, variable or clock.
    """
    try:
        messages = _messages(body)
        if len(messages) != len(places):
            raise AssumptionUnavailable(f"the answer holds {len(messages)} places, {len(places)} were asked for")
        return [_hours(message, place, variables, units) for message, place in zip(messages, places, strict=True)]
    except (struct.error, IndexError, TypeError, ValueError, OverflowError) as error:
        raise AssumptionUnavailable(f"the answer cannot be read: {type(error).__name__}: {error}") from error


def _messages(body: bytes) -> list[Any]:
    from openmeteo_sdk.WeatherApiResponse import WeatherApiResponse

    found, at = [], 0
    while at < len(body):
        (length,) = struct.unpack_from("<I", body, at)
        if at + 4 + length > len(body) or not length:
            raise AssumptionUnavailable(f"the answer is cut off after {len(body)} bytes")
        found.append(WeatherApiResponse.GetRootAs(body[at + 4 : at + 4 + length], 0))
        at += 4 + length
    return found


def _hours(message: Any, place: Place, variables: Sequence[str], units: Sequence[str]) -> Hours:
    away = _distance(place, Place(message.Latitude(), message.Longitude()))
    if not away <= _FAR_KM:
        where = f"{message.Latitude():.2f}, {message.Longitude():.2f}"
        raise AssumptionUnavailable(f"the answer is for another place: {where}, {away:.0f} km away")
    if message.UtcOffsetSeconds():
        raise AssumptionUnavailable(f"the answer's clock is {message.UtcOffsetSeconds()} s off UTC")
    hourly = message.Hourly()
    if hourly is None or hourly.VariablesLength() != len(variables):
        count = 0 if hourly is None else hourly.VariablesLength()
        raise AssumptionUnavailable(f"the answer holds {count} hourly variables, {len(variables)} were asked for")
    first, end = hourly.Time(), hourly.TimeEnd()
    if hourly.Interval() != _HOUR or first % _HOUR or end % _HOUR or end < first:
        raise AssumptionUnavailable(f"the answer's rows are not whole hours: {first} to {end} by {hourly.Interval()} s")
    rows = (end - first) // _HOUR
    columns = [
        _column(hourly.Variables(number), name, unit, rows)
        for number, (name, unit) in enumerate(zip(variables, units, strict=True))
    ]
    return Hours(first // _HOUR, np.stack(columns, axis=1) if columns else np.empty((rows, 0)))


def _column(values: Any, name: str, unit: str, rows: int) -> Floats:
    from openmeteo_sdk.Unit import Unit
    from openmeteo_sdk.Variable import Variable

    told = next((word for word, code in vars(Variable).items() if code == values.Variable()), "")
    if not name.startswith(told.replace("undefined", "")):
        raise AssumptionUnavailable(f"the answer holds {told} where {name} was asked for")
    day = re.search(r"_previous_day(\d)$", name)
    if values.PreviousDay() not in {0, int(day.group(1)) if day else 0}:
        raise AssumptionUnavailable(f"the answer holds forecasts of {values.PreviousDay()} days before as {name}")
    got = next((word for word, code in vars(Unit).items() if code == values.Unit()), "undefined")
    if unit and got != unit:
        raise AssumptionUnavailable(f"{name} is given in {got}, {unit} was asked for")
    if values.ValuesLength() != rows:
        raise AssumptionUnavailable(f"{name} has {values.ValuesLength()} values for {rows} hours")
    numbers = np.asarray(values.ValuesAsNumpy(), dtype=float) if rows else np.empty(0)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _distance(one: Place, two: Place) -> float:
    """Great-circle distance, km."""
    lat1, lon1, lat2, lon2 = np.radians([one.latitude, one.longitude, two.latitude, two.longitude])
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return float(2 * _EARTH_KM * np.arcsin(np.sqrt(half)))
