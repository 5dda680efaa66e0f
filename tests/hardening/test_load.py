"""Very many series through each engine, watched from outside: no process outgrows its machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from forecastcore.testing import sample_history
from forecastcore.testing.databricks.fixture import databricks, databricks_environments

__all__ = ["databricks", "databricks_environments"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SERIES, MONTHS, HORIZON = 100_000, 24, 6
#: MiB that any one Python process may take
CAP = 1_500
#: the same where a million series are held by one machine
CAP_OF_A_MILLION = 6_500
ENGINES = {
    "local": {"type": "local", "workers": 2},
    "spark": {"type": "spark", "master": "local[2]", "conf": {"spark.driver.memory": "1g"}},
    "databricks": {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "1s"},
}


class Watch:
    """The largest resident set of each Python process below this one that is alive; a context manager."""

    def __init__(self):
        self.peak, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.2):
            for pid in _pythons():
                with suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                    high = next(line for line in lines if line.startswith("VmHWM"))
                    self.peak = max(self.peak, int(high.split()[1]) / 1024)


def _pythons():
    """Process ids of command lines of forecastcore and of all Python that they started."""
    told = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    parents = {
        int(pid): (int(parent), name) for pid, parent, name in (line.split(None, 2) for line in told.splitlines())
    }
    mine = {id_ for id_, (parent, _) in parents.items() if parent == os.getpid()}
    while more := {id_ for id_, (parent, _) in parents.items() if parent in mine} - mine:
        mine |= more
    return [id_ for id_ in mine if "python" in parents[id_][1]]


def run(folder, *words):
    """What a command line answers as JSON; it must come to a good end."""
    command = [sys.executable, "-m", "forecastcore.cli", "-p", str(folder), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.row(48)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_hundred_thousand_series_are_learned_and_forecast_under_a_cap(
    engine, site_of, tmp_path, record_property, request
):
    if engine == "databricks":
        request.getfixturevalue("databricks")
    site = site_of(tmp_path, engine=ENGINES[engine])
    record_property("largest process, MiB", learned_and_forecast(site, SERIES, MONTHS, CAP))


@pytest.mark.row(48)
@pytest.mark.timeout(3600)
def test_a_million_series_are_learned_and_forecast_under_a_cap_of_their_own(site_of, tmp_path, record_property):
    site = site_of(tmp_path, engine=ENGINES["local"])
    record_property("largest process, MiB", learned_and_forecast(site, 1_000_000, 2 * HORIZON, CAP_OF_A_MILLION))


def learned_and_forecast(site, series, months, cap):
    """The largest process, in MiB, of a retrain and a predict that lose no series."""
    site.write(sample_history(series=series, rows=months, frequency="MS"))
    site.write(frequency="MS", horizon=HORIZON, models=[{"type": "seasonal-naive"}], backtest={"folds": 1})
    site.write(sinks=[{"type": "parquet", "path": "out/parquet"}])
    with Watch() as watch:
        told = [run(site.folder, word) for word in ("retrain", "predict")]
    assert told[-1]["series"] == {"total": series, "ok": series, "degraded": 0, "failed": 0}
    rows = ds.dataset(site.folder / "out" / "parquet", format="parquet").to_table(columns=["unique_id"])
    assert len(rows) == series * HORIZON
    assert len(rows["unique_id"].unique()) == series
    assert 0 < watch.peak < cap, f"{watch.peak:.0f} MiB"
    return round(watch.peak)


@pytest.mark.row(48)
def test_a_file_of_five_gigabytes_is_read_for_what_a_forecast_needs(site_of, tmp_path, record_property):
    """Beside the history lies something large in every row, as in a table that others made for other ends."""
    history = pa.Table.from_pandas(sample_history(series=200, rows=MONTHS, frequency="MS"), preserve_index=False)
    site_of(
        tmp_path, frequency="MS", horizon=HORIZON, models=[{"type": "seasonal-naive"}], backtest={"folds": 1}
    ).write(sinks=[{"type": "parquet", "path": "out/parquet"}])
    wide = history.schema.append(pa.field("scan", pa.binary()))
    scans = pa.array([os.urandom(1 << 20)] * MONTHS)
    with pq.ParquetWriter(tmp_path / "history.parquet", wide, compression="none", use_dictionary=False) as file:
        for first in range(0, len(history), MONTHS):
            file.write_table(history.slice(first, MONTHS).append_column("scan", scans))
    assert (tmp_path / "history.parquet").stat().st_size > 5 * 10**9
    with Watch() as watch:
        for words in (["validate", "--data"], ["retrain"], ["predict"]):
            assert run(tmp_path, *words)
    record_property("largest process, MiB", round(watch.peak))
    assert len(ds.dataset(tmp_path / "out" / "parquet", format="parquet").to_table()) == 200 * HORIZON
    assert 0 < watch.peak < CAP, f"{watch.peak:.0f} MiB"
    (tmp_path / "history.parquet").unlink()
