"""How a backtest's time grows with the number of series, here and on Spark: `python bench/spark.py [--most 10000]`.

The same units of one candidate run in a pool of two processes and in a local Spark session with two tasks at a time. An
exponent of 1 is growth in proportion. Memory is the largest resident set of the driver, Python's part of it.
"""

from __future__ import annotations

import argparse
import math
import resource
import tempfile
import time
import warnings
from pathlib import Path

import yaml

import forecastcore as fc
from forecastcore import backtest, race, runtime
from forecastcore.engines.local import LocalEngine
from forecastcore.engines.spark import SparkEngine
from forecastcore.testing import sample_history

ROWS, HORIZON, FOLDS = 100, 12, 2
SETTINGS = {
    "name": "growth",
    "source": {"type": "parquet", "path": "history.parquet"},
    "frequency": "MS",
    "horizon": HORIZON,
    "models": [{"type": "autoregression"}],
    "backtest": {"folds": FOLDS},
}


def seconds(engine: LocalEngine | SparkEngine, project: fc.Project, series: int) -> float:
    """A backtest of so many series, without reading them."""
    sample_history(series=series, rows=ROWS, frequency="MS").to_parquet(project.root / "history.parquet")
    history = runtime.history(project)
    rows = backtest.rows_of(project, history, backtest.fold_origins(history, project))
    began = time.perf_counter()
    race.run(project, history, project.candidates(), engine, rows)
    return time.perf_counter() - began


def main() -> None:
    """One line per engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=10_000, help="series; a tenth of them are measured first")
    most = parser.parse_args().most
    warnings.simplefilter("ignore")
    engines = {
        "local, 2 workers": LocalEngine(2),
        "spark, local[2]": SparkEngine(master="local[2,4]", conf={"spark.driver.memory": "1g"}),
    }
    print(f"autoregression, {ROWS} months, {FOLDS} origins, horizon {HORIZON}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "forecast.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
        project = fc.Project.load(folder)
        for name, engine in engines.items():
            seconds(engine, project, 1000)  # starts processes and imports; not counted
            few, many = (seconds(engine, project, count) for count in (most // 10, most))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"  {name:<18} {most // 10} series {few:6.1f} s, {most} series {many:6.1f} s,"
                f" exponent {math.log10(many / few):.2f}, driver {memory:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
