"""What every assumption must do: answer for each row from what is known at the origin, or say that it cannot."""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import parameters
from forecastcore.api import Example
from forecastcore.errors import AssumptionUnavailable, ForecastCoreError
from forecastcore.testing.child import Report, last_value, run_child, task_text, write_job
from forecastcore.testing.manners import PROBES as MANNERS
from forecastcore.testing.models import World
from forecastcore.testing.samples import sample_history
from forecastcore.testing.suite import Skip, fault, must, other_processes, probe, said
from forecastcore.testing.watch import offline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from forecastcore.api import AssumptionSpec, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["PROBES", "AssumptionTrial"]

_BACK = pd.Timedelta(14, "D")


@dataclass
class AssumptionTrial:
    """An assumption on trial: its own object, with nobody who would carry on the last season for it.

    Attributes:
        spec: the offer.
        params: as a project file would give them; by default those of the spec's example.
        folder: that paths start from.
        covariates: columns to ask for; by default those of the spec's example.
        quick: leave out what needs other processes.
    """

    spec: AssumptionSpec
    params: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    covariates: tuple[str, ...] = ()
    quick: bool = False

    def __post_init__(self) -> None:
        told = self.spec.example(self.folder) if self.spec.example else Example()
        other = self.spec.wraps and "of" in parameters.names(self.spec.factory)
        self.params = {**({"of": "other"} if other else {}), **told.params, **self.params}
        self.covariates = self.covariates or told.covariates
        self.issue_later: Callable[[pd.Timestamp], None] | None = told.issue_later

    def make(self) -> Any:
        """A new assumption."""
        return self.spec.factory(**parameters.values(self.spec.factory, self.params, root=self.folder))

    def asked(self, world: World) -> tuple[pd.DataFrame, pd.DataFrame, Task]:
        """History, future and task as the host hands them on."""
        names = list(self.covariates)
        past = world.history[["unique_id", "ds", *names]].copy()
        beneath = names if self.spec.wraps else []
        future = world.future[["unique_id", "ds", "step", *beneath]].copy()
        lent = last_value if self.spec.models else None
        return past, future, replace(world.task, covariates=self.covariates, replay=None, forecast=lent)

    def answer(self, world: World, made: Any = None) -> pd.DataFrame:
        """What it says, as it says it."""
        answer: pd.DataFrame = (made or self.make()).assume(*self.asked(world))
        return answer

    def numbers(self, world: World, made: Any = None) -> Floats:
        """What it says, row by row as `world.future` asks, NaN where it says nothing."""
        return self.values(self.answer(world, made), world)

    def values(self, answer: pd.DataFrame, world: World) -> Floats:
        """An answer as numbers in the order of the question, whatever its own order."""
        names = list(self.covariates)
        told = answer.reindex(columns=["unique_id", "ds", *names]).drop_duplicates(["unique_id", "ds"])
        told = told.assign(ds=pd.to_datetime(told["ds"], utc=True).astype("datetime64[ns, UTC]"))
        rows = world.future[["unique_id", "ds"]].merge(told, on=["unique_id", "ds"], how="left")
        return np.asarray(rows[names].to_numpy(dtype=float))

    def of(self, *, rows: int = 21 * 24, frequency: str = "h", horizon: int = 48, **how: Any) -> World:
        """A world with this assumption's covariates."""
        history = sample_history(series=2, rows=rows, frequency=frequency, covariates=self.covariates, **how)
        return World.of(history, horizon=horizon, frequency=frequency, timezone=how.get("timezone", "UTC"))

    @functools.cached_property
    def world(self) -> World:
        """Three weeks of two hourly series."""
        return self.of()

    @functools.cached_property
    def expected(self) -> pd.DataFrame:
        """What it says of `world`."""
        return self.answer(self.world)

    @functools.cached_property
    def report(self) -> Report:
        """What a fresh process noticed while it did the same."""
        other_processes(quick=self.quick)
        if self.spec.models:
            raise Skip("it uses a model that the host lends it, which stays in this process")
        past, future, task = self.asked(self.world)
        write_job(self.folder, "assumption", self.spec.factory, self.params, task=task_text(task))
        past.to_parquet(self.folder / "history.parquet")
        future.to_parquet(self.folder / "future.parquet")
        return run_child(self.folder)


def _same(one: Floats, two: Floats) -> bool:
    return one.shape == two.shape and bool(np.allclose(one, two, rtol=1e-9, atol=1e-9, equal_nan=True))


def _apart(one: Floats, two: Floats) -> str:
    return f"its values differ by up to {np.nanmax(np.abs(one - two)):.6g}"


