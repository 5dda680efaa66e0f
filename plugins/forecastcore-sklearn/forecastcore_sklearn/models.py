"""Models of global scope: one ridge regression, boosted ensemble or forest of all series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from forecastcore.tabular import Covariates, FittedTabular, Growth, Quantiles, Strategy, learn

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.api import Task

__all__ = ["GradientBoosting", "RandomForest", "Ridge"]


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
        return learn(
            history,
            task,
            alpha=self.alpha,
            strategy=self.strategy,
            covariates=self.covariates,
            max_rows=self.max_rows,
        )


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
        quantiles: `native` grows trees for each quantile too; `conformal` takes them from backtest errors alone.
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

    def grow(self, x: Any, y: Any, growth: Growth) -> Any:
        """Grow trees as `learn` asks for them."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        trees = HistGradientBoostingRegressor(
            loss=self.loss if growth.level is None else "quantile",
            quantile=growth.level,
            learning_rate=self.learning_rate,
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf * growth.repeats,
            l2_regularization=self.l2_regularization,
            early_stopping=False,
            random_state=growth.seed,
        )
        with threadpool_limits(limits=growth.threads):
            return trees.fit(x, y)


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
        return learn(
            history,
            task,
            self.grow,
            strategy=self.strategy,
            covariates=self.covariates,
            max_rows=self.max_rows,
        )

    def grow(self, x: Any, y: Any, growth: Growth) -> Any:
        """Grow trees as `learn` asks for them."""
        from sklearn.ensemble import RandomForestRegressor

        trees = RandomForestRegressor(
            n_estimators=self.trees,
            min_samples_leaf=self.min_samples_leaf * growth.repeats,
            max_features=self.max_features,
            n_jobs=1,  # threads would add the trees up in any order
            random_state=growth.seed,
        )
        return trees.fit(x, y)
