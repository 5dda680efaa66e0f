"""One global LightGBM beside the library alone on the same features: `python bench/boosting.py [--data DIR]`.

Theirs: for each fold the same feature matrix, made by `forecastcore.tabular` in one process, then `lightgbm.train` with
the same settings and `predict`. Ours: `backtest`, with reading, checks, the linear part, metrics and intervals.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import Row, compared, keep, show, turns
from panels import hourly, project

from forecastcore import runtime
from forecastcore.assumptions import blank_future
from forecastcore.backtest import fold_origins
from forecastcore.runs.contest import backtest
from forecastcore.tabular import Growth
from forecastcore.tabular.features import Rows, features_of
from forecastcore.tabular.lesson import lesson_of
from forecastcore.tabular.panel import panel_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forecastcore.project import Project

HORIZON, FOLDS, MAX_ROWS = 48, 3, 40_000


def bare(ours: Project) -> Callable[[], Any]:
    """Features, training and forecasts of each fold, with all processors."""
    model = ours.host.make("model", "lightgbm", {}, root=ours.root)

    def work() -> Any:
        history = runtime.history(ours)
        for origin in fold_origins(history, ours):
            past = history.panel[history.panel["ds"] <= origin].reset_index(drop=True)
            task = runtime.task(ours, history.grid, origin)
            lesson = lesson_of(past, task, "direct", "assumed", MAX_ROWS)
            seen = np.stack(list(lesson.features.columns.values()), axis=1)
            repeats = max(1, round(len(seen) / lesson.targets))
            trees = model.grow(seen, lesson.target, Growth(threads=len(os.sched_getaffinity(0)), repeats=repeats))
            ids = list(past["unique_id"].unique())
            panel = panel_of(past, task, blank_future(ids, history.grid, origin, HORIZON))
            series, steps = np.repeat(np.arange(len(ids)), HORIZON), np.tile(np.arange(1, HORIZON + 1), len(ids))
            last = panel.instants.get_loc(origin)
            asked = features_of(panel, Rows(series, steps * 0 + last, steps), lesson.plan)
            trees.predict(np.stack(list(asked.columns.values()), axis=1))

    return work


def rows(*, full: bool = False, data: Path | None = None) -> Iterator[Row]:
    """One row; the size is the same with and without `full`, only the turns are fewer."""
    warnings.simplefilter("ignore")
    settings = {
        "frequency": "h",
        "horizon": HORIZON,
        "models": [{"type": "lightgbm", "max_rows": MAX_ROWS}],
        "backtest": {"folds": FOLDS},
    }
    with project(hourly(414, data), **settings) as ours:
        yield compared(
            f"414 hourly series of 900, {FOLDS} folds of one LightGBM, against lightgbm alone",
            "python bench/boosting.py",
            *turns(lambda: backtest(ours), bare(ours), 3 if full else 5),
            most=1.2,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with m4_hourly/; else the series are made up")
    keep("boosting", show(rows(data=parser.parse_args().data)))
