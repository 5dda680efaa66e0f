import json
import threading
import time
from collections import Counter
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.core.pipeline.transport import RequestsTransport  # noqa: TID253 - the tests are of it
from azure.storage.blob import ContainerClient  # noqa: TID253 - the tests are of it
from forecastcore_azure import AzureBlobSink
from forecastcore_azure.account import credential_of, open_container
from forecastcore_azure.blobs import Blobs

from forecastcore.api import Sink
from forecastcore.errors import SinkError
from forecastcore.testing import sample_vintage
from forecastcore.vintages import newest
from tests.support.samples import days, key, publish, rows

SINK = "forecastcore_azure:AzureBlobSink"
CLIENT = "azure.storage.blob:ContainerClient.upload_blob"
# rows, mark, manifest, latest, pointer: before and after each PUT; the mark taken away
KILLS = [f"{CLIENT}:{when}:{nth}" for nth in (1, 2, 3, 4, 5) for when in ("before", "after")]
KILLS += [f"azure.storage.blob:ContainerClient.delete_blob:{when}:1" for when in ("before", "after")]


@pytest.fixture
def params(container, connection_string):
    return {
        "container": container.container_name,
        "credential": {"connection_string": connection_string},
        "path": "out/forecasts",
    }


@pytest.fixture
def sink(params):
    return AzureBlobSink(**params)


def latest(container):
    """What stands in `forecast_latest`, read as anybody would: the pointer, then the blob that it names."""
    pointer = json.loads(container.download_blob("out/forecasts/forecast_latest.json").readall())
    data = container.download_blob(f"out/forecasts/{pointer['blob']}").readall()
    assert len(data) == pointer["size"]
    return pq.read_table(pa.BufferReader(data))


def names(container, below=""):
    return sorted(container.list_blob_names(name_starts_with=f"out/forecasts/{below}"))


def test_a_sink_follows_the_protocol(sink):
    assert isinstance(sink, Sink)


def test_what_was_published_is_read_back_value_for_value(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two])))
    assert sink.read(datetime(2024, 1, 2, tzinfo=UTC)).equals(two)
    assert sink.read(datetime(2024, 1, 3, tzinfo=UTC)).num_rows == 0


def test_before_anything_is_published_the_table_is_empty(sink):
    assert sink.read().num_rows == 0
    assert sink.vintages() == []


def test_the_second_publish_of_a_run_key_writes_nothing_and_says_so(sink, container):
    [vintage] = days(1)
    [first] = publish(sink, vintage)
    before = {blob.name: blob.etag for blob in container.list_blobs()}
    [second] = publish(sink, vintage)
    assert {blob.name: blob.etag for blob in container.list_blobs()} == before
    assert (first.already, second.already) == (False, True)
    assert first.rows == second.rows == 48


def test_latest_holds_the_newest_vintage_per_series_scenario_and_instant(sink, container):
    vintages = [*days(2, 1), *days(2, scenario="hot"), *days(1, series=("c",), horizon=3), *days(2, seed=1)]
    publish(sink, *vintages)
    assert latest(container).equals(newest(vintages))


def test_latest_is_mended_by_a_publish_that_writes_nothing_itself(sink, container):
    vintages = days(1, 2)
    publish(sink, *vintages)
    container.delete_blob("out/forecasts/forecast_latest.json")
    assert publish(sink, vintages[0])[0].already
    assert latest(container).equals(newest(vintages))


def test_vintages_are_listed_without_their_rows_and_any_scenario_name_survives(sink, container):
    [vintage] = days(1, scenario="../日本 %2e")
    publish(sink, vintage)
    [ref] = sink.vintages()
    assert (ref.scenario, ref.run_key, ref.rows) == ("../日本 %2e", key(vintage), 48)
    assert all(name.startswith("out/forecasts/") for name in container.list_blob_names())


def test_columns_are_explained_beside_the_table(sink, container):
    publish(sink, *days(1))
    told = json.loads(container.download_blob("out/forecasts/columns.json").readall())
    assert [entry["name"] for entry in told] == days(1)[0].column_names
    assert all(entry["meaning"] for entry in told)


