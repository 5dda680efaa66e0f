"""Who forecasts when the champion cannot be loaded: the champion before, else the last season again.

A forecast that is due goes out; every row says that it is degraded, and why.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np

from forecastcore import guard, runtime
from forecastcore.errors import StateError, TrackingError
from forecastcore.messages import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd

    from forecastcore.ports import ModelStore
    from forecastcore.project import Project
    from forecastcore.timegrid import TimeGrid

__all__ = ["UNAVAILABLE", "LastSeason", "Lenient", "Served", "marked", "whoever_can"]

#: the reason's code in the rows of a stand-in
UNAVAILABLE = "champion-unavailable"
#: letters of what is told of each version
_WORDS = 200
_log = logging.getLogger(__name__)


M = TypeVar("M")


@dataclass(frozen=True)
class Served(Generic[M]):
    """Who forecasts.

    Attributes:
        version: the registered version; of the last season, one by the name of `none`.
        model: what `load` gave, or `LastSeason`.
        reason: why it is not the champion; empty where it is.
        mend: what to do about that.
    """

    version: ModelVersion
    model: M | LastSeason
    reason: str = ""
    mend: str = ""

    @property
    def told(self) -> str:
        """Why it is not the champion, and what to do; empty where it is."""
        return f"{self.reason} ({self.mend})" if self.reason and self.mend else self.reason


@dataclass(frozen=True)
class LastSeason:
    """The last season again for every series, as the fallback of a series makes it."""

    project: Project
    grid: TimeGrid
    reason: str
    digest: str = ""
    uses_covariates: bool = False

    def forecast(self, context: pd.DataFrame, future: pd.DataFrame, origin: pd.Timestamp) -> pd.DataFrame:
        """The rows of `future`, none of them ok; see `Package.forecast`."""
        task = runtime.task(self.project, self.grid, origin)
        rows, levels = len(future), len(task.quantiles)
        nothing = guard.Answer(
            np.full(rows, np.nan),
            np.full((rows, levels), np.nan),
            dict.fromkeys(future["unique_id"].unique(), self.reason)
            | guard.screen(context, self.project.config.quality.max_missing),
        )
        spread = _spread(context, task.season, task.quantiles)
        return guard.with_fallback(nothing, context, future, task, model="", spread=spread)


def whoever_can(
    project: Project,
    grid: TimeGrid,
    store: ModelStore,
    champion: Callable[[], ModelVersion],
    load: Callable[[ModelVersion], M],
) -> Served[M]:
    """The champion; where it cannot be loaded the one before; else the last season.

    Args:
        project: whose.
        grid: of the history.
        store: where the versions are.
        champion: looks it up.
        load: makes a version ready to forecast.

    Raises:
        PluginError: the champion's plugin is missing, or another major version: a fault of the installation, which
            nobody would mend while something else is served.
    """
    reasons: list[str] = []
    mends: list[str] = []
    ways: dict[str, Callable[[], ModelVersion | None]] = {
        "the champion": champion,
        "the champion before": lambda: store.resolve("previous"),
    }
    for name, find in ways.items():
        try:
            version = find()
            if version is None:
                continue
            loaded = load(version)
        except (StateError, TrackingError) as error:
            reasons.append(f"{name} cannot be loaded: {error.message}"[:_WORDS])
            mends += [error.hint] if error.hint else []
            continue
        return Served(version, loaded, _reason(reasons), "; ".join(dict.fromkeys(mends)))
    nobody = ModelVersion(version="none", model="seasonal-naive", created_at=datetime.now(UTC))
    stand_in = LastSeason(project, grid, _reason(reasons))
    return Served(nobody, stand_in, stand_in.reason, "; ".join(dict.fromkeys(mends)))


def marked(rows: pd.DataFrame, reason: str) -> pd.DataFrame:
    """The rows of a stand-in: none is `ok`."""
    fine = rows["status"] == "ok"
    return (
        rows.assign(status=rows["status"].mask(fine, "degraded"), reason=rows["reason"].mask(fine, reason))
        if reason
        else rows
    )


def _reason(reasons: list[str]) -> str:
    return f"{UNAVAILABLE}: {'; '.join(reasons)}" if reasons else ""


def _spread(context: pd.DataFrame, season: int, levels: tuple[float, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Quantiles of the last season's errors in the history, relative to what it said."""
    before = context.groupby("unique_id", sort=False)["y"].shift(season).to_numpy(dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = (context["y"].to_numpy(dtype=float) - before) / np.abs(before)
    fine = errors[np.isfinite(errors)]
    return np.quantile(fine, levels) if len(fine) else np.zeros(len(levels))


class Lenient:
    """A tracked run whose store may be away: the work goes on, and the log says what was not recorded.

    Args:
        run: as the store gives it.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._fault = ""

    @property
    def run_id(self) -> str:
        """The tracker's id; empty where it could not be asked."""
        return "" if self._fault else str(self._run.run_id)

    @property
    def note(self) -> str:
        """What was not recorded, in words; empty where all was."""
        if self._fault:
            return f"this run is not recorded in MLflow: {self._fault}"
        later = "the next retrain or predict tells it, or `forecastcore reconcile --fix`"
        where = self._run.waiting
        return f"MLflow is away: what this run records is kept in {where}; {later}" if where else ""

    def __enter__(self) -> Self:
        """Start the run, if its store can be asked."""
        self._try(self._run.__enter__)
        return self

    def __exit__(self, *exc: object) -> None:
        """End it truthfully."""
        if not self._fault:
            self._run.__exit__(*exc)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters as text."""
        self._try(lambda: self._run.params(values))

    def metrics(self, values: Mapping[str, float]) -> None:
        """Record metrics."""
        self._try(lambda: self._run.metrics(values))

    def json(self, name: str, value: Any) -> None:
        """Store a JSON document as an artifact."""
        self._try(lambda: self._run.json(name, value))

    def file(self, path: Path) -> None:
        """Store a file as an artifact."""
        self._try(lambda: self._run.file(path))

    def _try(self, work: Callable[[], Any]) -> None:
        if self._fault:
            return
        try:
            work()
        except TrackingError as error:
            self._fault = error.message
            _log.warning("not recorded: %s", error)
