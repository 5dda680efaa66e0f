"""M4 hourly and M3 monthly through the whole product: `python bench/product.py --data DIR [--only m4] [--series 100]`.

A project file that names no model: the default shelf and its ensemble compete in a backtest on the training part, the
champion is stored, loaded and served, and the table it delivered is scored on the competition's own last rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import yaml
from m4_m3 import PUBLISHED, SEED, m3, m4, show

import forecastcore as fc
from forecastcore.metrics import coverage


def project_of(folder: Path, frequency: str, horizon: int, overrides: list[str]) -> fc.Project:
    """A project with nothing but what is required, and a Parquet sink."""
    settings = {
        "name": "competition",
        "source": {"type": "parquet", "path": "history.parquet"},
        "frequency": frequency,
        "horizon": horizon,
        "sinks": [{"type": "parquet", "path": "out"}],
    }
    (folder / "forecast.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return fc.Project.load(folder, overrides=overrides)


def main() -> None:
    """The leaderboard of the backtest, and the delivered table's score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with m4_hourly/ and m3/; without it nothing is measured")
    parser.add_argument("--only", choices=("m4", "m3"), help="one of the two competitions")
    parser.add_argument("--series", type=int, help="this many series, spread evenly; all by default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as on the command line")
    given = parser.parse_args()
    if given.data is None:
        print("not measured: give --data DIR, a folder with m4_hourly/ and m3/ (see --help)")
        return
    warnings.simplefilter("ignore")
    for name, read in (("m4", m4), ("m3", m3)):
        if given.only not in {None, name}:
            continue
        rows = read(given.data, given.series, earlier=False)
        with tempfile.TemporaryDirectory() as folder:
            rows.history.to_parquet(Path(folder) / "history.parquet")
            project = project_of(Path(folder), rows.task.frequency, rows.task.horizon, given.set)
            started = time.perf_counter()
            report = fc.retrain(project)
            between = time.perf_counter()
            fc.predict(project)
            ended = time.perf_counter()
            table = fc.forecasts(project).sort_values(["unique_id", "step"])
        print(f"{name}: {len(rows.truth)} series, {rows.task.horizon} steps, seed {SEED}, {report.folds} folds")
        for row in report.leaderboard:
            loss, seconds = row.mase or np.nan, row.seconds or 0.0
            print(f"  {row.name:<22} mase {loss:.3f}  {row.status:<9} {seconds:7.1f} s  {row.reason}")
        print(f"  champion {report.leaderboard[0].name}")
        print(f"  retrain {between - started:.0f} s, predict {ended - between:.0f} s")
        values = table[["forecast", "q10", "q90"]].to_numpy(dtype=float)
        show("delivered: sMAPE, MASE, OWA", rows.scores(values[:, 0].reshape(rows.truth.shape)))
        print(f"  80 % intervals hold {coverage(rows.truth.ravel(), values[:, 1], values[:, 2]):.1%}")
        for who, numbers in PUBLISHED[name].items():
            print(f"  {'published: ' + who:<58} {numbers}")


if __name__ == "__main__":
    main()
