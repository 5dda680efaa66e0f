import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.timegrid import TimeGrid, parse_frequency, seasons_of

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Sydney",
    "Australia/Lord_Howe",  # its clocks change by half an hour
    "America/Sao_Paulo",  # its clocks skipped midnight until 2018
    "Africa/Cairo",  # its clocks skip midnight
    "UTC",
]
FREQUENCIES = ["15min", "30min", "h", "D", "W-MON", "MS", "QS"]

grids = st.builds(TimeGrid, st.sampled_from(FREQUENCIES), st.sampled_from(ZONES))
instants = st.integers(0, 40 * 366 * 24 * 60).map(
    lambda m: pd.Timestamp("1995-01-01", tz="UTC") + pd.Timedelta(minutes=m)
)
# Hours around the clock changes of these zones, where faults would be.
changes = st.builds(
    lambda day, minutes: pd.Timestamp(day, tz="UTC") + pd.Timedelta(minutes=minutes),
    st.sampled_from(["2018-11-04", "2018-02-18", "2024-03-31", "2024-10-27", "2024-04-26", "2024-10-31", "2024-04-07"]),
    st.integers(-36 * 60, 36 * 60),
)
anytime = st.one_of(instants, changes)
horizons = st.integers(1, 100)


@given(grids, anytime)
def test_floor_is_the_last_instant_of_the_grid_up_to_now(grid, instant):
    found = grid.floor(instant)
    assert found <= instant
    assert grid.on_grid(pd.DatetimeIndex([found])).all()
    assert grid.floor(found) == found
    assert grid.shift(found, 1) > instant


@given(grids, anytime, horizons)
def test_ahead_has_as_many_instants_as_the_horizon_each_later_and_on_the_grid(grid, instant, horizon):
    origin = grid.floor(instant)
    ahead = grid.ahead(origin, horizon)
    assert len(ahead) == horizon
    assert str(ahead.tz) == "UTC"
    assert (np.diff(np.r_[origin.value, ahead.asi8]) > 0).all()
    assert grid.on_grid(ahead).all()


@given(grids, anytime, st.integers(-100, 100))
def test_a_shift_forth_and_back_comes_home(grid, instant, steps):
    origin = grid.floor(instant)
    there = grid.shift(origin, steps)
    assert grid.shift(there, -steps) == origin
    assert np.sign((there - origin).value) == np.sign(steps)


@given(grids, anytime, st.integers(-100, 100))
def test_instants_are_numbered_one_after_the_other(grid, instant, steps):
    origin = grid.floor(instant)
    moved = grid.number(grid.shift(origin, steps)) - grid.number(origin)
    assert moved == steps or (grid.fixed and grid.timezone != "UTC")  # a day of the local calendar may have 23 hours


def test_a_number_tells_the_time_of_the_local_day():
    grid = TimeGrid("h", "Europe/Berlin")
    winter, summer = pd.Timestamp("2024-01-09 23:00", tz="UTC"), pd.Timestamp("2024-07-09 22:00", tz="UTC")
    assert grid.number(winter) % 24 == grid.number(summer) % 24 == 0


@given(grids, anytime, horizons)
def test_ahead_is_made_of_single_shifts(grid, instant, horizon):
    origin = grid.floor(instant)
    now, expected = origin, []
    for _ in range(min(horizon, 12)):
        now = grid.shift(now, 1)
        expected.append(now)
    assert list(grid.ahead(origin, len(expected))) == expected


@given(grids, anytime, horizons)
def test_between_covers_from_the_first_to_the_last(grid, instant, steps):
    first = grid.floor(instant)
    last = grid.shift(first, steps)
    between = grid.between(first, last)
    assert (between[0], between[-1], len(between)) == (first, last, steps + 1)


@given(grids, anytime)
@settings(max_examples=50)
def test_a_minute_later_is_not_on_the_grid(grid, instant):
    found = grid.floor(instant)
    assert not grid.on_grid(pd.DatetimeIndex([found + pd.Timedelta(minutes=1)])).any()


@given(grids, anytime, st.integers(0, 23 * 60), horizons)
def test_a_grid_anchored_at_the_first_observation_goes_on_from_there(grid, instant, minutes, horizon):
    first = grid.floor(instant) + pd.Timedelta(minutes=minutes % 15 if grid.fixed else minutes)
    anchored = grid.anchored_at(first)
    assert anchored.on_grid(pd.DatetimeIndex([first])).all()
    assert anchored.floor(first) == first
    ahead = anchored.ahead(first, horizon)
    assert len(ahead) == horizon
    assert anchored.on_grid(ahead).all()


@pytest.mark.row(41)
@pytest.mark.parametrize(
    ("timezone", "day", "hours"),
    [
        ("Europe/Berlin", "2024-03-31", 23),
        ("Europe/Berlin", "2024-10-27", 25),
        ("Australia/Lord_Howe", "2024-04-07", 24.5),
        ("America/Sao_Paulo", "2018-11-04", 23),
    ],
)
def test_a_day_is_as_long_as_its_clock_says(timezone, day, hours):
    grid = TimeGrid("D", timezone)
    noon = pd.Timestamp(f"{day} 12:00", tz=timezone).tz_convert("UTC")
    start = grid.floor(noon)
    assert grid.shift(start, 1) - start == pd.Timedelta(hours=hours)


@pytest.mark.row(41)
def test_the_day_without_midnight_starts_at_one():
    start = TimeGrid("D", "America/Sao_Paulo").floor(pd.Timestamp("2018-11-04T15:00Z"))
    assert start.tz_convert("America/Sao_Paulo").hour == 1


@pytest.mark.parametrize(
    ("alias", "seasons"),
    [
        ("15min", (96, 672)),
        ("30min", (48, 336)),
        ("h", (24, 168)),
        ("H", (24, 168)),
        ("D", (7,)),
        ("B", (5,)),
        ("W-MON", (52,)),
        ("MS", (12,)),
        ("M", (12,)),
        ("QS", (4,)),
        ("YS", (1,)),
        ("7h", (1,)),
    ],
)
def test_the_natural_seasons_of_a_frequency(alias, seasons):
    assert seasons_of(alias) == seasons


@pytest.mark.parametrize("alias", ["", "often", "-1h", "0h", "1.5"])
def test_what_is_no_frequency_is_refused_in_words(alias):
    with pytest.raises(ValueError, match="is not a frequency; write a pandas alias"):
        parse_frequency(alias)


def test_local_gives_the_wall_clock():
    local = TimeGrid("h", "Europe/Berlin").local(pd.DatetimeIndex(["2024-07-01T00:00Z", "2024-01-01T00:00Z"]))
    assert list(local.hour) == [2, 1]
    assert local.tz is None
