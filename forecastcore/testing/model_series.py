"""What a model makes of series that are short, flat, broken or far from one, and of other clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import ForecastCoreError
from forecastcore.testing.models import COVARIATE, ModelTrial, World, apart, same, values_of
from forecastcore.testing.samples import sample_history
from forecastcore.testing.suite import Skip, fault, must, probe, said

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Fitted

    Floats = npt.NDArray[np.float64]

__all__ = ["PROBES"]

#: raised by a slip of the author's, not to refuse a series
_SLIPS = (
    *(LookupError, AttributeError, TypeError, NameError, ZeroDivisionError, AssertionError, RecursionError),
    *(MemoryError, NotImplementedError, SystemExit),
)
_SLIP_NAMES = {"IndexError", "KeyError", "UnboundLocalError", *(error.__name__ for error in _SLIPS)}
_ROWS = 70
_REFUSE = "raise HistoryTooShort, another error of forecastcore.errors or ValueError, or leave the series out"


def _wave(rows: int = _ROWS) -> Floats:
    """A series like any other: a week's wave with noise."""
    noise = np.random.default_rng(3).normal(size=rows)
    return np.asarray(100 + 10 * np.sin(2 * np.pi * np.arange(rows) / 7) + noise)


def _odd(trial: ModelTrial, y: Floats) -> tuple[World, str]:
    """A world with that series as `odd`; for a model of global scope among others."""
    good = trial.world.history
    last = good[good["unique_id"] == "series-0"].tail(len(y))
    odd = last.assign(unique_id="odd", y=y)
    parts = [odd, good] if trial.spec.capabilities.scope == "global" else [odd]
    return World.of(pd.concat(parts, ignore_index=True)), "odd"


def _outcome(trial: ModelTrial, y: Floats) -> tuple[str, Floats]:
    """What becomes of a series: `number`, or why there is none; and the numbers.

    Raises:
        Fault: neither a number for every step nor a reason.
    """
    world, name = _odd(trial, y)
    try:
        answer = trial.predict(trial.fit(world), world)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what kind it is of is what is checked
        if isinstance(error, ForecastCoreError) or (str(error) and not isinstance(error, _SLIPS)):
            return str(error), np.empty(0)
        fault(f"it raised {said(error)}; {_REFUSE}")
    rows = (world.future["unique_id"] == name).to_numpy()
    values = values_of(answer, world)[rows]
    point = values[:, 0]
    if np.isfinite(point).all():
        return "number", values
    must(np.isnan(point).all(), f"{int((~np.isfinite(point)).sum())} of {len(point)} steps are no finite number")
    reason = str(answer.attrs.get("failures", {}).get(name, "left out"))
    must(reason.partition(":")[0] not in _SLIP_NAMES, f"it failed with {reason}; {_REFUSE}")
    return reason, np.empty(0)


def _number_or_reason(trial: ModelTrial, y: Floats) -> str:
    outcome, values = _outcome(trial, y)
    return f"{values[0, 0]:.6g} at step 1" if outcome == "number" else f"no forecast: {outcome}"


def _in_sight(trial: ModelTrial, y: Floats) -> str:
    """A number is due, and one of the series' own size."""
    outcome, values = _outcome(trial, y)
    must(outcome == "number", f"no forecast: {outcome}")
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    room = 5 * (high - low)
    seen = values[:, 0]
    must(
        ((seen >= low - room) & (seen <= high + room)).all(),
        f"history lies between {low:.6g} and {high:.6g}, the forecast between {seen.min():.6g} and {seen.max():.6g}",
    )
    return f"{seen[0]:.6g} at step 1"


@probe()
def a_series_of_one_row(trial: ModelTrial) -> str | None:
    """One observation: a number or a named error."""
    return _number_or_reason(trial, _wave(1))


@probe()
def a_short_series(trial: ModelTrial) -> str | None:
    """As many observations as `min_history` says, at least three: a number or a named error."""
    return _number_or_reason(trial, _wave(max(3, trial.spec.capabilities.min_history)))


@probe()
def a_constant_series(trial: ModelTrial) -> str | None:
    """The same value for ever: a number or a named error."""
    return _number_or_reason(trial, np.full(_ROWS, 7.5))


