import csv
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest
from forecastcore_files import CsvSink
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from forecastcore.testing import sample_vintage

TRIGGERS = ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠"]  # noqa: RUF001 - full width is meant
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
hostile = st.one_of(words, st.builds(str.__add__, st.sampled_from([*TRIGGERS, "'", "''", '"', ",", ";"]), words))


def publish(sink, vintage):
    sink.publish(vintage, vintage["run_key"][0].as_py())
    return next(sink.path.glob("*.csv"))


def with_ids(values):
    vintage = sample_vintage(series=[str(n) for n in range(len(values))], horizon=1)
    return vintage.set_column(1, "unique_id", pa.array(values, pa.string()))


@pytest.mark.row(53)
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_no_cell_starts_like_a_formula(tmp_path, trigger):
    sink = CsvSink(tmp_path / "forecasts", excel=False)
    vintage = with_ids([f"{trigger}cmd|' /C calc'!A0"])
    file = publish(sink, vintage)
    with file.open(encoding="utf-8", newline="") as handle:
        [row] = csv.DictReader(handle)
    assert row["unique_id"] == f"'{trigger}cmd|' /C calc'!A0"
    assert float(row["forecast"]) == vintage["forecast"][0].as_py()
    assert sink.read().equals(vintage)


@pytest.mark.row(53)
def test_negative_numbers_stay_numbers(tmp_path):
    vintage = sample_vintage()
    file = publish(CsvSink(tmp_path / "forecasts"), vintage)
    frame = pd.read_csv(file, float_precision="round_trip")
    assert (frame["q10"] < 0).any()
    assert frame["q10"].tolist() == vintage["q10"].to_pylist()


@pytest.mark.row(53, trials=25)
@settings(deadline=None)
@given(ids=st.lists(hostile, min_size=1), reasons=st.data(), decimal=st.sampled_from([".", ","]))
def test_any_text_and_any_number_come_back_as_they_were(tmp_path_factory, ids, reasons, decimal):
    vintage = with_ids(ids)
    size = len(ids)
    text = reasons.draw(st.lists(st.one_of(st.none(), st.just(""), hostile), min_size=size, max_size=size))
    numbers = reasons.draw(st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), min_size=size, max_size=size))
    vintage = vintage.set_column(vintage.column_names.index("reason"), "reason", pa.array(text, pa.string()))
    vintage = vintage.set_column(vintage.column_names.index("q10"), "q10", pa.array(numbers, pa.float64()))
    sink = CsvSink(tmp_path_factory.mktemp("csv") / "forecasts", delimiter=";", decimal=decimal)
    publish(sink, vintage)
    assert sink.read().equals(vintage)


def test_instants_are_iso_8601_in_utc(tmp_path):
    file = publish(CsvSink(tmp_path / "forecasts"), sample_vintage(horizon=1, series=["a"]))
    row = pd.read_csv(file).iloc[0]
    assert (row["issued_at"], row["ds"]) == ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z")


def test_microseconds_are_kept(tmp_path):
    vintage = sample_vintage(issued_at=datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC))
    sink = CsvSink(tmp_path / "forecasts")
    publish(sink, vintage)
    assert sink.read(datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)).equals(vintage)


@pytest.mark.parametrize(("excel", "start"), [(True, b'\xef\xbb\xbf"project"'), (False, b'"project"')])
def test_the_file_starts_with_the_mark_that_excel_needs_unless_told_not_to(tmp_path, excel, start):
    file = publish(CsvSink(tmp_path / "forecasts", excel=excel), sample_vintage())
    assert file.read_bytes().startswith(start)


def test_a_locale_with_decimal_comma_reads_its_numbers(tmp_path):
    vintage = sample_vintage()
    file = publish(CsvSink(tmp_path / "forecasts", delimiter=";", decimal=","), vintage)
    assert (
        pd.read_csv(file, sep=";", decimal=",", float_precision="round_trip")["q90"].tolist()
        == vintage["q90"].to_pylist()
    )


def test_older_files_are_read_whatever_their_delimiter_and_decimal_mark(tmp_path):
    path = tmp_path / "forecasts"
    vintages = [sample_vintage(issued_at=datetime(2024, 1, day, tzinfo=UTC)) for day in (1, 2, 3)]
    sinks = [CsvSink(path), CsvSink(path, delimiter=";", decimal=",", excel=False), CsvSink(path, delimiter="\t")]
    for sink, vintage in zip(sinks, vintages, strict=True):
        publish(sink, vintage)
    assert sinks[0].read().equals(pa.concat_tables(vintages))
    assert len(pd.read_csv(tmp_path / "forecast_latest.csv", sep="\t")) == 3 * vintages[0].num_rows


@pytest.mark.parametrize("wrong", [{"delimiter": ""}, {"decimal": "x"}, {"decimal": ","}])
def test_impossible_parameters_are_refused_when_the_project_is_read(wrong):
    with pytest.raises(ValidationError, match="delimiter"):
        TypeAdapter(CsvSink).validate_python({"path": "out", **wrong})
