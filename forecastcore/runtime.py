"""Opens what a project file names: its history, its assumptions, its engine, its model store.

The one place that chooses adapters; the use cases get ports.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from forecastcore import __version__, issued
from forecastcore.api import Task
from forecastcore.assumptions import Assumptions, Covariate, Forecaster, Future, Made, blank_future
from forecastcore.errors import DataError, MissingColumnsError, UsageError
from forecastcore.frames import Columns, History, Policy, prepare, prepare_at
from forecastcore.issued import Issued
from forecastcore.ports import Steps
from forecastcore.timegrid import seasons_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    import pyarrow as pa

    from forecastcore.api import AssumptionSpec, Source
    from forecastcore.engines.kept import KeptAnswers
    from forecastcore.host import Offer
    from forecastcore.messages import ModelVersion
    from forecastcore.ports import Engine, ModelStore
    from forecastcore.project import Candidate, Project
    from forecastcore.timegrid import TimeGrid
    from forecastcore.tracking.quick import Glance
    from forecastcore.tracking.store import MlflowStore

__all__ = [
    "archive_stamps",
    "assumptions",
    "check_columns",
    "columns",
    "engine",
    "engine_here",
    "future",
    "glance",
    "history",
    "history_at",
    "instant",
    "keeping",
    "kept",
    "look_only",
    "policy",
    "side_by_side",
    "store",
    "task",
    "threads",
    "unused_by",
    "used_offers",
    "where",
]

A = TypeVar("A")
T = TypeVar("T")


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
            forecaster = _forecaster(project, offer.spec, thing)
            made[scenario][name] = Made(spec=offer.spec, assumption=thing, version=offer.version, forecaster=forecaster)
    covariates = tuple(
        Covariate(name=name, assume=rule.assume, archive=_archive(project, name, rule.issued))
        for name, rule in config.covariates.items()
    )
    return Assumptions(covariates, made)


def _forecaster(project: Project, spec: AssumptionSpec, assumption: Any) -> Forecaster | None:
    """The model that an assumption's parameter `model` names."""
    if not spec.models:
        return None
    entry = dict(assumption.model)
    offer = project.host.offer("model", entry.pop("type"))
    return Forecaster(offer, project.host.make("model", offer.name, entry, root=project.root))


def _archive(project: Project, name: str, path: str | None) -> Issued | None:
    """What was assumed when, from a Parquet or CSV file or a Delta table."""
    if path is None:
        return None
    where = f"covariates.{name}.issued"
    try:
        rows = issued.read(project.root / path, ("value",), project.config.source.timezone)
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: cannot use {project.root / path}: {error}") from error
    if "issued_at" not in rows:
        raise MissingColumnsError(["issued_at"], list(rows.columns), f"{where} {path}")
    return Issued(rows, ("value",))


def archive_stamps(project: Project) -> tuple[int, ...]:
    """Numbers that change when an archive under `issued:` does; a process may live longer than what it has read."""
    paths = [project.root / rule.issued for rule in project.config.covariates.values() if rule.issued]
    return tuple(issued.changed(path) for path in paths if path.exists())


def history(
    project: Project,
    as_of: str | datetime | None = None,
    steps: Steps | None = None,
    *,
    source: Source | None = None,
) -> History:
    """Read the source, cut at the origin, check; generated covariates are filled in.

    Args:
        project: whose source and quality rules.
        as_of: the origin; default: the newest value.
        steps: how to run and watch the two stages, `load` and `check quality`.
        source: to read from instead of the project's, such as an older state of the same.

    Raises:
        MissingColumnsError: the source lacks a column.
        DataError: the quality check holds the run.
    """
    steps, source = steps or Steps(), source or project.source()
    config, wanted, notes = project.config, columns(project), check_columns(project, source)

    def check() -> History:
        found = prepare(
            rows,
            columns=wanted,
            policy=policy(project),
            frequency=config.frequency,
            horizon=config.horizon,
            as_of=instant(project, as_of),
            where=where(project, source),
        )
        return _with_generated(project, found)

    rows = steps.run("load", lambda: source.read(wanted.wanted))
    return replace(steps.run("check quality", check), notes=notes)


