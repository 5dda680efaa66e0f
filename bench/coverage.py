"""Do 80 % intervals hold 80 %? Learned as of T, scored at later origins with the parameters as stored.

    python bench/coverage.py [--data DIR] [--only NAME …] [--models NAME …]

For each data set and model: origins a horizon apart over the newer half of history, at most 48. As of every eighth of
them, and once a year at least, everything is done anew (fit, backtest errors, calibration), and the stored model
forecasts that one and those up to the next. Coverage in all, averaged over steps, and in each quarter of the horizon.
The errors of one origin hang together, so a share comes with its standard error, clustered by origin: one that is two
of them off may be chance.
`default` among the models is the shelf that a project without `models:` gets. No seed: nothing is drawn.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

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

MOST, TOGETHER, YEAR = 48, 8, pd.Timedelta(days=365)
NOMINAL, NEAR, LEAST = 0.8, 0.02, 0.72


def main() -> None:
    """One line per data set and model, then the means."""
    told = options(__doc__ or "", models=("seasonal-naive", "ridge"))
    columns = f"{'data set':<22} {'model':<15} {'origins':>7} {'in all':>7} {'±':>5}   {'quarters of the horizon':<30}"
    print(f"{columns} width  score")
    every, least, scores = [], [], []
    for project, _ in projects(told):
        for model in told.models:
            one = (
                project if model == "default" else Project.load(project.path, overrides=[f"models=[{{type: {model}}}]"])
            )
            try:
                count, (overall, spread, *quarters, width, score) = measure(one)
            except DataError as error:
                print(f"{project.config.name:<22} {model:<15} {error.message[:60]}", flush=True)
                continue
            every.append(overall)
            scores.append(score)
            least.append(min(quarters))
            shares = "  ".join(f"{share:6.1%}" for share in quarters)
            line = f"{project.config.name:<22} {model:<15} {count:>7} {overall:7.1%} {spread:5.1%}"
            print(f"{line}   {shares}   {width:.3f}  {score:.3f}", flush=True)
    far = np.abs(np.asarray(every) - NOMINAL)
    within, poor = int((far <= NEAR).sum()), int((np.asarray(least) < LEAST).sum())
    print(
        f"mean {np.mean(every):.1%}, mean distance from 80 % {np.mean(far):.1%}, worst bucket {min(least):.1%}, "
        f"{within} of {len(every)} within 78-82 %, {poor} with a bucket under 72 %, "
        f"score {np.exp(np.mean(np.log(scores))):.3f}"
    )


def measure(project: Project) -> tuple[int, list[float]]:
    """Number of origins; coverage (mean over steps), its standard error, that of each quarter, width and score.

    Width and interval score (Gneiting & Raftery 2007: the width, and what lies outside ten times over) are shares of
    the series' level.
    """
    whole, horizon = runtime.history(project), project.config.horizon
    known = int(whole.panel["unique_id"].value_counts(sort=False).max())
    count = max(min(MOST, known // 2 // horizon), 1)
    origins = [whole.grid.shift(whole.origin, -number * horizon) for number in range(count, 0, -1)]
    engine, parts = runtime.engine(project), []
    for some in periods(origins):
        history = runtime.history(project, some[0])
        contest = hold_contest(project, history, engine, Steps())
        rows = rows_of(project, whole, some)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            pack(project, history, contest, engine, folder)
            quantiles = rows.taken(run_package(project, whole, folder, engine, rows, range(len(some))))[:, 1:]
        parts.append((rows.y, quantiles[:, 0], quantiles[:, -1], rows.step, rows.fold + origins.index(some[0])))
    y, low, high, step, fold = map(np.concatenate, zip(*parts, strict=True))
    fine = np.isfinite(y)
    inside = (low <= y) & (y <= high)
    by_step = [inside[fine & (step == one)].mean() for one in np.unique(step[fine])]
    by_origin = [inside[fine & (fold == one)].mean() for one in np.unique(fold[fine])]
    quarters = [float(inside[fine & hit].mean()) for hit in step_buckets(step).values()]
    spread = float(np.std(by_origin, ddof=1) / np.sqrt(len(by_origin))) if len(by_origin) > 1 else float("nan")
    wide, missed = (high - low)[fine], (np.maximum(low - y, 0) + np.maximum(y - high, 0))[fine]
    level = np.abs(y[fine]).mean()
    told = wide.mean() / level, (wide + missed / (1 - NOMINAL) * 2).mean() / level
    return count, [float(np.mean(by_step)), spread, *quarters, *map(float, told)]


def periods(origins: list[pd.Timestamp]) -> list[list[pd.Timestamp]]:
    """The origins that share what was learned as of the first of them."""
    found: list[list[pd.Timestamp]] = []
    for origin in origins:
        if not found or len(found[-1]) == TOGETHER or origin - found[-1][0] >= YEAR:
            found.append([])
        found[-1].append(origin)
    return found


if __name__ == "__main__":
    main()
