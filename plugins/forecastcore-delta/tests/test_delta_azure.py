"""Delta tables in Azure storage, on Azurite."""

import json
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pyarrow as pa
import pytest
from azure.storage.blob import BlobClient  # noqa: TID253 - what is delivered is looked at from outside
from forecastcore_delta import DeltaSink, DeltaSource

from forecastcore.errors import DataError, SinkError
from forecastcore.vintages import newest
from tests.support.samples import days, key, publish, rows

COMMIT = "deltalake:DeltaTable.create_write_transaction"
SINK = "forecastcore_delta:DeltaSink"


@pytest.fixture
def params(container, connection_string):
    return {"path": f"az://{container}/out/forecasts", "credential": {"connection_string": connection_string}}


@pytest.fixture
def sink(params):
    return DeltaSink(**params)


def latest(sink):
    path = sink.path.rpartition("/")[0] + "/forecast_latest"
    names = days(1)[0].column_names
    return rows(pa.table(DeltaSource(path, credential=sink.credential).read(names)))


def test_the_page_of_the_newest_run_is_beside_the_table(sink, container, connection_string):
    publish(sink, *days(1))
    told = {sink.show(b"<p>one</p>"), sink.show(b"<p>two</p>")}
    assert told == {f"az://{container}/out/report.html"}
    with BlobClient.from_connection_string(connection_string, container, "out/report.html") as blob:
        assert blob.download_blob().readall() == b"<p>two</p>"


def test_a_vintage_is_published_once_and_read_back_value_for_value(sink):
    one, two = days(1, 2)
    assert [answer.already for answer in publish(sink, one, two, two)] == [False, False, True]
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two])))
    assert sink.read(datetime(2024, 1, 2, tzinfo=UTC)).equals(two)
    assert latest(sink).equals(rows(newest([one, two])))
    assert [ref.run_key for ref in sink.vintages()] == [key(one), key(two)]


@pytest.mark.row(20)
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_either_transaction_loses_and_doubles_nothing(sink, params, publisher, tmp_path, when, nth):
    one, two, three = (publisher.vintage(number) for number in (1, 2, 3))
    publish(sink, one)
    child = publisher.start(SINK, tmp_path / "x", [2], kill=f"{COMMIT}:{when}:{nth}", params=params)
    assert child.was_killed()
    there = sink.read().num_rows > one.num_rows
    assert there == ((nth, when) != (1, "before"))
    publish(sink, three, two)
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two, three])))
    assert latest(sink).equals(rows(newest([one, two, three])))


def together(sink, params, publisher, tmp_path, *, writers, each):
    """Many writers at a time; seconds of each commit."""
    gate = tmp_path / "gate"
    parts = [list(range(writer * each, (writer + 1) * each)) for writer in range(writers)]
    children = [publisher.start(SINK, tmp_path / "x", part, gate=gate, params=params) for part in parts]
    gate.touch()
    answers = [answer for child in children for answer in child.answers()]
    assert not any(answer["already"] for answer in answers)
    everything = [publisher.vintage(number) for part in parts for number in part]
    assert rows(sink.read()).equals(rows(pa.concat_tables(everything)))
    assert latest(sink).equals(rows(newest(everything)))
    return sorted(answer["seconds"] for answer in answers)


@pytest.mark.row(22)
def test_no_commit_of_several_writers_is_lost(sink, params, publisher, tmp_path):
    together(sink, params, publisher, tmp_path, writers=3, each=3)


@pytest.mark.row(22, trials=600)
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_writers_lose_none_of_six_hundred_commits(sink, params, publisher, tmp_path):
    """Not two thousand: delta-rs lists the log several times for each commit, and Azurite takes its time for that."""
    taken = together(sink, params, publisher, tmp_path, writers=10, each=60)
    assert len(taken) == 600
    assert taken[int(0.99 * len(taken))] < 10


@pytest.mark.row(11, 12, trials=4)
def test_of_two_processes_with_one_run_key_one_publishes(sink, params, publisher, tmp_path):
    gate, numbers = tmp_path / "gate", list(range(4))
    children = [publisher.start(SINK, tmp_path / "x", numbers, gate=gate, params=params) for _ in range(2)]
    gate.touch()
    answers = [child.answers() for child in children]
    assert [sorted(a["already"] for a in pair) for pair in zip(*answers, strict=True)] == [[False, True]] * 4
    assert rows(sink.read()).equals(rows(pa.concat_tables([publisher.vintage(n) for n in numbers])))


def test_the_source_reads_a_version_and_what_was_current_then(sink, params):
    publish(sink, *days(1, 2))
    assert DeltaSource(**params).read(["step"]).num_rows == 2 * 48
    assert DeltaSource(**params, version=1).read(["step"]).num_rows == 48
    with pytest.raises(DataError, match="has no version 9"):
        DeltaSource(**params, version=9).schema()


def test_variables_of_the_environment_are_no_credential(sink, monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_TOKEN"):
        monkeypatch.setenv(name, "ZGVjb3k=")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "decoy")
    publish(sink, *days(1))
    assert sink.read().num_rows == 48


def test_an_identity_is_asked_for_one_token_and_that_token_is_sent(monkeypatch):
    import azure.identity

    made, sent = [], []

    class Named:
        def __init__(self, *args, **options):
            made.append((args, options))

        def get_token(self, scope):
            return type("Token", (), {"token": "named-token"})

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return None

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self):
            sent.append(self.headers["Authorization"])
            self.send_response(403)
            self.end_headers()

        def log_message(self, *args):
            return None

    monkeypatch.setattr(azure.identity, "ClientSecretCredential", Named)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "ZGVjb3k=")
    server = HTTPServer(("127.0.0.1", 0), Recorder)
    thread = Thread(target=server.serve_forever)
    thread.start()
    principal = {"tenant_id": "t", "client_id": "c", "client_secret": "hunter2"}
    url = f"http://127.0.0.1:{server.server_port}/account"
    sink = DeltaSink("az://container/forecasts", principal, url)
    try:
        with pytest.raises(SinkError) as caught:
            publish(sink, *days(1))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert set(sent) == {"Bearer named-token"}
    assert made[0] == (("t", "c", "hunter2"), {})
    assert "hunter2" not in str(caught.value) + repr(sink)
    assert "named-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "credential", "says"),
    [
        ("az://container/x", None, "needs a credential"),
        ("s3://container/x", "managed-identity", "not with az://"),
        ("az://container", "managed-identity", "below a container"),
        ("az://container/../x", "managed-identity", "below a container"),
        ("az://container/%2e%2e/x", "managed-identity", "below a container"),
        ("az://container/x", "default", "none of the known kinds"),
        ("az://container/x", {"password": "hunter2"}, "has the keys password"),
        ("az://container/x", "managed-identity", "account_url is needed"),
        ("az://container/x", {"connection_string": "AccountName=a"}, "names no account and key"),
        ("out/forecasts", "managed-identity", "needs none"),
    ],
)
def test_what_does_not_fit_together_is_told_without_a_secret(path, credential, says):
    sink = DeltaSink(path, credential)
    with pytest.raises(SinkError, match=says) as caught:
        publish(sink, *days(1))
    assert "hunter2" not in str(caught.value)


def test_a_block_arrives_as_json(params, connection_string):
    block = json.dumps({"connection_string": connection_string, "account_url": None})
    assert not publish(DeltaSink(params["path"], block), *days(1))[0].already
