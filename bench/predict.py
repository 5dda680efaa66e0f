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
MODELS = ("auto-ets", "auto-theta")


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
        again = fc.Project.load(ours.root, overrides=[f"sinks=[{{type: delta, path: out/{next(numbers)}}}]"])
        return fc.predict(again)

    return work


def rows(*, full: bool = False) -> Iterator[Row]:
    """A row for each model."""
    warnings.simplefilter("ignore")
    series, runs = (10_000, 3) if full else (500, 5)
    for model in MODELS:
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
                "python bench/predict.py" + (" --full" if full else ""),
                *turns(afresh(ours), bare(ours, model), runs),
                least=10,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="10,000 series")
    told = parser.parse_args()
    keep("predict-full" if told.full else "predict", show(rows(full=told.full)))