def test_the_page_of_the_newest_run_is_beside_the_table(sink, container):
    assert sink.show(b"<p>one</p>") == sink.show(b"<p>two</p>") == f"{sink.container}/{sink.path}/report.html"
    page = container.download_blob(f"{sink.path}/report.html")
    assert page.readall() == b"<p>two</p>"
    assert page.properties.content_settings.content_type == "text/html; charset=utf-8"


def test_a_withdrawn_vintage_is_gone_stays_gone_and_the_one_before_is_the_latest(sink, container):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert sink.withdraw([key(two)], "a wrong unit") == 1
    assert sink.read().equals(one)
    assert latest(container).equals(newest([one]))
    [again] = publish(sink, two)
    assert (again.already, again.rows) == (True, 0)
    assert sink.read().equals(one)
    assert sink.withdraw([key(two)]) == 0


@pytest.mark.row(20)
@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_at_any_point_loses_and_doubles_nothing(kill, sink, params, container, publisher, tmp_path, monkeypatch):
    monkeypatch.setattr("forecastcore_azure.latest._PATIENCE", 0.1)  # with whose turn it was when it was killed
    one, two, three = (publisher.vintage(number) for number in (1, 2, 3))
    publish(sink, one)
    assert publisher.start(SINK, tmp_path / "x", [2], kill=kill, params=params).was_killed()
    there = sink.read().num_rows > one.num_rows
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, *[two] * there])))
    publish(sink, three)
    assert latest(container).equals(newest([one, three, *[two] * there]))
    assert publish(sink, two)[0].already == there
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two, three])))
    assert latest(container).equals(newest([one, two, three]))


@pytest.mark.row(11, 12, trials=6)
def test_of_two_processes_with_one_run_key_one_publishes(sink, params, publisher, tmp_path):
    gate, numbers = tmp_path / "gate", list(range(6))
    children = [publisher.start(SINK, tmp_path / "x", numbers, gate=gate, params=params) for _ in range(2)]
    gate.touch()
    answers = [child.answers() for child in children]
    assert [sorted(a["already"] for a in pair) for pair in zip(*answers, strict=True)] == [[False, True]] * 6
    assert rows(sink.read()).equals(rows(pa.concat_tables([publisher.vintage(n) for n in numbers])))


def commits(sink, params, container, publisher, tmp_path, *, writers, each):
    """Many writers at a time, a reader looking on; seconds of each commit."""
    gate, torn, reads, stop = tmp_path / "gate", [], [], threading.Event()
    parts = [list(range(writer * each, (writer + 1) * each)) for writer in range(writers)]
    children = [publisher.start(SINK, tmp_path / "x", part, gate=gate, params=params) for part in parts]

    def watch():
        while not stop.wait(0.05):
            counts = Counter(sink.read()["run_key"].to_pylist())
            torn.extend(count for count in counts.values() if count != 48)
            reads.append(len(counts))

    reader = threading.Thread(target=watch)
    reader.start()
    gate.touch()
    answers = [answer for child in children for answer in child.answers()]
    stop.set()
    reader.join()
    assert not any(answer["already"] for answer in answers)
    assert torn == []
    assert reads
    everything = [publisher.vintage(number) for part in parts for number in part]
    assert sorted(ref.run_key for ref in sink.vintages()) == sorted(map(key, everything))
    assert latest(container).equals(newest(everything))
    return sorted(answer["seconds"] for answer in answers)


def test_a_writer_whose_turn_does_not_come_goes_on_without(sink, container, monkeypatch):
    """Somebody was killed in the middle: the lease is theirs for a while, and nothing moves."""
    monkeypatch.setattr("forecastcore_azure.latest._PATIENCE", 0.5)
    publish(sink, *days(1))
    with Blobs(container, "out/forecasts").turn("forecast_latest.turn", 15) as mine:
        assert mine
        began = time.monotonic()
        publish(sink, *days(2))
        assert time.monotonic() - began > 0.5
    assert latest(container).equals(newest(days(1, 2)))


