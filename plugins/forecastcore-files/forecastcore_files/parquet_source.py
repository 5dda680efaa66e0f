"""History from Parquet files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from forecastcore.errors import DataError
from forecastcore_files.paths import find

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow.dataset as pads

__all__ = ["ParquetSource"]

_FAULTS = (OSError, UnicodeError, pa.ArrowException)


@dataclass(frozen=True)
class ParquetSource:
    """A Parquet file, a folder of them, or a pattern such as `data/*.parquet`.

    In a folder, the names of `key=value` folders become text columns.

    Attributes:
        path: file, folder or pattern.
    """

    path: Path

    def schema(self) -> pa.Schema:
        """Names and types, from the files' footers; dictionary columns as what they stand for.

        Raises:
            DataError: no file, no Parquet, or files whose types do not fit together.
        """
        return pa.schema([pa.field(field.name, _decoded(field.type)) for field in self._dataset().schema])

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns as they stand in the files.

        Raises:
            DataError: as `schema`, or there are no rows.
        """
        dataset = self._dataset()
        try:
            table = dataset.to_table(columns=list(columns))
        except _FAULTS as error:
            raise DataError(f"{self.path.absolute()} cannot be read: {error}") from error
        if not table.num_rows:
            raise DataError(f"{self.path.absolute()} has no rows")
        return table.cast(pa.schema([pa.field(field.name, _decoded(field.type)) for field in table.schema]))

    def parts(self) -> list[str]:
        """Row groups of the files, each with its file's size."""
        told = []
        for fragment in self._dataset().get_fragments():
            size = Path(fragment.path).stat().st_size
            told += [json.dumps([fragment.path, size, group.id]) for group in fragment.row_groups]
        return told

    def read_part(self, part: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """A row group's columns, as `read` has them.

        Raises:
            DataError: the file is another one by now, or cannot be read.
        """
        path, size, group = json.loads(part)
        dataset = self._dataset()
        wanted = pa.schema([pa.field(name, _decoded(dataset.schema.field(name).type)) for name in columns])
        fragment = next((f for f in dataset.get_fragments() if f.path == path), None)
        if fragment is None or Path(path).stat().st_size != size:
            raise DataError(f"{path} was changed while it was read", hint="run again once nobody writes to it")
        try:
            for batch in fragment.subset(row_group_ids=[group]).to_batches(dataset.schema, columns=list(columns)):
                yield from pa.Table.from_batches([batch]).cast(wanted).to_batches()
        except _FAULTS as error:
            raise DataError(f"{path} cannot be read: {error}") from error

    def _dataset(self) -> pads.Dataset:
        import pyarrow.dataset as pads  # brings pandas with it

        files = find(self.path, ".parquet")
        schemas = {file: _footer(file) for file in files}
        try:
            within = pa.unify_schemas(list(schemas.values()), promote_options="permissive")
        except _FAULTS as error:
            raise DataError(f"the files of {self.path.absolute()} do not fit together: {error}") from error
        root = self.path if self.path.is_dir() else None
        keys = _keys(files, root) - set(within.names)
        folders = pa.schema([(key, pa.string()) for key in sorted(keys)])
        whole = pa.schema([*within.remove_metadata(), *folders])
        return pads.dataset(
            [str(file) for file in files],
            schema=whole,
            format="parquet",
            partitioning=pads.partitioning(folders, flavor="hive") if keys else None,
            partition_base_dir=str(root) if root else None,
        )


def _footer(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except _FAULTS as error:
        raise DataError(f"{file.absolute()} is not a Parquet file: {error}") from error


def _keys(files: Sequence[Path], root: Path | None) -> set[str]:
    """Names of `name=value` folders below `root`."""
    parts = {part for file in files for part in file.relative_to(root).parts[:-1]} if root else set()
    return {part.split("=", 1)[0] for part in parts if "=" in part}


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
