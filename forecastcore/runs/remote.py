"""Lets a use case run where `engine:` says: here, or as a whole on Databricks."""

from __future__ import annotations

import functools
import inspect
import json
import logging
from datetime import date
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from forecastcore import __version__, runtime
from forecastcore.errors import DatabricksRunError, ForecastCoreError, TrackingError, UsageError
from forecastcore.logbook import LoggedSteps, keeping_log, note
from forecastcore.messages import BackfillReport, BacktestReport, PredictReport, RetrainReport, RunRequest
from forecastcore.ports import Steps
from forecastcore.privacy import keep_others_out
from forecastcore.runs.reconcile import close_tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forecastcore.messages import Cost
    from forecastcore.project import Project

__all__ = ["REPORTS", "anywhere", "planned", "request_of", "used_distributions"]

_log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

#: what each use case reports
REPORTS: dict[str, type[RetrainReport | PredictReport | BackfillReport | BacktestReport]] = {
    "retrain": RetrainReport,
    "predict": PredictReport,
    "backfill": BackfillReport,
    "backtest": BacktestReport,
}


def anywhere(work: Callable[P, R]) -> Callable[P, R]:
    """A use case that goes to Databricks as a whole where its project's engine is there.

    Args:
        work: takes the project first and `steps` by name; its other arguments are plain data.
    """

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        keep_others_out()
        asked = inspect.signature(work).bind(*args, **kwargs).arguments
        project: Project = asked["project"]
        steps = LoggedSteps(asked.pop("steps", None) or Steps())
        with keeping_log(project.root, work.__name__):
            if project.config.engine.type != "databricks":
                report = cast(Any, work)(**asked, steps=steps)
            else:
                options = {key: value for key, value in asked.items() if key != "project" and value is not None}
                report = _away(project, work.__name__, options, steps)
            note(mlflow=getattr(report, "run_id", ""), key=getattr(report, "run_key", ""))
        return cast(R, report)

    return run


def _away(project: Project, command: str, options: Mapping[str, Any], steps: Steps) -> Any:
    from forecastcore.engines.databricks import send_away

    request, used = request_of(project, command, options), used_distributions(project)
    try:
        report, url, cost = send_away(project, request, used, steps)
    except DatabricksRunError as error:
        if error.run_id is not None:  # what ended there may have had no time to end its MLflow runs
            _close_tracked(project)
        raise
    told = {**(report.report or {}), "where": url, "cost": cost}
    if run_id := told.get("run_id"):
        _book(project, str(run_id), cost)
    return REPORTS[command].model_validate(told)


def _close_tracked(project: Project) -> None:
    try:
        closed = close_tracked(project)
    except ForecastCoreError as error:
        _log.warning("MLflow runs that the run on Databricks left behind are not closed: %s", error)
    else:
        if closed:
            _log.warning("MLflow runs closed as KILLED, which the run on Databricks left behind: %d", closed)


def _book(project: Project, run_id: str, cost: Cost) -> None:
    """Put what a run took on its MLflow run; what has been delivered stays so where that fails."""
    numbers = {f"cost.{k}": float(v) for k, v in cost.to_json().items() if isinstance(v, int | float)}
    numbers |= {f"cost.share.{name}": share for name, share in cost.by_candidate.items()}
    try:
        runtime.store(project).book(run_id, numbers, {"forecastcore.cost.currency": cost.currency})
    except TrackingError as error:
        _log.warning("what the run took is not on its MLflow run: %s", error)


def used_distributions(project: Project) -> list[str]:
    """The distributions that the project's plugins come from."""
    sinks = [project.host.offer("sink", sink.type) for sink in project.config.sinks]
    return [offer.distribution for offer in (*runtime.used_offers(project), *sinks) if offer.source == "installed"]


def request_of(project: Project, command: str, options: Mapping[str, Any]) -> RunRequest:
    """What a cluster is asked to do.

    Raises:
        UsageError: the project or an option cannot cross.
    """
    for moment in (options.get(key) for key in ("as_of", "first", "last")):
        runtime.instant(project, moment)  # a moment that is none is told here
    recipe = json.loads(project.recipe())
    if recipe["resolvers"] and "${block:" in project.config.model_dump_json(exclude={"engine"}):
        hint = "write ${env:NAME}, and under engine.cluster.env NAME: '{{secrets/SCOPE/KEY}}'"
        raise UsageError("a ${block:…} reference cannot be read on Databricks", hint=hint)
    recipe["resolvers"] = {}
    return RunRequest.model_validate(
        {
            "command": command,
            "options": {key: _plain(key, value) for key, value in options.items()},
            "recipe": json.dumps(recipe, sort_keys=True),
            "version": __version__,
        }
    )


def _plain(key: str, value: Any) -> Any:
    """An argument as JSON."""
    if isinstance(value, date):  # a datetime, and pandas' too
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [_plain(key, one) for one in value]
    if not isinstance(value, str | int | float | bool):
        raise UsageError(f"{key} cannot cross to Databricks: it is a {type(value).__name__}")
    return value


def planned(project: Project, command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What would be submitted to Databricks."""
    from forecastcore.engines.databricks import planned as submitted

    return submitted(project, request_of(project, command, options), used_distributions(project))
