"""Time of all metrics and of the calibration for many series: `python bench/metrics.py [SERIES]`.

100,000 series, 3 origins, 12 steps, 3 models; random numbers of seed 0; seconds of one core's time.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from forecastcore.intervals import Errors, calibrate, leave_one_fold_out
from forecastcore.metrics import Scored, by_slice, score, size_classes

LEVELS = (0.1, 0.5, 0.9)
FOLDS, HORIZON, MODELS = 3, 12, 3


def main() -> None:
    """One line for each part, and the sum."""
    series = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
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
    spent = {"calibration": 0.0, "metrics": 0.0}
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
        spent["calibration"] += time.process_time() - started
        started = time.process_time()
        score(y, forecast, quantiles, LEVELS, group, rows.scale, rows.scale2)
        by_slice(rows, forecast, quantiles, LEVELS)
        spent["metrics"] += time.process_time() - started
    for name, seconds in spent.items():
        print(f"{name:<12} {seconds:6.2f} s")
    print(f"{series:,} series x {FOLDS} origins x {HORIZON} steps x {MODELS} models: {sum(spent.values()):.2f} s")


if __name__ == "__main__":
    main()
