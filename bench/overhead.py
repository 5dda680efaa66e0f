"""What Prefect and MLflow add to a whole retrain: `python bench/overhead.py`.

The retrain flow of a small project under a Prefect server, beside the same work without either: the plain stages of
`retrain`, timed one by one, without the one that registers. The difference is Prefect's, MLflow's, and what holds them
together.
"""

from __future__ import annotations

import runpy
import statistics
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from measure import Row, keep, seconds, show
from panels import monthly, project

import forecastcore as fc
from forecastcore.ports import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS, REACH = 5, 5.0
T = TypeVar("T")


class Timed(Steps):
    """Adds up the time of the stages that are neither Prefect's nor MLflow's."""

    spent = 0.0

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do one stage."""
        answers: list[T] = []
        taken = seconds(lambda: answers.append(work()))
        self.spent += 0.0 if name == "register" else taken
        return answers[0]


def rows(*, full: bool = False) -> Iterator[Row]:  # noqa: ARG001 - the scripts are called alike
    """One row, in seconds."""
    warnings.simplefilter("ignore")
    from prefect.testing.utilities import prefect_test_harness

    folder = Path(__file__).parents[1] / "flows"
    sys.path.append(str(folder))
    flow = runpy.run_path(str(folder / "retrain.py"))["retrain"]  # by path: a script here has the same name

    settings = {"frequency": "MS", "horizon": 12, "models": [{"type": "auto-theta"}, {"type": "ridge"}]}
    with project(monthly(100), **settings) as ours, prefect_test_harness(server_startup_timeout=180):

        def under_prefect() -> Any:
            return flow(project=str(ours.root / "forecast.yaml"), return_state=True)

        under_prefect()
        whole, plain = [], []
        for _ in range(RUNS):
            whole.append(seconds(under_prefect))
            steps = Timed()
            fc.retrain(ours, steps=steps)
            plain.append(steps.spent)
    extra = statistics.median(a - b for a, b in zip(whole, plain, strict=True))
    yield Row(
        what="a retrain flow under Prefect and MLflow, less its plain stages: seconds",
        ours=statistics.median(whole),
        against=statistics.median(plain),
        ratio=extra,
        reach=f"<= {REACH:g} s",
        reached=extra <= REACH,
        runs=RUNS,
        command="python bench/overhead.py",
    )


if __name__ == "__main__":
    keep("overhead", show(rows()))
