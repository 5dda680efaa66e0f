"""Accuracy on M4 hourly and M3, by family and combined: `python bench/m4_m3.py --data DIR [--series 100]`.

DIR holds `m4_hourly/` (data.parquet, benchmark_forecasts.parquet) and `m3/` (data.parquet), with `unique_id`, `t`, `y`.
One origin, the competition's own. Families have their defaults and go through `fit` and `predict`, as in a retrain.
With `--earlier` everything moves one horizon back, into the training part: choose there, report without it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.api import Task
from forecastcore.host import Host
from forecastcore.timegrid import TimeGrid, seasons_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SEED = 0
ORIGIN = pd.Timestamp("2024-01-01", tz="UTC")
SHELF = ["autoregression", "auto-theta", "mstl", "seasonal-naive"]  # the cheap ones
COMBINED = [
    "autoregression+auto-theta",
    "autoregression+seasonal-naive",
    "autoregression+auto-theta+mstl",
    "autoregression+mstl+seasonal-naive",
    "autoregression+auto-theta+mstl+seasonal-naive",
]
# sMAPE, MASE, OWA as published: Makridakis et al. (2020), Makridakis & Hibon (2000), Fiorucci et al. (2016).
PUBLISHED = {
    "m4": {"sNaive": "13.912 1.193 0.628", "Theta": "18.138 2.455 1.006", "the winner (Smyl)": "9.328 0.893 0.440"},
    "m3": {"Theta": "13.85", "ForecastPro": "13.86", "dynamic optimised Theta": "13.74"},
    "m3-quarterly": {"Theta": "8.96", "ForecastPro": "9.77", "dynamic optimised Theta": "9.28"},
    "m3-yearly": {"Theta": "16.90", "ForecastPro": "17.14", "dynamic optimised Theta": "15.94"},
}


@dataclass(frozen=True)
class Contest:
    """One competition's series, their last rows all at one origin.

    Attributes:
        history: `unique_id, ds, y`, UTC.
        truth: shape (series, horizon).
        scale: error of the seasonal naive on each history, shape (series,).
        task: what is asked.
        naive2: sMAPE and MASE of the competition's yardstick; None where it has none.
    """

    history: pd.DataFrame
    truth: Floats
    scale: Floats
    task: Task
    naive2: tuple[float, float] | None

    def scores(self, forecast: Floats) -> tuple[float, float, float]:
        """Mean sMAPE, mean MASE and OWA (NaN without a yardstick)."""
        error = np.abs(forecast - self.truth)
        smape = float(np.mean(200 * error / (np.abs(forecast) + np.abs(self.truth))))
        mase = float(np.mean(error.mean(axis=1) / self.scale))
        owa = (smape / self.naive2[0] + mase / self.naive2[1]) / 2 if self.naive2 else float("nan")
        return smape, mase, owa


def contest(table: pd.DataFrame, frequency: str, horizon: int, *, drop: int, yardstick: Floats | None) -> Contest:
    """Cut off `drop` rows and the truth; put the rest on a grid that ends at the origin."""
    grid, season = TimeGrid(frequency), seasons_of(frequency)[0]
    parts, truth, scale = [], [], []
    for name, group in table.groupby("unique_id", observed=True):
        y = group.sort_values("t")["y"].to_numpy(dtype=float)
        y = y[: len(y) - drop]
        past = y[:-horizon]
        ds = grid.between(grid.shift(ORIGIN, 1 - len(past)), ORIGIN)
        parts.append(pd.DataFrame({"unique_id": str(name), "ds": ds, "y": past}))
        truth.append(y[-horizon:])
        scale.append(np.mean(np.abs(past[season:] - past[:-season])))
    task = Task(
        origin=ORIGIN, frequency=frequency, horizon=horizon, season=season, seasons=seasons_of(frequency), seed=SEED
    )
    made = Contest(pd.concat(parts, ignore_index=True), np.array(truth), np.array(scale), task, None)
    if yardstick is None:
        return made
    smape, mase, _ = made.scores(yardstick)
    return Contest(made.history, made.truth, made.scale, task, (smape, mase))


def chosen(table: pd.DataFrame, series: int | None) -> pd.DataFrame:
    """Rows of so many series, spread over all."""
    names = np.array(sorted(table["unique_id"].astype(str).unique()))
    if series and series < len(names):
        names = names[np.linspace(0, len(names) - 1, series).astype(int)]
    return table[table["unique_id"].astype(str).isin(names)].assign(
        unique_id=lambda rows: rows["unique_id"].astype(str)
    )


def m4(data: Path, series: int | None, *, earlier: bool) -> Contest:
    """M4 hourly, 48 steps."""
    table = chosen(pd.read_parquet(data / "m4_hourly" / "data.parquet"), series)
    given = pd.read_parquet(data / "m4_hourly" / "benchmark_forecasts.parquet")
    given = given[(given["model"] == "Naive2") & given["unique_id"].astype(str).isin(table["unique_id"])]
    naive2 = given.assign(unique_id=given["unique_id"].astype(str)).sort_values(["unique_id", "h"])["yhat"].to_numpy()
    official = contest(table, "h", 48, drop=0, yardstick=naive2.reshape(-1, 48).astype(float))
    if not earlier:
        return official
    moved = contest(table, "h", 48, drop=48, yardstick=None)
    return Contest(moved.history, moved.truth, moved.scale, moved.task, official.naive2)


def m3(data: Path, series: int | None, *, earlier: bool, period: str = "MONTHLY") -> Contest:
    """M3 by period: 18 months, 8 quarters or 6 years."""
    frequency, horizon = {"MONTHLY": ("MS", 18), "QUARTERLY": ("QS", 8), "YEARLY": ("YS", 6)}[period]
    table = pd.read_parquet(data / "m3" / "data.parquet")
    table = chosen(table[table["period"] == period], series)
    return contest(table, frequency, horizon, drop=horizon if earlier else 0, yardstick=None)


CONTESTS = {
    "m4": m4,
    "m3": m3,
    "m3-quarterly": partial(m3, period="QUARTERLY"),
    "m3-yearly": partial(m3, period="YEARLY"),
}


def forecast_of(host: Host, asked: str, given: Contest) -> tuple[Floats, float]:
    """A family's forecasts, shape (series, horizon), and the seconds of processor time it took."""
    name, _, parameters = asked.partition("=")
    model = host.make("model", name, json.loads(parameters) if parameters else {})
    steps, ids = given.task.horizon, given.history["unique_id"].unique()
    ds = TimeGrid(given.task.frequency).ahead(ORIGIN, steps)
    future = pd.DataFrame({"unique_id": np.repeat(ids, steps), "ds": np.tile(ds.to_numpy(), len(ids))})
    future = future.assign(ds=pd.DatetimeIndex(future["ds"], tz="UTC"), step=np.tile(np.arange(1, steps + 1), len(ids)))
    started = time.process_time()
    answer = model.fit(given.history, given.task).predict(given.history, future, given.task)
    values = answer["forecast"].to_numpy(dtype=float).reshape(len(ids), steps)
    taken = time.process_time() - started
    last = given.history.groupby("unique_id", sort=False)["y"].last().to_numpy()[:, None]
    return np.where(np.isfinite(values), values, last), taken  # a failed series gets the last value, as from the host


