"""One row of the forecast table: which model, from which inputs, by which assumptions, and what each contributed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import runtime
from forecastcore.errors import UsageError
from forecastcore.explaining.shares import profile_of, shapley
from forecastcore.package import Package
from forecastcore.runs.predict import forecasts

if TYPE_CHECKING:
    from datetime import datetime

    from forecastcore.frames import History
    from forecastcore.project import Project

__all__ = ["explain"]

Document = dict[str, Any]

_METHOD = "Shapley values of the groups against their usual inputs; exact for a model that is linear in its inputs"


def explain(project: Project, key: str, *, issued_at: str | datetime | None = None, scenario: str = "base") -> Document:
    """What made one delivered row.

    Args:
        project: whose table.
        key: `SERIES@MOMENT` or `SERIES+STEP`.
        issued_at: the origin; default: the newest.
        scenario: which.

    Returns:
        `row, model, inputs, fallbacks, contributions, replayed`, JSON-able. The contributions sum to `replayed`: what
        the stored model says today from the history of then.

    Raises:
        UsageError: there is no such row.
    """
    row = _row(project, key, issued_at, scenario)
    document: Document = {
        "row": {name: _plain(value) for name, value in row.items()},
        "model": None,
        "inputs": None,
        "fallbacks": [str(row["reason"])] if row["status"] != "ok" else [],
        "contributions": None,
        "replayed": None,
        "notes": [],
    }
    origin = pd.Timestamp(row["issued_at"])
    if row["model_version"] == "none":
        document["notes"].append("no registered version made this row, so there is nothing to take apart")
        return document
    found = runtime.stored(project, str(row["model_version"]))
    if found is None:
        raise UsageError(f"version {row['model_version']} is not registered any more", hint="restore a backup")
    version, folder = found
    package = Package.load(folder, project.host, version.digest or None)
    document["model"] = {
        "model": version.model,
        "version": version.version,
        "params": version.params,
        "trained_until": version.trained_until.isoformat() if version.trained_until else None,
    }
    history = _only(runtime.history(project, origin.to_pydatetime()), str(row["unique_id"]))
    future = runtime.future(project, history, scenario, insist=False)
    at = int(row["step"]) - 1
    document["inputs"] = _inputs(project, history, future.frame, at)
    document["fallbacks"] += [f"{n.covariate} by {n.assumption}: {n.reason}" for n in future.notes if n.reason]
    if row["status"] == "ok" or not str(row["reason"]).startswith(("no-history", "history-too-short")):
        document |= _contributions(project, package, history, future.frame, at)
        moved = float(row["forecast"]) - document["replayed"] if document["replayed"] is not None else 0.0
        if abs(moved) > 1e-6 * max(abs(float(row["forecast"])), 1.0):
            words = f"the row says {row['forecast']:.6g}: data, plugins or the fallback were others when it was made"
            document["notes"].append(words)
    return document


def _row(project: Project, key: str, issued_at: str | datetime | None, scenario: str) -> pd.Series[Any]:
    table = forecasts(project, issued_at if issued_at is not None else "latest", scenario=scenario)
    table = table[table["created_at"] == table.groupby("unique_id")["created_at"].transform("max")]
    if table.empty:
        raise UsageError("there is no such vintage", hint="forecastcore status tells the newest; predict makes one")
    found = table.iloc[:0]
    for uid, mark, place in (key.rpartition("@"), key.rpartition("+")):
        if mark == "@" and uid:
            found = table[(table["unique_id"] == uid) & (table["ds"] == runtime.instant(project, place))]
        elif mark == "+" and uid and place.isdigit():
            found = table[(table["unique_id"] == uid) & (table["step"] == int(place))]
        if len(found):
            return found.iloc[0]
    names = table["unique_id"].unique()
    span = f"{table['ds'].min()} to {table['ds'].max()}, steps 1 to {table['step'].max()}"
    hint = f"series such as {names[0]!r}, {span}; write {names[0]}+1 or {names[0]}@{table['ds'].min():%Y-%m-%dT%H:%MZ}"
    raise UsageError(f"the vintage has no row {key!r}", hint=hint)


def _only(history: History, uid: str) -> History:
    panel = history.panel[history.panel["unique_id"] == uid].reset_index(drop=True)
    known = history.known[history.known["unique_id"] == uid].reset_index(drop=True)
    return replace(history, panel=panel, known=known)


def _inputs(project: Project, history: History, future: pd.DataFrame, at: int) -> Document:
    y = history.panel["y"].to_numpy(dtype=float)
    seen, season = np.flatnonzero(np.isfinite(y)), runtime.task(project, history.grid, history.origin).season
    covariates = {
        name: {
            "value": _plain(future[name].iloc[at]),
            "by": rule.assume or "known",
            "usual": _plain(float(history.panel[name].median())) if len(history.panel) else None,
        }
        for name, rule in project.config.covariates.items()
    }
    before = at % season - season
    return {
        "values": len(seen),
        "last": _plain(float(y[seen[-1]])) if len(seen) else None,
        "last_season": _plain(float(y[before])) if len(y) >= -before else None,
        "covariates": covariates,
    }


def _contributions(project: Project, package: Package, history: History, future: pd.DataFrame, at: int) -> Document:
    assumed = runtime.assumptions(project)
    weather = list(assumed.guessed)
    calendar = [name for name in assumed.names if name not in weather]
    panel = history.panel
    y = panel["y"].to_numpy(dtype=float)
    if not np.isfinite(y).any():
        return {"contributions": None, "replayed": None}
    season = runtime.task(project, history.grid, history.origin).season
    level, usual_y = profile_of(y, season)
    usual = {name: float(panel[name].median()) for name in (*weather, *calendar)}
    usual = {name: value for name, value in usual.items() if np.isfinite(value)}

    def forecast(as_they_are: frozenset[str]) -> float:
        past, ahead = panel, future
        for group, names in (("weather", weather), ("calendar", calendar)):
            if group not in as_they_are:
                ahead = ahead.assign(**{name: usual[name] for name in names if name in usual})
        if "lags" not in as_they_are:
            past = panel.assign(y=np.where(np.isfinite(y), usual_y, np.nan))
        return float(package.forecast(past, ahead, history.origin)["forecast"].iloc[at])

    groups = ["lags", *(["calendar"] if calendar else []), *(["weather"] if weather else [])]
    if not package.uses_covariates:
        groups = ["lags"]
    base = forecast(frozenset())
    shares = shapley(groups, forecast)
    told = {"level": level, "season": base - level, **shares}
    return {
        "contributions": {"method": _METHOD, "groups": {name: _plain(value) for name, value in told.items()}},
        "replayed": _plain(sum(told.values())),
    }


def _plain(value: Any) -> Any:
    """A value of a frame as JSON takes it."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
