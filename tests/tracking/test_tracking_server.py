"""The same store against a real MLflow server, and what is left when the server goes."""

import threading
import time
from datetime import UTC, datetime

import pytest

from forecastcore.errors import LedgerConflict, TrackingError
from forecastcore.messages import LedgerEntry
from forecastcore.tracking import open_store
from tests.support import mlflow_server


@pytest.fixture
def server(tmp_path):
    with mlflow_server.running(tmp_path) as running:
        yield running


def entry(seq, version, by=""):
    at = datetime(2024, 1, 1, tzinfo=UTC)
    return LedgerEntry(
        seq=seq, at=at, action="manual", version=version.version, champion=version.version, previous=None,
        digest=version.digest, by=by,
    )  # fmt: skip


@pytest.mark.slow
def test_a_server_keeps_models_and_decisions_and_the_champion_outlives_it(server, tmp_path, pack, example, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    uri = server.uri
    stores = [open_store(project="vic-demand", uri=uri, experiment="vic", root=tmp_path) for _ in range(8)]
    store = stores[0]
    assert (store.versions(), store.resolve("champion"), store.ledger()) == ([], None, [])
    with store.run("retrain", tags={}) as run:
        run.metrics({"mase": 1.0})
        run.json("decision", {"verdict": "first"})
        run.dataset(example[0], rows=5, digest="a" * 64, name="history", source="data.parquet", context="training")
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

    server.kill()
    later = open_store(project="vic-demand", uri=uri, experiment="vic", root=tmp_path)
    began = time.monotonic()
    assert later.fetch(later.resolve("champion")) == folder
    assert any("version 1 was champion when last asked" in note for note in later.notes)
    with pytest.raises(TrackingError, match=uri), later.run("predict", tags={}):
        pass
    with pytest.raises(TrackingError, match=uri):
        later.append(entry(6, version))
    assert time.monotonic() - began < 30
