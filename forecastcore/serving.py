"""A stored model applied by an engine: chunks of whole series, each with the learned parameters it needs.

Nothing is estimated; a series that no worker gets past the model is left to the fallback, as in the backtest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.frames import offsets
from forecastcore.ports import Unit
from forecastcore.units import chunks, package_unit, request_of, serve_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from forecastcore.frames import History
    from forecastcore.package import Package
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Project

__all__ = ["Stored", "serve", "serve_origins"]

#: points in a chunk, about: applying parameters costs far less than learning them
SERVED_POINTS = 200_000


@dataclass(frozen=True)
class Stored:
    """A packed model that workers read for themselves.

    Attributes:
        package: its outline, or all of it.
        folder: where it lies.
        there: the parts that lie there; None for all.
    """

    package: Package
    folder: Path
    there: tuple[str, ...] | None = None

    @property
    def uses_covariates(self) -> bool:
        """Whether covariates change the forecast."""
        return self.package.uses_covariates

    @property
    def digest(self) -> str:
        """Of the folder."""
        return self.package.digest

    def units(self, history: Past, request: Mapping[str, Any]) -> list[Unit]:
        """Chunks of the history, in its order, each with the names of the parts that it needs."""
        parts_of = self.package.series_of(self.folder, self.there)
        wide = {name: part for name, part in parts_of.items() if part.ids is None}
        holders: dict[str, set[str]] = {}
        for name, part in parts_of.items():
            for uid in (*(part.ids or ()), *part.failures):
                holders.setdefault(uid, set()).add(name)
        about = {**request, "digest": self.package.digest}
        units = []
        for ids in chunks(history, SERVED_POINTS):
            takers = {name for name, part in wide.items() if part.among(ids)}
            parts = sorted(takers.union(*(holders.get(uid, ()) for uid in ids)))
            order, reads = json.dumps({**about, "parts": parts}), tuple(f"state/{part}" for part in parts)
            units.append(Unit(ids, order, folder=self.folder, reads=reads))
        return units


def serve(
    project: Project,
    stored: Stored,
    history: History,
    future: pd.DataFrame,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> pd.DataFrame:
    """Forecast the rows after the origin; see `Package.forecast`, whose columns and order these are.

    Args:
        project: whose plugins.
        stored: what to apply.
        history: the context.
        future: `unique_id, ds, step, <covariates>`: every step of every series of the history.
        engine: where to run.
        progress: told (chunks done, chunks in all).
    """
    request = request_of(project, history.grid, origin=history.origin.isoformat())
    units = stored.units(history, request)
    made: dict[int, pd.DataFrame] = {}
    for number, frame in engine.map(serve_unit, _joined(history.panel, future), units):
        made[number] = frame
        progress(len(made), len(units))
    answers = pd.concat([made[number] for number in range(len(units))], ignore_index=True)
    return pd.concat([future[["unique_id", "ds", "step"]], answers], axis=1)


def _joined(context: pd.DataFrame, future: pd.DataFrame) -> pd.DataFrame:
    """One panel of both, as units cut it: each series' context, then its future with `y` missing."""
    both = pd.concat([context, future.drop(columns="step").assign(y=np.nan)[context.columns]], ignore_index=True)
    series = np.concatenate([np.repeat(np.arange(len(at) - 1), np.diff(at)) for at in map(offsets, (context, future))])
    return both.take(np.argsort(series, kind="stable")).reset_index(drop=True)


def serve_origins(
    project: Project,
    stored: Stored,
    history: Past,
    engine: Engine,
    origins: Sequence[tuple[int, pd.Timestamp]],
    *,
    actual: bool = False,
) -> Iterator[tuple[Sequence[str], pd.DataFrame]]:
    """What a stored model forecasts at numbered past origins, some series at a time: these, and `package_unit`'s rows.

    Series that did not yet exist at an origin have no rows there. `actual` gives the covariates that came instead of
    those assumed.
    """
    stamped = [(number, origin.isoformat()) for number, origin in origins]
    units = stored.units(history, request_of(project, history.grid, origins=stamped, actual=actual))
    for number, frame in engine.map(package_unit, history.panel, units):
        if len(frame):
            yield units[number].ids or (), frame
