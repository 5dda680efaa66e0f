"""The champion's parameters once more, with intervals learned from its newest errors."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore import runtime
from forecastcore.api import quantile_column
from forecastcore.backtest import rows_of
from forecastcore.errors import UsageError
from forecastcore.intervals import Conformal, calibrate
from forecastcore.package import Package
from forecastcore.runs.promotion import existing, promote
from forecastcore.runs.record import tags_of
from forecastcore.runs.retrain import example_of
from forecastcore.state.digests import LISTING

if TYPE_CHECKING:
    from datetime import datetime

    from forecastcore.backtest import Backtest
    from forecastcore.frames import History
    from forecastcore.intervals import Errors
    from forecastcore.messages import ModelVersion
    from forecastcore.project import Project

__all__ = ["recalibrate"]

#: origins whose errors are learned from at most, and at least
_MOST, _LEAST = 16, 2


def recalibrate(project: Project, as_of: str | datetime | None = None) -> ModelVersion:
    """Register the champion anew with intervals learned from its errors since its training, and make it champion.

    Point forecasts stay what they are, so there is nothing for the gate to compare.

    Args:
        project: whose champion.
        as_of: errors up to here are used; default: the newest value.

    Raises:
        UsageError: there is no champion, or too little has come since its training.
    """
    store, history = runtime.store(project), runtime.history(project, as_of)
    version = existing(store, "champion")
    folder = store.fetch(version)
    package = Package.load(folder, project.host, version.digest or None)
    rows = rows_of(project, history, _origins(project, history, package))
    learned = calibrate(_errors(project, history, package, rows), project.config.horizon, project.config.quantiles)
    reason = f"intervals of version {version.version} learned anew from {len(rows.origins)} origins since its training"
    tags = tags_of(project, history, "recalibrate")
    with (
        store.run(f"recalibrate {history.origin:%Y-%m-%d %H:%M}", tags=tags) as tracked,
        tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch,
    ):
        anew = Path(scratch) / "model"
        shutil.copytree(folder, anew, ignore=shutil.ignore_patterns(LISTING))
        Package.seal(anew, package.manifest, learned, package.blend)
        tracked.metrics({name: value for name, value in package.manifest.metrics.items() if value is not None})
        made = store.register(tracked, anew, example=example_of(project, history, anew))
    promote(project, made.version, reason=reason)
    return made


def _origins(project: Project, history: History, package: Package) -> list[pd.Timestamp]:
    """Origins since the training, half a horizon apart, oldest first; the newest has half of its horizon behind it."""
    grid, half = history.grid, max(project.config.horizon // 2, 1)
    until = pd.Timestamp(package.manifest.trained_until)
    found = [grid.shift(history.origin, -half * number) for number in range(1, _MOST + 1)]
    since = [origin for origin in reversed(found) if origin >= until]
    if len(since) < _LEAST:
        raise UsageError(
            f"only {len(since)} half horizons have come since the champion's training until {until}",
            hint="wait, or retrain",
        )
    return since


def _errors(project: Project, history: History, package: Package, rows: Backtest) -> Errors:
    levels = project.config.quantiles
    # Without offsets a row's quantiles are the model's own, or its point forecast where it has none.
    flat = np.zeros((project.config.horizon, len(levels)))
    bare = replace(package, conformal=Conformal(tuple(levels), flat, flat, 0.0))
    assumed, blocks = runtime.assumptions(project), []
    for number, origin in enumerate(rows.origins):
        past = history.panel[history.panel["ds"] <= origin].reset_index(drop=True)
        after = history.panel[history.panel["ds"] > origin]
        future = assumed.ahead(past, after, *runtime.asked_at(project, history, past, origin)).frame
        blocks.append(bare.forecast(past, future, origin).assign(fold=number))
    made = pd.concat(blocks).sort_values(["fold", "unique_id", "step"], kind="stable", ignore_index=True)
    forecast = made["forecast"].to_numpy(dtype=float)
    own = made[[quantile_column(level) for level in levels]].to_numpy(dtype=float)
    own[(own == forecast[:, None]).all(axis=1)] = np.nan
    return rows.errors(forecast, own, (made["status"] == "ok").to_numpy(dtype=bool))