def history_at(project: Project, rows: pa.Table, grid: TimeGrid, origin: pd.Timestamp, where: str) -> History | None:
    """What `history` makes of all rows of some of the series, where grid and origin are known; see `frames.prepare_at`.

    Raises:
        DataError: the quality check holds the run.
    """
    found = prepare_at(
        rows,
        columns=columns(project),
        policy=policy(project),
        grid=grid,
        origin=origin,
        horizon=project.config.horizon,
        where=where,
    )
    return found and _with_generated(project, found)


def _with_generated(project: Project, found: History) -> History:
    """The history with what assumptions generate of it."""
    asked = task(project, found.grid, found.origin)
    return replace(found, panel=assumptions(project).with_generated(found.panel, asked))


def columns(project: Project) -> Columns:
    """What a project reads of its source."""
    source, assumed = project.config.source, assumptions(project)
    return Columns(
        id=source.id,
        time=source.time,
        target=source.target,
        timezone=source.timezone,
        observed=tuple(c.name for c in assumed.covariates if c.assume and c.name not in assumed.generated),
        known=tuple(c.name for c in assumed.covariates if not c.assume),
    )


def source_at(project: Project, state: datetime | None = None) -> Source:
    """The project's source, as it is, or as it was at an instant where it keeps its states."""
    source: Any = project.source()
    then: Source = source if state is None else replace(source, as_of=state)
    return then


def where(project: Project, source: Source) -> str:
    """A source in words."""
    return f"source {project.config.source.type}" + (f" {path}" if (path := getattr(source, "path", None)) else "")


def check_columns(project: Project, source: Source) -> tuple[str, ...]:
    """See that a source has all that is read of it, and say what of it is not used.

    Raises:
        MissingColumnsError: the source lacks a column.
    """
    there = source.schema().names
    missing = [name for name in columns(project).wanted if name not in there]
    if missing:
        raise MissingColumnsError(missing, there, where(project, source))
    replaced = ", ".join(name for name in assumptions(project).generated if name in there)
    note = f"{replaced}: made by the assumption; the source's column of that name is not used"
    return (note,) if replaced else ()


def policy(project: Project) -> Policy:
    """What the quality check does with each fault."""
    rules = project.config.quality
    return Policy(
        gaps=rules.gaps, duplicates=rules.duplicates, ambiguous=rules.ambiguous, nonexistent=rules.nonexistent
    )


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


def engine(project: Project, *, soon: bool = False) -> Engine:
    """The engine that `engine:` names.

    Args:
        project: whose engine.
        soon: there will be work for it at once, so that it may start while something else is done.

    Raises:
        EngineError: what Spark needs is not there.
        UsageError: this version has no such engine.
    """
    from forecastcore.config import engines as settings

    kind, params = project.config.engine.type, project.engine_params()
    if kind == "local":
        from forecastcore.engines.local import LocalEngine

        here = settings.LocalEngine.model_validate(params)
        made = LocalEngine(threads() if here.workers is None else here.workers, _seconds(here.timeout))
        if soon:
            made.wake()
        return made
    if kind == "spark":
        from forecastcore.engines.spark import SparkEngine, check_session

        there = settings.SparkEngine.model_validate(params)
        check_session(there.master, there.remote)
        return SparkEngine(there.master, there.remote, there.conf, there.tasks, _seconds(there.timeout))
    raise UsageError(f"engine.type {kind!r} cannot be run by this version", hint="write engine: {type: local}")


def side_by_side(
    project: Project, work: Callable[[str, A], T], asked: Sequence[A], jobs: int
) -> Iterator[tuple[int, T | None]]:
    """Do whole runs of a project at a time, each with its share of the engine.

    Args:
        project: whose.
        work: importable function of a project's recipe and one of `asked`, which can be pickled as its answer can.
        asked: what to do.
        jobs: how many at a time.

    Yields:
        Number of the run and its answer, as they come; None where its process ended.
    """
    from forecastcore.engines.jobs import in_processes, in_threads

    recipe = json.loads(project.recipe())
    if project.config.engine.type == "spark":  # its session is this process's, and has room for all of them
        yield from in_threads(partial(work, json.dumps(recipe)), asked, jobs)
        return
    from forecastcore.config import engines as settings

    asked_for = settings.LocalEngine.model_validate(project.engine_params()).workers
    workers = threads() if asked_for is None else asked_for
    recipe["overrides"] = [*recipe["overrides"], f"engine.workers={max(1, workers // jobs) if workers else 0}"]
    yield from in_processes(partial(work, json.dumps(recipe)), asked, jobs)


