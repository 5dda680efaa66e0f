"""False alarms of the guard on training data: successive origins of real data, nothing spoilt.

    python bench/data_guard.py [--data DIR] [--only NAME …]

Each data set is looked at as of several origins; each one's history is compared with the profile of the one before, as
a retrain does, a horizon, four and sixteen horizons later.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sets import options, projects

from forecastcore import runtime
from forecastcore.continuity import Limits, compare
from forecastcore.errors import DataError
from forecastcore.profile import Profile, profile


def main() -> None:
    """One line per alarm, and the count."""
    looked = alarms = 0
    for project, _ in projects(options(__doc__ or "")):
        whole = runtime.history(project)
        seen: dict[int, Profile] = {}
        for back in (32, 17, 16, 8, 4, 1, 0):
            origin = whole.grid.shift(whole.origin, -back * project.config.horizon)
            try:
                history = runtime.history(project, origin)
            except DataError:
                continue
            task = runtime.task(project, history.grid, history.origin)
            if len(history.panel) < 3 * len(history.ids) * task.season:
                continue
            for before, old in seen.items():
                looked += 1
                for guard in compare(old, history, task, Limits()):
                    if not guard.passed:
                        alarms += 1
                        print(f"  {project.config.name} {before} → {back} horizons back: {guard.name}: {guard.detail}")
            seen[back] = profile(history, task)
        print(f"{project.config.name}: {len(seen)} origins")
    print(f"{alarms} alarms in {looked} comparisons")


if __name__ == "__main__":
    main()
