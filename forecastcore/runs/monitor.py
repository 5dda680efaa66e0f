"""Watch what was delivered: vintages beside the actuals that have come since.

sinks + history → accuracy, coverage, model and assumption error, drift, schedule → what the policies say → a table and
MLflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import runtime, state
from forecastcore.backtest import rows_of
from forecastcore.errors import ForecastCoreError, StateError, UsageError
from forecastcore.foresight import assumption_errors
from forecastcore.frames import offsets, together
from forecastcore.package import Package
from forecastcore.ports import Steps
from forecastcore.profile import window_length
from forecastcore.race import run_package
from forecastcore.runs.delivered import listed, newest_vintages, rows_of_vintages
from forecastcore.runs.history import opened
from forecastcore.vintages import utc
from forecastcore.watching.drift import INPUTS, Inputs, drift
from forecastcore.watching.messages import MonitorReport
from forecastcore.watching.policies import judge
from forecastcore.watching.schedule import schedule
from forecastcore.watching.scores import by_version, by_vintage, delivered_of, slices, split_of, worst_series

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from forecastcore.backtest import Backtest
    from forecastcore.frames import Answer, History
    from forecastcore.messages import AssumptionError, ModelVersion
    from forecastcore.ports import Engine, ModelStore, Past
    from forecastcore.project import Project
    from forecastcore.watching.messages import Drift, ErrorSplit
    from forecastcore.watching.scores import Delivered

__all__ = ["monitor"]

#: series that are named, of those that are new or have ended
_NAMED = 100


def monitor(
    project: Project, as_of: str | datetime | None = None, *, last: int | None = None, steps: Steps | None = None
) -> MonitorReport:
    """Score delivered vintages against what has come since, and say what the policies ask for; nothing is acted on.

    Args:
        project: what was forecast, and where it stands.
        as_of: actuals up to here are used; default: the newest value. Without a zone it is in the source's.
        last: newest vintages to look at; default: what `monitor.last` says.
        steps: how to run and watch the stages.

    Raises:
        UsageError: no sink can be read, or no vintage was delivered before then.
        DataError: the history is held by the quality check.
    """
    steps, started, engine = steps or Steps(), time.perf_counter(), runtime.engine_here(project)
    with opened(project, engine, as_of, steps) as history:
        report = _watched(project, history, engine, last, steps, started)
    project.host.notify("forecastcore_run_finished", report=report)
    return report


def _watched(
    project: Project, history: Past, engine: Engine, last: int | None, steps: Steps, started: float
) -> MonitorReport:
    """What `monitor` does once the history is there."""
    count, until = last or project.config.monitor.last, history.origin.to_pydatetime()
    shelf = steps.run("list vintages", lambda: listed(project))
    refs = newest_vintages(shelf, count, until)
    if not refs:
        raise UsageError(
            f"no vintage was delivered before {history.origin:%Y-%m-%d %H:%M} UTC, so nothing has come to compare",
            hint="run forecastcore predict, and monitor when newer data is there",
        )
    table = steps.run("read vintages", lambda: rows_of_vintages(shelf, refs))
    rows = rows_of(project, history, sorted(pd.Timestamp(o) for o in table["issued_at"].unique()))
    delivered = delivered_of(table, rows.scored, rows.fold, rows.series, ids=rows.ids, grid=history.grid)
    store = runtime.store(project)
    champion = store.resolve("champion")
    promised = {version.version: version.metrics for version in store.versions()}
    with store.run(f"monitor {history.origin:%Y-%m-%d %H:%M}", tags={"forecastcore.command": "monitor"}) as tracked:
        stamps = [(r.issued_at, r.created_at) for r in shelf.refs if utc(r.issued_at) <= until][-count - 1 :]
        rhythm = schedule([pd.Timestamp(a) for a, _ in stamps], [pd.Timestamp(b) for _, b in stamps], history.origin)
        vintages = [v.model_copy(update={"late": v.issued_at in rhythm.late}) for v in by_vintage(delivered, promised)]
        shares = steps.run("split errors", lambda: _assumption_share(project, history, engine, store, rows, delivered))
        told = _Told.of(project, history, store, champion, shares)
        outcomes = judge(
            project.config.monitor.policies,
            [v for v in vintages if champion is None or v.model_version == champion.version],
            {"drift_above": told.drifted, "missing_above": float(len(rhythm.missing))},
        )
        key = _key(project, history, [ref.run_key for ref in refs])
        report = MonitorReport(
            project=project.config.name,
            run_id=tracked.run_id,
            as_of=until,
            champion=champion.version if champion else None,
            advice=tuple(dict.fromkeys(outcome.do for outcome in outcomes if outcome.fired)),
            policies=tuple(outcomes),
            vintages=tuple(vintages),
            accuracy=tuple(slices(delivered)),
            versions=tuple(by_version(delivered, promised)),
            split=told.split,
            assumption_errors=told.assumed,
            worst=tuple(worst_series(delivered)),
            drift=told.drift,
            new_series=told.new,
            ended_series=told.ended,
            schedule=rhythm,
            notes=(*history.notes, *told.notes),
            seconds=time.perf_counter() - started,
        )
        place, already = steps.run("publish", lambda: _publish(project, report, key))
        report = report.model_copy(update={"table": str(place), "already": already})
        _track(tracked, report)
    return report


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """How much of the error is the model's, and how much the assumptions'."""

    split: tuple[ErrorSplit, ...] = ()
    assumed: tuple[AssumptionError, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What the stored models and the history tell, beside the scores."""

    split: tuple[ErrorSplit, ...]
    assumed: tuple[AssumptionError, ...]
    drift: tuple[Drift, ...]
    new: tuple[str, ...]
    ended: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def drifted(self) -> float:
        """The largest index of an input that has drifted; 0 where none has."""
        return max((one.psi or 0.0 for one in self.drift if (one.psi or 0.0) > (one.usual_psi or 0.0)), default=0.0)

    @classmethod
    def of(
        cls, project: Project, history: Past, store: ModelStore, champion: ModelVersion | None, shares: _Shares
    ) -> _Told:
        notes = [*shares.notes]
        trained = _inputs(store, champion, notes)
        found = drift(trained, history) if trained else []
        new, ended = _come_and_gone(project, history, trained)
        return cls(
            split=shares.split, assumed=shares.assumed, drift=tuple(found), new=new, ended=ended, notes=tuple(notes)
        )


