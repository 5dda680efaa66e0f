"""Checks of Databricks, where the project or the environment names a workspace."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from forecastcore.doctor.finding import Fault, Skip

if TYPE_CHECKING:
    from forecastcore.doctor.finding import Patient
    from forecastcore.engines.databricks.supervisor import Supervisor

__all__ = ["CHECKS"]

#: first runtime with a Python that forecastcore runs on: 3.11
_OLDEST = 15
_AGAIN = "try again; is the network open to it?"


def workspace(patient: Patient) -> str:
    """There is a workspace, and it knows whom it is asked as."""
    from forecastcore.engines.databricks.workspace import Workspace

    project = patient.project
    engine = project is not None and project.config.engine.type == "databricks"
    tracking = project is not None and str(project.config.tracking.uri).startswith("databricks")
    if not (engine or tracking or os.environ.get("DATABRICKS_HOST")):
        raise Skip("neither the project nor DATABRICKS_HOST names a workspace")
    if project is not None and engine:
        from forecastcore.engines.databricks import supervisor_of

        patient.databricks = supervisor_of(project)
        there = patient.databricks.workspace
    else:
        there = Workspace()
    return f"{there.host} knows this as {there.user}"


def _boss(patient: Patient) -> Supervisor:
    project = patient.project
    if project is None or project.config.engine.type != "databricks":
        raise Skip("the project's engine is not databricks")
    boss: Supervisor = patient.need("databricks", "databricks")
    return boss


def volume(patient: Patient) -> str:
    """The volume that requests and reports pass through is there."""
    from forecastcore.engines.databricks.answers import Refused, Unavailable

    boss = _boss(patient)
    try:
        boss.workspace.call("GET", f"/api/2.0/fs/directories{boss.volume}")
    except Refused as error:
        mend = f"create it, or grant READ VOLUME and WRITE VOLUME on it to {boss.workspace.user}"
        raise Fault(f"{boss.volume} in {boss.workspace.host}, asked as {boss.workspace.user}: {error}", mend) from error
    except Unavailable as error:
        raise Fault(f"{boss.workspace.host} does not say whether {boss.volume} is there: {error}", _AGAIN) from error
    return f"{boss.volume} is there"


def jobs(patient: Patient) -> str:
    """A job may be submitted, and its compute is one that forecastcore runs on."""
    from forecastcore.engines.databricks.answers import Refused, Unavailable

    boss = _boss(patient)
    who = f"{boss.workspace.host}, asked as {boss.workspace.user}"
    try:
        _may_submit(boss)
        return f"{boss.workspace.user} may submit runs; {_compute(boss)}"
    except Refused as error:
        raise Fault(f"{who}: {error}", "ask an administrator for the right to create job runs") from error
    except Unavailable as error:
        raise Fault(f"{who}: no answer: {error}", _AGAIN) from error


def _may_submit(boss: Supervisor) -> None:
    """A submission without a task cannot become a run, but whoever may not submit is told so first."""
    from forecastcore.engines.databricks.answers import Refused

    try:
        boss.workspace.call("POST", "/api/2.2/jobs/runs/submit", body={"run_name": "forecastcore doctor", "tasks": []})
    except Refused as error:
        if error.fault in {"forbidden", "unauthenticated"}:
            raise


def _compute(boss: Supervisor) -> str:
    settings, ask = boss.settings, boss.workspace.call
    if settings.cluster:
        version = settings.cluster.spark_version
        there = [str(one["key"]) for one in ask("GET", "/api/2.1/clusters/spark-versions").get("versions", ())]
        if version not in there:
            mend = f"write one of {', '.join(sorted(there)[-4:])} under engine.cluster.spark_version"
            raise Fault(f"{boss.workspace.host} has no runtime {version}", mend)
    elif settings.existing_cluster:
        version = _runtime_of(boss, settings.existing_cluster)
    else:
        return "serverless"
    number = re.match(r"\d+", version)
    if number and int(number.group()) < _OLDEST:
        mend = f"take a runtime of {_OLDEST} or newer"
        raise Fault(f"the runtime {version} has a Python older than 3.11, which forecastcore needs", mend)
    return f"runtime {version}"


def _runtime_of(boss: Supervisor, cluster: str) -> str:
    from forecastcore.engines.databricks.answers import Refused

    try:
        told = boss.workspace.call("GET", "/api/2.1/clusters/get", query={"cluster_id": cluster})
    except Refused as error:
        who = boss.workspace.user
        mend = f"mend engine.existing_cluster, or have {who} granted Can Attach To on it"
        raise Fault(f"the cluster {cluster} in {boss.workspace.host}, asked as {who}: {error}", mend) from error
    return str(told.get("spark_version"))


CHECKS = (("databricks", workspace), ("databricks-volume", volume), ("databricks-jobs", jobs))
