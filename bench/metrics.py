"""Time of all metrics and of the calibration for many series: `python bench/metrics.py`.

100,000 series, 3 origins, 12 steps, 3 models; random numbers of seed 0; seconds of one core's time, of just what a
retrain does with the rows of a backtest.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from measure import Row, keep, show

from forecastcore.backtest import Backtest
from forecastcore.intervals import calibrate
from forecastcore.metrics import size_classes
from forecastcore.project import Candidate
from forecastcore.results import OWN, Result, bands_of, pool_of
from forecastcore.sheet import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = (0.1, 0.5, 0.9)
SERIES, FOLDS, HORIZON, MODELS = 100_000, 3, 12, 3
REACH = 10.0


def spent(series: int) -> dict[str, float]:
    """Processor seconds of each part."""
    rng = np.random.default_rng(0)
    actuals = Sheet(series, FOLDS, HORIZON, 2)
    y = rng.gamma(4, 5, (series, FOLDS, HORIZON))
    actuals.write(0, np.stack([y, y + rng.normal(0, 3, y.shape)], axis=-1))
    rows = Backtest(
        origins=[*pd.date_range("2020-01-01", periods=FOLDS, freq="YS", tz="UTC")],
        ids=[f"s{number:06d}" for number in range(series)],
        horizon=HORIZON,
        there=np.ones((FOLDS, series), dtype=bool),
        actuals=actuals,
        yardstick=0,
        scale=rng.gamma(4, 1, (FOLDS, series)),
        scale2=rng.gamma(9, 1, (FOLDS, series)),
        size=np.abs(y).mean(axis=(1, 2)),
        level=float(np.abs(y).mean()),
        classes=size_classes(rng.gamma(4, 5, series)),
        reference=1.0,
        noise=rng.gamma(9, 1 / 9, (FOLDS, series)),
        least=np.zeros((FOLDS, series)),
        season=1,
        place=np.zeros(FOLDS, dtype=int),
        screened={},
    )
    taken = {"calibration": 0.0, "metrics": 0.0}
    for number in range(MODELS):
        answers = rows.sheet(OWN + len(LEVELS))
        values = np.full((*y.shape, OWN + len(LEVELS)), np.nan)
        values[..., 0], values[..., 1] = y + rng.normal(0, 2, y.shape), 1.0
        answers.write(0, values)
        started = time.process_time()
        bands = bands_of(rows, answers, LEVELS)
        calibrate(pool_of(rows, answers), HORIZON, LEVELS)
        taken["calibration"] += time.process_time() - started
        result = Result(
            candidate=Candidate(f"model-{number}", "model", {}),
            rows=rows,
            answers=answers,
            bands=bands,
            failures={},
            seconds=0.0,
        )
        started = time.process_time()
        result.slices(LEVELS)
        taken["metrics"] += time.process_time() - started
    return taken


def rows(*, full: bool = False) -> Iterator[Row]:
    """Both parts together, in processor seconds of one core; `full` takes more turns."""
    runs = [sum(spent(SERIES).values()) for _ in range(5 if full else 3)]
    seconds = statistics.median(runs)
    yield Row(
        what=f"metrics and intervals, {SERIES:,} series x {FOLDS} folds x {HORIZON} steps x {MODELS} models: seconds",
        ours=seconds,
        against=None,
        ratio=seconds,
        reach=f"<= {REACH:g} s",
        reached=seconds <= REACH,
        runs=len(runs),
        command="python bench/metrics.py",
    )


if __name__ == "__main__":
    keep("metrics", show(rows()))
