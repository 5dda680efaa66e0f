"""One honest model, and bad copies of it, each with a single fault: the suite has to name it."""

import os
import random
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from forecastcore.api import ModelSpec, quantile_column
from forecastcore.errors import HistoryTooShort

COVARIATE = "temperature"


@dataclass(frozen=True)
class Fitted:
    """Level of the last week, plus a learned slope times the covariate."""

    slope: float

    def level(self, context, task):
        return context.groupby("unique_id")["y"].apply(lambda y: y.tail(7).mean())

    def effect(self, future, task):
        x = future[COVARIATE].to_numpy() if COVARIATE in task.covariates else np.zeros(len(future))
        return self.slope * x

    def predict(self, context, future, task):
        level = self.level(context, task).reindex(future["unique_id"]).to_numpy()
        return self.answer(future, level + self.effect(future, task), task)

    def answer(self, future, values, task):
        out = future[["unique_id", "ds"]].assign(forecast=values)
        for q in task.quantiles:
            out[quantile_column(q)] = values + np.sign(q - 0.5)
        return out


@dataclass(frozen=True)
class Honest:
    fitted = Fitted

    def fit(self, history, task):
        return self.fitted(slope_of(history, task))


def slope_of(history, task):
    lengths = history.groupby("unique_id")["y"].count()
    if (lengths < 7).any():
        raise HistoryTooShort(7, int(lengths.min()))
    if COVARIATE not in task.covariates:
        return 0.0
    by = history.groupby("unique_id")
    x, y = (history[c] - by[c].transform("mean") for c in (COVARIATE, "y"))
    return float((x * y).sum() / max((x**2).sum(), 1e-9)) if np.isfinite(y).all() else 0.0


def spec(model, **able):
    can = {"scope": "local", "covariates": True, "quantiles": True, **able}
    return ModelSpec(name="on-trial", summary="on trial", factory=model, capabilities=can)


def fitted_that(name, base=Fitted, **methods):
    """A fitted class that differs in some methods, found by its name in this module."""
    made = dataclass(frozen=True)(type(name, (base,), {"__module__": __name__, "__qualname__": name, **methods}))
    globals()[name] = made
    return made


def model_that(fitted=Fitted, **methods):
    name = f"Model{len([n for n in globals() if n.startswith('Model')])}"
    made = dataclass(frozen=True)(
        type(name, (Honest,), {"__module__": __name__, "__qualname__": name, "fitted": fitted, **methods})
    )
    globals()[name] = made
    return made


honest = Fitted.predict

# -- bad models: the check that has to fail, and nobody else, by the fault


def _without_a_row(self, context, future, task):
    return honest(self, context, future, task).iloc[:-1]


def _backwards(self, context, future, task):
    return honest(self, context, future, task).iloc[::-1].reset_index(drop=True)


def _without_a_zone(self, context, future, task):
    answer = honest(self, context, future, task)
    return answer.assign(ds=answer["ds"].dt.tz_localize(None))


def _crossing(self, context, future, task):
    answer = honest(self, context, future, task)
    names = [quantile_column(q) for q in task.quantiles]
    return answer.assign(**{name: -answer[name] for name in names})


def _fills_in_place(self, context, future, task):
    answer = honest(self, context.copy(), future, task)
    context["y"] = 0.0
    return answer


def _draws(self, context, future, task):
    answer = honest(self, context, future, task)
    return answer.assign(forecast=answer["forecast"] + np.random.default_rng().normal())


def _learns_by_chance(self, history, task):
    return self.fitted(slope_of(history, task) + np.random.default_rng().normal())


def _frozen_level(self, context, task):
    return context.groupby("unique_id")["y"].apply(lambda y: y.head(7).mean())


def _fits_itself(self, history, task):
    object.__setattr__(self, "seen", len(history))
    return self.fitted(slope_of(history, task))


def _learns_in_predict(self, context, future, task):
    object.__setattr__(self, "slope", self.slope + (1e-12 if len(context) > 140 else 0.0))
    return honest(self, context, future, task)


def _no_word_for_zeros(self, history, task):
    if (history["y"] == 0).all():
        raise IndexError("list index out of range")
    return self.fitted(slope_of(history, task))


def _prints(self, history, task):
    print("fitting", len(history), "rows")  # noqa: T201 - the fault on trial
    return self.fitted(slope_of(history, task))


def _silences_everybody(self, history, task):
    warnings.filterwarnings("ignore")
    random.seed(0)
    os.environ["ON_TRIAL"] = "1"
    return self.fitted(slope_of(history, task))


def _leaves_a_thread(self, history, task):
    threading.Thread(target=time.sleep, args=(20,), daemon=True, name="forgotten").start()
    return self.fitted(slope_of(history, task))