@probe()
def a_series_of_zeros(trial: ModelTrial) -> str | None:
    """Zeros only: a number or a named error."""
    return _number_or_reason(trial, np.zeros(_ROWS))


@probe()
def a_series_without_values(trial: ModelTrial) -> str | None:
    """Missing values only: a number or a named error."""
    return _number_or_reason(trial, np.full(_ROWS, np.nan))


@probe()
def a_series_with_gaps(trial: ModelTrial) -> str | None:
    """A fifth of the values missing, among them a whole week and the last two: a number of the series' size."""
    y = _wave()
    y[4::9] = np.nan
    y[20:27] = y[-2:] = np.nan
    return _in_sight(trial, y)


@probe()
def a_series_below_zero(trial: ModelTrial) -> str | None:
    """Negative values: a number of the series' size."""
    return _in_sight(trial, _wave() - 400)


@probe()
def a_series_around_zero(trial: ModelTrial) -> str | None:
    """Values of both signs, some of them zero: a number of the series' size."""
    y = _wave() - 100
    y[::9] = 0.0
    return _in_sight(trial, y)


@probe()
def a_series_of_billions(trial: ModelTrial) -> str | None:
    """Values around 10¹²: a number of the series' size."""
    return _in_sight(trial, _wave() * 1e10)


@probe()
def a_series_of_billionths(trial: ModelTrial) -> str | None:
    """Values around 10⁻⁷: a number of the series' size."""
    return _in_sight(trial, _wave() * 1e-9)


def _on(trial: ModelTrial, frequency: str, rows: int) -> str | None:
    history = sample_history(series=1, rows=rows, frequency=frequency, covariates=(COVARIATE,))
    world = World.of(history, frequency=frequency, horizon=4)
    got = trial.numbers(trial.fit(world), world)
    must(np.isfinite(got[:, 0]).all(), f"no forecast on the frequency {frequency} from {rows} rows")
    return None


@probe()
def weekly_data(trial: ModelTrial) -> str | None:
    """Two years of weeks: a number for each step."""
    return _on(trial, "W-MON", 110)


@probe()
def monthly_data(trial: ModelTrial) -> str | None:
    """Four years of months: a number for each step."""
    return _on(trial, "MS", 48)


@probe()
def hours_of_a_clock_that_is_put_forward_and_back(trial: ModelTrial) -> str | None:
    """Hourly data, its horizon across both changes of Berlin's clock: every instant asked, once."""
    spring = _berlin("2024-03-22")
    fitted = trial.fit(spring)
    for world in (spring, _berlin("2024-10-18")):
        answer = trial.predict(fitted, world)
        must(len(answer) == len(world.future), f"{len(answer)} rows, {len(world.future)} were asked for")
        must(np.isfinite(values_of(answer, world)[:, 0]).all(), "instants around the change have no forecast")
    return None


def _berlin(start: str) -> World:
    """Nine days and a half, up to noon of the day before the clock is changed."""
    history = sample_history(
        series=1, rows=9 * 24 - 12, frequency="h", timezone="Europe/Berlin", covariates=(COVARIATE,), start=start
    )
    return World.of(history, frequency="h", horizon=24, timezone="Europe/Berlin")


@probe()
def series_may_begin_at_different_times(trial: ModelTrial) -> str | None:
    """A series that begins three weeks after the other one gets its number too."""
    history = trial.world.history
    late = (history["unique_id"] == "series-1") & (history["ds"] < history["ds"].min() + pd.Timedelta(21, "D"))
    world = World.of(history[~late].reset_index(drop=True))
    got = trial.numbers(trial.fit(world), world)
    must(np.isfinite(got[:, 0]).all(), "no forecast where one series begins later")
    return None


@probe("other-series-change-nothing")
def a_new_series_disturbs_nobody(trial: ModelTrial) -> str | None:
    """A series that `fit` never saw gets a number, or none, or a named error; the others what they would have got."""
    history = trial.world.history
    new = history[history["unique_id"] == "series-1"].assign(unique_id="unseen")
    world = World.of(pd.concat([history, new], ignore_index=True))
    try:
        got = trial.numbers(trial.fitted, world)
    except Exception as error:  # noqa: BLE001 - what kind it is of is what is checked
        must(isinstance(error, ForecastCoreError), f"it raised {said(error)}; leave the series out")
        return f"refused: {error}"
    mine = got[(world.future["unique_id"] != "unseen").to_numpy()]
    must(same(mine, trial.expected), f"with a new series in the context, {apart(mine, trial.expected)}")
    return "a number" if np.isfinite(got[-1, 0]) else "no forecast: the fallback serves it"