def test_a_publish_looks_at_what_is_pending_and_not_at_all_vintages(sink, container, monkeypatch):
    publish(sink, *days(1, 2))
    listed, real = [], ContainerClient.list_blobs

    def counted(self, *args, **options):
        listed.append(options.get("name_starts_with", args and args[0]))
        return real(self, *args, **options)

    monkeypatch.setattr("forecastcore_azure.latest._SWEEP_EVERY", 10**9)
    monkeypatch.setattr(ContainerClient, "list_blobs", counted)
    publish(sink, *days(3))
    assert listed == []
    assert names(container, "pending/") == []
    assert latest(container).equals(newest(days(1, 2, 3)))


def test_a_store_of_an_older_forecastcore_which_marked_nothing_is_taken_over(sink, container):
    publish(sink, *days(1, 2))
    place = "out/forecasts/forecast_latest.json"
    said = json.loads(container.download_blob(place).readall())
    one = key(days(1)[0])
    table = pa.BufferOutputStream()
    pq.write_table(newest(days(1)), table)
    container.upload_blob(f"out/forecasts/{said['blob']}", table.getvalue().to_pybytes(), overwrite=True)
    older = {**said, "schema": "forecastcore/latest/1", "vintages": [one]}  # killed before it showed the second
    container.upload_blob(place, json.dumps(older), overwrite=True)
    publish(sink, *days(3))
    assert latest(container).equals(newest(days(1, 2, 3)))


def test_a_withdrawal_that_was_killed_half_way_is_made_good_by_the_next_publish(sink, container, monkeypatch):
    publish(sink, *days(1, 2))

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("forecastcore_azure.sink.refresh", killed)
        with pytest.raises(KeyboardInterrupt):
            sink.withdraw([key(days(2)[0])])
    assert latest(container).equals(newest(days(1, 2))), "the pointer still shows it"
    publish(sink, *days(3))
    assert latest(container).equals(newest(days(1, 3)))
    assert names(container, "pending/") == []


@pytest.mark.row(22)
def test_no_commit_of_many_writers_is_lost(sink, params, container, publisher, tmp_path):
    commits(sink, params, container, publisher, tmp_path, writers=4, each=5)


@pytest.mark.row(22, trials=2000)
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_writers_lose_none_of_two_thousand_commits(sink, params, container, publisher, tmp_path):
    taken = commits(sink, params, container, publisher, tmp_path, writers=10, each=200)
    assert len(taken) == 2000
    assert taken[int(0.99 * len(taken))] < 10


def break_once(monkeypatch, upload):
    """Let the first upload to `upload.where` go as `upload(real, self, name, data, **options)` does."""
    real, left = ContainerClient.upload_blob, [1]

    def broken(self, name, data, **options):
        if left and upload.where in name:
            left.clear()
            return upload(real, self, name, data, **options)
        return real(self, name, data, **options)

    monkeypatch.setattr(ContainerClient, "upload_blob", broken)


def at(where):
    def mark(function):
        function.where = where
        return function

    return mark