@probe(gate=True)
def answers(trial: AssumptionTrial) -> str | None:
    """`assume` returns a frame with `unique_id`, `ds` and the covariates asked for."""
    got = trial.expected
    must(isinstance(got, pd.DataFrame), f"assume returned {type(got).__name__}, not a pandas frame")
    lacking = [name for name in ("unique_id", "ds", *trial.covariates) if name not in got]
    must(not lacking, f"assume returned the columns {list(got.columns)}, and lacks {lacking}")
    return None


@probe(gate=True)
def every_row_asked_is_answered(trial: AssumptionTrial) -> str | None:
    """One row for each row of `future`: none left out, none added, none twice."""
    asked = set(zip(trial.world.future["unique_id"], trial.world.future["ds"], strict=True))
    keys = pd.to_datetime(trial.expected["ds"], utc=True).astype("datetime64[ns, UTC]")
    got = list(zip(trial.expected["unique_id"], keys, strict=True))
    must(len(got) == len(set(got)), f"{len(got) - len(set(got))} rows stand twice")
    must(set(got) == asked, f"{len(asked - set(got))} rows are missing, {len(set(got) - asked)} were not asked for")
    return None


@probe()
def rows_are_in_order(trial: AssumptionTrial) -> str | None:
    """The rows come in the order of `future`."""
    asked = trial.world.future
    keys = pd.to_datetime(trial.expected["ds"], utc=True)
    must(
        np.array_equal(trial.expected["unique_id"], asked["unique_id"]) and list(keys) == list(asked["ds"]),
        "another order",
    )
    return None


@probe(gate=True)
def values_are_finite(trial: AssumptionTrial) -> str | None:
    """Three good weeks give a finite number for each row and covariate."""
    bad = int((~np.isfinite(trial.values(trial.expected, trial.world))).sum())
    must(not bad, f"{bad} values are no finite number; the host would carry on the last season there")
    return None


@probe()
def types_are_kept(trial: AssumptionTrial) -> str | None:
    """`ds` has the type and the time zone of `future`; covariates are numbers."""
    got, asked = trial.expected, trial.world.future
    must(str(got["ds"].dtype) == str(asked["ds"].dtype), f"ds is {got['ds'].dtype}, not {asked['ds'].dtype}")
    for name in trial.covariates:
        must(pd.api.types.is_numeric_dtype(got[name]), f"{name} is {got[name].dtype}, not a number")
    return None


@probe()
def columns_are_those_asked(trial: AssumptionTrial) -> str | None:
    """No columns but the keys, the covariates asked for, `assumed_by` and `issued_at`."""
    more = sorted(set(trial.expected.columns) - {"unique_id", "ds", "assumed_by", "issued_at", *trial.covariates})
    must(not more, f"the columns {more} were not asked for")
    return None


@probe()
def arguments_stay_untouched(trial: AssumptionTrial) -> str | None:
    """`assume` leaves the frames and the task as they were."""
    past, future, task = trial.asked(trial.world)
    kept = past.copy(), future.copy(), task
    trial.make().assume(past, future, task)
    must(past.equals(kept[0]), "it changed history; change a copy")
    must(future.equals(kept[1]), "it changed future; change a copy")
    must(task == kept[2], "it changed the task")
    return None


@probe(gate=True)
def an_answer_repeats(trial: AssumptionTrial) -> str | None:
    """Asked twice, it says the same; so does another one with the same parameters."""
    made = trial.make()
    first = trial.numbers(trial.world, made)
    for other in (trial.numbers(trial.world, made), trial.numbers(trial.world)):
        must(_same(first, other), f"asked again, {_apart(first, other)}")
    return None


@probe(gate=True)
def later_data_leave_no_trace(trial: AssumptionTrial) -> str | None:
    """The same question gets the same answer after it has seen what came later: as of the origin, and no later.

    Caught: memory in the module, in the object, in a file; actual weather in place of the assumed; interpolation across
    the origin.
    """
    late = trial.of(start="2019-03-01", seed=6)
    early = late.until(late.task.origin - _BACK)
    made = trial.make()
    first = trial.numbers(early, made)
    trial.numbers(late, made)
    second = trial.numbers(early, made)
    must(_same(first, second), f"after later data were seen, {_apart(first, second)}: it remembers them")
    return None


@probe(gate=True)
def what_is_issued_later_changes_nothing(trial: AssumptionTrial) -> str | None:
    """Of an archive it uses only what had been issued by the origin: no actual weather, no forecast of tomorrow."""
    if trial.issue_later is None:
        raise Skip("its example has no issue_later: it reads no archive that grows")
    expected = trial.values(trial.expected, trial.world)
    trial.issue_later(trial.world.task.origin)
    got = trial.numbers(trial.world)
    must(
        _same(got, expected), f"after more was issued, {_apart(got, expected)}: it uses what is issued after the origin"
    )
    return None


