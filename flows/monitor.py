"""Monitor as a Prefect flow: `python flows/monitor.py`, under a server, or as the deployment of `prefect.yaml`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flow_artifacts import show_monitor
from flow_stages import PLAIN, PrefectSteps, load_project, run_script, truthfully
from prefect import flow
from prefect.states import Completed
from retrain import retrain

import forecastcore as fc
from forecastcore.runs.acting import act
from forecastcore.watching.messages import ActionTaken

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from forecastcore.watching.messages import MonitorReport


@flow(name="monitor", description="Delivered forecasts beside what came; do what the policies ask for.", **PLAIN)
def monitor(
    project: str = "forecast.yaml",
    as_of: str | None = None,
    last: int | None = None,
    acting: bool = True,  # noqa: FBT001, FBT002 - a parameter of the deployment, given by name
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Score delivered vintages, and carry out what the policies of the project file ask for.

    Args:
        project: the project file, relative to the working directory.
        as_of: actuals up to here are used, ISO 8601. Default: the newest value.
        last: newest vintages to look at; default: what `monitor.last` says.
        acting: false only tells.
        overrides: `key.path=value` texts that replace what the project file says.
    """

    def work() -> State[None]:
        checked = load_project(project, overrides)
        steps = PrefectSteps(checked.config.name)
        report = fc.monitor(checked, as_of, last=last, steps=steps)
        if acting and report.advice:
            report = act(checked, report, steps=steps, learn=lambda: _retrained(project, report, overrides))
        show_monitor(report, checked)
        return _state(report)

    return truthfully(work)


def _retrained(project: str, report: MonitorReport, overrides: tuple[str, ...]) -> ActionTaken:
    """A retrain as a run of its own below this one, with its own pages."""
    run: Any = retrain
    state = run(project=project, as_of=report.as_of.isoformat(), overrides=overrides, return_state=True)
    words = f"{state.name}: {state.message or ''}"
    return ActionTaken(do="retrain", done=bool(state.is_completed()), note=words)


def _state(report: MonitorReport) -> State[None]:
    fired = [f"{one.do} when {one.when}: {one.reason}" for one in report.policies if one.fired]
    if fired:
        done = [f"{one.do} {'done' if one.done else 'not done'}: {one.note}" for one in report.acted]
        return Completed(name="Degraded", message="; ".join([*fired, *done]))
    return Completed(message=f"{len(report.vintages)} vintages up to {report.as_of:%Y-%m-%d %H:%M} UTC, nothing to do")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", metavar="FILE", help="project file (default: forecast.yaml)")
    parser.add_argument("--as-of", metavar="T", help="actuals up to here are used (default: the newest value)")
    parser.add_argument("--last", type=int, metavar="N", help="newest vintages to look at (default: monitor.last)")
    parser.add_argument("--tell-only", dest="acting", action="store_false", help="carry out nothing")
    sys.exit(run_script(monitor, vars(parser.parse_args())))
