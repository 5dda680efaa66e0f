"""What changed between two vintages, and why: one thing is exchanged at a time, and the forecast made again.

old as delivered → the same again today → newer data → newer assumptions → newer model → new as delivered
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import runtime
from forecastcore.errors import ForecastCoreError, UsageError
from forecastcore.explaining.movers import changes
from forecastcore.package import Package
from forecastcore.runs.delivered import listed, rows_of_vintages, vintage_named
from forecastcore.runs.promotion import existing
from forecastcore.vintages import utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.frames import History
    from forecastcore.project import Project
    from forecastcore.vintages import VintageRef

    Floats = npt.NDArray[np.float64]

__all__ = ["diff"]

Document = dict[str, Any]

_PARTS = ("data", "assumption", "model", "code")


def diff(project: Project, old: str, new: str, *, scenario: str = "base", top: int = 10) -> Document:
    """What changed between two vintages.

    Args:
        project: whose.
        old: a run key or its beginning, a run id, an origin, `latest` or `previous`.
        new: the same.
        scenario: which.
        top: series that moved most, whose change is split into parts.

    Returns:
        `old, new, rows, series, change, movers, notes`, JSON-able. The parts of a mover sum to its change: `data` (what
        has come since), `assumption`, `model`, and `code`: what the same model says today from the same data and
        assumptions otherwise than it did then, for other code or data that was revised.

    Raises:
        UsageError: there is no such vintage, or the two have no instant in common.
    """
    shelf = listed(project, scenario, all_made=True)
    pair = [vintage_named(project, shelf, name, scenario) for name in (old, new)]
    tables = [rows_of_vintages(shelf, [ref]) for ref in pair]
    told = changes(*tables)
    if told.rows.empty:
        raise UsageError(f"the vintages {old} and {new} have no instant in common", hint="take two that overlap")
    movers = told.series.head(top)
    parts, notes = _parts(project, pair, tables, told.rows, movers["unique_id"].tolist(), scenario)
    before, moved = told.rows["old"].abs().mean(), (told.rows["new"] - told.rows["old"]).abs().mean()
    return {
        "old": _ref(pair[0], tables[0]),
        "new": _ref(pair[1], tables[1]),
        "scenario": scenario,
        "rows": {"both": len(told.rows), "only_old": told.only_old, "only_new": told.only_new},
        "series": {"both": len(told.series), "come": told.come, "gone": told.gone},
        "change": {
            "mean": _number((told.rows["new"] - told.rows["old"]).mean()),
            "mean_absolute": _number(moved),
            "share": _number(moved / before) if before else None,
        },
        "movers": [_mover(mover, parts) for mover in movers.itertuples(index=False)],
        "notes": notes,
    }


def _mover(mover: Any, parts: dict[str, dict[str, float]]) -> Document:
    return {
        "unique_id": mover.unique_id,
        "old": _number(mover.old),
        "new": _number(mover.new),
        "change": _number(mover.change),
        "share": _number(mover.change / abs(mover.old)) if mover.old else None,
        "moved": _number(mover.moved),
        "parts": parts.get(mover.unique_id),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ref(ref: VintageRef, table: pd.DataFrame) -> Document:
    versions = sorted(table["model_version"].unique())
    return {
        "run_key": ref.run_key,
        "issued_at": utc(ref.issued_at).isoformat(),
        "created_at": utc(ref.created_at).isoformat(),
        "model_version": ", ".join(versions),
        "rows": ref.rows,
    }


@dataclass(frozen=True)
class _Side:
    """All that made one of the vintages, for some series."""

    history: History
    future: pd.DataFrame
    package: Package

    def forecast(self, package: Package | None = None, future: pd.DataFrame | None = None) -> pd.DataFrame:
        """What a model says from this side's data."""
        ahead = self.future if future is None else future
        made = (package or self.package).forecast(self.history.panel, ahead, self.history.origin)
        return made[["unique_id", "ds", "forecast"]]


def _parts(
    project: Project,
    pair: Sequence[VintageRef],
    tables: Sequence[pd.DataFrame],
    rows: pd.DataFrame,
    ids: Sequence[str],
    scenario: str,
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Means of the parts of each series' change, over the instants that both vintages forecast."""
    try:
        old, new = (
            _side(project, ref, str(table["model_version"].iloc[0]), ids, scenario)
            for ref, table in zip(pair, tables, strict=True)
        )
    except ForecastCoreError as error:
        return {}, [f"not split into parts: {error.message}"]
    kept = _with_assumptions_of(new.future, old.future, list(project.config.covariates))
    asked = rows[rows["unique_id"].isin(list(ids))]
    again, data, assumed, model = (
        _at(made, asked)
        for made in (old.forecast(), new.forecast(old.package, kept), new.forecast(old.package), new.forecast())
    )
    first, last = asked["old"].to_numpy(), asked["new"].to_numpy()
    steps = {
        "data": data - again,
        "assumption": assumed - data,
        "model": model - assumed,
        "code": (again - first) + (last - model),
    }
    frame = pd.DataFrame(steps).groupby(asked["unique_id"].to_numpy()).mean()
    return {str(uid): {name: float(line[name]) for name in _PARTS} for uid, line in frame.iterrows()}, []


def _side(project: Project, ref: VintageRef, version: str, ids: Sequence[str], scenario: str) -> _Side:
    store = runtime.store(project)
    stored = existing(store, version)
    package = Package.load(store.fetch(stored), project.host, stored.digest or None)
    whole = runtime.history(project, ref.issued_at)
    panel = whole.panel[whole.panel["unique_id"].isin(list(ids))].reset_index(drop=True)
    history = replace(whole, panel=panel)
    return _Side(history, runtime.future(project, history, scenario, insist=False).frame, package)


def _with_assumptions_of(future: pd.DataFrame, before: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A future whose covariates are as an older one had assumed them, where it reaches."""
    if not names:
        return future
    said = future[["unique_id", "ds"]].merge(before[["unique_id", "ds", *names]], on=["unique_id", "ds"], how="left")
    return future.assign(**{name: said[name].fillna(future[name]).to_numpy() for name in names})


def _at(made: pd.DataFrame, asked: pd.DataFrame) -> Floats:
    return asked[["unique_id", "ds"]].merge(made, on=["unique_id", "ds"], how="left")["forecast"].to_numpy(dtype=float)
