"""Cycle after cycle of predict and retrain with seeded faults: the invariants hold after each.

Seven minutes of them; before a release `CYCLE_SECONDS=5400 python -m pytest --row 69` makes hundreds.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time

import pandas as pd
import pytest

from tests.conftest import small_history
from tests.hardening.test_crash_certificate import (
    BROKEN,
    FOLDERS,
    HORIZON,
    POINTS,
    SERIES,
    Ground,
    leaks,
    nursery,
    scene,
)

__all__ = ["nursery", "scene"]

SEED, SECONDS = 20261127, float(os.environ.get("CYCLE_SECONDS", "420"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 1080)]
RETRAIN_EVERY = 10
FAULTS = [
    "none",
    "kill",
    "kill",
    "kill",
    "no source",
    "half a source",
    "no sink",
    "no cache",
    "spoilt model",
    "no MLflow",
]


class Faults:
    """Each breaks something, gives the exit codes that are truthful then, and puts it back."""

    def __init__(self, site, cache, chance):
        self.folder, self.cache, self.chance = site.folder, cache, chance

    def strike(self, fault):
        """Break it; how to put it back."""
        history, sink = self.folder / "history.parquet", self.folder / "out" / "parquet"
        if fault == "no source":
            return self.away(history)
        if fault == "half a source":
            whole = history.read_bytes()
            history.write_bytes(whole[: self.chance.randrange(len(whole))])
            return lambda: history.write_bytes(whole)
        if fault == "no sink":
            back = self.away(sink) if sink.exists() else lambda: None
            sink.parent.mkdir(exist_ok=True)
            sink.write_text("in the way")
            return lambda: (sink.unlink(), back())
        if fault == "no cache":
            shutil.rmtree(self.cache, ignore_errors=True)
        if fault == "spoilt model":
            shutil.rmtree(self.cache, ignore_errors=True)
            files = sorted(self.folder.glob("mlartifacts/**/model.json"))
            file = self.chance.choice(files)
            whole = file.read_bytes()
            file.write_bytes(whole[:-1] + b"x")
            return lambda: file.write_bytes(whole)
        if fault == "no MLflow":
            return self.away(self.folder / "mlflow.db", b"no database")
        return lambda: None

    def away(self, path, instead=None):
        aside = path.with_name(path.name + ".aside")
        path.rename(aside)
        if instead is not None:
            path.write_bytes(instead)

        def back():
            if path.exists():
                path.unlink() if path.is_file() else shutil.rmtree(path)
            aside.rename(path)

        return back


@pytest.mark.row(69, seed="20261127")
def test_cycles_with_seeded_faults_break_no_invariant(scene, nursery, tmp_path, record_property):
    chance, end, count = random.Random(SEED), time.monotonic() + SECONDS, 0
    ground = Ground(scene, nursery, tmp_path, record_property, {})
    ground.begin("predict", sinks=FOLDERS)
    ground.project = ground.project[1:]  # with -v a traceback is asked for
    ground.site.write(small_history(series=SERIES, days=40))
    faults, found, struck = Faults(ground.site, scene.cache, chance), [], []
    while time.monotonic() < end:
        command = "retrain" if count % RETRAIN_EVERY == RETRAIN_EVERY - 1 else "predict"
        moment = pd.Timestamp("2024-03-14T23:00Z") + pd.Timedelta(hours=count)
        words = [*ground.project, command, "--as-of", moment.isoformat()]
        fault = chance.choice(FAULTS)
        point = chance.choice(sorted(POINTS[command]))
        back = faults.strike(fault)
        code = ground.run(words, POINTS[command][point] if fault == "kill" else "")
        back()
        struck.append(f"{count} {command} {fault} {point if fault == 'kill' else ''}: {code}")
        if code not in {0, 1, 2, 3, 4, -signal.SIGKILL} or "Traceback" in ground.said[-1]:
            found.append(f"{struck[-1]}: {ground.said[-1][-500:]}")
        if code := ground.run(words):
            found.append(f"{struck[-1]}, and then {code}: {ground.said[-1][-500:]}")
        asked = {"path": ground.project[1], "delivered": command == "predict", "after_all": True}
        found += [f"{struck[-1]}: {one}" for one in nursery.ask(BROKEN, tmp_path, ground.environment, **asked)]
        count += 1
    ground.run([*ground.project, "reconcile", "--fix"])
    if ground.run([*ground.project, "reconcile"]):
        found.append("reconcile --fix left something")
    found += leaks(ground.site, *ground.said)
    rows = ground.site.table(None)
    predicts = sum(1 for number in range(count) if number % RETRAIN_EVERY != RETRAIN_EVERY - 1)
    if rows["issued_at"].nunique() != predicts or len(rows) < predicts * SERIES * HORIZON:
        found.append(f"{rows['issued_at'].nunique()} origins of {predicts} in {len(rows)} rows")
    record_property("trials", count)
    print("\n".join(struck))  # noqa: T201 - with -s
    assert found == []
    assert count >= 2 * RETRAIN_EVERY
