"""Fills what cannot be known yet: the covariates' future, as it would be assumed at an origin.

Three ways a covariate gets its future: the source knows it (`known`), an archive says what was assumed when
(`issued`), or an assumption answers from the history before the origin. Whatever the way, nothing later than the
origin is handed on.
"""

from __future__ import annotations

from forecastcore.assumptions.asking import Link, Made
from forecastcore.assumptions.filling import Assumptions, Covariate, Future, blank_future
from forecastcore.assumptions.forecaster import Forecaster
from forecastcore.assumptions.replay import replayer

__all__ = ["Assumptions", "Covariate", "Forecaster", "Future", "Link", "Made", "blank_future", "replayer"]
