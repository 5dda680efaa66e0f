"""Projects on a folder of data sets, for the other scripts here; `python bench/sets.py --data DIR` lists them.

A data set is a folder with `data.parquet`: unique_id, ds, y. Of sets with many series an even sample is taken.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from forecastcore.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE = 40


@dataclass(frozen=True)
class DataSet:
    """A folder, and what a project file must say of it."""

    name: str
    frequency: str
    horizon: int
    timezone: str = "UTC"
    folds: int = 4
    nominal: bool = False  # its times mean nothing: series are moved to end together
    period: str = ""  # of the folder's rows those whose `period` it is
    quality: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """The name, with the period that is asked for."""
        return f"{self.name}_{self.period.lower()}" if self.period else self.name


SETS = (
    DataSet("vic_elec", "30min", 336),
    DataSet("bwdf_water", "h", 168),
    DataSet("entsoe_load_2019", "h", 168),
    DataSet("entsoe_price", "h", 48),
    DataSet("bike_dc_hourly", "h", 48, "America/New_York"),
    DataSet("m4_hourly", "h", 48, nominal=True),
    DataSet("au_solar_power", "h", 48),
    DataSet("munich_bikes", "D", 14, "Europe/Berlin"),
    DataSet("austria_energy_daily", "D", 14, "Europe/Vienna"),
    DataSet("germany_load_daily", "D", 14, "Europe/Berlin"),
    DataSet("bicimad_daily", "D", 14, "Europe/Madrid"),
    DataSet("orange_juice", "W", 8),
    DataSet("aus_retail", "MS", 12),
    DataSet("carparts", "MS", 6),
    DataSet("aus_tourism_quarterly", "QS", 4),
    DataSet("metro_traffic", "h", 48, "America/Chicago"),
    DataSet("air_quality_valencia", "h", 48),
    DataSet("walmart_weekly", "W-FRI", 8),
    DataSet("online_retail_sku", "D", 14, "Europe/London", quality=(("gaps", "zero"),)),
    DataSet("m3", "MS", 18, period="MONTHLY", nominal=True),
    DataSet("m3", "QS", 8, period="QUARTERLY", nominal=True),
)


def options(what: str, *, models: tuple[str, ...] = ()) -> argparse.Namespace:
    """The command line of the scripts here; with `--models` where a script has some."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--data", type=Path, help="folder of data sets; without it the demo's data is taken")
    parser.add_argument("--only", nargs="*", default=(), help="names of data sets")
    if models:
        parser.add_argument("--models", nargs="*", default=models, help=f"default: {' '.join(models)}")
    return parser.parse_args()


def projects(told: argparse.Namespace, **settings: Any) -> Iterator[tuple[Project, pd.DataFrame]]:
    """A project for each data set, and its history; the project's files are gone when the next one comes."""
    for which in SETS if told.data else (DataSet("ferrara-water", "h", 168, "Europe/Rome"),):
        if told.only and which.label not in told.only:
            continue
        frame = _history(told.data / which.name / "data.parquet", which) if told.data else _demo()
        with tempfile.TemporaryDirectory(prefix="forecastcore-bench-") as folder:
            yield _project(Path(folder), which, frame, settings), frame


def _project(folder: Path, which: DataSet, frame: pd.DataFrame, settings: dict[str, Any]) -> Project:
    frame.to_parquet(folder / "data.parquet")
    document = {
        "name": which.label.replace("_", "-"),
        "source": {"type": "parquet", "path": "data.parquet", "timezone": which.timezone},
        "quality": {"duplicates": "last", "ambiguous": "first", "nonexistent": "shift", **dict(which.quality)},
        "frequency": which.frequency,
        "horizon": which.horizon,
        "backtest": {"folds": which.folds},
        "engine": {"type": "local", "workers": 0},
        **settings,
    }
    (folder / "forecast.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return Project.load(folder)


def _history(path: Path, which: DataSet) -> pd.DataFrame:
    filters = [("period", "==", which.period)] if which.period else None
    frame = pd.read_parquet(path, columns=["unique_id", "ds", "y"], filters=filters)
    ids = frame["unique_id"].unique()
    some = ids[np.unique(np.linspace(0, len(ids) - 1, SAMPLE).astype(int))]
    frame = frame[frame["unique_id"].isin(some)].reset_index(drop=True)
    if which.nominal:
        back = frame.groupby("unique_id").cumcount(ascending=False)
        frame["ds"] = pd.date_range(end=frame["ds"].max(), periods=back.max() + 1, freq=which.frequency)[-1 - back]
    return frame


def _demo() -> pd.DataFrame:
    with resources.as_file(resources.files("forecastcore.demo") / "project" / "data") as folder:
        return pd.read_parquet(next(folder.glob("*.parquet")), columns=["unique_id", "ds", "y"])


if __name__ == "__main__":
    for project, frame in projects(options("the data sets")):
        print(project, len(frame), frame["unique_id"].nunique())
