import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forecastcore_files import ParquetSource

from forecastcore.api import Source
from forecastcore.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(name="history.parquet", **columns):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return ParquetSource(path)

    return write


def test_the_source_follows_the_protocol(write):
    assert isinstance(write(x=[1]), Source)


def test_columns_come_in_the_order_asked_for_as_they_stand(write):
    source = write(unique_id=["a", "a"], ds=pa.array([0, 1], pa.timestamp("ns", "Europe/Berlin")), y=[1, None])
    assert source.schema().field("ds").type == pa.timestamp("ns", "Europe/Berlin")
    assert source.read(["y", "unique_id"]).to_pydict() == {"y": [1, None], "unique_id": ["a", "a"]}


def test_dictionaries_are_decoded_in_schema_and_data(write):
    source = write(unique_id=pa.array(["a", "b", "a"]).dictionary_encode())
    assert source.schema().field("unique_id").type == pa.string()
    assert source.read(["unique_id"])["unique_id"].type == pa.string()


def test_a_folder_and_a_pattern_are_read_as_one(write, tmp_path):
    write("data/1.parquet", x=[1])
    write("data/deep/2.parquet", x=[2.5])
    write("data/_temporary/3.parquet", x=[3])
    assert ParquetSource(tmp_path / "data").read(["x"])["x"].to_pylist() == [1.0, 2.5]
    assert ParquetSource(tmp_path / "data" / "*.parquet").read(["x"])["x"].to_pylist() == [1]


def test_names_of_key_value_folders_are_text_columns(write, tmp_path):
    write("data/unique_id=007/part.parquet", y=[1.0])
    write("data/unique_id=8/part.parquet", y=[2.0])
    table = ParquetSource(tmp_path / "data").read(["unique_id", "y"])
    assert table.to_pydict() == {"unique_id": ["007", "8"], "y": [1.0, 2.0]}


def test_a_column_in_the_files_counts_more_than_a_folder_of_its_name(write, tmp_path):
    write("data/unique_id=x/part.parquet", unique_id=["a"], y=[1.0])
    assert ParquetSource(tmp_path / "data").read(["unique_id"])["unique_id"].to_pylist() == ["a"]


def test_files_whose_types_do_not_fit_together_are_an_error(write, tmp_path):
    write("data/1.parquet", x=[1])
    write("data/2.parquet", x=["a"])
    with pytest.raises(DataError, match="do not fit together"):
        ParquetSource(tmp_path / "data").schema()


def test_a_column_that_one_file_lacks_is_null_there(write, tmp_path):
    write("data/1.parquet", x=[1], z=[1])
    write("data/2.parquet", x=[2])
    assert ParquetSource(tmp_path / "data").read(["z"])["z"].to_pylist() == [1, None]


def test_a_file_without_rows_is_an_error(write):
    with pytest.raises(DataError, match="no rows"):
        write(x=pa.array([], pa.int64())).read(["x"])


def test_a_column_whose_name_is_no_utf8_is_refused_in_words(tmp_path):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"unique_id": ["a"], "temperature": [1.0]}), file, store_schema=False)
    file.write_bytes(file.read_bytes().replace(b"temperature", b"\x8eemperature"))
    with pytest.raises(DataError, match=r"x.parquet is not a Parquet file: 'utf-8' codec"):
        ParquetSource(path=file).schema()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"unique_id,ds,y\n"])
def test_what_is_no_parquet_is_named(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"x.parquet is not a Parquet file"):
        ParquetSource(tmp_path / "x.parquet").schema()


def test_a_file_that_is_cut_off_is_named(write):
    source = write(x=list(range(100_000)))
    whole = source.path.read_bytes()
    source.path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(DataError, match="cannot be read"):
        source.read(["x"])


@pytest.mark.parametrize("name", ["none.parquet", "data/*.parquet", "data"])
def test_a_path_that_means_no_file_is_an_error_that_says_what_is_nearby(write, tmp_path, name):
    write(x=[1])
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"(does not exist|holds no file).*holds (data/, history.parquet|nothing)"):
        ParquetSource(tmp_path / name).schema()
