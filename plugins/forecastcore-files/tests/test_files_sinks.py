import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forecastcore_files import CsvSink, ParquetSink

from forecastcore.api import Sink
from forecastcore.errors import SinkError
from forecastcore.testing import sample_vintage
from forecastcore.vintages import newest
from tests.support.samples import days, key, publish, rows

SINKS = [ParquetSink, CsvSink]
# before the file is complete, before and after it appears, before and after forecast_latest, after its memory
KILLS = ["fsync:before:1", "link:before:1", "link:after:1", "replace:before:1", "replace:after:1", "replace:after:2"]


@pytest.fixture(params=SINKS, ids=lambda sink: sink.__name__)
def sink(request, tmp_path):
    return request.param(tmp_path / "out" / "forecasts")


def latest(sink):
    """What stands in `forecast_latest`, read as the sink reads its files."""
    suffix = ".parquet" if isinstance(sink, ParquetSink) else ".csv"
    source = sink.path.parent / f"forecast_latest{suffix}"
    copy = sink.path.parent / "copy" / ("20240101T000000Z_copy_00000000" + suffix)
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(source.read_bytes())
    table = type(sink)(copy.parent).read()
    copy.unlink()
    return table


def test_a_sink_follows_the_protocol(sink):
    assert isinstance(sink, Sink)


def test_what_was_published_is_read_back_value_for_value(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two])))
    assert sink.read(datetime(2024, 1, 2, tzinfo=UTC)).equals(two)
    assert sink.read(datetime(2024, 1, 3, tzinfo=UTC)).num_rows == 0


def test_reading_before_anything_is_published_gives_an_empty_table(sink):
    table = sink.read()
    assert table.num_rows == 0
    assert {"unique_id", "issued_at", "forecast"} <= set(table.column_names)


def test_the_second_publish_of_a_run_key_writes_nothing_and_says_so(sink):
    [vintage] = days(1)
    [first] = publish(sink, vintage)
    before = {path: path.stat().st_mtime_ns for path in sink.path.parent.rglob("*") if path.is_file()}
    [second] = publish(sink, vintage)
    after = {path: path.stat().st_mtime_ns for path in sink.path.parent.rglob("*") if path.is_file()}
    assert (first.already, second.already) == (False, True)
    assert second.rows == first.rows == vintage.num_rows
    assert second.location == first.location
    del before[next(p for p in before if p.suffix == ".lock")], after[next(p for p in after if p.suffix == ".lock")]
    assert after == before


def test_latest_holds_the_newest_vintage_per_series_scenario_and_instant(sink):
    vintages = [*days(1, 2), *days(2, scenario="hot"), *days(1, series=("c",), horizon=3)]
    publish(sink, *vintages)
    assert latest(sink).equals(newest(vintages))


def test_a_vintage_that_is_published_late_does_not_replace_a_newer_one(sink):
    one = sample_vintage(issued_at=datetime(2024, 1, 1, tzinfo=UTC))
    two = sample_vintage(issued_at=datetime(2024, 1, 1, 6, tzinfo=UTC))
    publish(sink, two, one)
    seen = latest(sink)
    assert seen.equals(newest([one, two]))
    at_noon = seen.filter(
        pa.compute.equal(seen["ds"], pa.scalar(datetime(2024, 1, 1, 12, tzinfo=UTC), seen["ds"].type))
    )
    assert set(at_noon["run_key"].to_pylist()) == {key(two)}


@pytest.mark.row(12)
def test_of_two_runs_of_one_origin_the_one_made_later_counts(sink):
    first, second = days(1)[0], days(1, seed=1)[0]
    publish(sink, second, first)
    assert set(latest(sink)["run_key"].to_pylist()) == {key(second)}
    assert sink.read().num_rows == first.num_rows + second.num_rows


def test_a_withdrawn_vintage_is_gone_stays_gone_and_the_one_before_is_the_latest(sink):
    one, two = days(1, 2)
    publish(sink, one, two)
    assert [(ref.run_key, ref.rows) for ref in sink.vintages()] == [(key(one), 48), (key(two), 48)]
    assert sink.withdraw([key(two)]) == 1
    assert sink.read().equals(one)
    assert latest(sink).equals(newest([one]))
    [again] = publish(sink, two)
    assert (again.already, again.rows) == (True, 0)
    assert [ref.run_key for ref in sink.vintages()] == [key(one)]
    assert sink.withdraw([key(two)]) == 0


def test_when_the_last_vintage_is_withdrawn_latest_is_empty_and_keeps_its_columns(sink):
    [one] = days(1)
    publish(sink, one)
    assert sink.withdraw([key(one)]) == 1
    assert sink.vintages() == []
    assert (latest(sink).num_rows, latest(sink).column_names) == (0, one.column_names)


def test_columns_are_explained_beside_the_table(sink):
    publish(sink, *days(1))
    told = json.loads((sink.path.parent / "forecasts.columns.json").read_text())
    assert [entry["name"] for entry in told] == days(1)[0].column_names
    assert all(entry["meaning"] for entry in told)