def keeping(project: Project, engine: Engine) -> KeptAnswers:
    """An engine that keeps what it has done below the project's folder until the run is over; enter it with `with`."""
    from forecastcore.engines.kept import KeptAnswers

    code = [(offer.distribution, offer.version, offer.digest) for offer in used_offers(project)]
    basis = json.dumps([__version__, code, archive_stamps(project)])
    return KeptAnswers(engine, kept(project), basis)


def kept(project: Project) -> Path:
    """Where answers lie of runs that were broken off."""
    return project.root / ".forecastcore" / "kept"


def engine_here(project: Project) -> Engine:
    """The project's engine; where that runs whole use cases elsewhere, the processes of this machine."""
    if project.config.engine.type != "databricks":
        return engine(project)
    from forecastcore.config import engines as settings
    from forecastcore.engines.local import LocalEngine

    return LocalEngine(threads(), _seconds(settings.LocalEngine().timeout))


def _seconds(span: str) -> float:
    return float(pd.Timedelta(span).total_seconds())


def store(project: Project) -> ModelStore:
    """The model store that `tracking:` names."""
    from forecastcore.tracking import open_store
    from forecastcore.tracking.runs import JOB_VARIABLE

    # a cluster's disk goes with the run, and what lies there would be lost in silence
    spool = None if os.environ.get(JOB_VARIABLE) else project.root / ".forecastcore" / "spool"
    return open_store(**_whereabouts(project), spool=spool)


def look_only(project: Project) -> AbstractContextManager[MlflowStore]:
    """The model store for reading: not a byte of it changes, where it is a file."""
    from forecastcore.tracking import look_only

    return look_only(**_whereabouts(project))


def glance(project: Project) -> Glance:
    """The champion and the last decision, without what takes time."""
    from forecastcore.tracking import glance

    return glance(**_whereabouts(project))


def stored(project: Project, number: str) -> tuple[ModelVersion, Path] | None:
    """A registered version and its files, every digest checked; without MLflow where this machine has both.

    Raises:
        StateError: a file is missing or is not what was registered.
        TrackingError: MLflow cannot be reached and the files are not at hand.
    """
    from forecastcore.tracking import at_hand

    if found := at_hand(number, **_whereabouts(project)):
        return found
    there = store(project)
    version = there.resolve(number)
    return (version, there.fetch(version)) if version else None


def _whereabouts(project: Project) -> dict[str, Any]:
    name, tracking = project.config.name, project.tracking()
    uri = tracking.uri or f"sqlite:///{(project.root / 'mlflow.db').as_posix()}"
    return {"project": name, "uri": uri, "experiment": tracking.experiment or name, "root": project.root}


def unused_by(project: Project, candidate: Candidate) -> str:
    """What a candidate is given and cannot use, in words for the leaderboard."""
    models = candidate.members or (candidate,)
    uses = any(project.host.offer("model", model.type).spec.capabilities.covariates for model in models)
    names = list(project.config.covariates)
    return f"does not use covariates ({', '.join(names)})" if names and not uses else ""


def used_offers(project: Project) -> list[Offer]:
    """The plugins that shape this project's forecasts."""
    config = project.config
    models = [candidate.type for candidate in project.candidates() if not candidate.members]
    wanted = [("source", config.source.type), *(("model", name) for name in models)]
    for entry in (a for names in (config.assumptions, *config.scenarios.values()) for a in names.values()):
        wanted.append(("assumption", entry.type))
        if project.host.offer("assumption", entry.type).spec.models:
            wanted.append(("model", entry.params["model"]["type"]))
    return [project.host.offer(kind, name) for kind, name in dict.fromkeys(wanted)]
