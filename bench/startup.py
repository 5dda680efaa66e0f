"""How long the command line takes to answer, beside a bare Python: `python bench/startup.py`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = Path(sys.executable).with_name("forecastcore")
CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import forecastcore.api": [sys.executable, "-c", "import forecastcore.api"],
    "forecastcore --help": [str(COMMAND), "--help"],
    "forecastcore retrain --help": [str(COMMAND), "retrain", "--help"],
}
RUNS = 5


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Time the cases in turn, so that a slow moment of the machine hits all of them."""
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(RUNS + 1):
        for name, command in CASES.items():
            taken[name].append(seconds(command))
    for name, values in taken.items():
        counted = values[1:]  # the first one warms the file cache
        print(f"{name:<30} median {statistics.median(counted):.3f} s, min {min(counted):.3f} s")


if __name__ == "__main__":
    main()
