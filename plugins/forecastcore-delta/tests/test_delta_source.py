import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake  # noqa: TID253 - the tests are about it
from forecastcore_delta import DeltaSource
from pydantic import TypeAdapter, ValidationError

from forecastcore.api import Source
from forecastcore.errors import DataError


@pytest.fixture
def path(tmp_path):
    """A table of two versions: one row, then two."""
    for row in (1, 2):
        table = pa.table(
            {
                "unique_id": pa.array([f"00{row}"]),
                "ds": pa.array([datetime(2024, 1, row, tzinfo=UTC)], pa.timestamp("us", "UTC")),
                "y": [float(row)],
            }
        )
        write_deltalake(tmp_path / "history", table, mode="append")
    return tmp_path / "history"


def test_the_source_follows_the_protocol(path):
    assert isinstance(DeltaSource(path), Source)


def test_the_table_is_read_as_it_is_now(path):
    source = DeltaSource(path)
    assert source.schema() == pa.schema(
        [("unique_id", pa.string()), ("ds", pa.timestamp("us", "UTC")), ("y", pa.float64())]
    )
    table = source.read(["y", "unique_id"])
    assert table.column_names == ["y", "unique_id"]
    assert sorted(table["unique_id"].to_pylist()) == ["001", "002"]


def test_a_version_is_read_as_it_was(path):
    assert DeltaSource(path, version=0).read(["y"])["y"].to_pylist() == [1.0]


def test_an_instant_means_the_version_that_was_current_then(path):
    first = datetime.fromtimestamp(DeltaTable(path).history()[-1]["timestamp"] / 1000, UTC)
    assert DeltaSource(path, as_of=first).read(["y"])["y"].to_pylist() == [1.0]
    later = first + timedelta(days=1)
    assert DeltaSource(path, as_of=later).read(["y"]).num_rows == 2
    assert DeltaSource(path, as_of=later.replace(tzinfo=None)).read(["y"]).num_rows == 2


@pytest.mark.parametrize("asked", [{"version": 7}, {"as_of": datetime(2001, 1, 1, tzinfo=UTC)}, {"version": -1}])
def test_a_state_that_never_was_is_an_error_that_says_what_there_is(path, asked):
    with pytest.raises(DataError, match=r"has no .*versions 0 to 1, since 2"):
        DeltaSource(path, **asked).read(["y"])


def test_version_and_instant_exclude_each_other_in_the_project_file():
    with pytest.raises(ValidationError, match="keep one"):
        TypeAdapter(DeltaSource).validate_python({"path": "x", "version": 1, "as_of": "2024-01-01T00:00:00Z"})


@pytest.mark.parametrize("name", ["nowhere", "plain"])
def test_what_is_no_delta_table_is_named(tmp_path, name):
    (tmp_path / "plain").mkdir()
    with pytest.raises(DataError, match=rf"{name} is not a Delta table"):
        DeltaSource(tmp_path / name).schema()


def test_a_table_without_rows_is_an_error(path):
    DeltaTable(path).delete()
    with pytest.raises(DataError, match="no rows"):
        DeltaSource(path).read(["y"])


def test_a_file_that_is_missing_is_an_error_that_names_the_table(path):
    next(path.glob("*.parquet")).unlink()
    with pytest.raises(DataError, match="history cannot be read"):
        DeltaSource(path).read(["y"])


def test_a_table_whose_columns_are_mapped_as_databricks_does_is_read_too(tmp_path):
    """The file's columns have other names than the table's; the log says which is which."""
    pq.write_table(pa.table({"col-1": ["007"], "col-2": [1.5]}), tmp_path / "part.parquet")
    fields = [
        {
            "name": name,
            "type": kind,
            "nullable": True,
            "metadata": {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"},
        }
        for number, (name, kind) in enumerate([("unique_id", "string"), ("y", "double")], start=1)
    ]
    metadata = {
        "id": "6f1c1c0e-0000-4000-8000-000000000000",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [],
        "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"},
        "createdTime": 0,
    }
    size = (tmp_path / "part.parquet").stat().st_size
    add = {"path": "part.parquet", "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": True}
    log = [{"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, {"metaData": metadata}, {"add": add}]
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, log)))
    source = DeltaSource(tmp_path)
    assert source.schema() == pa.schema([("unique_id", pa.string()), ("y", pa.float64())])
    assert source.read(["y", "unique_id"]).to_pydict() == {"y": [1.5], "unique_id": ["007"]}
