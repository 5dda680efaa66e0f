"""Retrain as a Prefect flow: `python flows/retrain.py`, under a server, or as the deployment of `prefect.yaml`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flow_artifacts import show_retrain
from flow_stages import PLAIN, PrefectSteps, delivered, load_project, run_script, truthfully
from prefect import flow

import forecastcore as fc

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@flow(name="retrain", description="Learn anew, compare with the champion, promote only for the better.", **PLAIN)
def retrain(
    project: str = "forecast.yaml",
    as_of: str | None = None,
    promote: bool = True,  # noqa: FBT001, FBT002 - a parameter of the deployment, given by name
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Learn from all history up to an origin, and let the gate decide.

    Args:
        project: the project file, relative to the working directory.
        as_of: the origin, ISO 8601; nothing later is used. Default: the newest value.
        promote: false records the decision but leaves the champion as it is.
        overrides: `key.path=value` texts that replace what the project file says.
    """

    def work() -> State[None]:
        checked = load_project(project, overrides)
        report = fc.retrain(checked, as_of, promote=promote, steps=PrefectSteps(checked.config.name))
        show_retrain(report, checked)
        return delivered(report.decision.reason, report.series, report.deferred)

    return truthfully(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", metavar="FILE", help="project file (default: forecast.yaml)")
    parser.add_argument("--as-of", metavar="T", help="the origin: nothing later is used (default: the newest value)")
    parser.add_argument("--no-promote", dest="promote", action="store_false", help="leave the champion as it is")
    sys.exit(run_script(retrain, vars(parser.parse_args())))
