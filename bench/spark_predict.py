"""What a run on Spark holds in memory, watched from outside: `python bench/spark_predict.py [--full] [--retrain]`.

The command line predicts in a process of its own, in a local Spark session with two tasks at a time, from Parquet to
a table of Spark's catalog. One ridge regression, trained on the few series, serves the few and the many. With
`--retrain` it learns: a seasonal naive and a ridge regression, one fold, and what registering and comparing takes
beside a champion of the same series that a first retrain has made. The largest resident set of the driver's Python,
and that of the largest of the workers' Python processes, are read from /proc; Spark's own Java is not counted, its
heap has the size that it is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from measure import Row, keep, show

import forecastcore as fc
from forecastcore.testing import sample_history

if TYPE_CHECKING:
    from collections.abc import Iterator

MONTHS = 48
MEBIBYTE = 1024.0


class Peak(NamedTuple):
    """Of one run."""

    driver: float
    worker: float
    seconds: float


def settings(folder: Path) -> dict[str, Any]:
    """A project that is trained here; what is on Spark is told to predict."""
    return {
        "name": "memory",
        "source": {"type": "parquet", "path": "history.parquet"},
        "frequency": "MS",
        "horizon": 12,
        "models": [{"type": "ridge"}],
        "backtest": {"folds": 1},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
    }


def watched(folder: Path, word: str) -> Peak:
    """Run a command, and look at it ten times a second."""
    conf = {"spark.driver.memory": "1g", "spark.sql.warehouse.dir": f"{folder}/warehouse"}
    engine = json.dumps({"type": "spark", "master": "local[2,4]", "conf": conf})
    sinks = json.dumps([{"type": "delta-table", "table": "forecasts", "format": "parquet"}])
    command = [sys.executable, "-m", "forecastcore.cli", "-p", str(folder), "--json", word]
    driver = worker = 0.0
    began = time.perf_counter()
    with (folder / "log").open("wb") as log, (folder / "told").open("wb") as out:
        run = subprocess.Popen(
            [*command, "--set", f"engine={engine}", "--set", f"sinks={sinks}"], stdout=out, stderr=log, cwd=folder
        )
        while run.poll() is None:
            driver = max(driver, resident(run.pid))
            worker = max([worker, *(resident(pid) for pid in pythons_below(run.pid))])
            time.sleep(0.1)
    taken = time.perf_counter() - began
    if run.returncode:
        raise SystemExit((folder / "log").read_text()[-3000:])
    told = json.loads((folder / "told").read_text())
    if told["notes"] or any(one["error"] for one in told.get("published", ())):
        raise SystemExit(f"not what was to be measured: {told}")
    return Peak(driver, worker, taken)


def resident(pid: int) -> float:
    """Largest resident set of a process so far, in MiB; 0 where it has ended."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / MEBIBYTE
    return 0.0


def pythons_below(root: int) -> list[int]:
    """Python processes that a process started, or that these did."""
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            parents[int(path.parent.name)] = (int(rest.split()[1]), name)

    def below(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid][0]
        return pid == root

    return [pid for pid, (_, name) in parents.items() if pid != root and "python" in name and below(pid)]


def rows(*, full: bool = False, word: str = "predict") -> Iterator[Row]:
    """The driver's memory, the workers', and time, of many series against few."""
    warnings.simplefilter("ignore")
    few, many = 1_000, 100_000 if full else 10_000
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="forecastcore-bench-") as scratch:
        folder = Path(scratch)
        project = settings(folder)
        if word == "retrain":
            project["models"].append({"type": "seasonal-naive"})
        (folder / "forecast.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
        for size in (few, many):
            sample_history(series=size, rows=MONTHS, frequency="MS").to_parquet(folder / "history.parquet")
            if size == few and word == "predict":
                fc.retrain(fc.Project.load(folder))
            if word == "retrain":
                (folder / "mlflow.db").unlink(missing_ok=True)
                watched(folder, word)
            peaks[size] = watched(folder, word)
            print(f"  {size} series: {peaks[size]}", file=sys.stderr, flush=True)
            shutil.rmtree(folder / "warehouse", ignore_errors=True)
    options = (" --full" if full else "") + (" --retrain" if word == "retrain" else "")
    command = f"python bench/spark_predict.py{options}"
    for part in ("driver", "worker"):
        ours, against = (getattr(peaks[size], part) for size in (many, few))
        yield Row(
            what=f"{word} on Spark: memory of a {part}'s Python at {many:,} series against {few:,}",
            ours=ours,
            against=against,
            ratio=ours / against,
            reach="<= 1.3",
            reached=ours / against <= 1.3,  # noqa: PLR2004 - the reach
            runs=1,
            command=command,
            unit="MiB",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="100,000 series instead of 10,000")
    parser.add_argument("--retrain", action="store_true", help="learn instead of predicting")
    asked = parser.parse_args()
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    word = "retrain" if asked.retrain else "predict"
    keep(f"spark-{word}" + ("-full" if asked.full else ""), show(rows(full=asked.full, word=word)))
