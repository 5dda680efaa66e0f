import os
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path

import forecastcore_delta.latest
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake  # noqa: TID253 - the tests are about it
from forecastcore_delta import DeltaSink

from forecastcore.api import Sink
from forecastcore.errors import CommitConflict, SinkError
from forecastcore.testing import sample_vintage
from forecastcore.vintages import newest
from tests.support.samples import days, key, publish, rows

SINK = "forecastcore_delta:DeltaSink"
# table made but empty, file half written, file staged, vintage committed, forecast_latest not yet or just written
KILLS = [
    "os:fsync:before:1",
    "deltalake:DeltaTable.create_write_transaction:before:1",
    "deltalake:DeltaTable.create_write_transaction:after:1",
    "deltalake:DeltaTable.create_write_transaction:before:2",
    "deltalake:DeltaTable.create_write_transaction:after:2",
]


@pytest.fixture
def sink(tmp_path):
    return DeltaSink(tmp_path / "out" / "forecasts")


def latest(sink):
    table = DeltaTable(sink.path.parent / "forecast_latest").to_pyarrow_table()
    return table.sort_by([(name, "ascending") for name in ("project", "unique_id", "scenario", "ds")])


def test_the_sink_follows_the_protocol(sink):
    assert isinstance(sink, Sink)


def test_what_was_published_is_read_back_value_for_value(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two])))
    assert sink.read(datetime(2024, 1, 2, tzinfo=UTC)).equals(two)
    assert sink.read(datetime(2024, 1, 3, tzinfo=UTC)).num_rows == 0


def test_reading_before_anything_is_published_gives_an_empty_table_and_makes_none(sink):
    assert sink.read().num_rows == 0
    assert not sink.path.exists()


def test_the_second_publish_of_a_run_key_writes_nothing_and_says_so(sink):
    [vintage] = days(1)
    [first] = publish(sink, vintage)
    before = {path: path.stat().st_mtime_ns for path in sink.path.parent.rglob("*") if path.is_file()}
    [second] = publish(sink, vintage)
    assert {path: path.stat().st_mtime_ns for path in sink.path.parent.rglob("*") if path.is_file()} == before
    assert (first.already, second.already) == (False, True)
    assert second.rows == first.rows == vintage.num_rows


def test_the_log_remembers_the_run_key_when_its_old_entries_are_gone(sink):
    publish(sink, *days(1, 2))
    delta = DeltaTable(sink.path)
    delta.create_checkpoint()
    for entry in sorted((sink.path / "_delta_log").glob("*.json"))[:-1]:
        entry.unlink()
    assert [answer.already for answer in publish(sink, *days(1, 2, 3))] == [True, True, False]
    assert sink.read().num_rows == 3 * days(1)[0].num_rows
    assert latest(sink).equals(newest(days(1, 2, 3)))


def test_any_delta_reader_can_read_the_table(sink):
    publish(sink, *days(1))
    for folder in (sink.path, sink.path.parent / "forecast_latest"):
        protocol = DeltaTable(folder).protocol()
        assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_a_filter_on_any_column_finds_its_rows(sink):
    one, two = days(1, 2)
    position = two.column_names.index("forecast")
    odd = pa.array([float("inf"), None] + [1.5] * (two.num_rows - 2))
    two = two.set_column(position, "forecast", odd)
    publish(sink, one, two)
    data = DeltaTable(sink.path).to_pyarrow_dataset()
    for name in two.column_names:
        value = two[name][2]
        where = pc.field(name).is_null() if value.as_py() is None else pc.field(name) == value
        everything = sink.read()
        assert data.to_table(filter=where).num_rows == everything.filter(where).num_rows > 0, name
    assert data.to_table(filter=pc.field("forecast") > 100).num_rows == 1


