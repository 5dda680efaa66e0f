"""Opens what a project file names: its history, its assumptions, its engine, its model store.

The one place that chooses adapters; the use cases get ports.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from forecastcore.api import Task
from forecastcore.assumptions import Assumptions, Covariate, Future, Made, blank_future
from forecastcore.errors import DataError, MissingColumnsError, UsageError
from forecastcore.frames import Columns, History, Policy, prepare
from forecastcore.timegrid import seasons_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from forecastcore.api import Source
    from forecastcore.host import Offer
    from forecastcore.ports import Engine, ModelStore
    from forecastcore.project import Candidate, Project
    from forecastcore.timegrid import TimeGrid

__all__ = [
    "assumptions",
    "engine",
    "future",
    "history",
    "instant",
    "store",
    "task",
    "threads",
    "unused_by",
    "used_offers",
]


def instant(project: Project, moment: str | datetime | pd.Timestamp | None) -> pd.Timestamp | None:
    """A moment in UTC; without a zone it is in the source's.

    Raises:
        UsageError: it is no moment.
    """
    if moment is None:
        return None
    try:
        stamp = pd.Timestamp(moment)
    except ValueError as error:
        raise UsageError(
            f"{moment!r} is not a moment", hint="write ISO 8601, such as 2026-11-23 or 2026-11-23T06:00Z"
        ) from error
    if stamp.tz is None:
        stamp = stamp.tz_localize(project.config.source.timezone, ambiguous=True, nonexistent="shift_forward")
    return stamp.tz_convert("UTC").as_unit("ns")


def assumptions(project: Project) -> Assumptions:
    """All that the project assumes, plugins made and archives read."""
    config = project.config
    made: dict[str, dict[str, Made]] = {}
    for scenario, names in {"base": config.assumptions, **config.scenarios}.items():
        made[scenario] = {}
        for name in names:
            offer, thing = project.assumption(name, scenario)
            made[scenario][name] = Made(spec=offer.spec, assumption=thing, version=offer.version)
    covariates = tuple(
        Covariate(name=name, assume=rule.assume, archive=_archive(project, name, rule.issued))
        for name, rule in config.covariates.items()
    )
    return Assumptions(covariates, made)


def _archive(project: Project, name: str, issued: str | None) -> pd.DataFrame | None:
    """What was assumed when, from a Parquet or CSV file."""
    if issued is None:
        return None
    path: Path = project.root / issued
    if not path.is_file():
        raise DataError(f"covariates.{name}.issued: there is no file {path}")
    rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"unique_id": str})
    missing = [c for c in ("ds", "issued_at", "value") if c not in rows]
    if missing:
        raise MissingColumnsError(missing, list(rows.columns), f"covariates.{name}.issued {path.name}")
    for column in ("ds", "issued_at"):
        times = pd.to_datetime(rows[column])
        local = times if times.dt.tz is not None else times.dt.tz_localize(project.config.source.timezone)
        rows[column] = local.dt.tz_convert("UTC").astype("datetime64[ns, UTC]")
    kept = ["unique_id", "ds", "issued_at", "value"] if "unique_id" in rows else ["ds", "issued_at", "value"]
    return rows[kept].astype({"value": float})


def history(project: Project, as_of: str | datetime | None = None, *, source: Source | None = None) -> History:
    """Read the source, cut at the origin, check; generated covariates are filled in.

    Args:
        project: whose source.
        as_of: nothing later is used.
        source: to read from instead, such as an older state of the same.

    Raises:
        MissingColumnsError: the source lacks a column.
        DataError: the quality check holds the run.
    """
    config, assumed = project.config, assumptions(project)
    observed = tuple(c.name for c in assumed.covariates if c.assume and c.name not in assumed.generated)
    known = tuple(c.name for c in assumed.covariates if not c.assume)
    source_config = config.source
    columns = Columns(
        id=source_config.id,
        time=source_config.time,
        target=source_config.target,
        timezone=source_config.timezone,
        observed=observed,
        known=known,
    )
    source = source or project.source()
    where = f"source {source_config.type}" + (f" {path}" if (path := getattr(source, "path", None)) else "")
    there = source.schema().names
    missing = [name for name in columns.wanted if name not in there]
    if missing:
        raise MissingColumnsError(missing, there, where)
    rules = config.quality
    policy = Policy(
        gaps=rules.gaps, duplicates=rules.duplicates, ambiguous=rules.ambiguous, nonexistent=rules.nonexistent
    )
    found = prepare(
        source.read(columns.wanted),
        columns=columns,
        policy=policy,
        frequency=config.frequency,
        horizon=config.horizon,
        as_of=instant(project, as_of),
        where=where,
    )
    panel = assumed.with_generated(found.panel, task(project, found.grid, found.origin))
    replaced = [name for name in assumed.generated if name in there]
    notes = (
        (f"{', '.join(replaced)}: made by the assumption; the source's column of that name is not used",)
        if replaced
        else ()
    )
    return replace(found, panel=panel, notes=notes)


def future(project: Project, found: History, scenario: str = "base", *, insist: bool = True) -> Future:
    """The rows to forecast after the origin, covariates filled for a scenario.

    An assumption that fails falls back to the last season and says so.

    Args:
        project: whose assumptions.
        found: checked history.
        scenario: `base` or a what-if.
        insist: see `Assumptions.ahead`.
    """
    panel = found.panel
    asked = task(project, found.grid, found.origin)
    blank = blank_future(list(panel["unique_id"].unique()), found.grid, found.origin, asked.horizon)
    return assumptions(project).ahead(panel, found.known, blank, asked, scenario=scenario, insist=insist)


def task(project: Project, grid: TimeGrid, origin: pd.Timestamp, threads: int = 1) -> Task:
    """The task that a project asks at an origin."""
    config = project.config
    seasons = seasons_of(grid.frequency)
    season = config.backtest.season or seasons[0]
    return Task(
        origin=origin,
        frequency=grid.frequency,
        horizon=config.horizon,
        quantiles=tuple(config.quantiles),
        season=season,
        seasons=tuple(sorted({season, *seasons})),
        timezone=grid.timezone,
        covariates=tuple(config.covariates),
        threads=threads,
    )


def threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def engine(project: Project) -> Engine:
    """The engine that `engine:` names."""
    from forecastcore.engines.local import LocalEngine

    settings = project.config.engine
    if settings.type != "local":
        raise UsageError(
            f"engine.type {settings.type!r} cannot be run by this version", hint="write engine: {type: local}"
        )
    return LocalEngine(int(project.engine_params().get("workers") or threads()))


def store(project: Project) -> ModelStore:
    """The model store that `tracking:` names."""
    from forecastcore.tracking import open_store

    name, tracking = project.config.name, project.tracking()
    uri = tracking.uri or f"sqlite:///{project.root / 'mlflow.db'}"
    return open_store(project=name, uri=uri, experiment=tracking.experiment or name, root=project.root)


def unused_by(project: Project, candidate: Candidate) -> str:
    """What a candidate is given and cannot use, in words for the leaderboard."""
    can = project.host.offer("model", candidate.type).spec.capabilities
    names = list(project.config.covariates)
    return f"does not use covariates ({', '.join(names)})" if names and not can.covariates else ""


def used_offers(project: Project) -> list[Offer]:
    """The plugins that shape this project's forecasts."""
    config = project.config
    wanted = [("source", config.source.type), *(("model", c.type) for c in project.candidates())]
    wanted += [
        ("assumption", a.type) for names in (config.assumptions, *config.scenarios.values()) for a in names.values()
    ]
    return [project.host.offer(kind, name) for kind, name in dict.fromkeys(wanted)]
