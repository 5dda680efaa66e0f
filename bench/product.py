"""M4 hourly and M3 through the whole product: `python bench/product.py --data DIR [--only m4] [--series 100]`.

A project file that names no model: the default shelf and its ensemble compete in a backtest on the training part, the
champion is stored, loaded and served, and the table it delivered is scored on the competition's own last rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from m4_m3 import CONTESTS, PUBLISHED, SEED, show
from measure import good

import forecastcore as fc
from forecastcore.metrics import coverage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m4_m3 import Contest
    from measure import Row

    from forecastcore.messages import RetrainReport


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


@dataclass(frozen=True)
class Delivered:
    """What a retrain and a predict came to.

    Attributes:
        report: of the retrain.
        scores: sMAPE, MASE and OWA of the table.
        held: share of actuals within the 80 % intervals.
        seconds: of retrain and predict.
    """

    report: RetrainReport
    scores: tuple[float, float, float]
    held: float
    seconds: tuple[float, float]


def delivered(given: Contest, overrides: list[str]) -> Delivered:
    """Retrain on the training part, predict, and score the table on the rest."""
    with tempfile.TemporaryDirectory() as folder:
        given.history.to_parquet(Path(folder) / "history.parquet")
        project = project_of(Path(folder), given.task.frequency, given.task.horizon, overrides)
        started = time.perf_counter()
        report = fc.retrain(project)
        between = time.perf_counter()
        fc.predict(project)
        ended = time.perf_counter()
        table = fc.forecasts(project).sort_values(["unique_id", "step"])
    values = table[["forecast", "q10", "q90"]].to_numpy(dtype=float)
    held = coverage(given.truth.ravel(), values[:, 1], values[:, 2])
    scores = given.scores(values[:, 0].reshape(given.truth.shape))
    return Delivered(report, scores, float(held), (between - started, ended - between))


def rows(data: Path) -> Iterator[Row]:
    """OWA and sMAPE, against the best that is published."""
    for name, what, number, best, most in (
        ("m4", "M4 hourly, 414 series, default shelf: OWA, against the winner", 2, 0.440, 0.44),
        ("m3", "M3 monthly, 1,428 series, default shelf: sMAPE, against DOTM", 0, 13.74, 13.5),
    ):
        found = delivered(CONTESTS[name](data, None, earlier=False), []).scores[number]
        command = f"python bench/product.py --data DIR --only {name}"
        yield good(what, command, found, against=best, most=most)


def main() -> None:
    """The leaderboard of the backtest, and the delivered table's score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with m4_hourly/ and m3/; without it nothing is measured")
    parser.add_argument("--only", choices=CONTESTS, help="one of the competitions")
    parser.add_argument("--series", type=int, help="this many series, spread evenly; all by default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as on the command line")
    given = parser.parse_args()
    if given.data is None:
        print("not measured: give --data DIR, a folder with m4_hourly/ and m3/ (see --help)")
        return
    warnings.simplefilter("ignore")
    for name, read in CONTESTS.items():
        if given.only not in {None, name}:
            continue
        contest = read(given.data, given.series, earlier=False)
        found = delivered(contest, given.set)
        size = f"{len(contest.truth)} series, {contest.task.horizon} steps"
        print(f"{name}: {size}, seed {SEED}, {found.report.folds} folds")
        for row in found.report.leaderboard:
            loss, seconds = row.mase or np.nan, row.seconds or 0.0
            print(f"  {row.name:<22} mase {loss:.3f}  {row.status:<9} {seconds:7.1f} s  {row.reason}")
        print(f"  champion {found.report.leaderboard[0].name}")
        print("  retrain {:.0f} s, predict {:.0f} s".format(*found.seconds))
        show("delivered: sMAPE, MASE, OWA", found.scores)
        print(f"  80 % intervals hold {found.held:.1%}")
        for who, numbers in PUBLISHED[name].items():
            print(f"  {'published: ' + who:<58} {numbers}")


if __name__ == "__main__":
    main()
