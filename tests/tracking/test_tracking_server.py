"""The same store against a real MLflow server, and what is left when the server goes."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime

import pytest

from forecastcore.errors import LedgerConflict, TrackingError
from forecastcore.messages import LedgerEntry
from forecastcore.tracking import open_store


@pytest.fixture
def server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "art"),
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("wb") as log:
        # a session of its own, so that its workers end with it
        process = subprocess.Popen(
            command, env={**os.environ, **quiet}, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        _end(process)


def _wait(url, process):
    for _ in range(240):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server did not start")


def _end(process):
    if process.poll() is None:
        process.terminate()
        process.wait(timeout=30)


def entry(seq, version, by=""):
    at = datetime(2024, 1, 1, tzinfo=UTC)
    return LedgerEntry(
        seq=seq, at=at, action="manual", version=version.version, champion=version.version, previous=None,
        digest=version.digest, by=by,
    )  # fmt: skip


@pytest.mark.slow
def test_a_server_keeps_models_and_decisions_and_the_champion_outlives_it(server, tmp_path, pack, example, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    process, uri = server
    stores = [open_store(project="vic-demand", uri=uri, experiment="vic", root=tmp_path) for _ in range(8)]
    store = stores[0]
    assert (store.versions(), store.resolve("champion"), store.ledger()) == ([], None, [])
    with store.run("retrain", tags={}) as run:
        run.metrics({"mase": 1.0})
        run.json("decision", {"verdict": "first"})
        run.dataset(example[0], name="history", source="data.parquet", context="training")
        version = store.register(run, pack(3.0), example=example)
    assert store.resolve(run.run_id) == version

    wins = []

    def decide(who, mine):
        for seq in range(1, 6):
            while len(mine.ledger()) < seq - 1:
                pass
            try:
                mine.append(entry(seq, version, by=str(who)))
            except LedgerConflict:
                continue
            wins.append((seq, str(who)))

    threads = [threading.Thread(target=decide, args=pair) for pair in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [(one.seq, one.by) for one in store.ledger()]
    assert [seq for seq, _ in sorted(wins)] == [1, 2, 3, 4, 5]

    champion = store.resolve("champion")
    assert champion.aliases == ("challenger", "champion")
    folder = store.fetch(champion)
    assert (folder / "state" / "level.json").read_text() == "3.0"

    _end(process)
    later = open_store(project="vic-demand", uri=uri, experiment="vic", root=tmp_path)
    began = time.monotonic()
    assert later.fetch(later.resolve("champion")) == folder
    assert any("version 1 was champion when last asked" in note for note in later.notes)
    with pytest.raises(TrackingError, match=uri), later.run("predict", tags={}):
        pass
    with pytest.raises(TrackingError, match=uri):
        later.append(entry(6, version))
    assert time.monotonic() - began < 30