def _writes(self, history, task):
    (Path(tempfile.gettempdir()) / "on-trial.csv").write_text("x")
    (Path(tempfile.gettempdir()) / "on-trial.csv").unlink()
    return self.fitted(slope_of(history, task))


class Handle:
    """Nothing that could be stored as data."""


def _keeps_a_handle(self, history, task):
    return self.fitted(slope_of(history, task), Handle())


@dataclass(frozen=True)
class WithHandle(Fitted):
    handle: object = None


def _takes_all_columns(self, future, task):
    numeric = future.select_dtypes("number").drop(columns=["step"])
    return self.slope * numeric.sum(axis=1, skipna=False).to_numpy()


BAD = {
    "a row is missing": (model_that(fitted_that("F1", predict=_without_a_row)), "rows-are-those-asked"),
    "rows in another order": (model_that(fitted_that("F2", predict=_backwards)), "rows-are-in-order"),
    "no time zone": (model_that(fitted_that("F3", predict=_without_a_zone)), "types-are-kept"),
    "quantiles cross": (model_that(fitted_that("F4", predict=_crossing)), "quantiles-never-cross"),
    "arguments changed": (model_that(fitted_that("F5", predict=_fills_in_place)), "arguments-stay-untouched"),
    "predict draws": (model_that(fitted_that("F6", predict=_draws)), "predict-repeats"),
    "fit draws": (model_that(fit=_learns_by_chance), "fit-repeats"),
    "context ignored": (model_that(fitted_that("F7", level=_frozen_level)), "newer-context-counts"),
    "learned into the model": (model_that(fit=_fits_itself), "fit-leaves-the-model-as-it-was"),
    "learns in predict": (model_that(fitted_that("F8", predict=_learns_in_predict)), "predict-estimates-nothing"),
    "a slip on zeros": (model_that(fit=_no_word_for_zeros), "a-series-of-zeros"),
    "no data to store": (model_that(WithHandle, fit=_keeps_a_handle), "state-is-data"),
    "takes any column": (model_that(fitted_that("F9", effect=_takes_all_columns)), "unknown-columns-are-ignored"),
}


def _knows_spark(self, history, task):
    return self.fitted(slope_of(history, task) + 0.1 * ("SPARK_LOCAL_IP" in os.environ))


#: seen in a process of its own only
BAD_GUESTS = {
    "prints": (model_that(fit=_prints), "nothing-is-printed"),
    "leaves settings changed": (model_that(fit=_silences_everybody), "the-process-stays-as-it-was"),
    "leaves a thread": (model_that(fit=_leaves_a_thread), "the-process-stays-as-it-was"),
    "writes a file": (model_that(fit=_writes), "no-file-is-written"),
    "depends on where it runs": (model_that(fit=_knows_spark), "a-spark-worker-can-use-it"),
}

# -- leaks: each knows something that it cannot know

SEEN = {}
ARCHIVE = Path(tempfile.gettempdir()) / f"on-trial-{os.getpid()}.parquet"


def _remember(history):
    for row in history[["unique_id", "ds", "y"]].itertuples(index=False):
        SEEN[row.unique_id, row.ds] = row.y


def _fit_remembering(self, history, task):
    _remember(history)
    return self.fitted(slope_of(history, task))


def _remembered(self, future, task):
    known = [SEEN.get(key, np.nan) for key in zip(future["unique_id"], future["ds"], strict=True)]
    return np.nan_to_num(np.array(known)) * 0.1 + Fitted.effect(self, future, task)


def _fit_archiving(self, history, task):
    old = [pd.read_parquet(ARCHIVE)] if ARCHIVE.exists() else []
    rows = pd.concat([*old, history[["unique_id", "ds", "y"]]]).drop_duplicates(["unique_id", "ds"])
    rows.to_parquet(ARCHIVE)
    return self.fitted(slope_of(history, task))


def _archived(self, context, task):
    rows = pd.read_parquet(ARCHIVE)
    return rows.groupby("unique_id")["y"].max().reindex(context["unique_id"].unique())


def _target_as_feature(self, future, task):
    return (future["y"].to_numpy() if "y" in future else 0.0) + Fitted.effect(self, future, task)


@dataclass(frozen=True)
class WithPast(Fitted):
    """Keeps what it saw on training day."""

    past: pd.DataFrame = None

    def told(self, future, column):
        keys = future[["unique_id", "ds"]]
        return keys.merge(self.past, on=["unique_id", "ds"], how="left")[column].to_numpy()


def _keep(self, history, task):
    return self.fitted(slope_of(history, task), history.copy())


def _keep_smooth(self, history, task):
    smooth = history.groupby("unique_id")["y"].transform(lambda y: y.rolling(15, center=True, min_periods=1).mean())
    return self.fitted(slope_of(history, task), history.assign(y=smooth))


def _looks_up_actuals(self, future, task):
    return np.nan_to_num(self.told(future, "y") / 10) + Fitted.effect(self, future, task)


