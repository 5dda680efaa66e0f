"""Time of all metrics and of the calibration for many series: `python bench/metrics.py`.

100,000 series, 3 origins, 12 steps, 3 models; random numbers of seed 0; seconds of one core's time.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from measure import Row, keep, show

from forecastcore.intervals import Errors, calibrate, leave_one_fold_out
from forecastcore.metrics import Scored, by_slice, size_classes

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = (0.1, 0.5, 0.9)
SERIES, FOLDS, HORIZON, MODELS = 100_000, 3, 12, 3
REACH = 10.0


def spent(series: int) -> dict[str, float]:
    """Processor seconds of each part."""
    rng = np.random.default_rng(0)
    pairs = FOLDS * series
    fold, which, step = (axis.ravel() for axis in np.meshgrid(*map(np.arange, (FOLDS, series, HORIZON)), indexing="ij"))
    group, step = np.repeat(np.arange(pairs), HORIZON), step + 1
    y = rng.gamma(4, 5, len(step))
    sizes = size_classes(rng.gamma(4, 5, series))
    rows = Scored(
        y=y,
        group=group,
        step=step,
        scale=rng.gamma(4, 1, pairs),
        scale2=rng.gamma(9, 1, pairs),
        naive=y + rng.normal(0, 3, len(y)),
        size_class={name: np.tile(hit, FOLDS) for name, hit in sizes.items()},
    )
    ids = [f"s{number}" for number in range(series)]
    noise = rng.gamma(9, 1 / 9, (FOLDS, series))
    taken = {"calibration": 0.0, "metrics": 0.0}
    for _ in range(MODELS):
        forecast = y + rng.normal(0, 2, len(y))
        own = np.full((len(y), len(LEVELS)), np.nan)
        made = np.ones(len(y), dtype=bool)
        started = time.process_time()
        errors = Errors(
            y=y,
            forecast=forecast,
            own=own,
            made=made,
            step=step,
            series=which,
            ids=ids,
            fold=fold,
            noise=noise,
            season=1,
            place=np.zeros(FOLDS, dtype=int),
        )
        quantiles = leave_one_fold_out(errors, LEVELS)
        calibrate(errors, HORIZON, LEVELS)
        taken["calibration"] += time.process_time() - started
        started = time.process_time()
        by_slice(rows, forecast, quantiles, LEVELS)
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
