"""Predict from a stored champion, beside fitting and forecasting anew with the bare library: `python bench/predict.py`.

The whole of `predict` is timed: reading, checks, audit, MLflow, a Delta table. `--full` takes 10,000 series.
"""

from __future__ import annotations

import argparse
import os
import warnings
from itertools import count
from typing import TYPE_CHECKING, Any

import pandas as pd
from measure import Row, keep, quicker, show, turns
from panels import monthly, project

import forecastcore as fc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forecastcore.project import Project

HORIZON, SEASON = 12, 12


def bare(ours: Project, model: str) -> Callable[[], Any]:
    """Read, fit and forecast with intervals, by the library alone."""
    from statsforecast import StatsForecast, models

    made = {"auto-ets": models.AutoETS, "auto-theta": models.DynamicOptimizedTheta}[model]

    def work() -> Any:
        library = StatsForecast(models=[made(season_length=SEASON)], freq="MS", n_jobs=len(os.sched_getaffinity(0)))
        return library.forecast(df=pd.read_parquet(ours.root / "history.parquet"), h=HORIZON, level=[80])

    return work


def afresh(ours: Project) -> Callable[[], Any]:
    """Predict, each time with a sink that knows nothing of the vintage, so that it is written."""
    numbers = count()

    def work() -> Any:
        again = fc.Project.load(ours.root, overrides=[f"sinks=[{{type: delta, path: out/{next(numbers)}/forecasts}}]"])
        return fc.predict(again)

    return work


def rows(*, full: bool = False, model: str = "auto-ets") -> Iterator[Row]:
    """One row; some seconds of `predict` are the same for any number of series, so they must not be few."""
    warnings.simplefilter("ignore")
    series = 10_000 if full else 1_000
    settings = {
        "frequency": "MS",
        "horizon": HORIZON,
        "models": [{"type": model}],
        "backtest": {"folds": 1, "season": SEASON},
    }
    with project(monthly(series), **settings) as ours:
        fc.retrain(ours)
        yield quicker(
            f"predict {series:,} monthly series from a stored {model}, against fit and forecast",
            f"python bench/predict.py --model {model}" + (" --full" if full else ""),
            *turns(afresh(ours), bare(ours, model), 3),
            least=10,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="10,000 series")
    parser.add_argument("--model", choices=("auto-ets", "auto-theta"), default="auto-ets")
    told = parser.parse_args()
    name = f"predict-{told.model}" + ("-full" if told.full else "")
    keep(name, show(rows(full=told.full, model=told.model)))