def _assumption_share(
    project: Project, history: Past, engine: Engine, store: ModelStore, rows: Backtest, delivered: Delivered
) -> _Shares:
    """The same stored versions once more, with the covariates that came; and how far these were assumed wrongly."""
    if not runtime.assumptions(project).guessed:
        return _Shares()
    found, notes = [], []
    for version in dict.fromkeys(reversed(delivered.versions)):
        folds = [number for number, one in enumerate(delivered.versions) if one == version]
        try:
            folder = _folder(store, version)
            if not Package.outline(folder, project.host).uses_covariates:
                continue
            foresight = rows.taken(run_package(project, history, folder, engine, rows, folds, actual=True))[:, 0]
        except ForecastCoreError as error:
            notes.append(f"version {version} could not be scored with the covariates that came: {error.message}")
            continue
        found.append(split_of(delivered, version, folds, foresight))
    assumed = assumption_errors(project, history, engine, rows.origins) if found else ()
    return _Shares(split=tuple(found), assumed=assumed, notes=tuple(notes))


def _folder(store: ModelStore, which: str) -> Path:
    version = store.resolve(which)
    if version is None:
        raise StateError(f"version {which} is not in the registry any more")
    return store.fetch(version)


def _inputs(store: ModelStore, champion: ModelVersion | None, notes: list[str]) -> Inputs | None:
    if champion is None:
        return None
    try:
        return Inputs.from_bytes(state.open_verified(store.fetch(champion), wanted=INPUTS.__eq__).read(INPUTS))
    except ForecastCoreError as error:
        notes.append(f"drift is not known: version {champion.version} keeps no {INPUTS} ({error.message}); retrain")
        return None


