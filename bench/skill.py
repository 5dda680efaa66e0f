"""Skill of each candidate against the best seasonal naive, covariates as assumed: `python bench/skill.py [PROJECT …]`.

Without arguments it takes the demo's project. A project is a forecast.yaml or its folder; what it says of folds counts.
"""

from __future__ import annotations

import sys
import time
from importlib import resources
from pathlib import Path

from forecastcore.project import Project
from forecastcore.runs.contest import backtest


def main() -> None:
    """One line per project and candidate."""
    with resources.as_file(resources.files("forecastcore.demo") / "project") as demo:
        for path in sys.argv[1:] or [demo]:
            project = Project.load(Path(path))
            started = time.perf_counter()
            report = backtest(project)
            print(f"{project.config.name}: {report.folds} folds, {report.series.total} series")
            for row in report.leaderboard:
                numbers = [value if value is not None else float("nan") for value in (row.skill, row.mase, row.seconds)]
                print("  {:<22} skill {:+.3f}  mase {:.3f}  {:.1f} s".format(row.name, *numbers))
            print(f"  {time.perf_counter() - started:.1f} s in all")


if __name__ == "__main__":
    main()
