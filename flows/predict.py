"""Predict as a Prefect flow: `python flows/predict.py`, under a server, or as the deployment of `prefect.yaml`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flow_artifacts import show_predict
from flow_stages import PLAIN, PrefectSteps, delivered, load_project, run_script, truthfully
from prefect import flow

import forecastcore as fc
from forecastcore.errors import SinkError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@flow(name="predict", description="Forecast with the champion's stored parameters, and deliver.", **PLAIN)
def predict(
    project: str = "forecast.yaml",
    as_of: str | None = None,
    scenarios: tuple[str, ...] = ("base",),
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Deliver one vintage per scenario.

    Args:
        project: the project file, relative to the working directory.
        as_of: the origin, ISO 8601; nothing later is used. Default: the newest value.
        scenarios: `base` and names under `scenarios:` of the project file.
        overrides: `key.path=value` texts that replace what the project file says.
    """

    def work() -> State[None]:
        checked = load_project(project, overrides)
        report = fc.predict(checked, as_of, scenarios, steps=PrefectSteps(checked.config.name))
        show_predict(report, checked)
        missed = [f"{p.sink} {p.location}: {p.error}" for p in report.published if p.error]
        if missed:
            hint = "the other sinks were delivered; run it again: nothing is written twice"
            raise SinkError("; ".join(missed), hint=hint)
        who = f"{report.model}, version {report.model_version}"
        again = ", published before" if all(p.already for p in report.published) else ""
        alerts = "".join(f"; alert: {alert}" for alert in report.alerts)
        words = f"{report.rows} rows from {report.issued_at:%Y-%m-%d %H:%M} UTC by {who}{again}"
        return delivered(words + alerts, report.series, next(iter(report.reasons), ""))

    return truthfully(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", metavar="FILE", help="project file (default: forecast.yaml)")
    parser.add_argument("--as-of", metavar="T", help="the origin: nothing later is used (default: the newest value)")
    parser.add_argument(
        "--scenario", dest="scenarios", metavar="NAME", action="append", help="repeatable (default: base)"
    )
    sys.exit(run_script(predict, vars(parser.parse_args())))
