"""Models of global scope: one ridge regression, boosted ensemble or forest of all series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from forecastcore_sklearn.features import Features, Plan, Rows, features_of
from forecastcore_sklearn.lesson import CLIP, Covariates, Lesson, Strategy, lesson_of
from forecastcore_sklearn.linear import Linear, fit_linear
from forecastcore_sklearn.panel import Panel, panel_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore_sklearn.panel import Floats, Ints

__all__ = ["FittedTabular", "GradientBoosting", "RandomForest", "Ridge"]

_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
_EVERY = 2  # of the rows not held out, to learn how far trees hold
_WORTH_THREADS = 20_000_000  # numbers that trees learn from


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
        trees: estimator of what the linear part leaves over; None where there is none.
        used: which columns the trees see; those that were known in training.
        share: of the trees' answer that is added.
        strategy: how later steps are reached.
    """

    plan: Plan
    ids: tuple[str, ...]
    linear: Linear
    trees: Any
    used: npt.NDArray[np.bool_]
    share: float
    strategy: Strategy

    def predict(self, context: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """Forecast each series from its own context; series that were not learned from are served too.

        A forecast is not below 0 where the context never is. A series without observations gets NaN.
        """
        from threadpoolctl import threadpool_limits

        panel = panel_of(context, task, future)
        rows = _asked(panel, future)
        with threadpool_limits(limits=1):
            forecast = self._direct(panel, rows) if self.strategy == "direct" else self._recursive(panel, rows)
        seen = np.where(np.isfinite(panel.y), panel.y, np.inf)
        floor = np.where(seen.min(axis=1) >= 0, 0.0, -np.inf)[rows.series]
        out = future[["unique_id", "ds"]].copy()
        out["forecast"] = np.maximum(forecast, floor)
        return out

    def _direct(self, panel: Panel, rows: Rows) -> Floats:
        features = features_of(panel, rows, self.plan)
        known = {name: number for number, name in enumerate(self.ids)}
        own = np.array([known.get(name, len(known)) for name in panel.ids], dtype=np.int64)
        answer = self.linear.predict(features, self.plan, own[rows.series])
        if self.trees is not None:
            answer = answer + self.share * self.trees.predict(_matrix(features, answer)[:, self.used])
        return features.level + features.scale * np.clip(answer, -2 * CLIP, 2 * CLIP)

    def _recursive(self, panel: Panel, rows: Rows) -> Floats:
        """Answer one step at a time; each answer is history of the next."""
        start = int(rows.origin.min())
        reach = max(0, start + 1 - self.plan.reach)
        panel = panel.since(reach)
        every: Ints = np.array(range(len(panel.ids)), dtype=np.int64)
        for place in range(start + 1 - reach, panel.y.shape[1]):
            one = Rows(every, every * 0 + (place - 1), every * 0 + 1)
            panel.y[:, place] = self._direct(panel, one)
        return np.asarray(panel.y[rows.series, rows.origin + rows.step - reach])


def _asked(panel: Panel, future: pd.DataFrame) -> Rows:
    number = {name: position for position, name in enumerate(panel.ids)}
    series = np.asarray(future["unique_id"].map(number), dtype=np.int64)
    place = panel.instants.get_indexer(pd.DatetimeIndex(future["ds"]))
    step = future["step"].to_numpy(dtype=np.int64)
    return Rows(series, place - step, step)


def _learn(
    lesson: Lesson, task: Task, strategy: Strategy, alpha: float | None, grow: Callable[[int], Any] | None
) -> FittedTabular:
    """The linear part, then an estimator of what it leaves over."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # more threads would add up in another order, and gain little at this size
        linear = fit_linear(lesson, alpha)
        answer = linear.predict(lesson.features, lesson.plan, lesson.series)
    rows = lesson.chosen(linear.trust)
    seen, rest, held = (
        _matrix(lesson.features, answer)[rows],
        np.round(lesson.target - answer, 6)[rows],
        lesson.held[rows],
    )
    used: npt.NDArray[np.bool_] = np.asarray(np.isfinite(seen[_some(held)]).any(axis=0))
    trees, share = None, 0.0
    if grow is not None:
        # Made before threads are limited: making it loads the libraries whose threads are meant.
        trees = grow(max(1, round(len(seen) / lesson.targets)))
        with threadpool_limits(limits=_threads(seen, task)):
            share = _held(trees, held, seen[:, used], rest)
            trees.fit(seen[:, used], rest)
    return FittedTabular(lesson.plan, lesson.ids, linear, trees, used, share, strategy)


def _held(trees: Any, held: npt.NDArray[np.bool_], seen: Floats, rest: Floats) -> float:
    """The share of what trees learned from one part of history that held on the other."""
    if held.all() or not held.any():
        return 1.0
    some = _some(held)
    early = trees.fit(seen[some], rest[some]).predict(seen[held])
    return min(_SHARES, key=lambda share: float(np.abs(rest[held] - share * early).mean()))


def _some(held: npt.NDArray[np.bool_]) -> Ints:
    """Rows that the share is learned from."""
    return np.flatnonzero(~held if not held.all() else held)[::_EVERY]


def _threads(seen: Floats, task: Task) -> int:
    """Threads that wait for each other on a busy machine lose minutes where they could have gained a second."""
    return task.threads if seen.size > _WORTH_THREADS else 1


@dataclass(frozen=True)
class Ridge:
    """Ridge regression on lags, levels, calendar and covariates, corrected per hour of day and per series.

    Attributes:
        alpha: penalty per training row of the standardised features; None chooses on held-out blocks of history.
        strategy: `direct` forecasts each step from the origin, `recursive` steps through its own forecasts.
        covariates: `assumed` also learns from covariates as they would have been assumed, where the host can say;
            `actual` learns from the actual ones only.
        max_rows: training rows at most.
    """

    alpha: float | None = None
    strategy: Strategy = "direct"
    covariates: Covariates = "assumed"
    max_rows: int = 40_000

    def fit(self, history: pd.DataFrame, task: Task) -> FittedTabular:
        """Learn from all series at once.

        Raises:
            HistoryTooShort: no series is longer than the horizon.
        """
        lesson = lesson_of(history, task, self.strategy, self.covariates, self.max_rows)
        return _learn(lesson, task, self.strategy, self.alpha, None)


@dataclass(frozen=True)
class GradientBoosting:
    """Histogram gradient boosting (scikit-learn) of what a ridge regression on the same features leaves over.

    The linear part follows trends and levels that trees cannot reach; the trees bend it.

    Attributes:
        learning_rate: share of each tree that is believed.
        max_iter: trees.
        max_leaf_nodes: leaves of a tree.
        min_samples_leaf: distinct targets of a leaf at least.
        l2_regularization: penalty of leaf values.
        loss: `squared_error` aims at the mean, `absolute_error` at the median.
        strategy: as in `Ridge`.
        covariates: as in `Ridge`.
        max_rows: training rows at most.
    """

    learning_rate: float = 0.1
    max_iter: int = 80
    max_leaf_nodes: int = 31
    min_samples_leaf: int = 40
    l2_regularization: float = 1.0
    loss: Literal["squared_error", "absolute_error"] = "absolute_error"
    strategy: Strategy = "direct"
    covariates: Covariates = "assumed"
    max_rows: int = 40_000

    def fit(self, history: pd.DataFrame, task: Task) -> FittedTabular:
        """Learn from all series at once.

        Raises:
            HistoryTooShort: no series is longer than the horizon.
        """

        def grow(repeats: int) -> Any:
            from sklearn.ensemble import HistGradientBoostingRegressor

            return HistGradientBoostingRegressor(
                loss=self.loss,
                learning_rate=self.learning_rate,
                max_iter=self.max_iter,
                max_leaf_nodes=self.max_leaf_nodes,
                min_samples_leaf=self.min_samples_leaf * repeats,
                l2_regularization=self.l2_regularization,
                early_stopping=False,
                random_state=task.seed,
            )

        lesson = lesson_of(history, task, self.strategy, self.covariates, self.max_rows)
        return _learn(lesson, task, self.strategy, None, grow)


@dataclass(frozen=True)
class RandomForest:
    """Random forest (scikit-learn) of what a ridge regression on the same features leaves over.

    Attributes:
        trees: how many.
        min_samples_leaf: distinct targets of a leaf at least.
        max_features: share of the features tried at a split.
        strategy: as in `Ridge`.
        covariates: as in `Ridge`.
        max_rows: training rows at most.
    """

    trees: int = 30
    min_samples_leaf: int = 20
    max_features: float = 0.2
    strategy: Strategy = "direct"
    covariates: Covariates = "assumed"
    max_rows: int = 12_000

    def fit(self, history: pd.DataFrame, task: Task) -> FittedTabular:
        """Learn from all series at once.

        Raises:
            HistoryTooShort: no series is longer than the horizon.
        """
        lesson = lesson_of(history, task, self.strategy, self.covariates, self.max_rows)

        def grow(repeats: int) -> Any:
            from sklearn.ensemble import RandomForestRegressor

            return RandomForestRegressor(
                n_estimators=self.trees,
                min_samples_leaf=self.min_samples_leaf * repeats,
                max_features=self.max_features,
                n_jobs=1,  # threads would add the trees up in any order
                random_state=task.seed,
            )

        return _learn(lesson, task, self.strategy, None, grow)
