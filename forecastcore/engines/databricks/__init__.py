"""A whole run as a one-time job on Databricks: sent away with the wheels it needs, watched, and its report fetched."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from forecastcore.config.engines import DatabricksEngine
from forecastcore.engines.databricks.cost import affordable, cost_of
from forecastcore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.messages import Cost, RunReport, RunRequest
    from forecastcore.ports import Steps
    from forecastcore.project import Project

__all__ = ["planned", "send_away", "settings_of", "supervisor_of"]


def settings_of(project: Project) -> DatabricksEngine:
    """What `engine:` says, references read.

    Raises:
        UsageError: it names no volume, or a budget that cannot be kept.
    """
    settings = DatabricksEngine.model_validate(project.engine_params())
    if settings.volume is None:
        hint = "write volume: /Volumes/catalog/schema/volume under engine:"
        raise UsageError("engine.volume is missing: wheels, requests and reports pass through it", hint=hint)
    affordable(settings)  # a budget that cannot be kept is told before anything is sent
    return settings


def supervisor_of(project: Project, patience: float = 0.0) -> Supervisor:
    """Whoever sends this project's runs away.

    Args:
        project: whose `engine:` says where.
        patience: seconds that a workspace is waited for that is there and in trouble.

    Raises:
        DatabricksRunError: the workspace cannot be reached, or does not know us.
    """
    from forecastcore.engines.databricks.belongings import belongings
    from forecastcore.engines.databricks.payload import seconds
    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.engines.databricks.tickets import Tickets
    from forecastcore.engines.databricks.workspace import Workspace

    settings = settings_of(project)
    workspace = Workspace(
        settings.profile,
        only_identities=project.config.profile == "prod",
        pause=min(1.0, seconds(settings.poll)),
        patience=patience,
    )
    files = belongings(project.config, project.root)
    return Supervisor(workspace, Tickets(project.root), settings, project.config.name, files)


def send_away(project: Project, request: RunRequest, used: Iterable[str], steps: Steps) -> tuple[RunReport, str, Cost]:
    """Run a use case on Databricks and wait for it.

    Args:
        project: whose `engine:` says where.
        request: what is run.
        used: distributions that the project's plugins come from.
        steps: how to run and watch the stages.

    Returns:
        What the run reports, its address, and what it took.

    Raises:
        DatabricksRunError: with the fault, the run's address, and what to do.
    """
    from forecastcore.engines.databricks.supervise import interruptible, supervise
    from forecastcore.engines.databricks.supervisor import PATIENCE
    from forecastcore.engines.databricks.wheels import libraries_of

    with interruptible():
        index = settings_of(project).index is not None
        stage = "look up versions" if index else "pack wheels"
        libraries = steps.run(stage, lambda: libraries_of(used, index=index))
        boss = steps.run("reach Databricks", lambda: supervisor_of(project, PATIENCE))
        report, url, took = supervise(boss, _key(request), request, libraries, steps)
    told = report.report or {}
    series = (told.get("series") or {}).get("total")
    work = {row["name"]: row["seconds"] or 0.0 for row in told.get("leaderboard", ())}
    return report, url, cost_of(boss.settings, took, series, work)


def _key(request: RunRequest) -> str:
    """The logical run: the same command with the same options."""
    named = json.dumps([request.command, request.options], sort_keys=True)
    return f"{request.command}-{hashlib.sha256(named.encode()).hexdigest()[:16]}"


def planned(project: Project, request: RunRequest, used: Iterable[str]) -> dict[str, Any]:
    """What would be submitted, without asking anybody: the payload, but for the run's own name and folder."""
    import os

    from forecastcore.engines.databricks.payload import Order, order_digest, payload, run_limit
    from forecastcore.engines.databricks.wheels import Wheel, libraries_of

    settings = settings_of(project)
    libraries = libraries_of(used, index=settings.index is not None)
    order = Order(
        project=project.config.name,
        command=request.command,
        day="DAY",
        attempt=1,
        digest=order_digest(request, settings, libraries),
        nonce="0" * 12,
    )
    body = payload(order, settings, libraries, os.environ.get("DATABRICKS_HOST", ""))
    wheels = [one for one in libraries if isinstance(one, Wheel)]
    sizes = [{"wheel": wheel.name, "bytes": len(wheel.content), "sha256": wheel.digest} for wheel in wheels]
    pins = [one.pin for one in libraries if not isinstance(one, Wheel)]
    return {
        "payload": body,
        "wheels": sizes,
        "releases": pins,
        "at_most": cost_of(settings, run_limit(settings)).to_json(),
    }
