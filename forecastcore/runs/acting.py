"""Doing what the policies of a monitor run ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forecastcore import runtime
from forecastcore.ports import Steps
from forecastcore.runs.demotion import review
from forecastcore.runs.history import opened
from forecastcore.runs.promotion import demote
from forecastcore.runs.recalibrate import recalibrate
from forecastcore.runs.retrain import retrain
from forecastcore.watching.messages import ActionTaken

if TYPE_CHECKING:
    from collections.abc import Callable

    from forecastcore.project import Project
    from forecastcore.watching.messages import MonitorReport

__all__ = ["act"]


def act(
    project: Project,
    report: MonitorReport,
    *,
    steps: Steps | None = None,
    learn: Callable[[], ActionTaken] | None = None,
) -> MonitorReport:
    """Carry out the advice of a report, each kind once.

    Args:
        project: as for `monitor`.
        report: what `monitor` said.
        steps: how to run and watch the stages.
        learn: how to retrain instead of here and now, such as a run of its own under a scheduler.

    Returns:
        The report with what was done under `acted`.
    """
    ways: Final[dict[str, Callable[[], ActionTaken]]] = {
        "retrain": learn or (lambda: _retrain(project, report, steps)),
        "recalibrate": lambda: _recalibrate(project, report),
        "demote": lambda: _demote(project, report),
        "alert": lambda: ActionTaken(do="alert", done=True, note="told"),
    }
    return report.model_copy(update={"acted": tuple(ways[advice]() for advice in report.advice)})


def _retrain(project: Project, report: MonitorReport, steps: Steps | None) -> ActionTaken:
    known = runtime.store(project).versions()
    done = next((v for v in known if v.trained_until and v.trained_until >= report.as_of), None)
    if done is not None:
        words = f"version {done.version} was trained on data until {done.trained_until:%Y-%m-%d %H:%M} UTC already"
        return ActionTaken(do="retrain", done=False, note=words)
    told = retrain(project, report.as_of, steps=steps)
    return ActionTaken(do="retrain", done=True, note=told.decision.reason, run_id=told.run_id)


def _recalibrate(project: Project, report: MonitorReport) -> ActionTaken:
    version = recalibrate(project, report.as_of)
    words = f"version {version.version} is the champion's parameters with intervals learned from the newest errors"
    return ActionTaken(do="recalibrate", done=True, note=words, run_id=version.run_id)


def _demote(project: Project, report: MonitorReport) -> ActionTaken:
    """Back to the champion before, if on the origins since its training it would have done better."""
    store, engine = runtime.store(project), runtime.engine_here(project)
    with opened(project, engine, report.as_of, Steps()) as history:
        found = review(project, history, engine, store)
    if found is None:
        return ActionTaken(do="demote", done=False, note="there is no predecessor that could be compared")
    if not (found.gain or 0.0) > 0:
        return ActionTaken(do="demote", done=False, note=f"the predecessor would have been no better: {found.reason}")
    champion = demote(store, found, store.resolve("champion"), run_id=report.run_id)
    words = f"version {champion.version if champion else 'none'} is champion again: {found.reason}"
    return ActionTaken(do="demote", done=True, note=words, run_id=report.run_id)