@pytest.mark.row(26)
def test_an_upload_that_was_cut_is_not_published(sink, container, monkeypatch):
    publish(sink, *days(1))

    @at("/parts/")
    def cut(real, self, name, data, **options):
        return real(self, name, data[: len(data) // 2], **options)

    break_once(monkeypatch, cut)
    with pytest.raises(SinkError, match=r"not the \d+ written"):
        publish(sink, *days(2))
    assert sink.read().equals(days(1)[0])
    assert latest(container).equals(newest(days(1)))
    assert len(names(container, "parts/")) == 1
    assert not publish(sink, *days(2))[0].already


PLACES = ["/parts/", "/pending/", "/vintages/", "/latest/", "forecast_latest.json"]


def lost(patch, where, twin, hit):
    """The store does what it is asked, and the answer never comes."""
    from azure.core.exceptions import ServiceResponseError

    real = RequestsTransport.send

    def send(self, request, **options):
        answer = real(self, request, **options)
        if request.method == "PUT" and where in request.url and not hit:
            hit.append(request.url)
            raise ServiceResponseError("the connection was closed")
        return answer

    patch.setattr(RequestsTransport, "send", send)


def cut(patch, where, twin, hit):
    """Half of what is sent arrives."""
    real = ContainerClient.upload_blob

    def upload(self, name, data, **options):
        here = where in name and not hit
        hit.extend([name] * here)
        return real(self, name, data[: len(data) // 2] if here else data, **options)

    patch.setattr(ContainerClient, "upload_blob", upload)


def overtaken(patch, where, twin, hit):
    """Another writer of the same vintage is done first."""
    real = ContainerClient.upload_blob

    def upload(self, name, data, **options):
        if where in name and not hit:
            hit.append(name)
            twin()
        return real(self, name, data, **options)

    patch.setattr(ContainerClient, "upload_blob", upload)


#: whatever may be cut is read back before anything names it; a manifest and the pointer are one small PUT, whole or not
FAULTS = [
    *((lost, place) for place in PLACES),
    *((cut, place) for place in ("/parts/", "/latest/")),
    *((overtaken, place) for place in PLACES),
]


@pytest.mark.row(26, trials="trials")
@pytest.mark.parametrize("trials", [len(FAULTS), pytest.param(200, marks=pytest.mark.slow)])
def test_no_fault_on_the_way_tears_a_vintage_or_points_to_what_is_not_whole(sink, container, monkeypatch, trials):
    """Lost answers, truncated uploads and twins, each at each kind of blob in turn."""
    other, start, done = AzureBlobSink(sink.container, sink.credential, sink.path), datetime(2024, 1, 1, tzinfo=UTC), []
    monkeypatch.setattr("forecastcore_azure.latest._PATIENCE", 0.2)  # with a twin whose turn it is while it waits
    for trial in range(trials):
        fault, where = FAULTS[trial % len(FAULTS)]
        vintage = sample_vintage(issued_at=start + timedelta(hours=6 * trial), series=("a",), horizon=12)
        hit = []
        with monkeypatch.context() as patch, suppress(SinkError) if fault is cut else nullcontext():
            fault(patch, where, partial(publish, other, vintage), hit)
            [told] = publish(sink, vintage)
            assert (told.already, told.rows) == (fault is overtaken and where in PLACES[:3], 12), (fault, where)
        assert hit, (fault, where)
        there = Counter(sink.read()["run_key"].to_pylist())
        assert set(there.values()) <= {12}, (fault, where)
        if done:
            shown = latest(container)
            pointed = set(shown["run_key"].to_pylist())
            assert pointed <= set(there)
            assert shown.equals(newest([v for v in [*done, vintage] if key(v) in pointed])), (fault, where)
        publish(sink, vintage)
        done.append(vintage)
        assert latest(container).equals(newest(done)), (fault, where)
    assert rows(sink.read()).equals(rows(pa.concat_tables(done)))


@pytest.mark.row(11)
def test_a_twin_that_comes_late_finds_the_vintage_and_leaves_no_rows(sink, container, monkeypatch):
    [vintage] = days(1)
    other = AzureBlobSink(sink.container, sink.credential, sink.path)

    @at("/vintages/")
    def overtaken(real, self, name, data, **options):
        publish(other, vintage)
        return real(self, name, data, **options)

    break_once(monkeypatch, overtaken)
    assert publish(sink, vintage)[0].already
    assert sink.read().equals(vintage)
    assert len(names(container, "parts/")) == 1


def test_a_part_that_was_taken_away_is_said_not_hidden(sink, container):
    publish(sink, *days(1))
    [part] = names(container, "parts/")
    container.delete_blob(part)
    with pytest.raises(SinkError, match="gone or cut"):
        sink.read()


def test_a_container_that_is_not_there_is_a_sink_error_without_the_key(sink, params, connection_string):
    lost = AzureBlobSink(**{**params, "container": "nowhere"})
    with pytest.raises(SinkError, match=r"nowhere.*nothing of this vintage is visible|does not exist") as caught:
        publish(lost, *days(1))
    secret = connection_string.split("AccountKey=")[1].split(";")[0]
    assert secret not in str(caught.value) + repr(caught.value.__cause__) + repr(lost)


# -- credentials


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("default", "none of the known kinds"),
        ("", "none of the known kinds"),
        ('{"connection_string"', "none of the known kinds"),
        ({}, "has the keys"),
        ({"tenant_id": "t", "client_id": "c"}, "has the keys client_id, tenant_id"),
        ({"connection_string": "x", "managed_identity": "y"}, "has the keys"),
        ({"password": "s3cret"}, "has the keys password"),
    ],
)
def test_a_credential_of_no_known_kind_is_refused_without_its_value(given, says):
    with pytest.raises(ValueError, match=says) as caught:
        AzureBlobSink("container", given)
    assert "s3cret" not in str(caught.value)


@pytest.mark.row(56)
def test_only_the_named_identity_is_ever_asked(monkeypatch):
    import azure.identity
    from azure.core.credentials import AccessToken

    made = []

    class Named:
        def __init__(self, name, *args, **more):
            made.append((name, args, more))

        def get_token(self, *scopes, **options):
            return AccessToken("named-token", 2**31)

    for name in dir(azure.identity):
        if name.endswith("Credential"):
            monkeypatch.setattr(azure.identity, name, partial(Named, name))
    monkeypatch.setenv("AZURE_CLIENT_ID", "decoy")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "decoy")
    url = "https://account.blob.core.windows.net"
    principal = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
    for given in ("managed-identity", {"managed_identity": "mine"}, principal):
        open_container(credential_of(given)[0], url, "container").close()
    assert made == [
        ("ManagedIdentityCredential", (), {"client_id": None}),
        ("ManagedIdentityCredential", (), {"client_id": "mine"}),
        ("ClientSecretCredential", ("t", "c", "s"), {}),
    ]


def test_a_managed_identity_that_fails_is_an_error_and_nobody_else_is_asked(monkeypatch):
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import ManagedIdentityCredential

    def refuse(*scopes, **options):
        raise ClientAuthenticationError("the identity endpoint does not answer")

    monkeypatch.setattr("forecastcore_azure.account._RETRIES", 0)
    monkeypatch.setattr(ManagedIdentityCredential, "get_token", refuse)
    monkeypatch.setattr(ManagedIdentityCredential, "get_token_info", refuse)
    sink = AzureBlobSink("container", "managed-identity", account_url="https://account.blob.core.windows.net")
    with pytest.raises(SinkError, match="ClientAuthenticationError"):
        publish(sink, *days(1))


@pytest.mark.parametrize("url", [None, "http://account.blob.core.windows.net", "account.blob.core.windows.net"])
def test_an_identity_needs_the_accounts_url_over_https(url):
    with pytest.raises(SinkError, match="account_url"):
        publish(AzureBlobSink("container", "managed-identity", account_url=url), *days(1))


@pytest.mark.row(51)
@pytest.mark.parametrize(
    "path", ["..", "a/../b", "a//b", "", "/", "a\\b", "a\0b", "a/./b", "a?b", "a#b", "%2e%2e/a", "a\nb"]
)
def test_no_path_leads_elsewhere(path):
    with pytest.raises(ValueError, match="path"):
        AzureBlobSink("container", "managed-identity", path)


@pytest.mark.parametrize("container", ["", "a", "A" * 5, "../up", "a--b", "-ab", "ab-", "a/b", "x" * 64])
def test_no_container_leads_elsewhere(container):
    with pytest.raises(ValueError, match="container"):
        AzureBlobSink(container, "managed-identity")


def test_older_states_of_latest_are_swept_after_a_day(sink, container, monkeypatch):
    import forecastcore_azure.latest as module

    monkeypatch.setattr(module, "_SWEEP_EVERY", 0)
    monkeypatch.setattr(module, "_GRACE", timedelta(seconds=-5))
    publish(sink, *days(1, 2, 3))
    assert len(names(container, "latest/")) == 1
    assert latest(container).equals(newest(days(1, 2, 3)))
