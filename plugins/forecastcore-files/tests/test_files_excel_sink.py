"""The workbook as a person's spreadsheet reads it; openpyxl stands for that."""

import zipfile
from datetime import UTC, datetime, timedelta

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from forecastcore_files import ExcelSink
from pydantic import TypeAdapter, ValidationError

from forecastcore.errors import SinkError
from forecastcore.testing import sample_vintage

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def sink(tmp_path):
    return ExcelSink(tmp_path / "forecasts", timezone="Europe/Rome")


def publish(sink, vintage):
    sink.publish(vintage, vintage["run_key"][0].as_py())
    return vintage


def changed(vintage, **columns):
    for name, values in columns.items():
        field = vintage.schema.field(name)
        vintage = vintage.set_column(vintage.column_names.index(name), field, pa.array(values, field.type))
    return vintage


def cells(sink):
    """The sheet's cells by title."""
    titles, *rows = openpyxl.load_workbook(sink.workbook)["forecast"].iter_rows()
    names = [cell.value for cell in titles]
    return [dict(zip(names, row, strict=True)) for row in rows]


def values(sink):
    return [{name: cell.value for name, cell in row.items()} for row in cells(sink)]


#: case -> how a series may be called
NAMES = {
    "leading zeros": "007",
    "a number with an exponent": "1E5",
    "a date": "1-2",
    "a formula": "=1+1",
    "a formula by a sign": "-2+3+cmd|' /C calc'!A0",
    "an address": "https://example.org/steal",
    "a truth value": "TRUE",
    "another script": "東京, Zürich, مبيعات",
    "a line break and a tabulator": "one\ntwo\tthree",
    "a control character": "bell\x07end",
    "spaces around": "  padded  ",
    "more than a cell holds": "x" * 40_000,
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_is_the_text_it_was(sink, case):
    name = NAMES[case]
    vintage = sample_vintage(series=["a"], horizon=1)
    publish(sink, changed(vintage, unique_id=[name]))
    (row,) = cells(sink)
    assert row["unique_id"].data_type == "s"
    assert row["unique_id"].hyperlink is None
    assert openpyxl.utils.escape.unescape(row["unique_id"].value) == name[:32_767]
    assert sink.read()["unique_id"].to_pylist() == [name]


def test_numbers_are_numbers_and_what_is_not_there_is_empty(sink):
    vintage = sample_vintage(series=["a"], horizon=5)
    numbers = [-1234.5678901234, 0.0, None, 1e-9, 1e300]
    publish(sink, changed(vintage, forecast=numbers, q10=numbers))
    read = [row["forecast"] for row in values(sink)]
    assert read[2] is None
    assert [n for n in read if n is not None] == pytest.approx([n for n in numbers if n is not None], rel=1e-15, abs=0)
    assert [row["p10"] for row in values(sink)] == read


def test_moments_are_dates_on_the_wall_clock_and_the_hour_that_it_shows_twice_is_apart_in_utc(sink):
    publish(sink, sample_vintage(series=["a"], horizon=4, issued_at=datetime(2024, 10, 26, 23, tzinfo=UTC)))
    rows = values(sink)
    assert [row["valid_time_local"].hour for row in rows] == [2, 2, 3, 4]
    assert [row["valid_time_utc"].hour for row in rows] == [0, 1, 2, 3]
    assert str(rows[0]["issued_at_local"]) == "2024-10-27 01:00:00"
    assert cells(sink)[0]["valid_time_local"].number_format == "yyyy-mm-dd hh:mm"


def test_quality_is_told_in_words_and_its_reason_beside_it(sink):
    vintage = sample_vintage(series=["a"], horizon=3)
    reasons = [None, "history-too-short: 3 values", "model-error: no answer"]
    publish(sink, changed(vintage, status=["ok", "degraded", "failed"], reason=reasons, forecast=[1.0, 2.0, None]))
    told = [(row["quality"], row["remark"]) for row in values(sink)]
    assert told == list(zip(["good", "substitute", "none"], reasons, strict=True))


def test_what_changed_since_the_vintage_before_is_told_for_each_moment_that_both_forecast(sink):
    first = publish(sink, sample_vintage(horizon=3, issued_at=START))
    assert {row["changed_since_last"] for row in values(sink)} == {None}
    second = publish(sink, sample_vintage(horizon=3, issued_at=START + timedelta(hours=1)))
    said = first.to_pandas().set_index(["unique_id", "ds"])["forecast"]
    expected = (second.to_pandas().set_index(["unique_id", "ds"])["forecast"] - said).sort_index()
    rows = pd.DataFrame(values(sink))
    assert set(rows["issued_at_local"].astype(str)) == {"2024-01-01 02:00:00"}, "the newest vintage alone"
    rows["ds"] = rows["valid_time_utc"].dt.tz_localize("UTC")
    got = rows.set_index(["unique_id", "ds"])["changed_since_last"].sort_index()
    pd.testing.assert_series_equal(got, expected.reindex(got.index), check_names=False)
    assert got.isna().sum() == len(got) / 3


def test_every_column_is_explained_on_a_sheet_of_its_own(sink):
    publish(sink, sample_vintage())
    told = dict(openpyxl.load_workbook(sink.workbook)["columns"].iter_rows(min_row=2, values_only=True))
    assert list(told) == list(values(sink)[0])
    assert all(told.values())
    assert "Europe/Rome" in told["valid_time_local"]


def test_scenarios_stand_together_each_with_its_newest_vintage(sink):
    for scenario, hour in [("base", 0), ("heatwave", 0), ("base", 1)]:
        publish(sink, sample_vintage(scenario=scenario, issued_at=START + timedelta(hours=hour)))
    shown = {(row["scenario"], row["issued_at_local"].hour) for row in values(sink)}
    assert shown == {("base", 2), ("heatwave", 1)}


def test_a_vintage_that_is_taken_back_leaves_the_workbook_too_and_an_older_one_that_comes_late_does_not_enter(sink):
    keys = [publish(sink, sample_vintage(issued_at=START + timedelta(hours=h)))["run_key"][0].as_py() for h in (1, 2)]
    sink.withdraw(keys[1:])
    assert {row["issued_at_local"].hour for row in values(sink)} == {2}
    publish(sink, sample_vintage(issued_at=START))
    assert {row["issued_at_local"].hour for row in values(sink)} == {2}


def test_a_workbook_that_is_gone_comes_back_with_the_same_run_and_one_that_is_right_is_left_alone(sink):
    vintage = publish(sink, sample_vintage())
    made = sink.workbook.stat().st_mtime_ns
    assert publish(sink, vintage)
    assert sink.workbook.stat().st_mtime_ns == made
    sink.workbook.unlink()
    again = sink.publish(vintage, vintage["run_key"][0].as_py())
    assert again.already
    assert len(values(sink)) == vintage.num_rows


def test_a_workbook_that_cannot_be_replaced_is_told_and_the_vintage_is_there(sink):
    sink.path.parent.mkdir(exist_ok=True)
    sink.workbook.mkdir()  # as a workbook that is open on Windows: nothing can take its place
    (sink.workbook / "taken").touch()
    vintage = sample_vintage()
    with pytest.raises(SinkError, match=r"cannot replace .*forecast_latest\.xlsx") as told:
        publish(sink, vintage)
    assert "close it where it is open in Excel" in str(told.value)
    assert sink.read().num_rows == vintage.num_rows


def test_nothing_in_the_file_is_a_formula_or_a_way_out(sink):
    vintage = sample_vintage(series=["a"], horizon=1)
    publish(sink, changed(vintage, unique_id=["=HYPERLINK(1)"], reason=["@SUM(1)"], model=["+1"]))
    with zipfile.ZipFile(sink.workbook) as parts:
        sheets = [parts.read(name).decode() for name in parts.namelist() if "worksheets" in name]
        assert not any("<f>" in sheet or "hyperlink" in sheet for sheet in sheets)
        assert not any("externalLink" in name or "vba" in name.lower() for name in parts.namelist())


def test_a_zone_that_is_none_is_refused_when_the_project_is_read():
    with pytest.raises(ValidationError, match="Europe/Rome"):
        TypeAdapter(ExcelSink).validate_python({"path": "out", "timezone": "Mars/Olympus"})
