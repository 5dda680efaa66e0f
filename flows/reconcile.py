"""Reconcile as a Prefect flow: `python flows/reconcile.py`, under a server, or as the deployment of `prefect.yaml`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flow_stages import PLAIN, load_project, run_script, truthfully
from prefect import flow
from prefect.states import Completed

from forecastcore.errors import EngineError
from forecastcore.runs.reconcile import reconcile as find

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@flow(name="reconcile", description="What nobody waits for any more: runs on Databricks, tickets of runs.", **PLAIN)
def reconcile(
    project: str = "forecast.yaml",
    fix: bool = False,  # noqa: FBT001, FBT002 - a parameter of the deployment, given by name
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Find what is left over, and put an end to it; what stays fails the flow run, so that somebody looks.

    Args:
        project: the project file, relative to the working directory.
        fix: cancel and forget what is found; false only tells.
        overrides: `key.path=value` texts that replace what the project file says.
    """

    def work() -> State[None]:
        found = find(load_project(project, overrides), fix=fix)
        told = "; ".join(f"{one['what']} {one['url']}" for one in found)
        if any(not one["fixed"] for one in found):
            raise EngineError(f"left over: {told}", hint="with fix it is cancelled and forgotten")
        return Completed(message=f"{len(found)} put an end to: {told}" if found else "nothing is left over")

    return truthfully(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", metavar="FILE", help="project file (default: forecast.yaml)")
    parser.add_argument("--fix", action="store_true", help="cancel and forget what is found")
    sys.exit(run_script(reconcile, vars(parser.parse_args())))
