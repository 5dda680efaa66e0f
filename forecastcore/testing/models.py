"""What every model must do, whatever it learns: the rows asked, the arguments let be, the parameters kept as data."""

from __future__ import annotations

import copy
import functools
import tempfile
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import guard, parameters, state
from forecastcore.api import quantile_column
from forecastcore.engines.local import LocalEngine
from forecastcore.ports import Unit
from forecastcore.testing.child import Report, answer_of, run_child, task_text, write_job
from forecastcore.testing.samples import sample_future, sample_history, sample_task
from forecastcore.testing.suite import Skip, must, other_processes, probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from forecastcore.api import Fitted, ModelSpec, Task

    Floats = npt.NDArray[np.float64]

__all__ = ["FIRST", "PROBES", "ModelTrial", "World", "apart", "same", "values_of"]

COVARIATE = "temperature"
#: forecasts count as equal within this share of their size
CLOSE = 1e-9


@dataclass(frozen=True)
class World:
    """History, and the question about what comes after it.

    Attributes:
        history: the frame contract.
        future: `unique_id, ds, step, <covariates>`.
        task: what is asked.
    """

    history: pd.DataFrame
    future: pd.DataFrame
    task: Task

    @classmethod
    def of(cls, history: pd.DataFrame, *, horizon: int = 7, frequency: str = "D", **changes: Any) -> World:
        """A history and the question that follows from it; the covariates' future swings around zero."""
        task = sample_task(history, frequency=frequency, horizon=horizon, **changes)
        future = sample_future(history, task)
        for name in task.covariates:
            future[name] = np.sin(future["step"].to_numpy(dtype=float))
        return cls(history, future, task)

    def until(self, origin: pd.Timestamp) -> World:
        """The same history as it stood at an earlier origin."""
        cut = self.history[self.history["ds"] <= origin].reset_index(drop=True)
        return World.of(cut, horizon=self.task.horizon, frequency=self.task.frequency, timezone=self.task.timezone)


@dataclass(frozen=True)
class Again:
    """A second use of a model, and what it was given, before and after."""

    answer: pd.DataFrame
    frames: Mapping[str, pd.DataFrame]
    kept: Mapping[str, pd.DataFrame]
    task: Task
    before: Mapping[str, str]
    after: Mapping[str, str]


def _inside(model: Any) -> dict[str, str]:
    return {name: repr(value) for name, value in getattr(model, "__dict__", {}).items()}


