import io
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forecastcore_azure import AzureBlobSource

from forecastcore.api import PartedSource
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
    assert isinstance(made, PartedSource)
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


@contextmanager
def asked_of(monkeypatch):
    """Ranges of bytes that are downloaded meanwhile, as (name, offset, length)."""
    from azure.storage.blob import ContainerClient

    seen, real = [], ContainerClient.download_blob

    def download(self, blob, offset=None, length=None, **options):
        seen.append((blob, offset, length))
        return real(self, blob, offset, length, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ContainerClient, "download_blob", download)
        yield seen


def test_of_parquet_only_the_wanted_columns_cross_the_network(source, container, monkeypatch):
    noise = np.random.default_rng(0).normal(size=(100_000, 20))
    wide = pd.DataFrame(noise, columns=[f"c{n}" for n in range(20)]).assign(unique_id="a")
    put(container, "in/wide.parquet", wide)
    size = container.get_blob_client("in/wide.parquet").get_blob_properties().size
    with asked_of(monkeypatch) as seen:
        table = source("in/wide.parquet").read(["unique_id", "c7"])
    assert table["c7"].to_numpy() == pytest.approx(noise[:, 7])
    assert sum(length for _, _, length in seen) < size / 10


def test_blobs_that_differ_are_put_together(source, container):
    put(container, "in/a.parquet", frame("a"))
    put(container, "in/b.parquet", frame("b").assign(y=[1, 2, 3], load=[7.0, 8.0, 9.0]))
    put(container, "in/c.csv", frame("c").drop(columns="ds"))
    made = source("in")
    assert made.schema().names == ["unique_id", "ds", "y", "load"]
    table = made.read(["load", "unique_id", "y"])
    assert table["load"].to_pylist() == [None] * 3 + [7.0, 8.0, 9.0] + [None] * 3
    assert table["y"].to_pylist() == [1.5, None, 3.0, 1.0, 2.0, 3.0, 1.5, None, 3.0]


@pytest.mark.parametrize("names", [("in/a.parquet", "in/b.parquet"), ("in/a.parquet", "in/b.csv")])
def test_parts_that_others_read_are_the_whole(source, container, names):
    table = pa.Table.from_pandas(frame("a"))
    out = io.BytesIO()
    pq.write_table(pa.concat_tables([table] * 3), out, row_group_size=4)
    container.upload_blob(names[0], out.getvalue())
    put(container, names[1], frame("b").assign(ds="2024-01-01", load=1.0)[["unique_id", "y", "load"]])
    columns = ["load", "unique_id", "y"]
    made = source("in")
    parts = made.parts()
    put(container, "in/later.parquet", frame("later"))
    batches = [batch for part in parts for batch in source("in").read_part(part, columns)]
    assert pa.Table.from_batches(batches).equals(made.read(columns))
    assert len(parts) == (4 if names[1].endswith("parquet") else 1)


@pytest.mark.parametrize("name", ["in/a.parquet", "in/a.csv"])
def test_a_blob_that_is_replaced_meanwhile_is_told(source, container, name):
    put(container, name, frame("a"))
    made = source("in")
    parts = made.parts()
    container.delete_blob(name)
    put(container, name, frame("b"))
    with pytest.raises(DataError, match=f"{name} was changed while it was read"):
        list(source("in").read_part(parts[0], ["y"]))
    if name.endswith("parquet"):  # of text all was read when parts were asked for
        with pytest.raises(DataError, match=f"{name} was changed while it was read"):
            made.read(["y"])
