"""One boosted tree ensemble of all series, trained by LightGBM and stored as LightGBM's own text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from forecastcore.tabular import Covariates, FittedTabular, Growth, Quantiles, Strategy, learn

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.api import Task

__all__ = ["LightGBM", "Trees"]


@dataclass(frozen=True)
class Trees:
    """Grown trees.

    Attributes:
        text: the model as LightGBM writes it.
    """

    text: str

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def predict(self, x: Any) -> Any:
        """Answers, shape (rows,); one thread, since answers are few."""
        return np.asarray(self._booster.predict(x, num_threads=1))


@dataclass(frozen=True)
class LightGBM:
    """LightGBM's gradient boosting of what a ridge regression on the same features leaves over.

    The linear part follows trends and levels that trees cannot reach; the trees bend it. Missing values need no
    filling: each split learns which way they go.

    Attributes:
        objective: `regression` aims at the mean, `regression_l1` at the median.
        learning_rate: share of each tree that is believed.
        num_iterations: trees.
        num_leaves: leaves of a tree.
        min_data_in_leaf: distinct targets of a leaf at least.
        lambda_l2: penalty of leaf values.
        feature_fraction: share of the features that each tree may use.
        strategy: `direct` forecasts each step from the origin, `recursive` steps through its own forecasts.
        covariates: `assumed` also learns from covariates as they would have been assumed, where the host can say;
            `actual` learns from the actual ones only.
        max_rows: training rows at most.
        quantiles: `native` grows trees for each quantile too; `conformal` takes them from backtest errors alone.
    """

    objective: Literal["regression", "regression_l1"] = "regression_l1"
    learning_rate: float = 0.1
    num_iterations: int = 80
    num_leaves: int = 31
    min_data_in_leaf: int = 40
    lambda_l2: float = 1.0
    feature_fraction: float = 0.7
    strategy: Strategy = "direct"
    covariates: Covariates = "assumed"
    max_rows: int = 40_000
    quantiles: Quantiles = "conformal"

    def fit(self, history: pd.DataFrame, task: Task) -> FittedTabular:
        """Learn from all series at once.

        Raises:
            HistoryTooShort: no series is longer than the horizon.
        """
        return learn(
            history,
            task,
            self.grow,
            strategy=self.strategy,
            covariates=self.covariates,
            max_rows=self.max_rows,
            quantiles=self.quantiles,
        )

    def grow(self, x: Any, y: Any, growth: Growth) -> Trees:
        """Grow trees as `learn` asks for them."""
        import lightgbm

        settings = {
            "objective": self.objective,
            **({} if growth.level is None else {"objective": "quantile", "alpha": growth.level}),
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf * growth.repeats,
            "lambda_l2": self.lambda_l2,
            "feature_fraction": self.feature_fraction,
            "seed": growth.seed,
            "num_threads": growth.threads,
            "deterministic": True,
            "force_row_wise": True,  # else LightGBM times both ways on the spot, and they add up differently
            "verbosity": -1,
        }
        grown = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=self.num_iterations)
        return Trees(grown.model_to_string())
