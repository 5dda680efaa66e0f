import random
from datetime import UTC, datetime, timedelta

import forecastcore_delta.latest
import pyarrow as pa
import pytest
from deltalake import DeltaTable  # noqa: TID253 - the tests are about it
from forecastcore_delta import DeltaSink

from forecastcore.testing import sample_vintage
from forecastcore.vintages import newest

KEY = ("project", "unique_id", "scenario", "ds")


@pytest.fixture
def sink(tmp_path):
    return DeltaSink(tmp_path / "out" / "forecasts")


@pytest.fixture
def taken_in(monkeypatch):
    """How many vintages became part of `forecast_latest` as the files they are."""
    calls, real = [], forecastcore_delta.latest._take_in

    def counted(*args):
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(forecastcore_delta.latest, "_take_in", counted)
    return calls


def publish(sink, *tables):
    for table in tables:
        sink.publish(table, table["run_key"][0].as_py())


def latest(sink):
    table = DeltaTable(sink.path.parent / "forecast_latest").to_pyarrow_table()
    return table.sort_by([(name, "ascending") for name in KEY])


def hours(*numbers, **kwargs):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return [sample_vintage(issued_at=start + timedelta(hours=n), **kwargs) for n in numbers]


def test_a_newer_vintage_is_taken_in_as_its_file_and_leaves_what_it_does_not_replace(sink, taken_in):
    vintages = [*hours(0, 6), *hours(6, scenario="hot"), *hours(12, series=("b", "c")), *hours(100)]
    for number, vintage in enumerate(vintages, start=1):
        publish(sink, vintage)
        assert latest(sink).equals(newest(vintages[:number])), number
    assert len(taken_in) == len(vintages)


def test_a_file_that_a_vintage_does_not_meet_stays_as_it_is(sink):
    publish(sink, *hours(0))
    before = set(DeltaTable(sink.path.parent / "forecast_latest").file_uris())
    publish(sink, *hours(0, scenario="hot"), *hours(48))
    assert before < set(DeltaTable(sink.path.parent / "forecast_latest").file_uris())


@pytest.mark.parametrize("late", [hours(3)[0], sample_vintage(seed=1, issued_at=datetime(2024, 1, 1, 6, tzinfo=UTC))])
def test_a_vintage_that_is_not_the_newest_is_compared_row_by_row(sink, taken_in, late):
    publish(sink, *hours(0, 6))
    publish(sink, late)
    assert len(taken_in) == 2
    assert latest(sink).equals(newest([*hours(0, 6), late]))


def test_a_row_that_is_there_twice_counts_once_in_latest(sink, taken_in):
    [vintage] = hours(0)
    twice = pa.concat_tables([vintage, vintage.slice(0, 1)])
    publish(sink, twice)
    assert taken_in == []
    assert latest(sink).num_rows == vintage.num_rows


@pytest.mark.slow
def test_latest_is_one_file_again_before_it_is_many(sink):
    publish(sink, *hours(*range(0, 40 * 48, 48), horizon=3))
    assert len(DeltaTable(sink.path.parent / "forecast_latest").file_uris()) <= 16
    assert latest(sink).num_rows == 40 * 2 * 3


@pytest.mark.parametrize("seed", range(4))
def test_latest_is_the_newest_of_all_whatever_comes_in_which_order(sink, seed):
    chance, vintages = random.Random(seed), []
    for number in range(12):
        made = sample_vintage(
            issued_at=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=chance.choice([number * 2, number, 3])),
            scenario=chance.choice(["base", "base", "hot", "cold"]),
            series=chance.choice([("a", "b"), ("b",), ("a", "b", "c"), ("c", "é'")]),
            horizon=chance.choice([1, 6, 24]),
            seed=number,
        )
        publish(sink, made)
        vintages.append(made)
        assert latest(sink).equals(newest(vintages)), number
