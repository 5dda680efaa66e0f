"""Skill of each candidate against the best seasonal naive, covariates as assumed.

    python bench/skill.py                          the demo's project
    python bench/skill.py PROJECT …                projects of one's own: a forecast.yaml or its folder
    python bench/skill.py --data DIR [--case NAME] DIR/NAME/data.parquet; weather by climatology, then as it came

The difference between the two is what foresight of the weather would be worth. Seeds are fixed (0).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from measure import good

from forecastcore.project import Project
from forecastcore.runs.contest import backtest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measure import Row

    from forecastcore.messages import BacktestReport

MODELS = ("seasonal-naive", "ridge", "gradient-boosting", "lightgbm")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One data set as a project.

    Attributes:
        frequency: of the grid.
        horizon: steps.
        timezone: of the local clock.
        utc: whether the file's times are UTC; else they are local.
        folds: origins, counted back from the end.
        stride: steps between them.
        holidays: parameters of the `holidays` assumption.
        weather: covariates that are assumed by climatology.
    """

    frequency: str
    horizon: int
    timezone: str
    utc: bool
    folds: int
    stride: int
    holidays: dict[str, str]
    weather: tuple[str, ...] = ()

    def project(self, data: Path, folder: Path, models: list[str], *, foresight: bool) -> Project:
        """The project, written into a folder; with foresight the actual weather is given as if forecast."""
        frame = pd.read_parquet(data)[["unique_id", "ds", "y", *self.weather]]
        if self.utc:
            frame["ds"] = frame["ds"].dt.tz_localize("UTC")
        frame.to_parquet(folder / "history.parquet", index=False)
        known: dict[str, Any] = {"known": True} if foresight else {"assume": "weather"}
        settings = {
            "name": data.parent.name.replace("_", "-"),
            "source": {"type": "parquet", "path": "history.parquet", "timezone": self.timezone},
            "frequency": self.frequency,
            "horizon": self.horizon,
            "covariates": {**dict.fromkeys(self.weather, known), "is_holiday": {"assume": "calendar"}},
            "assumptions": {"calendar": {"type": "holidays", **self.holidays}}
            | ({} if foresight or not self.weather else {"weather": {"type": "climatology"}}),
            "models": [{"type": name} for name in models],
            "backtest": {"folds": self.folds, "stride": self.stride},
        }
        (folder / "forecast.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        return Project.load(folder)


CASES = {
    "vic_elec": Case(
        frequency="30min",
        horizon=336,
        timezone="Australia/Melbourne",
        utc=True,
        folds=8,
        stride=2184,
        holidays={"country": "AU", "subdivision": "VIC"},
        weather=("temperature",),
    ),
    "bwdf_water": Case(
        frequency="h",
        horizon=168,
        timezone="Europe/Rome",
        utc=True,
        folds=6,
        stride=840,
        holidays={"country": "IT"},
        weather=("temperature", "rain_mm"),
    ),
    "munich_bikes": Case(
        frequency="D",
        horizon=14,
        timezone="Europe/Berlin",
        utc=False,
        folds=8,
        stride=45,
        holidays={"country": "DE", "subdivision": "BY"},
        weather=("temp_max", "precipitation_mm", "sunshine_h"),
    ),
    "bike_dc_hourly": Case(
        frequency="h",
        horizon=168,
        timezone="UTC",
        utc=True,
        folds=6,
        stride=1092,
        holidays={"country": "US", "subdivision": "DC"},
        weather=("temp", "hum", "windspeed"),
    ),
    "entsoe_load_2019": Case(
        frequency="h",
        horizon=168,
        timezone="Europe/Berlin",
        utc=True,
        folds=6,
        stride=600,
        holidays={"country": "DE"},
    ),
    "germany_load_daily": Case(
        frequency="D",
        horizon=28,
        timezone="Europe/Berlin",
        utc=False,
        folds=12,
        stride=60,
        holidays={"country": "DE"},
    ),
}


def show(report: BacktestReport) -> dict[str, float]:
    """One line per candidate; the skills by name."""
    for row in report.leaderboard:
        numbers = [
            value if value is not None else float("nan") for value in (row.skill, row.mase, row.wql, row.seconds)
        ]
        print("  {:<22} skill {:+.3f}  mase {:.3f}  wql {:.4f}  {:.1f} s".format(row.name, *numbers), flush=True)
    return {row.name: row.skill for row in report.leaderboard if row.skill is not None}


def run_project(path: Path) -> None:
    """A project as it stands."""
    project, started = Project.load(path), time.perf_counter()
    report = backtest(project)
    print(f"{project.config.name}: {report.folds} folds, {report.series.total} series")
    show(report)
    print(f"  {time.perf_counter() - started:.1f} s in all")


def reports(name: str, data: Path, models: list[str]) -> Iterator[tuple[str, BacktestReport]]:
    """The backtest of a data set with assumed weather, and with the actual one."""
    case = CASES[name]
    for foresight in (False, True) if case.weather else (False,):
        with tempfile.TemporaryDirectory() as folder:
            report = backtest(case.project(data / name / "data.parquet", Path(folder), models, foresight=foresight))
        yield "actual weather" if foresight else "weather by climatology" if case.weather else "no weather", report


def run_case(name: str, data: Path, models: list[str]) -> None:
    """What is told of a data set."""
    skills = []
    for weather, report in reports(name, data, models):
        print(f"{name}, {weather}: {report.folds} folds, {report.series.total} series")
        skills.append(show(report))
    if len(skills) > 1:
        worth = {model: skill - skills[0][model] for model, skill in skills[1].items()}
        print("  foresight is worth     " + ", ".join(f"{model} {gain:+.3f}" for model, gain in worth.items()))


def rows(data: Path) -> Iterator[Row]:
    """The best model's skill on two data sets; beside it what OpenSTEF v4's preset reaches on the first (2014)."""
    wanted = {"vic_elec": ((0.40, 0.399), (0.53, 0.531)), "bwdf_water": ((0.10, None),)}
    for name, reaches in wanted.items():
        command = f"python bench/skill.py --data DIR --case {name}"
        for (least, against), (weather, report) in zip(reaches, reports(name, data, list(MODELS)), strict=False):
            skill = max(row.skill for row in report.leaderboard if row.skill is not None)
            yield good(f"{name}, {weather}: skill", command, skill, against=against, least=least)


def main() -> None:
    """What the arguments ask for."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("project", nargs="*", type=Path)
    ask.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets")
    ask.add_argument("--case", action="append", choices=list(CASES), help="repeatable (default: all)")
    ask.add_argument("--model", action="append", help=f"repeatable (default: {', '.join(MODELS)})")
    given = ask.parse_args()
    if given.data:
        models = given.model or list(MODELS)
        for name in given.case or CASES:
            run_case(name, given.data, models)
        return
    with resources.as_file(resources.files("forecastcore.demo") / "project") as demo:
        for path in given.project or [demo]:
            run_project(path)


if __name__ == "__main__":
    main()