def _come_and_gone(project: Project, history: Past, trained: Inputs | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Series that the champion does not know, and those that have sent nothing for a window or are not there."""
    if trained is None:
        return (), ()
    known = set(trained.ids.tolist())
    task = runtime.task(project, history.grid, history.origin)
    since = history.grid.shift(history.origin, -window_length(task))
    told = together([*history.ask(partial(_alive, since=since))], "alive")
    alive = {uid for uid, sends in zip(history.ids, told.tolist(), strict=True) if sends}
    new = sorted(alive - known)
    return tuple(new[:_NAMED]), tuple(sorted(known - alive)[:_NAMED])


def _alive(history: History, *, since: pd.Timestamp) -> Answer:
    """Which of some series have a value later than an instant."""
    panel = history.panel
    fresh = ((panel["ds"] > since) & panel["y"].notna()).to_numpy()
    return {"alive": np.logical_or.reduceat(fresh, offsets(panel)[:-1])}


def _key(project: Project, history: Past, run_keys: Sequence[str]) -> str:
    """The identity of a result: the same vintages, actuals and policies give the same."""
    said = project.config.monitor.model_dump(mode="json", by_alias=True)
    parts = [project.config.name, history.origin.isoformat(), sorted(run_keys), history.digest, said]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _publish(project: Project, report: MonitorReport, key: str) -> tuple[Path, bool]:
    """One Parquet file, visible whole or not at all, and never written twice; whether it was there."""
    folder = project.root / project.config.monitor.table
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{report.as_of:%Y%m%dT%H%M%S}-{key[:16]}.parquet"
    if place.exists():
        return place, True
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    table_of(report, key).to_parquet(partial, index=False)
    try:
        os.link(partial, place)
    except FileExistsError:  # another process was there first
        return place, True
    finally:
        partial.unlink()
    return place, False


def table_of(report: MonitorReport, key: str) -> pd.DataFrame:
    """One row per slice, version, vintage and worst series: `project, as_of, key, kind, name, rows, mase, skill …`."""
    lines: list[dict[str, Any]] = [one.model_dump() for one in report.accuracy]
    lines += [
        {"kind": "version", "name": v.version, **v.model_dump(exclude={"version", "model"})} for v in report.versions
    ]
    lines += [
        {"kind": "vintage", "name": v.issued_at.isoformat(), **v.model_dump(exclude={"issued_at"})}
        for v in report.vintages
    ]
    lines += [{"kind": "series", "name": s.unique_id, **s.model_dump(exclude={"unique_id"})} for s in report.worst]
    lines += [{"kind": "drift", "name": d.column, **d.model_dump(exclude={"column"})} for d in report.drift]
    frame = pd.DataFrame(lines)
    head = {"project": report.project, "as_of": pd.Timestamp(report.as_of), "key": key}
    return pd.concat([pd.DataFrame(head, index=frame.index), frame], axis=1)


def _track(tracked: Any, report: MonitorReport) -> None:
    whole = report.accuracy[0]
    names = ("mase", "rmsse", "wql", "bias", "coverage", "skill", "win_rate")
    numbers = {name: getattr(whole, name) for name in names}
    numbers |= {"vintages": float(len(report.vintages)), "missing": float(len(report.schedule.missing))}
    numbers |= {"degraded": float(np.mean([v.degraded for v in report.vintages]))}
    if report.split:
        numbers |= {"model_error": report.split[0].model_error, "assumption_error": report.split[0].assumption_error}
    numbers |= {f"psi_{one.column}": one.psi for one in report.drift[:10]}
    tracked.metrics({name: value for name, value in numbers.items() if value is not None})
    tracked.tags({"forecastcore.advice": ", ".join(report.advice) or "nothing"})
    tracked.table("monitor.parquet", table_of(report, ""))
    tracked.json("report.json", report.to_json())
