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

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from measure import good
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measure import Row

MOST, TOGETHER, YEAR = 48, 8, pd.Timedelta(days=365)
NOMINAL, NEAR, LEAST = 0.8, 0.02, 0.72


@dataclass(frozen=True)
class Held:
    """What intervals held.

    Attributes:
        origins: how many were looked at.
        overall: share of actuals inside, mean over steps.
        spread: its standard error, clustered by origin.
        quarters: the share in each quarter of the horizon.
        width, score: mean width, and interval score (Gneiting & Raftery 2007: the width, and what lies outside ten
            times over), as shares of the series' level.
    """

    origins: int
    overall: float
    spread: float
    quarters: list[float]
    width: float
    score: float


def main() -> None:
    """One line per data set and model, then the means."""
    told = options(__doc__ or "", models=("seasonal-naive", "ridge"))
    columns = f"{'data set':<22} {'model':<15} {'origins':>7} {'in all':>7} {'±':>5}   {'quarters of the horizon':<30}"
    print(f"{columns} width  score")
    found = []
    for name, model, held in measured(told):
        found.append(held)
        shares = "  ".join(f"{share:6.1%}" for share in held.quarters)
        line = f"{name:<22} {model:<15} {held.origins:>7} {held.overall:7.1%} {held.spread:5.1%}"
        print(f"{line}   {shares}   {held.width:.3f}  {held.score:.3f}", flush=True)
    every, least = np.array([held.overall for held in found]), np.array([min(held.quarters) for held in found])
    far, score = np.abs(every - NOMINAL), np.exp(np.mean([np.log(held.score) for held in found]))
    print(
        f"mean {every.mean():.1%}, mean distance from 80 % {far.mean():.1%}, worst bucket {least.min():.1%}, "
        f"{(far <= NEAR).sum()} of {len(found)} within 78-82 %, {(least < LEAST).sum()} with a bucket under 72 %, "
        f"score {score:.3f}"
    )


def rows(data: Path) -> Iterator[Row]:
    """Coverage of the default shelf's champion by data set and over all, and its worst quarter."""
    told = argparse.Namespace(data=data, only=(), models=("default",))
    command, found = "python bench/coverage.py --data DIR --models default", []
    for name, _, held in measured(told):
        found.append(held)
        what = f"80 % intervals hold, {name}, ± {held.spread:.3f}, worst quarter {min(held.quarters):.3f}"
        yield good(what, command, held.overall, against=None, least=NOMINAL - NEAR, most=NOMINAL + NEAR)
    overall, least = np.mean([held.overall for held in found]), min(min(held.quarters) for held in found)
    what = f"80 % intervals hold, {len(found)} data sets"
    yield good(f"{what}, mean", command, float(overall), against=None, least=NOMINAL - NEAR, most=NOMINAL + NEAR)
    yield good(f"{what}, worst quarter of a horizon", command, least, against=None, least=LEAST)


def measured(told: argparse.Namespace) -> Iterator[tuple[str, str, Held]]:
    """Each data set and model of a command line; what cannot be is said."""
    for project, _ in projects(told):
        for model in told.models:
            only = [] if model == "default" else [f"models=[{{type: {model}}}]"]
            try:
                yield project.config.name, model, measure(Project.load(project.path, overrides=only))
            except DataError as error:
                print(f"{project.config.name:<22} {model:<15} {error.message[:60]}", flush=True)


def measure(project: Project) -> Held:
    """What the intervals of the project's champion hold."""
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
    width, score = float(wide.mean() / level), float((wide + missed / (1 - NOMINAL) * 2).mean() / level)
    return Held(count, float(np.mean(by_step)), spread, quarters, width, score)


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
