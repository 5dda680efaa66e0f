"""Whether a model knows what it cannot know yet.

The host cuts every frame at the origin, so a leak needs a hiding place: a module's variable, a file, the fitted object,
the covariates' future, the other series. Each check changes what lies behind one of them and nothing else; an honest
model says the same as before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.testing.model_series import response
from forecastcore.testing.models import COVARIATE, ModelTrial, World, apart, same, values_of
from forecastcore.testing.samples import sample_history
from forecastcore.testing.suite import Skip, must, probe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FIRST", "PROBES"]

_BACK = pd.Timedelta(14, "D")
#: after 28 years of the Julian calendar, weekdays and leap years are the same again
_CYCLE = pd.Timedelta(28 * 365 + 7, "D")


@probe()
def newer_context_counts(trial: ModelTrial) -> str | None:
    """Newer values in the context change the forecast: what is fitted is parameters, not a copy of history."""
    history = trial.world.history
    newest = history["ds"] > history["ds"].max() - _BACK
    raised = replace(trial.world, history=history.assign(y=history["y"].where(~newest, history["y"] * 1.5)))
    got = trial.numbers(trial.fitted, raised)
    rise = float(np.nanmean(got[:, 0] / trial.expected[:, 0])) - 1
    must(
        not same(got, trial.expected),
        "two weeks half as high again in the context change nothing; forecast from the context",
    )
    return f"two weeks 50 % higher lift the forecast by {100 * rise:.0f} %"


@probe(gate=True)
def later_data_leave_no_trace(trial: ModelTrial) -> str | None:
    """The same question gets the same answer after the model, or another one, has seen what came later.

    Caught: memory in the module, in the model, in a file, in a global cache.
    """
    late = World.of(_own_series("seen", start="2017-01-02"))
    early = late.until(late.task.origin - _BACK)
    late = _loud_after(late, early)
    model = trial.make()
    first = trial.numbers(trial.fit(early, model), early)
    trial.numbers(trial.fit(late, model), late)
    second = trial.numbers(trial.fit(early, model), early)
    must(same(second, first), f"after later data were seen, {apart(second, first)}: it remembers them")
    return None


@probe(gate=True)
def a_later_context_leaves_no_trace(trial: ModelTrial) -> str | None:
    """A fitted model says the same of an origin after it was asked about a later one."""
    early, fitted = trial.world.until(trial.world.task.origin - _BACK), trial.fit(trial.world)
    first = trial.numbers(fitted, early)
    trial.numbers(fitted, _loud_after(trial.world, early))
    second = trial.numbers(fitted, early)
    must(same(second, first), f"after a later context, {apart(second, first)}: it remembers it")
    return None


@probe("unknown-columns-are-ignored")
def a_future_with_answers_changes_nothing(trial: ModelTrial) -> str | None:
    """A column `y` in the future, should one ever get there, is not looked at."""
    world, task = trial.world, trial.asked(trial.world.task)
    context, future = trial.given(world.history, world.task), trial.given(world.future, world.task)
    answer = trial.fitted.predict(context, future.assign(y=12345.0), task)
    got = values_of(answer, world)
    must(
        same(got, trial.expected),
        f"with y in the future, {apart(got, trial.expected)}: it takes the target for a feature",
    )
    return None


@probe()
def other_series_change_nothing(trial: ModelTrial) -> str | None:
    """What `predict` says of a series does not depend on the others beside it: no scaling over the whole panel.

    The host asks for some of the series where others have failed.
    """
    world = trial.world
    mine = (world.future["unique_id"] == "series-0").to_numpy()
    others = world.history["unique_id"] != "series-0"
    loud = replace(world, history=world.history.assign(y=world.history["y"].where(~others, world.history["y"] * 3)))
    alone = World(world.history[~others].reset_index(drop=True), world.future[mine].reset_index(drop=True), world.task)
    for other, where in ((loud, "where another series is three times as high"), (alone, "alone")):
        got = trial.numbers(trial.fitted, other)[: int(mine.sum())]
        must(same(got, trial.expected[mine]), f"{where}, {apart(got, trial.expected[mine])}")
    return None


@probe()
def later_steps_change_nothing(trial: ModelTrial) -> str | None:
    """A step does not depend on covariates of later steps: no centred window and no scaling over the future.

    What people do ahead of an event, such as shopping before a holiday, is a covariate of its own.
    """
    if not trial.spec.capabilities.covariates:
        raise Skip("it declares no covariates")
    world, first = trial.world, 3
    later = world.future["step"] > first
    wild = world.future[COVARIATE].where(~later, 40.0 - 9 * world.future[COVARIATE])
    got = trial.numbers(trial.fitted, replace(world, future=world.future.assign(**{COVARIATE: wild})))
    kept = (~later).to_numpy()
    must(
        same(got[kept], trial.expected[kept]),
        f"with other covariates from step {first + 1} on, {apart(got[kept], trial.expected[kept])} before it",
    )
    return None


@probe("covariates-count-as-declared")
def assumed_covariates_count_in_the_past_too(trial: ModelTrial) -> str | None:
    """Asked about an origin within its training data, it uses the covariates it is given, not those it saw."""
    if not trial.spec.capabilities.covariates:
        raise Skip("it declares no covariates")
    early = trial.world.until(trial.world.task.origin - _BACK)
    inside, outside = response(trial, early), response(trial, trial.world)
    must(
        inside > 0.01 * outside,
        f"a unit more of the covariate moves the forecast by {outside:.3g} after training, but by {inside:.3g} within:"
        " it looks up the actual values",
    )
    return None


@probe("assumed-covariates-count-in-the-past-too")
def training_rows_are_not_looked_up(trial: ModelTrial) -> str | None:
    """Taught the same lesson with the dates of 28 years before, it says the same of an origin within it.

    Caught: values, smoothed values, centred windows or statistics of training day, looked up by their date.
    """
    earlier = _moved(trial.world)
    moved = trial.fit(earlier)
    origin = trial.world.task.origin
    early = trial.world.until(origin - _BACK)
    one, two = trial.numbers(trial.fitted, early), trial.numbers(moved, early)
    if same(one, two):
        return None
    newer = World.of(sample_history(series=2, rows=98, frequency="D", covariates=(COVARIATE,)))
    after_one, after_two = trial.numbers(trial.fitted, newer), trial.numbers(moved, newer)
    if not same(after_one, after_two):
        raise Skip("it counts time from its training data on, so that the same lesson at other dates is another lesson")
    must(same(one, two), f"at an origin within the training data {apart(one, two)}: it looks up what it saw there")
    return None


@probe()
def a_forecast_moves_along_with_time(trial: ModelTrial) -> str | None:
    """The same history with the dates of 28 years before gets the same forecast: nothing depends on today's date."""
    earlier = _moved(trial.world)
    got = trial.numbers(trial.fit(earlier), earlier)
    must(same(got, trial.expected), f"with the dates of 28 years before, {apart(got, trial.expected)}")
    return None