def test_reading_one_origin_leaves_the_files_of_others_unread(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    for file in sink.path.glob(f"part-{key(one)}*.parquet"):
        file.write_bytes(b"spoilt")
    assert sink.read(datetime(2024, 1, 2, tzinfo=UTC)).equals(two)


def test_latest_holds_the_newest_vintage_per_series_scenario_and_instant(sink):
    vintages = [*days(1, 2), *days(2, scenario="hot"), *days(1, series=("c",), horizon=3)]
    publish(sink, *vintages)
    assert latest(sink).equals(newest(vintages))


def test_a_vintage_that_is_published_late_does_not_replace_a_newer_one(sink):
    one = sample_vintage(issued_at=datetime(2024, 1, 1, tzinfo=UTC))
    two = sample_vintage(issued_at=datetime(2024, 1, 1, 6, tzinfo=UTC))
    publish(sink, two, one)
    assert latest(sink).equals(newest([one, two]))


def test_a_withdrawn_vintage_is_gone_stays_gone_and_the_one_before_is_the_latest(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert [(ref.run_key, ref.rows) for ref in sink.vintages()] == [(key(one), 48), (key(two), 48)]
    assert sink.withdraw([key(two)], "a wrong unit") == 1
    assert sink.read().equals(one)
    assert latest(sink).equals(newest([one]))
    [again] = publish(sink, two)
    assert (again.already, again.rows) == (True, 0)
    assert sink.withdraw([key(two)]) == 0
    assert "a wrong unit" in str(DeltaTable(sink.path).history())


@pytest.mark.row(23, trials="rounds")
@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_of_two_who_take_one_vintage_back_at_once_one_wins_and_the_other_is_told_who(sink, monkeypatch, rounds):
    """Both have seen the vintage before either deletes it, so that Delta's log has to decide."""
    real, together = DeltaTable.delete, threading.Barrier(2)

    def delete(self, *args, **kwargs):
        together.wait(30)
        return real(self, *args, **kwargs)

    def withdraw(said, name, run_key):
        try:
            said.append(DeltaSink(sink.path).withdraw([run_key], name))
        except SinkError as error:
            said.append(error)

    vintages = [sample_vintage(issued_at=datetime(2024, 1, 1, n % 24, n // 24, tzinfo=UTC)) for n in range(rounds + 1)]
    publish(sink, vintages[0])
    for vintage in vintages[1:]:
        publish(sink, vintage)
        with monkeypatch.context() as patch:
            patch.setattr(DeltaTable, "delete", delete)
            said = []
            threads = [threading.Thread(target=withdraw, args=(said, name, key(vintage))) for name in ("one", "two")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        (won,) = [answer for answer in said if answer == 1]
        (lost,) = [answer for answer in said if answer is not won]
        assert isinstance(lost, CommitConflict)
        newest_first = [entry for entry in DeltaTable(sink.path).history() if "forecastcore.withdrawal" in entry]
        assert lost.winner_run == newest_first[0]["forecastcore.withdrawal"]
    assert len(newest_first) == rounds
    assert sink.read().equals(vintages[0])
    assert latest(sink).equals(newest(vintages[:1]))


def test_a_run_key_to_withdraw_is_checked_before_it_gets_into_a_filter(sink):
    publish(sink, *days(1))
    with pytest.raises(SinkError, match="not a run key"):
        sink.withdraw(["00' OR '1'='1"])


def test_columns_are_explained_in_the_table(sink):
    publish(sink, *days(1))
    fields = {field.name: field.metadata.get("comment") for field in DeltaTable(sink.path).schema().fields}
    assert fields["scenario"] == "base, or the name of a what-if"
    assert all(fields.values())


def test_latest_is_made_again_when_it_was_removed(sink):
    publish(sink, *days(1, 2))
    shutil.rmtree(sink.path.parent / "forecast_latest")
    assert publish(sink, *days(1))[0].already
    assert latest(sink).equals(newest(days(1, 2)))


def test_latest_is_made_again_when_the_table_was_made_anew(sink):
    publish(sink, *days(1, 2, 3))
    shutil.rmtree(sink.path)
    publish(sink, *days(5))
    assert latest(sink).equals(newest(days(5)))


def test_latest_follows_rows_that_were_deleted_and_files_that_were_compacted(sink):
    publish(sink, *days(1, 2))
    DeltaTable(sink.path).delete(f"run_key = '{key(days(2)[0])}'")
    publish(sink, *days(3))
    assert latest(sink).equals(newest(days(1, 3)))
    DeltaTable(sink.path).optimize.compact()
    publish(sink, *days(4))
    assert latest(sink).equals(newest(days(1, 3, 4)))


def test_old_files_of_latest_are_removed_now_and_then(sink, monkeypatch):
    monkeypatch.setattr(forecastcore_delta.latest, "_KEEP_HOURS", 0)
    publish(sink, *[sample_vintage(issued_at=datetime(2024, 1, 1, h, tzinfo=UTC), horizon=2) for h in range(20)])
    files = list((sink.path.parent / "forecast_latest").glob("*.parquet"))
    assert {file.name for file in files} == {Path(uri).name for uri in DeltaTable(files[0].parent).file_uris()}
    assert latest(sink).num_rows == 2 * 21


@pytest.mark.row(28)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.append_column("q97_5", t["q90"]), "it lacks q97_5"),
        (lambda t: t.drop_columns(["q10"]), "the vintage lacks q10"),
        (lambda t: t.append_column("extra", t["unique_id"]), "it lacks extra"),
        (
            lambda t: t.rename_columns(["q05" if n == "q10" else n for n in t.column_names]),
            "it lacks q05; the vintage lacks",
        ),
    ],
)
def test_a_vintage_with_other_columns_than_the_table_is_refused_with_the_difference(sink, change, says):
    publish(sink, *days(1))
    with pytest.raises(SinkError, match=says) as caught:
        publish(sink, change(days(2)[0]))
    assert "new path" in caught.value.hint
    assert sink.read().equals(days(1)[0])


@pytest.mark.row(28)
def test_a_column_of_another_type_in_the_table_is_named(sink):
    [vintage] = days(1)
    wide = vintage.set_column(5, "step", vintage["step"].cast(pa.int64()))
    write_deltalake(sink.path, wide)
    with pytest.raises(SinkError, match="step is int64 there, int32 in the vintage"):
        publish(sink, *days(2))


def test_a_table_that_not_every_reader_can_read_is_not_written_to(sink):
    naive = pa.table({"ds": pa.array([datetime(2024, 1, 1)], pa.timestamp("us"))})  # noqa: DTZ001 - needs version 3
    write_deltalake(sink.path, naive)
    with pytest.raises(SinkError, match="needs readers of version 3"):
        publish(sink, *days(1))


@pytest.mark.parametrize("run_key", ["", "../../etc/passwd", "a" * 65, "ABCDEF01", "abc", "0123456g"])
def test_a_run_key_that_could_lead_elsewhere_is_refused(sink, run_key):
    with pytest.raises(SinkError, match="run key"):
        sink.publish(days(1)[0], run_key)
    assert not sink.path.exists()


def test_vintages_are_listed_by_the_log_and_where_files_were_compacted_by_their_rows(sink):
    vintages = [*days(1, 2), *days(2, scenario="hot", series=("é" * 40,))]
    publish(sink, *vintages)
    expected = sink.vintages()
    assert [(ref.run_key, ref.rows, ref.scenario) for ref in expected[:1]] == [(key(vintages[0]), 48, "base")]
    assert {ref.run_key for ref in expected} == {key(vintage) for vintage in vintages}
    DeltaTable(sink.path).optimize.compact()
    assert sink.vintages() == expected
    assert rows(sink.read(datetime(2024, 1, 2, tzinfo=UTC))).equals(rows(pa.concat_tables(vintages[1:])))
    publish(sink, *days(3))
    assert sink.vintages()[:3] == expected
    assert latest(sink).equals(newest([*vintages, *days(3)]))


def test_a_table_is_opened_by_a_checkpoint_that_is_never_old(sink):
    publish(sink, *[sample_vintage(issued_at=datetime(2024, 1, 1, h, tzinfo=UTC), horizon=2) for h in range(12)])
    for folder in (sink.path, sink.path.parent / "forecast_latest"):
        assert list((folder / "_delta_log").glob("*.checkpoint.parquet")), folder


def test_two_tables_do_not_fight_over_one_latest(sink):
    other = DeltaSink(sink.path.parent / "prices")
    publish(sink, *days(1))
    with pytest.raises(SinkError, match=r"belongs to the table 'forecasts'.*prices.forecasts"):
        publish(other, *days(2))
    assert other.read().num_rows == 0


def test_a_failing_disk_leaves_nothing_visible_and_no_file_behind(sink, monkeypatch):
    publish(sink, *days(1))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SinkError, match=r"No space left.*nothing of this vintage is visible"):
            publish(sink, *days(2))
    assert sink.read().equals(days(1)[0])
    assert len(list(sink.path.glob("*.parquet"))) == 1


def test_an_answer_that_is_lost_after_the_commit_does_not_cost_the_vintage(sink, monkeypatch):
    real = DeltaTable.create_write_transaction

    def lost(self, *args, **kwargs):
        real(self, *args, **kwargs)
        raise OSError(104, "Connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", lost)
        with pytest.raises(SinkError, match="visible, but"):
            publish(sink, *days(1))
    assert publish(sink, *days(1))[0].already
    assert sink.read().equals(days(1)[0])
    assert latest(sink).equals(newest(days(1)))


def test_a_folder_that_cannot_be_a_table_is_a_sink_error(sink):
    sink.path.parent.mkdir(parents=True)
    sink.path.write_text("a file")
    with pytest.raises(SinkError, match=r"cannot publish.*cannot be opened"):
        publish(sink, *days(1))


def test_nothing_is_said_on_stdout(sink, capfd):
    publish(sink, *days(1, 2, 1))
    sink.read(datetime(2024, 1, 1, tzinfo=UTC))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.row(20)
@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_at_any_point_loses_and_doubles_nothing(kill, sink, publisher):
    one, two, three = (publisher.vintage(number) for number in (1, 2, 3))
    publish(sink, one)
    assert publisher.start(SINK, sink.path, [2], kill=kill).was_killed()
    there = sink.read().num_rows > one.num_rows
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, *[two] * there])))
    # the next run is another vintage; it makes good what the killed one left undone
    publish(sink, three)
    assert latest(sink).equals(newest([one, three, *[two] * there]))
    assert publish(sink, two)[0].already == there
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two, three])))
    assert latest(sink).equals(newest([one, two, three]))


