"""What a global model on features needs, whatever library it trains with; numpy and pandas only.

A plugin brings trees, this brings the rest: `learn` lays the series out as a panel, samples past origins, computes
features as they were known there (lags by the wall clock, windows, calendar, covariates as they would have been
assumed), fits a robust linear part, and has the plugin's `grow` learn what that leaves over. What it returns stores
itself.

The rooms: `panel` (series as a matrix), `features` (what is known at an origin), `sampling` (which past origins),
`lesson` (training rows), `linear` (the linear part), `model` (all of it together).
"""

from forecastcore.tabular.lesson import Covariates, Strategy
from forecastcore.tabular.model import FittedTabular, Growth, Quantiles, Trees, learn

__all__ = ["Covariates", "FittedTabular", "Growth", "Quantiles", "Strategy", "Trees", "learn"]
