"""What is sent to `runs/submit`, as plain data: pure functions of the settings and the request."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore.engines.databricks.cost import affordable
from forecastcore.engines.databricks.wheels import places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.config.engines import ClusterConfig, DatabricksEngine
    from forecastcore.engines.databricks.wheels import Library
    from forecastcore.messages import RunRequest

__all__ = [
    "MARK",
    "Order",
    "home",
    "nonce_of",
    "order_digest",
    "payload",
    "placed_on",
    "run_limit",
    "seconds",
    "task_of",
    "token",
]

#: what a run's name begins with: the mark by which runs of ours are known
MARK = "forecastcore"
_ENTRY = "forecastcore-run"
_ENVIRONMENT = "4"
#: how long a detached run may take at most, as a multiple of what is waited
_DETACHED = 2


@dataclass(frozen=True, kw_only=True)
class Order:
    """One attempt at one logical run.

    Attributes:
        project: its name.
        command: what is run.
        day: the logical date: the origin asked for, or the day on which it was asked for the newest.
        attempt: 1, 2, 3 …
        digest: of all that is asked for: request, settings and wheels.
        nonce: tells this submission from any other one, whatever token they share.
    """

    project: str
    command: str
    day: str
    attempt: int
    digest: str
    nonce: str

    @property
    def name(self) -> str:
        """The run's name in Databricks."""
        return f"{MARK}/{self.project}/{self.command}/{self.day}/{self.attempt}/{self.nonce}"

    def folder(self, volume: str) -> str:
        """Where its request and report are in a volume."""
        return run_folder(volume, self.nonce)


def home(volume: str, project: str) -> str:
    """Where a project's relative paths start on a cluster that does not see its own folder."""
    return f"{volume}/forecastcore/projects/{project}"


def run_folder(volume: str, nonce: str) -> str:
    """Where request and report of a run are in a volume."""
    return f"{volume}/forecastcore/runs/{nonce}"


def nonce_of(name: str, project: str = "") -> str:
    """The nonce in a run's name; empty where the run is not ours, or of another project."""
    parts = name.split("/")
    ours = len(parts) == 6 and parts[0] == MARK and re.fullmatch(r"[0-9a-f]{12}", parts[5])  # noqa: PLR2004 - see Order.name
    return parts[5] if ours and project in ("", parts[1]) else ""


def seconds(span: str) -> float:
    """A span such as 4h in seconds."""
    return float(pd.Timedelta(span).total_seconds())


def order_digest(request: RunRequest, settings: DatabricksEngine, libraries: Sequence[Library]) -> str:
    """SHA-256 of all that is asked for."""
    asked = [request.to_json(), settings.model_dump(mode="json"), [library.digest for library in libraries]]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def token(order: Order) -> str:
    """The idempotency token: 64 characters that name the attempt, not the submission."""
    named = [order.project, order.day, order.command, order.attempt, order.digest]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def payload(order: Order, settings: DatabricksEngine, libraries: Sequence[Library], host: str = "") -> dict[str, Any]:
    """The body of `runs/submit`.

    Args:
        order: which attempt at what.
        settings: `engine:` of the project file; its volume is set.
        libraries: what the run installs.
        host: address of the workspace; it tells the cloud, which names its spare machines in its own way.
    """
    volume = str(settings.volume)
    folder, limit = order.folder(volume), run_limit(settings)
    task = task_of(order.command, folder, home(volume, order.project), limit)
    placed = placed_on(settings, task, places(libraries, settings.wheels or volume), order.project, host)
    return {"run_name": order.name, "idempotency_token": token(order), "timeout_seconds": limit, **placed}


def run_limit(settings: DatabricksEngine) -> int:
    """Seconds after which Databricks itself ends a run: its time or its budget is over."""
    limit = seconds(settings.timeout)
    limit = limit if settings.on_timeout == "cancel" else limit * _DETACHED
    return int(min(limit, affordable(settings))) or 1


