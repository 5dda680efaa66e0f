"""What runs have left behind that nobody takes care of: on Databricks, in MLflow, in the sinks, and on this disk."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forecastcore import runtime
from forecastcore.errors import ForecastCoreError, SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.project import Project
    from forecastcore.tracking.runs import LeftRunning

__all__ = ["Found", "close_tracked", "reconcile"]

_log = logging.getLogger(__name__)
#: seconds that a run on a cluster may have waited for its machines before it made its MLflow run
_WAITED = 86400.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is left over.

    Attributes:
        orphans: one entry each: `kind`, `what`, `mend`, `run_id`, `url`, and whether it is `fixed`.
        unasked: places that could not be looked at, with the reason.
    """

    orphans: list[dict[str, Any]] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How many orphans there still are, and places where there may be some."""
        return sum(not one["fixed"] for one in self.orphans) + len(self.unasked)


@dataclass(frozen=True, kw_only=True)
class _Orphan:
    kind: str
    what: str
    mend: str
    put_right: Callable[[], bool]
    run_id: int | str | None = None
    url: str = ""


def reconcile(project: Project, *, fix: bool = False, awaited: Collection[int] = ()) -> Found:
    """Find orphans, and with `fix` put an end to them; one place that cannot be asked hides no other.

    Args:
        project: whose runs.
        fix: cancel runs that nobody waits for, close MLflow runs whose process is no more, forget and remove what is
            left of runs that are over; else nothing is changed.
        awaited: processes of this machine that are no more, and whose work somebody else takes up: the runs on
            Databricks that they waited for are left to that.
    """
    found = Found()
    looks: list[tuple[str, Callable[[], Iterator[_Orphan]]]] = [
        ("MLflow", lambda: _tracked(project)),
        ("what MLflow was not told", lambda: _untold(project)),
        ("the sinks", lambda: _delivered(project)),
        ("kept answers", lambda: _kept(project)),
    ]
    if project.config.engine.type == "databricks":
        looks.insert(0, ("Databricks", lambda: _away(_boss(project), awaited)))
    for place, look in looks:
        try:
            found.orphans.extend(_told(orphan, fix=fix) for orphan in look())
        except ForecastCoreError as error:
            found.unasked.append(f"{place}: {error}")
    return found


def close_tracked(project: Project) -> int:
    """Close MLflow runs that go on for ever, such as of a cluster that ran out of memory; how many there were.

    Raises:
        TrackingError: MLflow cannot be asked.
        DatabricksRunError: the workspace cannot be asked.
    """
    return sum(orphan.put_right() for orphan in _tracked(project))


def _told(orphan: _Orphan, *, fix: bool) -> dict[str, Any]:
    told = {key: getattr(orphan, key) for key in ("kind", "what", "mend", "run_id", "url")}
    return {**told, "fixed": fix and _mended(orphan)}


def _mended(orphan: _Orphan) -> bool:
    try:
        return orphan.put_right()
    except (ForecastCoreError, OSError) as error:
        _log.error("%s: %s", orphan.what, error)
        return False


def _boss(project: Project) -> Supervisor:
    from forecastcore.engines.databricks import supervisor_of

    return supervisor_of(project)


def _away(boss: Supervisor, awaited: Collection[int]) -> Iterator[_Orphan]:
    from forecastcore.engines.databricks.reconcile import mend, orphans

    for one in orphans(boss, awaited):
        put_right = functools.partial(mend, boss, one)
        yield _Orphan(kind=one.kind, what=one.what, mend=one.mend, put_right=put_right, run_id=one.run_id, url=one.url)


def _tracked(project: Project) -> Iterator[_Orphan]:
    """MLflow runs that go on for ever: their process died on this machine, or their run on a cluster is over."""
    with runtime.look_only(project) as store:
        running = store.left_running()
        away = [run for run in running if run.job and not run.died]
    over, still = _jobs_over(project, away), set[str]()
    if over:
        with runtime.look_only(project) as store:  # again: an end may have come meanwhile
            still = {run.run_id for run in store.left_running()}
    for run in running:
        why = "its process ended without a word" if run.died else ""
        if run.job in over and run.run_id in still:
            why = "its run on Databricks is over"
        if why:
            closing = f"{why}; closed by reconcile"
            yield _Orphan(
                kind="mlflow-run-without-process",
                what=f"MLflow run {run.name} is RUNNING, and {why}",
                mend="close it as KILLED",
                put_right=functools.partial(_closed, project, run.run_id, closing),
                run_id=run.run_id,
            )


def _untold(project: Project) -> Iterator[_Orphan]:
    """Runs that could not tell MLflow what they found and decided, for it was away."""
    from forecastcore.runs.deferred import catch_up

    if behind := runtime.store(project).behind():
        runs = "1 run" if len(behind) == 1 else f"{len(behind)} runs"
        yield _Orphan(
            kind="run-not-told",
            what=f"{runs} could not tell MLflow what was found and decided; it is kept in {behind[0].parent}",
            mend="tell it, and carry out what was decided",
            put_right=lambda: bool(catch_up(project)) and not runtime.store(project).behind(),
        )


def _closed(project: Project, run_id: str, why: str) -> bool:
    runtime.store(project).close(run_id, why)
    return True  # whoever else has ended it


def _jobs_over(project: Project, runs: list[LeftRunning]) -> set[str]:
    if not runs or project.config.engine.type != "databricks":
        return set()
    from forecastcore.engines.databricks.reconcile import jobs_over

    return jobs_over(_boss(project), min(run.started for run in runs) - _WAITED)


def _delivered(project: Project) -> Iterator[_Orphan]:
    """What deliveries that were broken off have left where no reader looks."""
    for label, sink in project.sinks():
        if files := _leftovers(label, sink):
            yield _Orphan(
                kind="delivery-broken-off",
                what=f"{label}: {len(files)} files of deliveries that were broken off, such as {files[0]}",
                mend="remove them",
                put_right=functools.partial(_removed, label, sink),
            )


def _leftovers(label: str, sink: Any, **how: bool) -> list[str]:
    look = getattr(sink, "leftovers", None)
    try:
        return list(look(**how)) if callable(look) else []
    except ForecastCoreError:
        raise
    except Exception as error:  # a plugin's own, or its library's
        raise SinkError(f"{label}: {type(error).__name__}: {error}") from error


def _removed(label: str, sink: Any) -> bool:
    _leftovers(label, sink, remove=True)
    return True


def _kept(project: Project) -> Iterator[_Orphan]:
    """Answers of runs that nobody came back to."""
    from forecastcore.engines.kept import abandoned

    folder = runtime.kept(project)
    if paths := abandoned(folder):
        yield _Orphan(
            kind="answers-of-no-run",
            what=f"{folder} holds {len(paths)} pieces of work that nobody has come back for",
            mend="remove them",
            put_right=functools.partial(_unlinked, paths),
        )


def _unlinked(paths: list[Path]) -> bool:
    for path in paths:
        path.unlink(missing_ok=True)
    return True
