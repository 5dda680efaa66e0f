import time
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest
from forecastcore_files import CsvSource
from forecastcore_files.typing_text import typed
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from forecastcore.api import Source
from forecastcore.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(text, name="history.csv", encoding="utf-8", **parameters):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return CsvSource(tmp_path / name, **parameters)

    return write


def column(source, name="x"):
    return source.read([name])[name]


def column_of(write, values, **parameters):
    return column(write("\n".join(["id;x", *(f"a;{value}" for value in values)]), delimiter=";", **parameters))


def test_the_source_follows_the_protocol(write):
    assert isinstance(write("a\n1"), Source)


def test_columns_come_in_the_order_asked_for_with_their_types(write):
    source = write("unique_id,ds,y,open\n007,2024-01-01 00:00,1.5,true\n008,2024-01-01 01:00,,FALSE\n")
    assert source.schema() == pa.schema(
        [("unique_id", pa.string()), ("ds", pa.timestamp("us")), ("y", pa.float64()), ("open", pa.bool_())]
    )
    table = source.read(["y", "unique_id"])
    assert table.to_pydict() == {"y": [1.5, None], "unique_id": ["007", "008"]}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "0"], pa.int64()),
        (["1", "2.5", ".5", "3.", "-0.0", "1e-05", "1.2E4", "inf"], pa.float64()),
        (["1", "", "3"], pa.int64()),
        (["1.5", "NaN", "NA", "null", "None", "#N/A"], pa.float64()),
        ([" 1", "2 ", "\u00a03\u00a0", "\u202f4"], pa.int64()),
        (["", "", ""], pa.float64()),
        (["true", "False", "TRUE"], pa.bool_()),
        (["2024-01-01", "2024-02-29"], pa.timestamp("us")),
        (["2024-01-01T00:00", "2024-01-01 01:00:00.5"], pa.timestamp("us")),
        (["2024-01-01T00:00:00Z", "2024-01-01T00:00+02:00"], pa.timestamp("us", "UTC")),
        (["2024-01-01T00:00:00.123456789"], pa.timestamp("ns")),
    ],
)
def test_a_column_becomes_what_every_value_in_it_is(write, values, kind):
    assert column_of(write, values).type == kind


@pytest.mark.parametrize(
    "values",
    [
        ["007", "8"],
        ["+49", "50"],
        ["00.5", "1"],
        ["1.234,5", "2"],
        ["1,5", "2"],
        ["1 000", "2"],
        ["12E4", "123"],
        ["12345678901234567890", "1"],
        ["99999999999999999999"],
        ["0x1F"],
        ["1_000"],
        ["2024-01-01", "soon"],
        ["2024-01-01T00:00", "2024-01-01T00:00Z"],
        ["2024-02-30"],
        ["true", "1"],
        ["NA", "DE", "FR"],
        ["1.5", "n.v."],
        ["٣", "٤"],
    ],
)
def test_what_could_be_destroyed_stays_the_text_that_it_is(write, values):
    assert column_of(write, values).to_pylist() == values


def test_offsets_become_utc_and_naive_instants_stay_naive(write):
    aware = column_of(write, ["2024-07-01T02:00+02:00", "2024-01-01T01:00:00+01:00"])
    assert aware.to_pylist() == [datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]
    assert column_of(write, ["2024-07-01 02:00"]).to_pylist() == [datetime(2024, 7, 1, 2)]  # noqa: DTZ001 - naive is the point


def test_a_decimal_comma_is_honoured_and_thousands_are_not_guessed_at(write):
    assert column_of(write, ["1,5", "-0,25", "3"], decimal=",").to_pylist() == [1.5, -0.25, 3.0]
    assert column_of(write, ["1.234,5", "2,5"], decimal=",").to_pylist() == ["1.234,5", "2,5"]
    assert column_of(write, ["1.234", "2,5"], decimal=",").to_pylist() == ["1.234", "2,5"]


@pytest.mark.parametrize(
    ("date_format", "values", "first"),
    [
        ("%d.%m.%Y %H:%M", ["31.12.2024 23:30", "1.1.2025 00:00"], datetime(2024, 12, 31, 23, 30)),  # noqa: DTZ001
        ("%Y%m%d", ["20241231", "20250101"], datetime(2024, 12, 31)),  # noqa: DTZ001
        ("%d/%m/%Y %z", ["31/12/2024 +0100", "31/12/2024 -0100"], datetime(2024, 12, 30, 23, tzinfo=UTC)),
    ],
)
def test_a_date_format_is_followed(write, date_format, values, first):
    parsed = column_of(write, values, date_format=date_format)
    assert pa.types.is_timestamp(parsed.type)
    assert parsed[0].as_py() == pd.Timestamp(first)


def test_a_date_format_makes_no_date_of_a_count(write):
    source = write("ds;y\n2019;2020\n2020;1950\n", delimiter=";", date_format="%Y")
    assert column(source, "y").to_pylist() == [2020, 1950]
    days = write("ds;y\n01.02.2024;20240101\n", delimiter=";", date_format="%d.%m.%Y")
    assert column(days, "y").to_pylist() == [20240101]


def test_a_date_that_breaks_the_format_keeps_the_column_text(write):
    assert column_of(write, ["31.12.2024", "12/31/2024"], date_format="%d.%m.%Y").to_pylist()[1] == "12/31/2024"


def test_a_byte_order_mark_is_no_part_of_the_first_name(write):
    source = write("\ufeffunique_id,y\na,1\n")
    assert source.schema().names == ["unique_id", "y"]
    assert column(source, "unique_id").to_pylist() == ["a"]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "latin-1", "UTF8"])
