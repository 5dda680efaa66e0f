"""From history to a fitted model: a linear part, and what a library's trees make of what it leaves over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd

from forecastcore.api import quantile_column
from forecastcore.errors import PluginError
from forecastcore.tabular.features import Features, Plan, Rows, features_of
from forecastcore.tabular.lesson import CLIP, Covariates, Strategy, lesson_of
from forecastcore.tabular.linear import Linear, fit_linear
from forecastcore.tabular.panel import Panel, panel_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore.tabular.panel import Floats, Ints

__all__ = ["FittedTabular", "Growth", "Quantiles", "Trees", "learn"]

_WORTH_THREADS = 20_000_000  # numbers that trees learn from

Quantiles = Literal["conformal", "native"]


class Trees(Protocol):
    """What was grown: a scikit-learn estimator, or a class of the plugin's with `to_state` and `from_state`."""

    def predict(self, x: Any, /) -> Any:
        """Answers, shape (rows,), to features, shape (rows, features), NaN where unknown; one row at a time."""
        ...


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How trees are to be grown.

    Attributes:
        seed: of every random choice.
        threads: how many the library may use.
        repeats: rows that aim at the same instant of a series, on average. They are alike: what a leaf must hold at
            least, in distinct targets, is to be multiplied by it.
        level: the quantile to aim at, such as 0.9; None for the point forecast.
    """

    seed: int = 0
    threads: int = 1
    repeats: int = 1
    level: float | None = None


def learn(  # noqa: PLR0913 - what a model family lets its users set
    history: pd.DataFrame,
    task: Task,
    grow: Callable[[Floats, Floats, Growth], Trees] | None = None,
    *,
    strategy: Strategy = "direct",
    covariates: Covariates = "assumed",
    max_rows: int = 40_000,
    quantiles: Quantiles = "conformal",
    alpha: float | None = None,
) -> FittedTabular:
    """Learn one model of all series: a linear part, then trees of what it leaves over.

    Args:
        history: `unique_id, ds, y, <covariates>`, as a model of global scope gets it.
        task: what will be asked.
        grow: grows trees from features, shape (rows, features), NaN where unknown, and what they are to answer, shape
            (rows,); None leaves it at the linear part.
        strategy: `direct` forecasts each step from the origin, `recursive` steps through its own forecasts.
        covariates: `assumed` also learns from covariates as they would have been assumed, where the host can say;
            `actual` learns from the actual ones only.
        max_rows: training rows at most.
        quantiles: `native` has trees grown for each of the task's quantiles too (`Growth.level`); `conformal` leaves
            quantiles to the host.
        alpha: penalty of the linear part per training row; None chooses on held-out blocks of history.

    Raises:
        HistoryTooShort: no series is longer than the horizon.
        PluginError: native quantiles are asked of a model that is recursive.
    """
    from threadpoolctl import threadpool_limits

    if quantiles == "native" and strategy == "recursive":
        hint = "write quantiles: conformal, or strategy: direct"
        raise PluginError(
            "a recursive model answers one step after the other, without quantiles", hook="fit", hint=hint
        )
    lesson = lesson_of(history, task, strategy, covariates, max_rows)
    with threadpool_limits(limits=1):  # more threads would add up in another order, and gain little at this size
        linear = fit_linear(lesson, alpha)
        answer = linear.predict(lesson.features, lesson.series)
    if grow is None:
        return FittedTabular(lesson.plan, lesson.ids, linear, None, (), np.empty(0, dtype=bool), strategy)
    seen, rest = _matrix(lesson.features, answer), np.round(lesson.target - answer, 6)
    used: npt.NDArray[np.bool_] = np.asarray(np.isfinite(seen).any(axis=0))
    seen, repeats = seen[:, used], max(1, round(len(seen) / lesson.targets))
    growth = Growth(seed=task.seed, threads=_threads(seen, task), repeats=repeats)
    levels = task.quantiles if quantiles == "native" else ()
    bands = tuple(grow(seen, rest, replace(growth, level=level)) for level in levels)
    return FittedTabular(lesson.plan, lesson.ids, linear, grow(seen, rest, growth), bands, used, strategy)


def _matrix(features: Features, linear: Floats) -> Floats:
    """What the trees see: all features, how covariates differ from where the lags were taken, and the linear answer."""
    values = features.columns
    phases = [name for name in values if name.startswith("x") and "_phase_" in name]
    differences = [values[name.split("_", 1)[0]] - values[name] for name in phases]
    return np.stack([*values.values(), *differences, np.round(linear, 6)]).T


@dataclass(frozen=True)
class FittedTabular:
    """Learned parameters.

    Attributes:
        plan: lags and windows read.
        ids: series that were learned from.
        linear: the linear part.
        trees: what the linear part leaves over; None where there is none.
        bands: likewise for each quantile; empty where quantiles are left to the host.
        used: which columns the trees see; those that were known in training.
        strategy: how later steps are reached.
    """

    plan: Plan
    ids: tuple[str, ...]
    linear: Linear
    trees: Any
    bands: tuple[Any, ...]
    used: npt.NDArray[np.bool_]
    strategy: Strategy

    def predict(self, context: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """Forecast each series from its own context; series that were not learned from are served too.

        A forecast is not below 0 where the context never is. A series without observations gets NaN.
        """
        from threadpoolctl import threadpool_limits

        panel = panel_of(context, task, future)
        rows = _asked(panel, future)
        with threadpool_limits(limits=1):
            answers = self._direct(panel, rows) if self.strategy == "direct" else self._recursive(panel, rows)
        seen = np.where(np.isfinite(panel.y), panel.y, np.inf)
        floor = np.where(seen.min(axis=1) >= 0, 0.0, -np.inf)[rows.series]
        answers = np.maximum(answers, floor)
        out = future[["unique_id", "ds"]].assign(forecast=answers[0])
        if self.bands:
            out[[quantile_column(level) for level in task.quantiles]] = np.sort(answers[1:], axis=0).T
        return out

    def _direct(self, panel: Panel, rows: Rows) -> Floats:
        """The point forecast, then the quantiles; shape (1 + quantiles, rows)."""
        features = features_of(panel, rows, self.plan)
        asked = {*panel.ids}
        known = {name: number for number, name in enumerate(self.ids) if name in asked}
        own = np.array([known.get(name, len(self.ids)) for name in panel.ids], dtype=np.int64)
        linear = self.linear.predict(features, own[rows.series])
        answers = linear[None]
        if self.trees is not None:
            seen = _matrix(features, linear)[:, self.used]
            answers = linear + np.stack([trees.predict(seen) for trees in (self.trees, *self.bands)])
        return features.level + features.scale * np.clip(answers, -2 * CLIP, 2 * CLIP)

    def _recursive(self, panel: Panel, rows: Rows) -> Floats:
        """Answer one step at a time; each answer is history of the next."""
        start = int(rows.origin.min())
        reach = max(0, start + 1 - self.plan.reach)
        panel = panel.since(reach)
        every: Ints = np.array(range(len(panel.ids)), dtype=np.int64)
        for place in range(start + 1 - reach, panel.y.shape[1]):
            one = Rows(every, every * 0 + (place - 1), every * 0 + 1)
            panel.y[:, place] = self._direct(panel, one)[0]
        return np.asarray(panel.y[None, rows.series, rows.origin + rows.step - reach])


def _asked(panel: Panel, future: pd.DataFrame) -> Rows:
    number = {name: position for position, name in enumerate(panel.ids)}
    series = np.asarray(future["unique_id"].map(number), dtype=np.int64)
    place = panel.instants.get_indexer(pd.DatetimeIndex(future["ds"]))
    step = future["step"].to_numpy(dtype=np.int64)
    return Rows(series, place - step, step)


def _threads(seen: Floats, task: Task) -> int:
    """Threads that wait for each other on a busy machine lose minutes where they could have gained a second."""
    return task.threads if seen.size > _WORTH_THREADS else 1