@pytest.mark.parametrize("harm", ["removed", "changed", "forgotten"])
def test_latest_is_mended_by_a_publish_that_writes_nothing_itself(sink, harm):
    vintages = days(1, 2)
    publish(sink, *vintages)
    file = next(sink.path.parent.glob("forecast_latest*"))
    if harm == "removed":
        file.unlink()
    elif harm == "changed":
        file.write_bytes(b"opened and saved by a person")
    else:
        next(sink.path.parent.glob(".forecast_latest*.json")).write_text("{")
    assert publish(sink, vintages[0])[0].already
    assert latest(sink).equals(newest(vintages))


def test_latest_forgets_a_vintage_whose_file_was_taken_away(sink):
    one, two, three = days(1, 2, 3)
    first, *_ = publish(sink, one, two)
    Path(first.location).unlink()
    publish(sink, three)
    assert latest(sink).equals(newest([two, three]))


def test_quantiles_may_change_from_vintage_to_vintage(sink):
    one, two = days(1, 2)
    two = two.append_column("q97_5", two["q90"])
    publish(sink, one, two)
    assert sink.read()["q97_5"].null_count == one.num_rows
    assert latest(sink)["q97_5"].null_count == newest([one, two])["q97_5"].null_count


def test_missing_forecasts_stay_missing(sink):
    [vintage] = days(1)
    position = vintage.column_names.index("forecast")
    nan = pa.array([float("nan")] + [1.0] * (vintage.num_rows - 1))
    publish(sink, vintage.set_column(position, "forecast", nan))
    assert sink.read()["forecast"].null_count == 1


@pytest.mark.parametrize(
    "run_key", ["", "../../etc/passwd", "a" * 65, "ABCDEF01", "abc", "0123456g", "01234567\n", "01234567/.."]
)
def test_a_run_key_that_could_lead_elsewhere_is_refused(sink, run_key):
    with pytest.raises(SinkError, match="run key"):
        sink.publish(days(1)[0], run_key)
    assert not sink.path.exists()


@pytest.mark.row(51)
@pytest.mark.parametrize("scenario", ["../up", "/abs", "..\\up", "C:nul", "a\0b", "日本", "%252e%252e", "x" * 500, "."])
def test_no_scenario_name_leads_out_of_the_folder(sink, scenario):
    [vintage] = days(1, scenario=scenario)
    publish(sink, vintage)
    assert sink.read().equals(vintage)
    outside = {path.name for path in sink.path.parent.iterdir()} - {"forecasts", "forecasts.columns.json"}
    assert all("forecast_latest" in name for name in outside)
    assert [path.parent for path in sink.path.rglob("*") if path.is_file()] == [sink.path]


def test_a_staging_folder_that_leads_elsewhere_is_refused(sink, tmp_path):
    sink.path.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (sink.path / ".staging").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="leads elsewhere"):
        publish(sink, *days(1))


def test_two_folders_do_not_fight_over_one_latest(sink):
    other = type(sink)(sink.path.parent / "prices")
    publish(sink, *days(1))
    with pytest.raises(SinkError, match=r"belongs to the folder 'forecasts'.*prices.forecasts"):
        publish(other, *days(2))
    assert other.read().num_rows == 0
    assert latest(sink).equals(newest(days(1)))


