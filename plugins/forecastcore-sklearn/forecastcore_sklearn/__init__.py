"""Global models of scikit-learn for forecastcore: `ridge`, `gradient-boosting`, `random-forest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Capabilities, ModelSpec, hookimpl
from forecastcore_sklearn.models import GradientBoosting, RandomForest, Ridge

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GradientBoosting", "RandomForest", "Ridge", "forecastcore_models"]

# What scikit-learn's estimators hold beside the classes that skops trusts by itself.
_BOOSTING = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
_FOREST = ("sklearn.tree._tree.Tree",)


def _global(*, quantiles: bool = False, trusted: tuple[str, ...] = ()) -> Capabilities:
    return Capabilities(
        scope="global", covariates=True, quantiles=quantiles, missing=True, min_history=8, trusted=trusted
    )


@hookimpl
def forecastcore_models() -> Iterable[ModelSpec]:
    """Offer the three families."""
    return [
        ModelSpec(
            name="ridge",
            summary="one ridge regression of all series on lags, calendar and covariates",
            factory=Ridge,
            capabilities=_global(),
        ),
        ModelSpec(
            name="gradient-boosting",
            summary="one boosted tree ensemble of all series on lags, calendar and covariates, over a ridge regression",
            factory=GradientBoosting,
            capabilities=_global(quantiles=True, trusted=_BOOSTING),
        ),
        ModelSpec(
            name="random-forest",
            summary="one random forest of all series on lags, calendar and covariates, over a ridge regression",
            factory=RandomForest,
            capabilities=_global(trusted=_FOREST),
        ),
    ]
