"""Reconcile as a Prefect flow: `python flows/reconcile.py`, under a server, or as the deployment of `prefect.yaml`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flow_stages import HOST, PLAIN, PROCESS, load_project, run_script, truthfully
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Completed, Crashed

from forecastcore.errors import EngineError
from forecastcore.processes import gone
from forecastcore.runs.reconcile import reconcile as find

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

#: runs that Prefect tells of in one answer
_PAGE = 200


@flow(name="reconcile", description="What runs left behind: on Databricks, in MLflow, in sinks, and here.", **PLAIN)
def reconcile(
    project: str = "forecast.yaml",
    fix: bool = False,  # noqa: FBT001, FBT002 - a parameter of the deployment, given by name
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Find what is left over, and put an end to it; what stays fails the flow run, so that somebody looks.

    Args:
        project: the project file, relative to the working directory.
        fix: cancel, close and remove what is found; false only tells.
        overrides: `key.path=value` texts that replace what the project file says.
    """

    def work() -> State[None]:
        found, dead = find(load_project(project, overrides), fix=fix), _flow_runs(fix=fix)
        told = "; ".join([*(f"{one['what']} {one['url']}".strip() for one in found.orphans), *dead, *found.unasked])
        if found.left or (dead and not fix):
            raise EngineError(f"left over: {told}", hint="with fix it is cancelled, closed or removed")
        count = len(found.orphans) + len(dead)
        return Completed(message=f"{count} put an end to: {told}" if count else "nothing is left over")

    return truthfully(work)


def _flow_runs(*, fix: bool) -> list[str]:
    """Flow runs that Prefect takes to go on, whose process was one of this machine and is no more."""
    told = []
    with get_client(sync_client=True) as client:
        for run in _unended(client):
            if not gone(_text(run, HOST), _text(run, PROCESS)):
                continue
            name = run.state.name if run.state else "without a state"
            why = "its process ended without a word"
            told.append(f"flow run {run.name} is {name}, and {why}")
            if fix:
                end = Cancelled if run.state_type == StateType.CANCELLING else Crashed
                client.set_flow_run_state(run.id, end(message=f"{why}; closed by reconcile"), force=True)
    return told


def _unended(client: SyncPrefectClient) -> list[FlowRun]:
    """All of them, before one is ended: that would move the pages."""
    unended = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    wanted = FlowRunFilter(state=FlowRunFilterState(type=unended))
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE, offset=len(found)):
        found += page
    return found


def _text(run: FlowRun, label: str) -> str | None:
    value = run.labels.get(label)
    return value if isinstance(value, str) else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", metavar="FILE", help="project file (default: forecast.yaml)")
    parser.add_argument("--fix", action="store_true", help="cancel, close and remove what is found")
    sys.exit(run_script(reconcile, vars(parser.parse_args())))
