"""How time grows with the number of series: `python bench/growth.py [--full]`.

A whole `retrain` with a cheap model of each scope, and a `predict`, at two sizes ten times apart; at `--full` a
third. The exponent of growth is the slope of the logarithms; 1 is proportional.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

from measure import Row, keep, seconds, show
from panels import monthly, project
from predict import afresh

import forecastcore as fc

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 3


def rows(*, full: bool = False) -> Iterator[Row]:
    """Two rows for each pair of sizes: retrain and predict."""
    warnings.simplefilter("ignore")
    sizes = (1_000, 10_000, 100_000) if full else (1_000, 10_000)
    taken: dict[str, list[float]] = {"retrain": [], "predict": []}
    for size in sizes:
        settings = {
            "frequency": "MS",
            "horizon": 12,
            "models": [{"type": "croston"}, {"type": "ridge"}],
            "backtest": {"folds": 3, "season": 12},
        }
        with project(monthly(size), **settings) as ours:
            fc.retrain(ours)  # warms up, and is the champion of the others
            works = {"retrain": lambda ours=ours: fc.retrain(ours), "predict": afresh(ours)}
            for name, work in works.items():
                runs = [seconds(work) for _ in range(RUNS if size < sizes[-1] else 1)]
                taken[name].append(statistics.median(runs))
    for name, times in taken.items():
        for (small, large), (least, most) in zip(pairwise(sizes), pairwise(times), strict=True):
            slope = math.log(most / least) / math.log(large / small)
            yield Row(
                what=f"{name} of {large:,} against {small:,} monthly series: exponent of growth",
                ours=most,
                against=least,
                ratio=slope,
                reach="<= 1.05",
                reached=slope <= 1.05,  # noqa: PLR2004 - the reach
                runs=RUNS,
                command="python bench/growth.py" + (" --full" if full else ""),
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="100,000 series too")
    told = parser.parse_args()
    keep("growth-full" if told.full else "growth", show(rows(full=told.full)))
