"""Fit and predict beside the bare library, same models, same series: `python bench/m4_speed.py [--series 1000]`.

Ours and theirs take turns, chunk by chunk, so that a slow moment of the machine hits both; processor time is compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.host import Host
from forecastcore.testing import sample_future, sample_history, sample_task

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from forecastcore.api import Task

HORIZON, ROWS, CHUNK, SEED = 12, 120, 20, 0


def ours(model: object, history: pd.DataFrame, task: Task) -> None:
    """Fit and predict a chunk of series, as the host does."""
    fitted = model.fit(history, task)  # type: ignore[attr-defined]  # made by the host
    fitted.predict(history, sample_future(history, task), task)


def theirs(make: Callable[[], object], level: list[int] | None, history: pd.DataFrame, task: Task) -> None:
    """Fit and forecast each series of a chunk with the library's own object, on numpy."""
    values = history["y"].to_numpy()
    for y in values.reshape(-1, ROWS):
        make().forecast(y=y, h=task.horizon, level=level)  # type: ignore[attr-defined]  # the library is untyped


def main() -> None:
    """One line per model: the ratio of processor times, its median over the chunks."""
    from statsforecast import models as library

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100, help="monthly series of 120 rows")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = {
        "auto-theta": (lambda: library.DynamicOptimizedTheta(season_length=12), [80]),
        "auto-ces": (lambda: library.AutoCES(season_length=12), None),
        "auto-ets": (lambda: library.AutoETS(season_length=12), [80]),
        "mstl": (lambda: library.MSTL(12, library.AutoETS(model="ZZN")), [80]),
    }
    parameters = {"mstl": {"log": False}}
    whole = sample_history(series=asked.series, rows=ROWS, frequency="MS", seed=SEED)
    starts = np.arange(0, asked.series, CHUNK) * ROWS
    host = Host.discover()
    print(f"{asked.series} monthly series of {ROWS} rows, horizon {HORIZON}, seed {SEED}; processor seconds")
    for name, (make, level) in cases.items():
        model = host.make("model", name, parameters.get(name, {}))
        taken: dict[str, list[float]] = {"ours": [], "theirs": []}
        for start in [starts[0], *starts]:  # the first round imports and warms up, and is not counted
            chunk = whole.iloc[start : start + CHUNK * ROWS].reset_index(drop=True)
            task = sample_task(chunk, frequency="MS", horizon=HORIZON)
            for who, run in (("ours", partial(ours, model)), ("theirs", partial(theirs, make, level))):
                began = time.process_time()
                run(chunk, task)
                taken[who].append(time.process_time() - began)
        mine, bare = (taken[who][1:] for who in ("ours", "theirs"))
        ratio = statistics.median(a / b for a, b in zip(mine, bare, strict=True))
        print(f"  {name:<12} ours {sum(mine):7.2f} s  library {sum(bare):7.2f} s  ratio {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
