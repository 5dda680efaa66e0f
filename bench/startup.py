"""How long the command line takes to answer, beside a bare Python: `python bench/startup.py`."""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from measure import seconds

COMMAND = Path(sys.executable).with_name("forecastcore")
CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import forecastcore.api": [sys.executable, "-c", "import forecastcore.api"],
    "forecastcore --help": [str(COMMAND), "--help"],
    "forecastcore retrain --help": [str(COMMAND), "retrain", "--help"],
}
RUNS = 5


def answer(command: list[str]) -> None:
    """Run it to its end."""
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Time the cases in turn, so that a slow moment of the machine hits all of them."""
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(RUNS + 1):
        for name, command in CASES.items():
            taken[name].append(seconds(partial(answer, command)))
    for name, values in taken.items():
        counted = values[1:]  # the first one warms the file cache
        print(f"{name:<30} median {statistics.median(counted):.3f} s, min {min(counted):.3f} s")


if __name__ == "__main__":
    main()
