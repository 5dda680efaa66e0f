"""Backfill as a Prefect flow: `python flows/backfill.py --from T --to T`, or under a server."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flow_stages import PLAIN, PrefectSteps, load_project, run_script, truthfully
from prefect import flow
from prefect.states import Completed

import forecastcore as fc
from forecastcore.errors import EngineError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@flow(name="backfill", description="A vintage per past origin, each with only what was known then.", **PLAIN)
def backfill(  # noqa: PLR0913, PLR0917 - what a deployment can be given
    first: str,
    last: str,
    project: str = "forecast.yaml",
    every: int = 1,
    scenarios: tuple[str, ...] = ("base",),
    model: str | None = None,
    jobs: int = 1,
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Deliver one vintage per origin and scenario; what is there already is not written again.

    Args:
        first: no origin is earlier; ISO 8601.
        last: no origin is later.
        project: the project file, relative to the working directory.
        every: steps of the grid from one origin to the next.
        scenarios: `base` and names under `scenarios:` of the project file.
        model: a version, alias or run id; default: at each origin the champion of then.
        jobs: origins at a time.
        overrides: `key.path=value` texts that replace what the project file says.
    """

    def work() -> State[None]:
        checked = load_project(project, overrides)
        steps = PrefectSteps(checked.config.name)
        report = fc.backfill(
            checked, first, last, every=every, scenarios=scenarios, model=model, jobs=jobs, steps=steps
        )
        words = f"{report.made} made, {report.already} there before, {report.failed} failed"
        if report.failed:
            one = next(origin for origin in report.origins if origin.status == "failed")
            raise EngineError(f"{one.as_of:%Y-%m-%d %H:%M} UTC: {one.note}; {words}", hint="run it again for the rest")
        degraded = any(origin.status == "degraded" for origin in report.origins)
        return Completed(name="Degraded" if degraded else "Completed", message=words)

    return truthfully(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="first", metavar="T", required=True, help="no origin is earlier")
    parser.add_argument("--to", dest="last", metavar="T", required=True, help="no origin is later")
    parser.add_argument("--project", metavar="FILE", help="project file (default: forecast.yaml)")
    parser.add_argument("--every", type=int, metavar="N", help="steps between two origins (default: 1)")
    parser.add_argument(
        "--scenario", dest="scenarios", metavar="NAME", action="append", help="repeatable (default: base)"
    )
    parser.add_argument("--model", metavar="WHICH", help="a version, alias or run id (default: the champion of then)")
    parser.add_argument("--jobs", type=int, metavar="N", help="origins at a time (default: 1)")
    sys.exit(run_script(backfill, vars(parser.parse_args())))