@pytest.mark.row(20)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_while_the_tables_are_made_is_made_good(nth, sink, publisher):
    sink.path.parent.mkdir()
    assert publisher.start(SINK, sink.path, [1], kill=f"deltalake:DeltaTable.create:after:{nth}").was_killed()
    publish(sink, publisher.vintage(1))
    assert sink.read().equals(publisher.vintage(1))
    assert latest(sink).equals(newest([publisher.vintage(1)]))


@pytest.mark.row(11, 12, trials=10)
def test_of_two_processes_with_one_run_key_one_publishes(tmp_path, publisher):
    gate, path, numbers = tmp_path / "gate", tmp_path / "forecasts", list(range(10))
    children = [publisher.start(SINK, path, numbers, gate=gate) for _ in range(2)]
    gate.touch()
    answers = [child.answers() for child in children]
    assert [sorted(answer["already"] for answer in pair) for pair in zip(*answers, strict=True)] == [[False, True]] * 10
    assert {answer["rows"] for child in answers for answer in child} == {48}
    assert rows(DeltaSink(path).read()).equals(rows(pa.concat_tables([publisher.vintage(n) for n in numbers])))


@pytest.mark.row(21, trials=40)
def test_readers_see_only_whole_vintages_while_four_processes_publish(tmp_path, publisher):
    gate, sink = tmp_path / "gate", DeltaSink(tmp_path / "forecasts")
    parts = [list(range(first, first + 10)) for first in (0, 10, 20, 30)]
    children = [publisher.start(SINK, sink.path, part, gate=gate) for part in parts]
    torn, reads, stop = [], [], threading.Event()

    def watch():
        while not stop.wait(0.005):
            keys = pd.Series(sink.read()["run_key"].to_pylist()).value_counts()
            torn.extend(keys[keys != 48])
            reads.append(len(keys))

    reader = threading.Thread(target=watch)
    reader.start()
    gate.touch()
    for child in children:
        assert not any(answer["already"] for answer in child.answers())
    stop.set()
    reader.join()
    everything = [publisher.vintage(number) for part in parts for number in part]
    assert torn == []
    assert len(reads) > 3
    assert rows(sink.read()).equals(rows(pa.concat_tables(everything)))
    assert latest(sink).equals(newest(everything))
