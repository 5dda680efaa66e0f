"""`databricks.yml`: the same runs as jobs that Databricks itself starts, as plain data."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from forecastcore.config.engines import DatabricksEngine
from forecastcore.config.references import REFERENCE
from forecastcore.engines.databricks.payload import MARK, home, placed_on, run_limit, task_of
from forecastcore.engines.databricks.quartz import quartz
from forecastcore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forecastcore.config import EngineConfig

__all__ = ["bundle_of", "settings_unread"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
#: settings of a cluster that may differ from target to target
_VARIED = ("spark_version", "node_type")


def settings_unread(engine: EngineConfig) -> tuple[DatabricksEngine, dict[str, dict[str, str]]]:
    """What `engine:` says, with its references as variables of the bundle: nothing is read that could be a secret.

    Returns:
        The settings, and the variables.

    Raises:
        UsageError: a reference stands where a bundle can have none, or there is no volume.
    """
    found: dict[str, dict[str, str]] = {}

    def variable(match: re.Match[str]) -> str:
        kind, name = match.group(1), match.group(2).strip()
        if kind != "env" or not _NAME.fullmatch(name):
            raise UsageError(
                f"{match.group()} under engine: cannot be read by a bundle", hint="write ${env:NAME}, or the value"
            )
        found[name] = {"description": f"what {match.group().strip('${}')} is in the project file"}
        return f"${{var.{name}}}"

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: walk(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [walk(value) for value in part]
        return REFERENCE.sub(variable, part) if isinstance(part, str) else part

    try:
        settings = DatabricksEngine.model_validate(walk({k: v for k, v in engine.params.items() if k != "profile"}))
    except ValidationError as error:
        place = ".".join(str(key) for key in error.errors()[0]["loc"])
        raise UsageError(f"engine.{place} is a reference", hint="write the value out, for a bundle") from error
    if settings.volume is None:
        hint = "write volume: /Volumes/catalog/schema/volume under engine:"
        raise UsageError("engine.volume is missing: reports pass through it", hint=hint)
    return settings, found


def bundle_of(
    project: str,
    engine: EngineConfig,
    libraries: Sequence[str],
    schedules: Mapping[str, Sequence[Mapping[str, Any]]],
    timezone: str,
) -> dict[str, Any]:
    """The bundle: a job per command, on the machines that `engine:` names.

    Args:
        project: its name.
        engine: of the project file, its references unread.
        libraries: paths of wheels, beside the bundle's file, or pinned versions.
        schedules: by command, as `prefect.yaml` has them.
        timezone: of schedules that name none.

    Raises:
        UsageError: a setting or a schedule cannot be said there.
    """
    settings, variables = settings_unread(engine)
    varied = {"volume": str(settings.volume)}
    if settings.cluster is not None:
        varied |= {name: str(getattr(settings.cluster, name)) for name in _VARIED}
        shared = {name: f"${{var.{name}}}" for name in _VARIED}
        settings = settings.model_copy(update={"cluster": settings.cluster.model_copy(update=shared)})
    if clash := sorted(variables.keys() & {*varied, "schedules"}):
        raise UsageError(f"${{env:{clash[0]}}} under engine: has the name of a variable that every bundle has")
    defaults = {name: {"description": f"engine: {name}", "default": value} for name, value in varied.items()}
    status = {"description": "whether schedules are kept: UNPAUSED or PAUSED", "default": "PAUSED"}
    jobs = {
        command: _job(project, command, settings, libraries, _when(command, said, timezone))
        for command, said in schedules.items()
    }
    return {
        "bundle": {"name": project},
        "include": ["own/*.yml"],
        "variables": {**defaults, "schedules": status, **variables},
        "resources": {"jobs": jobs},
        "targets": {
            "dev": {"mode": "development", "default": True},
            "staging": {"workspace": {"root_path": _shared_root()}},
            "prod": {
                "mode": "production",
                "workspace": {"root_path": _shared_root()},
                "variables": {"schedules": "UNPAUSED"},
            },
        },
    }


def _shared_root() -> str:
    """One copy for all who deploy; in development everybody has his own."""
    return "/Workspace/Shared/.bundle/${bundle.name}/${bundle.target}"


def _when(command: str, schedules: Sequence[Mapping[str, Any]], timezone: str) -> dict[str, Any]:
    """The schedule of a job; it can have but one."""
    if len(schedules) > 1:
        raise UsageError(f"{command} has {len(schedules)} schedules, and a job of Databricks one", hint="join them")
    for schedule in schedules:
        zone = str(schedule.get("timezone") or timezone)
        status = "${var.schedules}" if schedule.get("active", True) else "PAUSED"
        expression = quartz(schedule, zone)
        return {
            "schedule": {"quartz_cron_expression": expression, "timezone_id": zone, "pause_status": status},
        }
    return {}


def _job(
    project: str, command: str, settings: DatabricksEngine, libraries: Sequence[str], schedule: dict[str, Any]
) -> dict[str, Any]:
    volume, limit = "${var.volume}", run_limit(settings)
    folder = f"{volume}/forecastcore/runs/{project}-{command}-{{{{job.run_id}}}}"
    request = f"${{workspace.file_path}}/requests/{command}.json"
    task = task_of(command, folder, home(volume, project), limit, request)
    return {
        "name": f"{project} {command}",
        "tags": {MARK: project},
        "max_concurrent_runs": 1,
        "queue": {"enabled": True},
        "timeout_seconds": limit,
        **schedule,
        **placed_on(settings, task, libraries, project, os.environ.get("DATABRICKS_HOST", "")),
    }
