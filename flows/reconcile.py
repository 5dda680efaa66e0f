"""Reconcile as a Prefect flow: `python flows/reconcile.py`, under a server, or as the deployment of `prefect.yaml`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from alert_rules import TAG
from flow_stages import HOST, PLAIN, PROCESS, load_project, run_script, truthfully
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed

from forecastcore.errors import EngineError
from forecastcore.processes import gone
from forecastcore.runs.reconcile import reconcile as find

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

#: runs that Prefect tells of in one answer
_PAGE = 200
#: how a run is that goes on
_GOING = (StateType.RUNNING, StateType.CANCELLING)
_WHY = "its process ended without a word"
#: how often a run is begun whose process dies each time, the first time included
_TRIES = 3
#: how long a run that is begun again may take until it waits for what the dead process had sent to Databricks
_WAITS = timedelta(minutes=10)
#: how long a run of ours that a worker took up may take to start; an event tells the automation of `alerts.py`, and a
#: server on SQLite loses some where many come at once
_STARTS = timedelta(minutes=15)
#: label of a flow run that names the process that died of it
LEFT = "forecastcore.left"


@flow(name="reconcile", description="What runs left behind: on Databricks, in MLflow, in sinks, and here.", **PLAIN)
def reconcile(
    project: str = "forecast.yaml",
    fix: bool = False,  # noqa: FBT001, FBT002 - a parameter of the deployment, given by name
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Find what is left over, and put it right; what stays fails the flow run, so that somebody looks.

    A run of a deployment whose process died on this machine is begun again, and waits for what the dead one had sent
    to Databricks.

    Args:
        project: the project file, relative to the working directory.
        fix: begin again, cancel, close and remove what is found; false only tells.
        overrides: `key.path=value` texts that replace what the project file says.
    """

    def work() -> State[None]:
        checked = load_project(project, overrides)
        dead, awaited = _flow_runs(fix=fix)
        found = find(checked, fix=fix, awaited=awaited)
        told = "; ".join([*(f"{one['what']} {one['url']}".strip() for one in found.orphans), *dead, *found.unasked])
        if found.left or (dead and not fix):
            raise EngineError(f"left over: {told}", hint="with fix it is begun again, cancelled, closed or removed")
        count = len(found.orphans) + len(dead)
        return Completed(message=f"{count} put right: {told}" if count else "nothing is left over")

    return truthfully(work)


def _flow_runs(*, fix: bool) -> tuple[list[str], set[int]]:
    """Flow runs that Prefect takes to go on, whose process was one of this machine and is no more.

    Returns:
        What is told of them; and those processes whose work is taken up again, be it now or since a short while.
    """
    told, awaited = [], set[int]()
    with get_client(sync_client=True) as client:
        for run in _unended(client):
            if run.state is None:
                continue
            if datetime.now(UTC) - run.state.timestamp < _WAITS:
                awaited |= _pids(run, LEFT)
            if run.state.type not in _GOING or not gone(_text(run, HOST), _text(run, PROCESS)):
                continue
            told.append(f"flow run {run.name} is {run.state.name}, and {_WHY}")
            if _again(run):
                awaited |= _pids(run, PROCESS)
            if fix:
                _put_right(client, run)
        for run in _unstarted(client):
            told.append(f"flow run {run.name} was taken up, and nobody has started it")
            if fix:
                words = f"taken up, and not started in {_STARTS.total_seconds():.0f} s; closed by reconcile"
                client.set_flow_run_state(run.id, Crashed(message=words), force=True)
    return told, awaited


def _again(run: FlowRun) -> bool:
    """Whether a run whose process died is begun again: a worker can, nobody has cancelled it, and it is no habit."""
    return run.state_type == StateType.RUNNING and run.deployment_id is not None and run.run_count < _TRIES


def _put_right(client: SyncPrefectClient, run: FlowRun) -> None:
    """Begin a run again whose process died, or end it."""
    if _again(run):
        # until the new process has signed, nobody may take the run for one whose process is no more
        client.update_flow_run_labels(run.id, {LEFT: _text(run, PROCESS) or "", PROCESS: ""})
        state: State[Any] = AwaitingRetry(message=f"{_WHY}; begun again by reconcile")
    else:
        end = Cancelled if run.state_type == StateType.CANCELLING else Crashed
        state = end(message=f"{_WHY}; closed by reconcile")
    client.set_flow_run_state(run.id, state, force=True)


def _unended(client: SyncPrefectClient) -> list[FlowRun]:
    """All that have begun, and have not ended."""
    unended = FlowRunFilterStateType(any_=[*_GOING, StateType.SCHEDULED, StateType.PENDING])
    begun = FlowRunFilterStartTime(is_null_=False)
    return _found(client, FlowRunFilter(state=FlowRunFilterState(type=unended), start_time=begun))


def _unstarted(client: SyncPrefectClient) -> list[FlowRun]:
    """Those of ours that a worker took up long ago, and that have not begun."""
    pending = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING]))
    unbegun, ours = FlowRunFilterStartTime(is_null_=True), FlowRunFilterTags(all_=[TAG])
    taken_up = _found(client, FlowRunFilter(state=pending, start_time=unbegun, tags=ours))
    return [run for run in taken_up if run.state and datetime.now(UTC) - run.state.timestamp > _STARTS]


def _found(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    """All of them, before one is ended: that would move the pages."""
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE, offset=len(found)):
        found += page
    return found


def _pids(run: FlowRun, label: str) -> set[int]:
    """The process that a label names."""
    pid = (_text(run, label) or "").partition("/")[0]
    return {int(pid)} if pid.isdigit() else set()


def _text(run: FlowRun, label: str) -> str | None:
    value = run.labels.get(label)
    return value if isinstance(value, str) else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", metavar="FILE", help="project file (default: forecast.yaml)")
    parser.add_argument("--fix", action="store_true", help="begin again, cancel, close and remove what is found")
    sys.exit(run_script(reconcile, vars(parser.parse_args())))