def test_the_encoding_is_honoured(tmp_path, encoding):
    (tmp_path / "x.csv").write_text("größe,x\nä,ü\n", encoding)
    assert column(CsvSource(tmp_path / "x.csv", encoding=encoding)).to_pylist() == ["ü"]


def test_another_encoding_is_an_error_that_says_what_to_set(write):
    with pytest.raises(DataError, match="encoding"):
        write("id,x\nä,ü\n", encoding="cp1252").read(["x"])
    with pytest.raises(DataError, match="encoding"):
        write("ä,x\na,b\n", encoding="cp1252").schema()


def test_quoted_delimiters_and_line_breaks_stay_in_their_cell(write):
    assert column(write('id,x\na,"1,\n2"\n')).to_pylist() == ["1,\n2"]


def test_a_wrong_delimiter_is_an_error_that_names_the_right_one(write):
    with pytest.raises(DataError, match="set delimiter: ';'"):
        write("unique_id;ds;y\na;2024-01-01;1\n").schema()


@pytest.mark.parametrize("text", ["", "\n", "id,x\n", "\ufeff"])
def test_a_file_without_rows_is_an_error(write, text):
    with pytest.raises(DataError, match=r"is empty|has no rows"):
        write(text).schema()


def test_a_row_of_another_length_is_an_error_that_shows_it(write):
    with pytest.raises(DataError, match=r"history.csv cannot be read: .*Expected 2 columns, got 3"):
        write("id,x\na,1\nb,2,3\n").schema()


def test_two_columns_of_one_name_are_an_error(write):
    with pytest.raises(DataError, match="two columns named 'x'"):
        write("id,x,x\na,1,2\n").schema()


def test_spaces_around_names_are_cut(write):
    assert write("unique_id , y\na,1\n").schema().names == ["unique_id", "y"]


def test_a_folder_is_read_as_one_and_typed_as_one(write):
    write("id,x\na,1\n", "part-1.csv")
    source = write("x,id\n007,b\n", "part-2.csv")
    write("not,this\n1,2\n", "_old.csv")
    both = CsvSource(source.path.parent)
    assert both.read(["id", "x"]).to_pydict() == {"id": ["a", "b"], "x": ["1", "007"]}


def test_what_is_too_large_to_be_read_whole_is_refused_unread(write):
    write("x\n1", name="a.csv")
    source = CsvSource(write("", name="b.csv").path.parent, max_mib=3)
    with source.path.joinpath("b.csv").open("r+b") as file:
        file.truncate(3 << 20)  # takes no room, and would be an error in words of another kind if it were read
    for ask in (source.schema, lambda: source.read(["x"])):
        with pytest.raises(DataError, match=r"has 3 MiB of text, and is read whole: 3 are allowed") as told:
            ask()
        assert "Parquet" in told.value.hint


def test_what_a_column_is_is_decided_by_all_its_chunks_in_time_that_grows_with_them():
    """A dictionary of all values so far, for each chunk, took ten minutes for the five million rows of a file."""
    chunks = 300
    parts = [pa.array([f"{chunk}.{row}" for row in range(1, 3001)]) for chunk in range(chunks)]
    began = time.perf_counter()
    numbers = typed(pa.chunked_array(parts))
    assert time.perf_counter() - began < 10
    assert (numbers.type, len(numbers)) == (pa.float64(), chunks * 3000)
    assert typed(pa.chunked_array([*parts, pa.array(["n/v"])])).type == pa.string()
    assert typed(pa.chunked_array([["1"], pa.array([None], pa.string()), ["2.5"]])).to_pylist() == [1.0, None, 2.5]


def test_files_with_other_columns_are_an_error_that_names_them(write):
    write("id,x\na,1\n", "part-1.csv")
    source = write("id,z\na,1\n", "part-2.csv")
    with pytest.raises(DataError, match=r"part-2.csv and part-1.csv do not both have the columns x, z"):
        CsvSource(source.path.parent).schema()


def test_a_path_that_is_not_there_is_an_error_that_says_what_is_nearby(write):
    source = write("id,x\na,1\n")
    with pytest.raises(DataError, match=r"histroy.csv does not exist .*holds history.csv"):
        CsvSource(source.path.with_name("histroy.csv")).schema()
    with pytest.raises(DataError, match=r"holds history.csv"):
        CsvSource(source.path.parent / "no" / "such" / "file.csv").schema()


@pytest.mark.parametrize("wrong", [{"delimiter": ",,"}, {"decimal": "x"}, {"decimal": ",", "delimiter": ","}])
def test_impossible_parameters_are_refused_when_the_project_is_read(wrong):
    with pytest.raises(ValidationError, match="delimiter"):
        TypeAdapter(CsvSource).validate_python({"path": "x.csv", **wrong})


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_what_pandas_writes_comes_back_number_for_number(tmp_path_factory, floats, integers):
    size = min(len(floats), len(integers))
    frame = pd.DataFrame({"f": floats[:size], "i": integers[:size]})
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    frame.to_csv(path, index=False)
    back = CsvSource(path).read(["f", "i"])
    assert back["f"].cast(pa.float64()).to_pylist() == frame["f"].tolist()
    assert back["i"].to_pylist() == frame["i"].tolist()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1), min_size=1))
def test_text_is_never_changed_but_for_the_spaces_around_it(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    pd.DataFrame({"id": "a", "x": [f"<{value}>" for value in values]}).to_csv(path, index=False)
    assert CsvSource(path).read(["x"])["x"].to_pylist() == [f"<{value}>" for value in values]