@probe()
def the_order_of_series_does_not_matter(trial: ModelTrial) -> str | None:
    """Series in another order get the same forecasts."""
    world = trial.world

    def turned(frame: pd.DataFrame) -> pd.DataFrame:
        parts = [part for _, part in frame.groupby("unique_id", sort=True)]
        return pd.concat(parts[::-1], ignore_index=True)

    other = replace(world, history=turned(world.history), future=turned(world.future))
    got = trial.numbers(trial.fitted, other)
    order = np.argsort(other.future["unique_id"].to_numpy(), kind="stable")
    must(same(got[order], trial.expected), f"in another order, {apart(got[order], trial.expected)}")
    return None


@probe("later-steps-change-nothing")
def fewer_rows_asked_change_nothing(trial: ModelTrial) -> str | None:
    """Asked for the first steps of one series only, it says the same of them."""
    world = trial.world
    some = ((world.future["unique_id"] == "series-1") & world.future["step"].isin([1, 2, 3])).to_numpy()
    fewer = replace(world, future=world.future[some].reset_index(drop=True))
    got = trial.numbers(trial.fitted, fewer)
    must(same(got, trial.expected[some]), f"asked for fewer rows, {apart(got, trial.expected[some])}")
    return None


@probe()
def threads_change_nothing(trial: ModelTrial) -> str | None:
    """With two threads it says the same as with one."""
    world = replace(trial.world, task=replace(trial.world.task, threads=2))
    got = trial.numbers(trial.fit(world), world)
    must(same(got, trial.expected), f"with two threads, {apart(got, trial.expected)}")
    return None


@probe()
def unknown_columns_are_ignored(trial: ModelTrial) -> str | None:
    """Columns that are neither `y` nor in `task.covariates` are let be, whatever they hold."""
    world = trial.world
    more: dict[str, Any] = {"note": "of no use", "extra": np.nan}
    wider = replace(world, history=world.history.assign(**more), future=world.future.assign(**more))
    history = trial.given(wider.history.drop(columns="note"), world.task).assign(note="of no use")
    future = trial.given(wider.future.drop(columns="note"), world.task).assign(note="of no use")
    task = trial.asked(world.task)
    answer = trial.make().fit(history, task).predict(history, future, task)
    got = values_of(answer, world)
    must(same(got, trial.expected), f"with other columns beside, {apart(got, trial.expected)}")
    return None


@probe("later-steps-change-nothing")
def covariates_count_as_declared(trial: ModelTrial) -> str | None:
    """A model that declares covariates answers to their future; the sample's `y` rises with it one to one."""
    if not trial.spec.capabilities.covariates:
        raise Skip("it declares no covariates; the host gives it none, and says so in the leaderboard")
    gain = response(trial, trial.world)
    must(gain > 0, "it declares covariates, but their future changes nothing")
    return f"{gain:.3g} more per unit of the covariate"


def response(trial: ModelTrial, world: World, fitted: Fitted | None = None) -> float:
    """How far the forecast moves, on average, with one unit more of the covariate in the future."""
    more = replace(world, future=world.future.assign(**{COVARIATE: world.future[COVARIATE] + 1.0}))
    use = trial.fitted if fitted is None else fitted
    move = np.subtract(trial.numbers(use, more)[:, 0], trial.numbers(use, world)[:, 0])
    return abs(float(np.nanmean(move)))


PROBES = (
    a_series_of_one_row,
    a_short_series,
    a_constant_series,
    a_series_of_zeros,
    a_series_without_values,
    a_series_with_gaps,
    a_series_below_zero,
    a_series_around_zero,
    a_series_of_billions,
    a_series_of_billionths,
    weekly_data,
    monthly_data,
    hours_of_a_clock_that_is_put_forward_and_back,
    series_may_begin_at_different_times,
    a_new_series_disturbs_nobody,
    the_order_of_series_does_not_matter,
    fewer_rows_asked_change_nothing,
    threads_change_nothing,
    unknown_columns_are_ignored,
    covariates_count_as_declared,
)
