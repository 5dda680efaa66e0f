"""The champion's parameters once more, with intervals learned from its newest errors."""

from __future__ import annotations

import shutil
import tempfile
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
from forecastcore.ports import Steps
from forecastcore.results import FORECAST, MADE, OWN, pool_of
from forecastcore.runs.history import opened
from forecastcore.runs.promotion import existing, promote
from forecastcore.runs.record import tags_of
from forecastcore.runs.retrain import example_of
from forecastcore.serving import Stored, serve_origins
from forecastcore.state.digests import LISTING

if TYPE_CHECKING:
    from datetime import datetime

    from forecastcore.backtest import Backtest
    from forecastcore.messages import ModelVersion
    from forecastcore.ports import Engine, Past
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
    store, engine = runtime.store(project), runtime.engine_here(project)
    version = existing(store, "champion")
    folder = store.fetch(version)
    package = Package.outline(folder, project.host, version.digest or None)
    with (
        opened(project, engine, as_of, Steps()) as history,
        tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch,
    ):
        anew = Path(scratch) / "model"
        shutil.copytree(folder, anew, ignore=shutil.ignore_patterns(LISTING))
        rows = rows_of(project, history, _origins(project, history, package))
        learned = _learned(project, history, engine, package, anew, rows)
        tags = tags_of(project, history, "recalibrate")
        with store.run(f"recalibrate {history.origin:%Y-%m-%d %H:%M}", tags=tags) as tracked:
            Package.seal(anew, package.manifest, learned, package.blend)
            tracked.metrics({name: value for name, value in package.manifest.metrics.items() if value is not None})
            made = store.register(tracked, anew, example=example_of(project, history, anew))
    since = f"{len(rows.origins)} origins since its training"
    promote(project, made.version, reason=f"intervals of version {version.version} learned anew from {since}")
    return made


def _origins(project: Project, history: Past, package: Package) -> list[pd.Timestamp]:
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


def _learned(
    project: Project, history: Past, engine: Engine, package: Package, folder: Path, rows: Backtest
) -> Conformal:
    """How far quantiles lie from what a stored model forecasts at the origins of some rows.

    Args:
        project: whose.
        history: checked.
        engine: where to run.
        package: the model.
        folder: with its files; those of its intervals are written over.
        rows: to learn from.
    """
    horizon, levels = project.config.horizon, project.config.quantiles
    # with no offsets a row has the model's own quantiles, or none
    bare = Conformal(tuple(levels), np.zeros((horizon, len(levels))), np.full((horizon, len(levels)), np.nan), 0.0)
    Package.seal(folder, package.manifest, bare, package.blend)
    stored, sheet = Stored(Package.outline(folder, project.host), folder), rows.sheet(OWN + len(levels))
    columns = [quantile_column(level) for level in levels]
    for ids, frame in serve_origins(project, stored, history, engine, [*enumerate(rows.origins)]):
        values = np.full((len(frame), OWN + len(levels)), np.nan)
        values[:, FORECAST], values[:, MADE] = frame["forecast"], frame["status"] == "ok"
        values[:, OWN:] = frame[columns]
        rows.place_served(sheet, ids, frame, values)
    return calibrate(pool_of(rows, sheet), horizon, levels)