@probe()
def a_future_with_answers_changes_nothing(trial: AssumptionTrial) -> str | None:
    """Columns beside those of the contract, the actual values among them, are not looked at."""
    past, future, task = trial.asked(trial.world)
    told = future.assign(
        y=12345.0, actual=12345.0, **({} if trial.spec.wraps else dict.fromkeys(trial.covariates, 12345.0))
    )
    got = trial.values(trial.make().assume(past, told, task), trial.world)
    expected = trial.values(trial.expected, trial.world)
    must(_same(got, expected), f"with other columns in the future, {_apart(got, expected)}")
    return None


@probe()
def other_series_change_nothing(trial: AssumptionTrial) -> str | None:
    """A series alone gets what it gets among others."""
    world = trial.world
    alone = replace(
        world,
        history=world.history[world.history["unique_id"] == "series-0"].reset_index(drop=True),
        future=world.future[world.future["unique_id"] == "series-0"].reset_index(drop=True),
    )
    got = trial.numbers(alone)
    expected = trial.values(trial.expected, world)[: len(got)]
    must(_same(got, expected), f"alone, {_apart(got, expected)}")
    return None


@probe()
def fewer_rows_asked_change_nothing(trial: AssumptionTrial) -> str | None:
    """Asked for some of the steps only, it says the same of them."""
    world = trial.world
    some = world.future["step"].isin([2, 3, 11, 48]).to_numpy()
    fewer = replace(world, future=world.future[some].reset_index(drop=True))
    got, expected = trial.numbers(fewer), trial.values(trial.expected, world)[some]
    must(_same(got, expected), f"asked for fewer rows, {_apart(got, expected)}")
    return None


@probe()
def nothing_asked_is_nothing_answered(trial: AssumptionTrial) -> str | None:
    """A future without rows gets an answer without rows."""
    empty = replace(trial.world, future=trial.world.future.iloc[:0])
    got = trial.answer(empty)
    must(len(got) == 0, f"{len(got)} rows, none was asked for")
    return None


def _odd(trial: AssumptionTrial, change: Any) -> str:
    """A number for each row, NaN that the host fills, or an error of forecastcore."""
    world = trial.world
    changed = replace(world, history=change(world.history.copy()))
    try:
        got = trial.numbers(changed)
    except ForecastCoreError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - what kind it is of is what is checked
        fault(f"it raised {said(error)}; raise AssumptionUnavailable, or return NaN where nothing can be said")
    must(not np.isinf(got).any(), "it gives infinite values")
    must(len(got) == len(world.future), f"{len(got)} rows, {len(world.future)} were asked for")
    return "a number for each row" if np.isfinite(got).all() else "no value; the host carries on the last season"


@probe()
def a_history_of_one_row(trial: AssumptionTrial) -> str | None:
    """One row of history: a value, none, or a named error."""
    return _odd(trial, lambda history: history.groupby("unique_id").tail(1).reset_index(drop=True))


@probe()
def no_history(trial: AssumptionTrial) -> str | None:
    """No history at all, as for a series that is new: a value, none, or a named error."""
    return _odd(trial, lambda history: history.iloc[:0])


@probe()
def a_history_without_values(trial: AssumptionTrial) -> str | None:
    """Missing values only: a value, none, or a named error."""
    return _odd(trial, lambda history: history.assign(**dict.fromkeys(trial.covariates, np.nan)))


@probe()
def a_history_with_gaps(trial: AssumptionTrial) -> str | None:
    """A tenth of the values missing, the last ones among them: a value for each row."""
    keep = np.arange(len(trial.world.history)) % 10 > 0

    def change(history: pd.DataFrame) -> pd.DataFrame:
        newest = history["ds"] > history["ds"].max() - pd.Timedelta(6, "h")
        return history.assign(**{name: history[name].where(keep & ~newest) for name in trial.covariates})

    told = _odd(trial, change)
    must(told == "a number for each row", told)
    return None


@probe()
def a_constant_history(trial: AssumptionTrial) -> str | None:
    """The same value for ever: a value for each row."""
    told = _odd(trial, lambda history: history.assign(**dict.fromkeys(trial.covariates, 3.0)))
    must(told == "a number for each row", told)
    return None


def _on(trial: AssumptionTrial, frequency: str, rows: int) -> str | None:
    got = trial.numbers(trial.of(frequency=frequency, rows=rows, horizon=6))
    must(
        np.isfinite(got).all(),
        f"on the frequency {frequency} it has no value for {int((~np.isfinite(got)).sum())} rows",
    )
    return None


@probe()
def quarter_hours(trial: AssumptionTrial) -> str | None:
    """Data every quarter of an hour: a value for each row."""
    return _on(trial, "15min", 14 * 96)


