"""What there is to read of vintages: a manifest for each, which tells of its rows or that it was taken back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from forecastcore.errors import SinkError
from forecastcore.vintages import VintageRef, utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forecastcore_azure.blobs import Blobs

__all__ = ["as_json", "manifest_name", "manifest_of", "metadata", "rows_of", "visible"]

_READERS = 8


def manifest_name(run_key: str) -> str:
    """The manifest's blob."""
    return f"vintages/{run_key}.json"


def manifest_of(blobs: Blobs, run_key: str) -> dict[str, Any] | None:
    """The manifest; None where there is none."""
    content = blobs.get(manifest_name(run_key))
    return None if content is None else dict(json.loads(content.data))


def metadata(ref: VintageRef) -> dict[str, str]:
    """What a listing tells of a vintage, so that its manifest need not be read; headers hold ASCII only."""
    return {
        "issued_at": ref.issued_at.isoformat(),
        "created_at": ref.created_at.isoformat(),
        "project": quote(ref.project),
        "scenario": quote(ref.scenario),
        "rows": str(ref.rows),
    }


def visible(blobs: Blobs) -> list[VintageRef]:
    """The visible vintages, oldest first."""
    refs = []
    for blob in blobs.listed("vintages"):
        told = {name.lower(): value for name, value in (blob.metadata or {}).items()}
        if "withdrawn" in told or "issued_at" not in told:
            continue
        refs.append(
            VintageRef(
                issued_at=utc(datetime.fromisoformat(told["issued_at"])),
                created_at=utc(datetime.fromisoformat(told["created_at"])),
                run_key=blob.name.rpartition("/")[2].removesuffix(".json"),
                project=unquote(told["project"]),
                scenario=unquote(told["scenario"]),
                rows=int(told["rows"]),
            )
        )
    return sorted(refs)


def rows_of(blobs: Blobs, run_keys: Iterable[str]) -> dict[str, pa.Table]:
    """The rows of vintages by run key, without those that were withdrawn in this moment.

    Raises:
        SinkError: a blob is not what its manifest says.
    """
    keys = list(run_keys)
    with ThreadPoolExecutor(_READERS) as pool:
        tables = pool.map(lambda run_key: _vintage(blobs, run_key), keys)
        return {key: table for key, table in zip(keys, tables, strict=True) if table is not None}


def _vintage(blobs: Blobs, run_key: str) -> pa.Table | None:
    """The rows of a vintage; None where it was withdrawn in this moment."""
    manifest = manifest_of(blobs, run_key)
    if manifest is None or manifest.get("withdrawn"):
        return None
    parts = [blobs.get(part["name"]) for part in manifest["parts"]]
    whole = [
        part for part, said in zip(parts, manifest["parts"], strict=True) if part and len(part.data) == said["size"]
    ]
    if len(whole) < len(parts):
        if (manifest_of(blobs, run_key) or {"withdrawn": True}).get("withdrawn"):
            return None
        raise SinkError(f"a blob of vintage {run_key} is gone or cut", hint="withdraw the vintage and predict again")
    return pa.concat_tables([pq.read_table(pa.BufferReader(part.data)) for part in whole])


def as_json(value: Any) -> bytes:
    """A document as it is stored."""
    return json.dumps(value, indent=1).encode()