@dataclass
class ModelTrial:
    """A model on trial: its own object, with nobody who would catch what it does wrong.

    Attributes:
        spec: the offer.
        params: as a project file would give them.
        folder: for what has to be written; it is empty.
        version: of the distribution.
        quick: leave out what needs other processes.
    """

    spec: ModelSpec
    params: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    version: str = ""
    quick: bool = False

    def make(self) -> Any:
        """A new model."""
        return self.spec.factory(**parameters.values(self.spec.factory, self.params, root=self.folder))

    def given(self, frame: pd.DataFrame, task: Task) -> pd.DataFrame:
        """A frame as the host hands it on: gaps filled and covariates left out, as the capabilities say."""
        return guard.prepared(frame, task, self)

    def asked(self, task: Task) -> Task:
        """A task as the host hands it on."""
        return guard.asked_of(task, self)

    def fit(self, world: World, model: Any = None) -> Fitted:
        """Fit a new model, or the given one."""
        history, task = self.given(world.history, world.task), self.asked(world.task)
        fitted: Fitted = (model or self.make()).fit(history, task)
        return fitted

    def predict(self, fitted: Fitted, world: World) -> pd.DataFrame:
        """What the fitted model says, as it says it."""
        task = self.asked(world.task)
        context, future = self.given(world.history, world.task), self.given(world.future, world.task)
        return fitted.predict(context, future, task)

    def numbers(self, fitted: Fitted, world: World) -> Floats:
        """Point forecast and quantiles, row by row as `world.future` asks, NaN where there is none; never sorted."""
        return values_of(self.predict(fitted, world), world)

    @functools.cached_property
    def world(self) -> World:
        """Ten weeks of two daily series, with a covariate."""
        return World.of(sample_history(series=2, rows=70, frequency="D", covariates=(COVARIATE,)))

    @functools.cached_property
    def fitted(self) -> Fitted:
        """The model fitted on `world`."""
        return self.fit(self.world)

    @functools.cached_property
    def answer(self) -> pd.DataFrame:
        """What it says of `world`."""
        return self.predict(self.fitted, self.world)

    @functools.cached_property
    def expected(self) -> Floats:
        """The same as numbers, to compare with."""
        return values_of(self.answer, self.world)

    @functools.cached_property
    def again(self) -> Again:
        """All of it once more, with an eye on what is handed over."""
        world, task = self.world, self.asked(self.world.task)
        history, future = self.given(world.history, world.task), self.given(world.future, world.task)
        frames = {"history": history, "context": history.copy(), "future": future}
        kept = {name: frame.copy() for name, frame in frames.items()}
        model = self.make()
        before = _inside(model)
        fitted = model.fit(history, task)
        after = _inside(model)
        answer = fitted.predict(frames["context"], future, task).copy()
        return Again(answer, frames, kept, task, before, after)

    @functools.cached_property
    def job(self) -> Path:
        """A folder with all that another process needs to do the same."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        task = self.asked(self.world.task)
        write_job(
            folder,
            "model",
            self.spec.factory,
            self.params,
            task=task_text(task),
            trusted=list(self.spec.capabilities.trusted),
        )
        history = self.given(self.world.history, self.world.task)
        for name, frame in {"history": history, "context": history}.items():
            frame.to_parquet(folder / f"{name}.parquet")
        self.given(self.world.future, self.world.task).to_parquet(folder / "future.parquet")
        return folder

    @functools.cached_property
    def stored(self) -> Path:
        """The folder that the fitted model is stored in."""
        state.save(self.fitted, self.job / "state")
        return self.job / "state"

    @functools.cached_property
    def report(self) -> Report:
        """What a fresh process noticed while it loaded the stored model, if there is one, and did the same again."""
        other_processes(quick=self.quick)
        return run_child(self.job)


def values_of(answer: pd.DataFrame, world: World) -> Floats:
    """An answer as numbers in the order of the question, whatever its own order and types."""
    names = ["forecast", *(quantile_column(q) for q in world.task.quantiles)]
    told = answer.reindex(columns=["unique_id", "ds", *names]).drop_duplicates(["unique_id", "ds"])
    told = told.assign(unique_id=told["unique_id"].astype(str), ds=_utc(told["ds"]))
    asked = world.future[["unique_id", "ds"]].assign(ds=_utc(world.future["ds"]))
    return np.asarray(asked.merge(told, on=["unique_id", "ds"], how="left")[names].to_numpy(dtype=float))


def _utc(ds: pd.Series) -> pd.Series:
    return pd.to_datetime(ds, utc=True).astype("datetime64[ns, UTC]")


def same(one: Floats, two: Floats) -> bool:
    """Whether two answers are equal but for rounding."""
    return one.shape == two.shape and bool(np.allclose(one, two, rtol=CLOSE, atol=CLOSE, equal_nan=True))


def apart(one: Floats, two: Floats) -> str:
    """How far two answers are from each other, in words."""
    gap = np.abs(one[:, 0] - two[:, 0])
    return f"the forecasts differ by up to {np.nanmax(gap):.6g}" if np.isfinite(gap).any() else "the forecasts differ"


@probe(gate=True)
def fits_and_forecasts(trial: ModelTrial) -> str | None:
    """`fit` returns an object with `predict`, which returns a frame with `unique_id`, `ds` and `forecast`."""
    must(callable(getattr(trial.fitted, "predict", None)), f"fit returned {type(trial.fitted).__name__}, no predict")
    answer = trial.answer
    must(isinstance(answer, pd.DataFrame), f"predict returned {type(answer).__name__}, not a pandas frame")
    lacking = [name for name in ("unique_id", "ds", "forecast") if name not in answer]
    must(not lacking, f"predict returned the columns {list(answer.columns)}, and lacks {lacking}")
    return None


@probe(gate=True)
def rows_are_those_asked(trial: ModelTrial) -> str | None:
    """One row for each row of `future`: none left out, none added, none twice."""
    asked = set(zip(trial.world.future["unique_id"], _utc(trial.world.future["ds"]), strict=True))
    got = list(zip(trial.answer["unique_id"].astype(str), _utc(trial.answer["ds"]), strict=True))
    must(len(set(got)) == len(got), f"{len(got) - len(set(got))} rows stand twice")
    must(
        not set(got) - asked, f"{len(set(got) - asked)} rows were not asked for, such as {sorted(set(got) - asked)[:1]}"
    )
    must(not asked - set(got), f"{len(asked - set(got))} of {len(asked)} rows are missing")
    return None


@probe()
def rows_are_in_order(trial: ModelTrial) -> str | None:
    """The rows come in the order of `future`."""
    asked = trial.world.future
    in_order = np.array_equal(trial.answer["unique_id"].astype(str), asked["unique_id"]) and np.array_equal(
        _utc(trial.answer["ds"]), _utc(asked["ds"])
    )
    must(in_order, "the rows are those asked, in another order; return future[['unique_id', 'ds']] with your columns")
    return None


@probe(gate=True)
def forecasts_are_finite(trial: ModelTrial) -> str | None:
    """Ten good weeks give a finite number for each row."""
    bad = int((~np.isfinite(trial.expected[:, 0])).sum())
    told = trial.answer.attrs.get("failures") or ""
    must(not bad, f"{bad} of {len(trial.expected)} forecasts are no finite number {told}")
    return None


@probe()
def types_are_kept(trial: ModelTrial) -> str | None:
    """`unique_id` is text, `ds` has the type and the time zone of `future`, numbers are floats."""
    answer, asked = trial.answer, trial.world.future
    must(str(answer["ds"].dtype) == str(asked["ds"].dtype), f"ds is {answer['ds'].dtype}, not {asked['ds'].dtype}")
    must(all(isinstance(uid, str) for uid in answer["unique_id"]), "unique_id is not text")
    for name in answer.columns.drop(["unique_id", "ds"]):
        must(answer[name].dtype == float, f"{name} is {answer[name].dtype}, not float64")
    return None


@probe()
def columns_are_those_asked(trial: ModelTrial) -> str | None:
    """No columns but `unique_id`, `ds`, `forecast` and the quantiles that were asked for."""
    allowed = {"unique_id", "ds", "forecast", *(quantile_column(q) for q in trial.world.task.quantiles)}
    more = [name for name in trial.answer.columns if name not in allowed]
    must(not more, f"the columns {more} were not asked for")
    return None


@probe()
def quantiles_are_as_declared(trial: ModelTrial) -> str | None:
    """A model that declares quantiles gives every level asked; one that does not gives none."""
    names = [quantile_column(q) for q in trial.world.task.quantiles]
    given = [name for name in names if name in trial.answer and trial.answer[name].notna().any()]
    if trial.spec.capabilities.quantiles:
        must(given == names, f"it declares quantiles and was asked for {names}, but gave {given}")
    else:
        must(not given, f"it gave {given}, but its capabilities do not say quantiles")
    return "declared and given" if given else "none, as declared"


@probe("quantiles-are-as-declared")
def quantiles_never_cross(trial: ModelTrial) -> str | None:
    """Along a row, a higher quantile is never below a lower one."""
    if not trial.spec.capabilities.quantiles:
        raise Skip("it gives no quantiles; the host adds them by conformal calibration")
    falls = int((np.diff(trial.expected[:, 1:], axis=1) < 0).any(axis=1).sum())
    must(not falls, f"quantiles cross in {falls} of {len(trial.expected)} rows")
    return None


@probe("quantiles-are-as-declared")
def quantile_levels_may_change(trial: ModelTrial) -> str | None:
    """Other levels, or none, may be asked of a fitted model."""
    for levels in ((), (0.025, 0.25, 0.975)):
        world = replace(trial.world, task=replace(trial.world.task, quantiles=levels))
        got = trial.numbers(trial.fitted, world)
        must(np.isfinite(got[:, 0]).all(), f"asked for the levels {levels}, it gives no forecast")
        if trial.spec.capabilities.quantiles:
            must(np.isfinite(got).all(), f"asked for the levels {levels}, it leaves some out")
    return None


@probe()
def arguments_stay_untouched(trial: ModelTrial) -> str | None:
    """`fit` and `predict` leave the frames and the task as they were."""
    changed = [name for name, frame in trial.again.frames.items() if not frame.equals(trial.again.kept[name])]
    must(not changed, f"it changed {' and '.join(changed)}; change a copy")
    must(trial.again.task == trial.asked(trial.world.task), "it changed the task")
    return None


@probe()
def fit_leaves_the_model_as_it_was(trial: ModelTrial) -> str | None:
    """`fit` returns what it learned, and keeps nothing in the model: the model is only its parameters."""
    before, after = trial.again.before, trial.again.after
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    must(not changed, f"fit left {changed} in the model; put what is learned into what fit returns")
    return None


@probe(gate=True)
def predict_repeats(trial: ModelTrial) -> str | None:
    """The same fitted model, asked twice, says the same."""
    again = trial.numbers(trial.fitted, trial.world)
    must(
        same(again, trial.expected), f"asked twice, {apart(again, trial.expected)}; seed what is random with task.seed"
    )
    return None


@probe(gate=True)
def fit_repeats(trial: ModelTrial) -> str | None:
    """Two models fitted on the same history with the same seed say the same."""
    again = values_of(trial.again.answer, trial.world)
    must(
        same(again, trial.expected), f"fitted twice, {apart(again, trial.expected)}; seed what is random with task.seed"
    )
    return None


@probe()
def state_is_data(trial: ModelTrial) -> str | None:
    """What `fit` returns can be stored as JSON, npz, Parquet and skops, without pickle."""
    size = sum(file.stat().st_size for file in trial.stored.iterdir())
    return f"{size / 1024:.0f} KiB for two series"


@probe("state-is-data")
def loaded_state_forecasts_alike(trial: ModelTrial) -> str | None:
    """Stored and loaded, it says the same; classes come from the plugin's own package only."""
    package = trial.spec.factory.__module__.split(".")[0]
    loaded = state.load(trial.stored, packages=(package,), trusted=trial.spec.capabilities.trusted)
    got = trial.numbers(loaded, trial.world)
    must(same(got, trial.expected), f"stored and loaded, {apart(got, trial.expected)}")
    return None