@probe()
def daily_data(trial: AssumptionTrial) -> str | None:
    """A year and more of days: a value for each row."""
    return _on(trial, "D", 400)


@probe()
def weekly_data(trial: AssumptionTrial) -> str | None:
    """Two years of weeks: a value for each row."""
    return _on(trial, "W-MON", 110)


@probe()
def monthly_data(trial: AssumptionTrial) -> str | None:
    """Four years of months: a value for each row."""
    return _on(trial, "MS", 48)


@probe()
def a_clock_that_is_put_forward_and_back(trial: AssumptionTrial) -> str | None:
    """Hourly rows across both changes of Berlin's clock: every instant asked, once."""
    for start in ("2024-03-10", "2024-10-06"):
        world = trial.of(rows=21 * 24 - 12, timezone="Europe/Berlin", start=start)
        answer = trial.answer(world)
        must(len(answer) == len(world.future), f"{len(answer)} rows, {len(world.future)} were asked for")
        must(np.isfinite(trial.values(answer, world)).all(), "instants around the change have no value")
    return None


@probe()
def the_past_is_generated_alike(trial: AssumptionTrial) -> str | None:
    """An assumption that generates says of a past instant what it had said of it as a future one."""
    if not trial.spec.generates:
        raise Skip("it does not generate the past")
    past, future, task = trial.asked(trial.world)
    late = replace(task, origin=future["ds"].max())
    got = trial.make().assume(past.iloc[:0][["unique_id", "ds"]], future.assign(step=np.int32(0)), late)
    one, two = trial.values(got, trial.world), trial.values(trial.expected, trial.world)
    must(_same(one, two), f"as past and as future, {_apart(one, two)}")
    return None


@probe()
def the_other_assumption_counts(trial: AssumptionTrial) -> str | None:
    """An assumption that changes another one follows it."""
    if not trial.spec.wraps:
        raise Skip("it does not stand on another assumption")
    world = trial.world
    higher = world.future.assign(**{name: world.future[name] + 10.0 for name in trial.covariates})
    got = trial.numbers(replace(world, future=higher))
    must(not _same(got, trial.values(trial.expected, world)), "what it stands on rises by 10, and it says the same")
    return None


@probe()
def an_outage_is_named(trial: AssumptionTrial) -> str | None:
    """Without network and without its files it answers, or raises AssumptionUnavailable; nothing else."""
    with tempfile.TemporaryDirectory() as place:
        lost = replace_folder(trial, Path(place) / "lost")
        try:
            with offline():
                lost.answer(trial.world)
        except AssumptionUnavailable as error:
            return f"it says {error}"
        except ForecastCoreError as error:
            must(lost.spec.example is not None, f"it raised {said(error)}, not AssumptionUnavailable")
            return f"it says {error}"
        except Exception as error:  # noqa: BLE001 - what kind it is of is what is checked
            fault(f"it raised {said(error)}; raise AssumptionUnavailable")
    return "it needs nothing from outside"


def replace_folder(trial: AssumptionTrial, folder: Path) -> AssumptionTrial:
    """The same assumption, its paths leading to where nothing is."""
    other = AssumptionTrial(replace(trial.spec, example=None), trial.params, folder, trial.covariates)
    old = str(trial.folder)
    other.params = {k: str(folder / Path(v).name) if str(v).startswith(old) else v for k, v in trial.params.items()}
    shutil.rmtree(folder, ignore_errors=True)
    return other


@probe()
def time_for_a_thousand_series(trial: AssumptionTrial) -> str | None:
    """Seconds for 1,000 series are told; no limit is set."""
    history = sample_history(series=50, rows=21 * 24, covariates=trial.covariates)
    world = World.of(history, horizon=48, frequency="h")
    started = time.perf_counter()
    trial.answer(world)
    return f"{20 * (time.perf_counter() - started):.2f} s for 1,000 series of 504 hours, 48 ahead"


PROBES = (
    answers,
    every_row_asked_is_answered,
    values_are_finite,
    an_answer_repeats,
    later_data_leave_no_trace,
    what_is_issued_later_changes_nothing,
    rows_are_in_order,
    types_are_kept,
    columns_are_those_asked,
    arguments_stay_untouched,
    a_future_with_answers_changes_nothing,
    other_series_change_nothing,
    fewer_rows_asked_change_nothing,
    nothing_asked_is_nothing_answered,
    a_history_of_one_row,
    no_history,
    a_history_without_values,
    a_history_with_gaps,
    a_constant_history,
    quarter_hours,
    daily_data,
    weekly_data,
    monthly_data,
    a_clock_that_is_put_forward_and_back,
    the_past_is_generated_alike,
    the_other_assumption_counts,
    an_outage_is_named,
    time_for_a_thousand_series,
    *MANNERS,
)
