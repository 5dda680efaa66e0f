"""Do 80 % intervals hold 80 %? Learned as of T, scored at later origins with the parameters as stored.

    python bench/coverage.py [--data DIR] [--only NAME …]

For each data set and model: everything (fit, backtest errors, calibration) as of T; then forecasts from the eight
origins after T, a horizon apart, by the stored model; for three T, eight horizons apart. Coverage in all, averaged over
steps, and in each quarter of the horizon. No seed: nothing is drawn.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from sets import options, projects

from forecastcore import runtime
from forecastcore.backtest import rows_of
from forecastcore.errors import DataError
from forecastcore.metrics import step_buckets
from forecastcore.ports import Steps
from forecastcore.project import Project
from forecastcore.race import run_package
from forecastcore.runs.contest import hold_contest
from forecastcore.runs.retrain import _refit as pack

ORIGINS = 8
MODELS = ("seasonal-naive", "ridge")
STARTS = 3
NOMINAL, NEAR, LEAST = 0.8, 0.02, 0.72


def main() -> None:
    """One line per data set and model, then the means."""
    told = options(__doc__ or "")
    print(f"{'data set':<22} {'model':<16} {'in all':>7}   quarters of the horizon        width")
    every, least = [], []
    for project, _ in projects(told):
        whole = runtime.history(project)
        for model in MODELS:
            one = Project.load(project.path, overrides=[f"models=[{{type: {model}}}]"])
            try:
                shares = np.mean([measure(one, whole, number) for number in range(1, STARTS + 1)], axis=0)
            except DataError as error:
                print(f"{project.config.name:<22} {model:<16} {error.message[:60]}")
                continue
            every.append(float(shares[0]))
            least.append(min(shares[1:-1]))
            quarters = "  ".join(f"{share:6.1%}" for share in shares[1:-1])
            print(f"{project.config.name:<22} {model:<16} {shares[0]:7.1%}   {quarters}   {shares[-1]:.3f}", flush=True)
    far = np.abs(np.asarray(every) - NOMINAL)
    within, poor = int((far <= NEAR).sum()), int((np.asarray(least) < LEAST).sum())
    print(
        f"mean {np.mean(every):.1%}, mean distance from 80 % {np.mean(far):.1%}, worst bucket {min(least):.1%}, "
        f"{within} of {len(every)} within 78-82 %, {poor} with a bucket under 72 %"
    )


def measure(project, whole, back) -> list[float]:  # noqa: ANN001 - as the names say
    """Coverage in all (mean over steps), in each quarter of the horizon, and the mean width over the mean actual."""
    horizon = project.config.horizon
    start = whole.grid.shift(whole.origin, -back * ORIGINS * horizon)
    history = runtime.history(project, start)
    engine = runtime.engine(project)
    contest = hold_contest(project, history, engine, Steps())
    origins = [whole.grid.shift(start, number * horizon) for number in range(ORIGINS)]
    rows = rows_of(project, whole, origins)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        pack(project, history, contest, engine, folder)
        _, quantiles = run_package(project, whole, folder, engine, rows, range(ORIGINS))
    low, high = quantiles[:, 0], quantiles[:, -1]
    fine = np.isfinite(rows.y)
    inside = (low <= rows.y) & (rows.y <= high)
    by_step = [inside[fine & (rows.step == step)].mean() for step in np.unique(rows.step[fine])]
    quarters = [float(inside[fine & hit].mean()) for hit in step_buckets(rows.step).values()]
    return [float(np.mean(by_step)), *quarters, float((high - low)[fine].mean() / np.abs(rows.y[fine]).mean())]


if __name__ == "__main__":
    main()