@probe("loaded-state-forecasts-alike")
def loaded_in_a_fresh_process_it_forecasts_alike(trial: ModelTrial) -> str | None:
    """Loaded by a process that never fitted it, it says the same."""
    must(trial.stored.exists() and not trial.report.load_error, f"a fresh process raised {trial.report.load_error}")
    got = values_of(pd.read_parquet(trial.job / "loaded.parquet"), trial.world)
    must(same(got, trial.expected), f"loaded in a fresh process, {apart(got, trial.expected)}")
    return None


@probe("state-is-data")
def predict_estimates_nothing(trial: ModelTrial) -> str | None:
    """`predict` leaves the learned parameters as they are, byte for byte, also on newer data."""
    fitted = trial.fit(trial.world) if not is_dataclass(trial.fitted) else copy.deepcopy(trial.fitted)
    before = _bytes(fitted, trial.job)
    newer = World.of(sample_history(series=2, rows=77, frequency="D", covariates=(COVARIATE,), seed=1))
    trial.predict(fitted, newer)
    must(_bytes(fitted, trial.job) == before, "predict changed the fitted object; learn in fit, apply in predict")
    return None


def _bytes(fitted: Fitted, folder: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        state.save(fitted, Path(place) / "state")
        return {file.name: file.read_bytes() for file in (Path(place) / "state").iterdir()}


@probe()
def a_worker_process_forecasts_alike(trial: ModelTrial) -> str | None:
    """Fitted in a worker process of the local engine, it says the same."""
    other_processes(quick=trial.quick)
    units = [Unit(ids=("series-0",), request=request) for request in (str(trial.job), "")]
    told = dict(LocalEngine(2).map(_in_worker, trial.world.history, units))
    answer = values_of(told[0], trial.world)
    must(same(answer, trial.expected), f"in a worker process, {apart(answer, trial.expected)}")
    return None


def _in_worker(_chunk: pd.DataFrame, request: str) -> Any:
    return answer_of(Path(request)) if request else pd.DataFrame()


#: without these nothing else can be said
FIRST = (
    fits_and_forecasts,
    rows_are_those_asked,
    forecasts_are_finite,
    predict_repeats,
    fit_repeats,
)
PROBES = (
    rows_are_in_order,
    types_are_kept,
    columns_are_those_asked,
    quantiles_are_as_declared,
    quantiles_never_cross,
    quantile_levels_may_change,
    arguments_stay_untouched,
    fit_leaves_the_model_as_it_was,
    state_is_data,
    loaded_state_forecasts_alike,
    loaded_in_a_fresh_process_it_forecasts_alike,
    predict_estimates_nothing,
    a_worker_process_forecasts_alike,
)
