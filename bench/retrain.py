"""A backtest, and a whole retrain, beside bare `StatsForecast.cross_validation`: `python bench/retrain.py [--full]`.

Three models, three folds, the same series, all processors for both. Both read the same Parquet file. Without `--full` a
part of the series is taken, and with it all of them, fewer times.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from measure import Row, compared, keep, show, turns
from panels import hourly, monthly, project

import forecastcore as fc
from forecastcore.runs.contest import backtest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDS = 3
MODELS = ["auto-ets", "auto-theta", "auto-ces"]


def bare(path: Path, frequency: str, season: int, horizon: int) -> Callable[[], Any]:
    """The library's own cross-validation of the same models; it is not asked for intervals."""
    from statsforecast import StatsForecast, models

    def work() -> Any:
        made = [
            models.AutoETS(season_length=season),
            models.DynamicOptimizedTheta(season_length=season),
            models.AutoCES(season_length=season),
        ]
        library = StatsForecast(models=made, freq=frequency, n_jobs=len(os.sched_getaffinity(0)))
        frame = pd.read_parquet(path)
        return library.cross_validation(df=frame, h=horizon, n_windows=FOLDS, step_size=horizon)

    return work


def rows(*, full: bool = False, data: Path | None = None) -> Iterator[Row]:
    """Two panels, and both questions for each."""
    warnings.simplefilter("ignore")
    command = "python bench/retrain.py" + (" --full" if full else "")
    cases = [
        ("hourly", hourly(414 if full else 20, data), "h", 24, 48),
        ("monthly", monthly(10_000 if full else 300), "MS", 12, 12),
    ]
    runs = 1 if full else 5
    for name, frame, frequency, season, horizon in cases:
        settings = {
            "frequency": frequency,
            "horizon": horizon,
            "models": [{"type": model} for model in MODELS],
            "backtest": {"folds": FOLDS, "season": season},
            "promotion": {"mode": "dry-run"},
        }
        count = frame["unique_id"].nunique()
        with project(frame, **settings) as ours:
            theirs = bare(ours.root / "history.parquet", frequency, season, horizon)
            what = f"{count:,} {name} series, {FOLDS} folds x {len(MODELS)} models, against cross_validation: "
            for part, work, most in (
                ("backtest", lambda ours=ours: backtest(ours), 1.15),
                ("whole retrain", lambda ours=ours: fc.retrain(ours), 1.30),
            ):
                yield compared(what + part, command, *turns(work, theirs, runs), most=most)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="414 hourly and 10,000 monthly series, once each")
    parser.add_argument("--data", type=Path, help="folder with m4_hourly/; else the hourly series are made up")
    told = parser.parse_args()
    keep("retrain-full" if told.full else "retrain", show(rows(full=told.full, data=told.data)))
    sys.exit()