def _looks_up_level(self, context, task):
    last = context.groupby("unique_id")["ds"].max().rename("ds").reset_index()
    told = last.merge(self.past, on=["unique_id", "ds"], how="left").set_index("unique_id")["y"]
    level = Fitted.level(self, context, task)
    return (level + told.fillna(level)) / 2


def _interpolates(self, context, task):
    last = context.groupby("unique_id")["ds"].max().rename("ds").reset_index()
    after = last.assign(ds=last["ds"] + pd.Timedelta(1, "D")).merge(self.past, on=["unique_id", "ds"], how="left")
    level = Fitted.level(self, context, task)
    return (level + after.set_index("unique_id")["y"].fillna(level)) / 2


def _actual_weather(self, future, task):
    if COVARIATE not in self.past:
        return Fitted.effect(self, future, task)
    actual = self.told(future, COVARIATE)
    return self.slope * np.where(np.isfinite(actual), actual, future[COVARIATE])


def _scales_over_the_future(self, future, task):
    x = future[COVARIATE] if COVARIATE in task.covariates else pd.Series(np.zeros(len(future)))
    mean, spread = (x.groupby(future["unique_id"]).transform(how) for how in ("mean", "std"))
    return self.slope * ((x - mean) / spread.clip(lower=1e-9)).fillna(0.0).to_numpy()


def _window_over_the_future(self, future, task):
    x = future[COVARIATE] if COVARIATE in task.covariates else pd.Series(np.zeros(len(future)))
    centred = x.groupby(future["unique_id"]).transform(lambda v: v.rolling(3, center=True, min_periods=1).mean())
    return self.slope * centred.to_numpy()


def _scales_over_the_panel(self, context, task):
    level = Fitted.level(self, context, task)
    return level + 0.1 * (context["y"].mean() - level)


@dataclass(frozen=True)
class WithMemory(Fitted):
    """A fitted object that learns where it should not: from contexts."""

    best: dict = field(default_factory=dict)

    def level(self, context, task):
        for uid, y in context.groupby("unique_id")["y"]:
            self.best[uid] = max(self.best.get(uid, -np.inf), float(y.max()))
        return pd.Series(self.best).reindex(context["unique_id"].unique()) * 0.5 + Fitted.level(self, context, task) / 2


def _trusts_actuals(self, history, task):
    if task.replay is not None:
        task.replay([task.origin - pd.Timedelta(20, "D")])
    return self.fitted(slope_of(history, task))


def _by_the_clock(self, context, task):
    stale = (pd.Timestamp.now("UTC").floor("D") - task.origin) / pd.Timedelta(365, "D")
    return Fitted.level(self, context, task) * (1 + 0.01 * stale)


LEAKS = {
    "target as a feature, from the future's y": (
        model_that(fitted_that("L1", effect=_target_as_feature)),
        "a-future-with-answers-changes-nothing",
    ),
    "memory in the module": (
        model_that(fitted_that("L2", effect=_remembered), fit=_fit_remembering),
        "later-data-leave-no-trace",
    ),
    "memory in a file": (
        model_that(fitted_that("L3", level=_archived), fit=_fit_archiving),
        "later-data-leave-no-trace",
    ),
    "statistics of later contexts": (model_that(WithMemory), "a-later-context-leaves-no-trace"),
    "actual values looked up": (
        model_that(
            fitted_that("L4", WithPast, effect=_looks_up_actuals),
            fit=_keep,
        ),
        "training-rows-are-not-looked-up",
    ),
    "centred window over the target": (
        model_that(
            fitted_that("L5", WithPast, level=_looks_up_level),
            fit=_keep_smooth,
        ),
        "training-rows-are-not-looked-up",
    ),
    "interpolation across the origin": (
        model_that(fitted_that("L6", WithPast, level=_interpolates), fit=_keep),
        "training-rows-are-not-looked-up",
    ),
    "actual weather in place of the assumed": (
        model_that(
            fitted_that("L7", WithPast, effect=_actual_weather),
            fit=_keep,
        ),
        "assumed-covariates-count-in-the-past-too",
    ),
    "scaler over the future": (
        model_that(fitted_that("L8", effect=_scales_over_the_future)),
        "later-steps-change-nothing",
    ),
    "centred window over the future": (
        model_that(fitted_that("L9", effect=_window_over_the_future)),
        "later-steps-change-nothing",
    ),
    "normalisation over the whole panel": (
        model_that(fitted_that("L10", level=_scales_over_the_panel)),
        "other-series-change-nothing",
    ),
    "trained on actual weather": (model_that(fit=_trusts_actuals), "what-was-assumed-is-what-it-learns-from"),
    "today's date": (model_that(fitted_that("L11", level=_by_the_clock)), "a-forecast-moves-along-with-time"),
}
