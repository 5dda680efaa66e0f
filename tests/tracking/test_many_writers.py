"""Many at once write to one MLflow, 8 on SQLite and 32 on PostgreSQL: every run, figure and decision is there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forecastcore.tracking import open_store
from tests.support import postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROUNDS = 5
#: some writers in one process, each with a store of its own: the libraries take longer to load than the writing takes
WRITER = """
import json, pathlib, sys, threading
from datetime import UTC, datetime
from forecastcore.errors import LedgerConflict
from forecastcore.messages import LedgerEntry
from forecastcore.tracking import open_store

uri, root, first, many, rounds = sys.argv[1], pathlib.Path(sys.argv[2]), *map(int, sys.argv[3:])
told = []

def decide(store, who):
    while True:
        entries = store.ledger()
        entry = LedgerEntry(seq=len(entries) + 1, at=datetime.now(UTC), action="hold", version="1", champion=None,
                            previous=None, digest="", by=who)
        try:
            return store.append(entry).seq
        except LedgerConflict:
            continue

def write(who):
    try:
        store = open_store(project="many", uri=uri, experiment="many", root=root)
        for number in range(rounds):
            with store.run(f"{who}/{number}", tags={"who": who}) as run:
                run.params({f"p{n}": n for n in range(20)})
                run.metrics({f"m{n}": float(n) for n in range(40)})
                run.json("report", {"who": who, "number": number})
                seq = decide(store, f"{who}/{number}")
            told.append(seq)
    except Exception as error:
        told.append(f"{type(error).__name__}: {error}")

threads = [threading.Thread(target=write, args=(str(first + n),)) for n in range(many)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(told))
"""


def written(uri, root, processes, each):
    """What all writers told, and the seconds that it took."""
    with open_store(project="many", uri=uri, experiment="many", root=root).run("first", tags={}):
        pass  # the tables are there
    began = time.monotonic()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, str(root), str(number * each), str(each), str(ROUNDS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    told = []
    for process in started:
        out, err = process.communicate(timeout=1400)
        assert process.returncode == 0, err
        told += json.loads(out.splitlines()[-1])
    return told, time.monotonic() - began


def check(uri, root, writers, told):
    from mlflow import MlflowClient

    assert [one for one in told if isinstance(one, str)] == [], "no writer failed"
    assert sorted(told) == list(range(1, writers * ROUNDS + 1)), "each decision has a number of its own"
    store = open_store(project="many", uri=uri, experiment="many", root=root)
    names = {f"{who}/{number}" for who in range(writers) for number in range(ROUNDS)}
    assert {entry.by for entry in store.ledger()} == names
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("many").experiment_id
    runs = client.search_runs([experiment], "tags.who != ''", max_results=1000)
    assert {run.info.run_name for run in runs} == names
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {len(run.data.metrics) for run in runs} == {40}
    assert {len(run.data.params) for run in runs} == {20}
    reports = [store.document(run.info.run_id, "report.json") for run in runs[::7]]
    assert all(report["who"] in {str(who) for who in range(writers)} for report in reports)


@pytest.mark.row(30, trials=8 * ROUNDS)
def test_eight_writers_on_sqlite_lose_nothing(tmp_path, fresh_database):
    (tmp_path / "mlflow.db").write_bytes(Path(fresh_database).read_bytes())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    told, seconds = written(uri, tmp_path, processes=4, each=2)
    print(f"8 writers, {len(told)} runs in {seconds:.0f} s")  # noqa: T201 - with -s
    check(uri, tmp_path, 8, told)


@pytest.mark.row(30, trials=32 * ROUNDS)
def test_thirty_two_writers_on_postgresql_lose_nothing(tmp_path):
    with postgres.running() as url:
        uri = url.replace("postgresql://", "postgresql+psycopg://")
        told, seconds = written(uri, tmp_path, processes=4, each=8)
        print(f"32 writers, {len(told)} runs in {seconds:.0f} s")  # noqa: T201 - with -s
        check(uri, tmp_path, 32, told)
