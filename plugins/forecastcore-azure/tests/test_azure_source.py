import io

import pandas as pd
import pyarrow as pa
import pytest
from forecastcore_azure import AzureBlobSource

from forecastcore.api import Source
from forecastcore.errors import DataError


@pytest.fixture
def source(container, connection_string):
    def make(path):
        return AzureBlobSource(container.container_name, {"connection_string": connection_string}, path)

    return make


def frame(uid):
    ds = pd.date_range("2024-01-01", periods=3, freq="D")
    return pd.DataFrame({"unique_id": uid, "ds": ds, "y": [1.5, None, 3.0]})


def put(container, name, table):
    out = io.BytesIO()
    table.to_parquet(out) if name.endswith(".parquet") else table.to_csv(out, index=False)
    container.upload_blob(name, out.getvalue())


def test_one_parquet_blob(source, container):
    put(container, "in/history.parquet", frame("a"))
    made = source("in/history.parquet")
    assert isinstance(made, Source)
    assert made.schema().names == ["unique_id", "ds", "y"]
    assert made.read(["y", "unique_id"]).to_pydict() == {"y": [1.5, None, 3.0], "unique_id": ["a"] * 3}


def test_all_blobs_below_a_prefix_without_hidden_ones(source, container):
    for name, uid in (
        ("in/a.parquet", "a"),
        ("in/x/b.parquet", "b"),
        ("in/_log/c.parquet", "c"),
        ("inner.parquet", "d"),
    ):
        put(container, name, frame(uid))
    assert source("in").read(["unique_id"])["unique_id"].to_pylist() == ["a"] * 3 + ["b"] * 3


def test_csv_keeps_names_that_look_like_numbers(source, container):
    put(container, "in/history.csv", frame("007").assign(zone=12, empty=None))
    table = source("in/history.csv").read(["unique_id", "ds", "y", "zone", "empty"])
    assert table["unique_id"].to_pylist() == ["007"] * 3
    assert table["ds"].to_pylist()[0] == "2024-01-01"
    assert table["y"].to_pylist() == [1.5, None, 3.0]
    assert table["zone"].type == pa.float64()
    assert table["empty"].null_count == 3


def test_what_is_not_there_or_no_parquet_is_told(source, container):
    container.upload_blob("bad.parquet", b"hello")
    container.upload_blob("notes/readme.txt", b"hello")
    with pytest.raises(DataError, match="no Parquet or CSV blob lies below it"):
        source("notes").schema()
    with pytest.raises(DataError, match=r"bad\.parquet cannot be read"):
        source("bad.parquet").schema()


def test_no_secret_is_shown(source, connection_string):
    made = source("in")
    assert "AccountKey" not in repr(made)