def task_of(command: str, folder: str, start: str, limit: int, request: str = "") -> dict[str, Any]:
    """The one task of a run.

    Args:
        command: what is run.
        folder: where its report is left.
        start: where relative paths start.
        limit: see `run_limit`.
        request: file that says what to do; default: the one in `folder`.
    """
    return {
        "task_key": command,
        "python_wheel_task": {
            "package_name": MARK,
            "entry_point": _ENTRY,
            "parameters": [
                *("--request", request or f"{folder}/request.json"),
                *("--report", f"{folder}/report.json"),
                *("--home", start),
            ],
        },
        "timeout_seconds": limit,
        "max_retries": 0,
    }


def placed_on(
    settings: DatabricksEngine, task: dict[str, Any], libraries: Sequence[str], project: str, host: str
) -> dict[str, Any]:
    """The task with the machines it runs on and what it installs: `tasks`, and `environments` where serverless.

    Args:
        settings: which machines.
        task: see `task_of`.
        libraries: paths of wheels, or pinned versions.
        project: its name, a tag of the machines.
        host: see `payload`.
    """
    index = settings.index if settings.index != "default" else None
    if settings.serverless:
        dependencies = [*([f"--index-url {index}"] if index else []), *libraries, *settings.packages]
        spec = {"environment_version": _ENVIRONMENT, "dependencies": dependencies}
        environments = [{"environment_key": MARK, "spec": spec}]
        return {"environments": environments, "tasks": [{**task, "environment_key": MARK}]}
    task = {**task, "libraries": [_library(one, index) for one in (*libraries, *settings.packages)]}
    if settings.existing_cluster:
        return {"tasks": [{**task, "existing_cluster_id": settings.existing_cluster}]}
    assert settings.cluster is not None  # noqa: S101 - the project file was checked for exactly one of the three
    return {"tasks": [{**task, "new_cluster": _cluster(settings.cluster, project, host)}]}


def _library(asked: str, index: str | None) -> dict[str, Any]:
    if asked.endswith(".whl"):
        return {"whl": asked}
    return {"pypi": {"package": asked, **({"repo": index} if index else {})}}


def _cluster(cluster: ClusterConfig, project: str, host: str) -> dict[str, Any]:
    conf, tags = {k: str(v) for k, v in cluster.conf.items()}, dict(cluster.tags)
    size: dict[str, Any] = {"num_workers": cluster.workers}
    if cluster.autoscale:
        size = {"autoscale": {"min_workers": cluster.autoscale.min, "max_workers": cluster.autoscale.max}}
    elif cluster.workers == 0:
        conf = {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]", **conf}
        tags = {"ResourceClass": "SingleNode", **tags}
    optional = {
        "policy_id": cluster.policy_id,
        "spark_conf": conf,
        "spark_env_vars": dict(cluster.env),
        "init_scripts": [{_storage(path): {"destination": path}} for path in cluster.init_scripts],
        **(_spot(host) if cluster.spot else {}),
    }
    return {
        "spark_version": cluster.spark_version,
        "node_type_id": cluster.node_type,
        **size,
        "data_security_mode": "SINGLE_USER",
        "custom_tags": {**tags, MARK: project},
        **{key: value for key, value in optional.items() if value},
    }


def _storage(path: str) -> str:
    if path.startswith("/Volumes/"):
        return "volumes"
    return "abfss" if path.startswith("abfss:") else "workspace"


def _spot(host: str) -> dict[str, Any]:
    if ".gcp.databricks.com" in host:
        return {"gcp_attributes": {"availability": "PREEMPTIBLE_WITH_FALLBACK_GCP", "first_on_demand": 1}}
    if ".cloud.databricks.com" in host:
        return {"aws_attributes": {"availability": "SPOT_WITH_FALLBACK", "first_on_demand": 1}}
    return {"azure_attributes": {"availability": "SPOT_WITH_FALLBACK_AZURE", "first_on_demand": 1}}