@probe("covariates-count-as-declared")
def what_was_assumed_is_what_it_learns_from(trial: ModelTrial) -> str | None:
    """A model that asks `task.replay` learns its trust from it: it trusts covariates less that were assumed wrongly."""
    if not trial.spec.capabilities.covariates:
        raise Skip("it declares no covariates")
    history = trial.world.history.copy()
    history["y"] += 10 * history[COVARIATE]
    asked: list[pd.Timestamp] = []

    def replayed(*, wrong: bool) -> World:
        values = history.copy()
        if wrong:
            values[COVARIATE] = np.random.default_rng(11).normal(size=len(values))
        world = World.of(history)

        def replay(origins: Sequence[pd.Timestamp]) -> pd.DataFrame:
            asked.extend(origins)
            return pd.concat([_replayed(values, origin, world.task.horizon) for origin in origins], ignore_index=True)

        return replace(world, task=replace(world.task, replay=replay))

    right = replayed(wrong=False)
    trusting = trial.fit(right)
    if not asked:
        raise Skip("it does not ask task.replay: it learns from the actual covariates, as if forecasts were perfect")
    must(max(asked) <= right.task.origin, f"it asks what will be assumed at {max(asked)}, after the origin")
    much = response(trial, right, trusting)
    little = response(trial, right, trial.fit(replayed(wrong=True)))
    must(
        little < 0.95 * much,
        f"with assumptions that were noise it answers by {little:.3g} per unit, with right ones by {much:.3g}:"
        " it learns from the actual covariates",
    )
    return f"{much:.3g} per unit where assumptions were right, {little:.3g} where they were noise"


def _own_series(name: str, start: str) -> pd.DataFrame:
    history = sample_history(series=2, rows=70, frequency="D", covariates=(COVARIATE,), start=start, seed=4)
    return history.assign(unique_id=history["unique_id"].str.replace("series", name))


def _loud_after(late: World, early: World) -> World:
    """Three times as high from the earlier origin on."""
    y = late.history["y"]
    return replace(late, history=late.history.assign(y=y.where(late.history["ds"] <= early.task.origin, 3 * y)))


def _moved(world: World) -> World:
    task = replace(world.task, origin=world.task.origin - _CYCLE)
    return World(
        world.history.assign(ds=world.history["ds"] - _CYCLE), world.future.assign(ds=world.future["ds"] - _CYCLE), task
    )


def _replayed(values: pd.DataFrame, origin: pd.Timestamp, horizon: int) -> pd.DataFrame:
    rows = values[values["ds"] > origin].drop(columns="y")
    step = (rows.groupby("unique_id").cumcount() + 1).to_numpy(dtype=np.int32)
    rows = rows.assign(origin=origin, step=step)
    return rows.loc[rows["step"] <= horizon, ["unique_id", "origin", "ds", "step", COVARIATE]].reset_index(drop=True)


#: what every comparison stands on
FIRST = (
    later_data_leave_no_trace,
    a_later_context_leaves_no_trace,
    other_series_change_nothing,
    later_steps_change_nothing,
)
PROBES = (
    newer_context_counts,
    a_future_with_answers_changes_nothing,
    assumed_covariates_count_in_the_past_too,
    training_rows_are_not_looked_up,
    a_forecast_moves_along_with_time,
    what_was_assumed_is_what_it_learns_from,
)
