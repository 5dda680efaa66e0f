"""Global models: one ridge regression or one boosted ensemble of all series."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from forecastcore.errors import HistoryTooShort
from forecastcore_sklearn.features import Plan, Rows, features_of, plan_of
from forecastcore_sklearn.linear import Linear, fit_linear
from forecastcore_sklearn.panel import panel_of
from forecastcore_sklearn.sampling import replayed, sample, training_origins

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.api import Task

_CLIP = 10.0


def learn_rows(history, task, max_rows, covariates):
    panel = panel_of(history, task)
    use_replay = task.replay is not None and covariates == "assumed" and bool(task.covariates)
    plan = plan_of(panel, task.seasons, task.horizon)
    origins = training_origins(panel, task.horizon, max_rows, replay=use_replay)
    rows = sample(panel, origins, task.horizon, max_rows, task.seed)
    if use_replay:
        ahead = replayed(panel, origins, task)
        rows = Rows(rows.series, rows.origin, rows.step, ahead, np.searchsorted(origins, rows.origin))
    if len(rows.series) < 20:
        raise HistoryTooShort(20, len(rows.series))
    features = features_of(panel, rows, plan)
    target = panel.y[rows.series, rows.origin + rows.step]
    z = np.clip((target - features.level) / features.scale, -_CLIP, _CLIP)
    at = rows.origin + rows.step
    late = at >= np.quantile(at, 0.8)
    return panel, plan, rows, features, z, late


def matrix(features, base):
    cols = dict(features.values)
    for k in list(cols):
        if k.startswith("x") and "_phase_" in k:
            n = k.split("_")[0]
            cols[k + "_diff"] = cols[n] - cols[k]
    cols["linear"] = base
    return np.stack([np.clip(c, -1e6, 1e6) for c in cols.values()], axis=1)


@dataclass(frozen=True)
class FittedTabular:
    plan: Plan
    ids: tuple
    linear: Linear
    trees: Any
    residual: bool

    def predict(self, context, future, task):
        panel = panel_of(context, task, future)
        number = {n: i for i, n in enumerate(panel.ids)}
        series = future["unique_id"].map(number).to_numpy(dtype=np.int64)
        places = panel.instants.get_indexer(__import__("pandas").DatetimeIndex(future["ds"]))
        step = future["step"].to_numpy(dtype=np.int64)
        rows = Rows(series, places - step, step)
        features = features_of(panel, rows, self.plan)
        codes = {n: i for i, n in enumerate(self.ids)}
        own = np.array([codes.get(n, len(self.ids)) for n in panel.ids])[series]
        z = base = self.linear.predict(features, self.plan, own)
        if self.trees is not None:
            z = self.trees.predict(matrix(features, base)) + (base if self.residual else 0)
        out = future[["unique_id", "ds"]].copy()
        out["forecast"] = features.level + features.scale * z
        return out


@dataclass(frozen=True)
class Ridge:
    alpha: float | None = None
    max_rows: int = 60_000
    covariates: str = "assumed"

    def fit(self, history, task):
        panel, plan, rows, features, z, late = learn_rows(history, task, self.max_rows, self.covariates)
        linear = fit_linear(features, plan, z, late, rows.series, len(panel.ids), task.horizon, self.alpha)
        return FittedTabular(plan, panel.ids, linear, None, False)


@dataclass(frozen=True)
class GradientBoosting:
    learning_rate: float = 0.08
    max_iter: int = 150
    max_leaf_nodes: int = 31
    min_samples_leaf: int = 40
    l2_regularization: float = 1.0
    loss: str = "squared_error"
    max_rows: int = 120_000
    covariates: str = "assumed"
    residual: bool = True

    def fit(self, history, task):
        from sklearn.ensemble import HistGradientBoostingRegressor

        panel, plan, rows, features, z, late = learn_rows(history, task, self.max_rows, self.covariates)
        linear = fit_linear(features, plan, z, late, rows.series, len(panel.ids), task.horizon, None)
        base = linear.predict(features, plan, rows.series)
        trees = HistGradientBoostingRegressor(
            loss=self.loss,
            learning_rate=self.learning_rate,
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            early_stopping=False,
            random_state=task.seed,
        ).fit(matrix(features, base), z - base if self.residual else z)
        return FittedTabular(plan, panel.ids, linear, trees, self.residual)