def test_files_that_are_not_vintages_are_let_be(sink):
    publish(sink, *days(1))
    suffix = ".parquet" if isinstance(sink, ParquetSink) else ".csv"
    for name in (f"notes{suffix}", f"20240101_{suffix}"):
        (sink.path / name).write_text("hello")
    assert sink.read().equals(days(1)[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop_columns(["q10", "status"]), "no column status"),
        (
            lambda t: t.rename_columns(["Forecast" if n == "forecast" else n for n in t.column_names]),
            "no column forecast",
        ),
        (lambda t: t.set_column(5, "step", t["step"].cast(pa.int64())), "step is int64, not int32"),
        (lambda t: t.set_column(6, "forecast", t["forecast"].cast(pa.string())), "forecast is string, not double"),
        (lambda t: t.set_column(4, "ds", t["ds"].cast(pa.timestamp("us"))), "ds is timestamp"),
        (lambda t: t.set_column(7, "q10", t["q10"].cast(pa.float32())), "q10 is float, not double"),
        (lambda t: t.append_column("step", t["step"]), "two columns step"),
        (lambda t: t.slice(0, 0), "no rows"),
        (lambda t: t.set_column(1, "unique_id", pa.nulls(len(t), pa.string())), "without unique_id"),
        (lambda t: t.set_column(2, "scenario", pa.array(["base", "hot"] * (len(t) // 2))), "its scenario is base, hot"),
    ],
)
def test_a_table_that_is_no_vintage_is_refused_before_anything_is_written(sink, change, says):
    [vintage] = days(1)
    with pytest.raises(SinkError, match=says):
        sink.publish(change(vintage), key(vintage))
    assert not sink.path.exists()


def test_a_failing_disk_leaves_nothing_visible_and_says_so(sink, monkeypatch):
    publish(sink, *days(1))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SinkError, match=r"No space left.*nothing of this vintage is visible"):
            publish(sink, *days(2))
    assert sink.read().equals(days(1)[0])
    assert not list((sink.path / ".staging").iterdir())


def test_a_disk_that_fails_after_the_vintage_appeared_is_told_apart_and_mended(sink, monkeypatch):
    def broken(*args):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", broken)
        with pytest.raises(SinkError, match="visible, but"):
            publish(sink, *days(1))
    assert publish(sink, *days(1))[0].already
    assert latest(sink).equals(newest(days(1)))


def test_what_the_disk_changed_on_the_way_is_not_published(sink, monkeypatch):
    real = os.fsync

    def flip(handle):
        os.pwrite(handle, b"?", 10)
        real(handle)

    monkeypatch.setattr(os, "fsync", flip)
    with pytest.raises(SinkError, match="is not what was written"):
        publish(sink, *days(1))
    assert sink.read().num_rows == 0


def test_a_file_system_without_links_will_do(sink, monkeypatch):
    def unsupported(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    assert [answer.already for answer in publish(sink, *days(1, 2, 1))] == [False, False, True]
    assert sink.read().num_rows == 2 * days(1)[0].num_rows


def test_leftovers_of_killed_runs_are_swept_after_a_day(sink):
    publish(sink, *days(1))
    old, young = sink.path / ".staging" / "old", sink.path / ".staging" / "young"
    old.write_text("x")
    young.write_text("x")
    past = time.time() - timedelta(days=2).total_seconds()
    os.utime(old, (past, past))
    publish(sink, *days(2))
    assert not old.exists()
    assert young.exists()


@pytest.mark.row(20)
@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("cls", SINKS, ids=lambda sink: sink.__name__)
def test_a_kill_at_any_point_loses_and_doubles_nothing(cls, kill, tmp_path, publisher):
    sink = cls(tmp_path / "forecasts")
    one, two, three = (publisher.vintage(number) for number in (1, 2, 3))
    publish(sink, one)
    child = publisher.start(f"forecastcore_files:{cls.__name__}", sink.path, [2], kill=f"os:{kill}")
    assert child.was_killed()
    seen = sink.read()
    assert seen.num_rows in {one.num_rows, one.num_rows + two.num_rows}
    there = seen.num_rows > one.num_rows
    # the next run is another vintage; it makes good what the killed one left undone
    publish(sink, three)
    assert latest(sink).equals(newest([one, three, *[two] * there]))
    assert publish(sink, two)[0].already == there
    assert rows(sink.read()).equals(rows(pa.concat_tables([one, two, three])))
    assert latest(sink).equals(newest([one, two, three]))


@pytest.mark.row(11, 12, trials=10)
@pytest.mark.parametrize("cls", SINKS, ids=lambda sink: sink.__name__)
def test_of_two_processes_with_one_run_key_one_publishes(cls, tmp_path, publisher):
    gate, path = tmp_path / "gate", tmp_path / "forecasts"
    numbers = list(range(10))
    children = [publisher.start(f"forecastcore_files:{cls.__name__}", path, numbers, gate=gate) for _ in range(2)]
    gate.touch()
    answers = [child.answers() for child in children]
    assert [sorted(answer["already"] for answer in pair) for pair in zip(*answers, strict=True)] == [[False, True]] * 10
    assert rows(cls(path).read()).equals(rows(pa.concat_tables([publisher.vintage(number) for number in numbers])))


@pytest.mark.row(21, trials=40)
@pytest.mark.parametrize("cls", SINKS, ids=lambda sink: sink.__name__)
def test_readers_see_only_whole_vintages_while_four_processes_publish(cls, tmp_path, publisher):
    gate, sink = tmp_path / "gate", cls(tmp_path / "forecasts")
    parts = [list(range(first, first + 10)) for first in (0, 10, 20, 30)]
    children = [publisher.start(f"forecastcore_files:{cls.__name__}", sink.path, part, gate=gate) for part in parts]
    torn, reads, stop = [], [], threading.Event()

    def watch():
        while not stop.is_set():
            keys = pd.Series(sink.read()["run_key"].to_pylist()).value_counts()
            torn.extend(keys[keys != 48])
            reads.append(len(keys))
            time.sleep(0.005)

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


def test_any_parquet_reader_can_read_the_folder(tmp_path):
    sink = ParquetSink(tmp_path / "forecasts")
    one, two = days(1, 2)
    publish(sink, one, two)
    assert len(pd.read_parquet(sink.path)) == 2 * one.num_rows
    assert pq.read_table(tmp_path / "forecast_latest.parquet").num_rows == newest([one, two]).num_rows


def test_the_memory_of_latest_names_each_vintage_once(sink):
    publish(sink, *days(1, 2, 1))
    state = json.loads(next(sink.path.parent.glob(".forecast_latest*.json")).read_text())
    assert len(state["vintages"]) == len(set(state["vintages"])) == 2