def show(name: str, scores: tuple[float, float, float], seconds: float | None = None) -> None:
    """One line of the table."""
    cost = "" if seconds is None else f"{seconds:9.1f}"
    print(f"  {name:<58} {scores[0]:7.3f} {scores[1]:7.3f} {scores[2]:7.4f} {cost}", flush=True)


def main() -> None:
    """One table per competition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with m4_hourly/ and m3/; without it nothing is measured")
    parser.add_argument("--only", choices=CONTESTS, help="one of the competitions")
    parser.add_argument("--series", type=int, help="this many series, spread evenly; all by default")
    parser.add_argument("--models", nargs="+", metavar="NAME[=JSON]", help="families; a shelf by default")
    parser.add_argument("--combine", nargs="+", metavar="A+B", help="mean and median of these of them")
    parser.add_argument("--earlier", action="store_true", help="one horizon earlier, to choose by")
    given = parser.parse_args()
    if given.data is None:
        print("not measured: give --data DIR, a folder with m4_hourly/ and m3/ (see --help)")
        return
    warnings.simplefilter("ignore")
    host = Host.discover()
    for name, read in CONTESTS.items():
        if given.only not in {None, name}:
            continue
        rows = read(given.data, given.series, earlier=given.earlier)
        print(f"{name}: {len(rows.truth)} series, {rows.task.horizon} steps, seed {SEED}, {' '.join(sys.argv[1:])}")
        print(f"  {'':<58} {'sMAPE':>7} {'MASE':>7} {'OWA':>7} {'CPU s':>9}")
        answers = {}
        for asked in given.models or SHELF:
            answers[asked], seconds = forecast_of(host, asked, rows)
            show(asked, rows.scores(answers[asked]), seconds)
        for combined in given.combine or ([] if given.models else COMBINED):
            members = [answers[asked] for asked in combined.split("+")]
            for word, combine in (("mean", np.mean), ("median", np.median))[: 1 if len(members) == 2 else 2]:  # noqa: PLR2004 - of two, both are the same
                show(f"{word} of {combined}", rows.scores(combine(members, axis=0)))
        for who, numbers in PUBLISHED[name].items():
            print(f"  {'published: ' + who:<58} {numbers}")


if __name__ == "__main__":
    main()
