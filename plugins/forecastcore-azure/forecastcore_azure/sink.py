"""Forecasts in Azure Blob Storage.

```
CONTAINER/PATH/vintages/<run key>.json   the manifest: a vintage is visible if, and only if, it is there
CONTAINER/PATH/parts/<run key>/….parquet rows; never change
CONTAINER/PATH/forecast_latest.json      names the blob with the newest rows, and the vintages it was made of
CONTAINER/PATH/latest/….parquet          newest rows per series, scenario and ds; never change
CONTAINER/PATH/columns.json              what the columns mean
```

Rows are written first and read back. Then one PUT under the condition that nothing is there (`If-None-Match: *`) makes
the vintage visible: of two runs with one key, one wins. The pointer `forecast_latest.json` is swapped only as it was
read (`If-Match`); who comes too late reads it again and adds what is missing.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from forecastcore.api import Published
from forecastcore.errors import SinkError
from forecastcore.vintages import VintageRef, check_vintage, dictionary, empty_vintage, newest, ref_of, utc
from forecastcore_azure.account import check_place, credential_of, open_container
from forecastcore_azure.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["AzureBlobSink"]

_ATTEMPTS = 200
_READERS = 8
_POINTER = "forecast_latest.json"
_GRACE = timedelta(days=1)
_SWEEP_EVERY = 20


@dataclass(frozen=True)
class AzureBlobSink:
    """Vintages as Parquet blobs in Azure Blob Storage, and `forecast_latest` beside them.

    Attributes:
        container: the container; it must exist.
        credential: who asks, and nobody else: a connection string, a managed identity, a service principal, or a
            Prefect block.
        path: folder in the container.
        account_url: of the storage account, such as https://ACCOUNT.blob.core.windows.net; beside an identity.
    """

    container: str
    credential: str | dict[str, str] = field(repr=False)
    path: str = "forecasts"
    account_url: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", check_place(self.container, self.path))
        credential_of(self.credential)

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Make the vintage visible, once, and bring `forecast_latest` up to it.

        Raises:
            SinkError: the table is no vintage, or the store failed; the message says whether the vintage is visible.
        """
        from azure.core.exceptions import AzureError

        table = check_vintage(vintage, run_key)
        try:
            blobs = self._blobs()
            already = not self._appear(blobs, table, run_key)
            _refresh(blobs, run_key, {} if already else {run_key: table})
            manifest = _manifest(blobs, run_key)
        except (AzureError, OSError, ValueError, pa.ArrowException) as error:
            raise SinkError(f"cannot publish to {self._where}: {_words(error)}", hint=self._after(run_key)) from error
        rows = int(manifest["rows"]) if manifest and not manifest.get("withdrawn") else 0
        return Published(location=self._where, rows=rows, already=already)

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none.

        Raises:
            SinkError: the store failed, or a blob is not what its manifest says.
        """
        from azure.core.exceptions import AzureError

        try:
            blobs = self._blobs()
            keys = [r.run_key for r in _visible(blobs) if issued_at is None or r.issued_at == utc(issued_at)]
            tables = _rows_of(blobs, keys)
        except (AzureError, OSError) as error:
            raise SinkError(f"cannot read {self._where}: {_words(error)}") from error
        return pa.concat_tables(tables, promote_options="default") if tables else empty_vintage()

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first, without reading their rows."""
        return _visible(self._blobs())

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:
        """Take vintages out of what readers see; their run keys stay used up. How many were visible."""
        blobs, gone = self._blobs(), 0
        for run_key in run_keys:
            gone += _withdrawn(blobs, run_key, reason)
        if gone:
            _refresh(blobs, None, {})
        return gone

    @property
    def _where(self) -> str:
        return f"{self.container}/{self.path}"

    def _blobs(self) -> Blobs:
        credential, url = credential_of(self.credential)
        try:
            return Blobs(open_container(credential, self.account_url or url, self.container), self.path)
        except ValueError as error:
            raise SinkError(f"cannot open {self._where}: {error}") from None

    def _appear(self, blobs: Blobs, table: pa.Table, run_key: str) -> bool:
        """Rows first, then the manifest; False where the vintage is there already."""
        if _manifest(blobs, run_key) is not None:
            return False
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        data, writer = buffer.getvalue().to_pybytes(), uuid.uuid4().hex
        name = f"parts/{run_key}/{writer}.parquet"
        digest = blobs.put_checked(name, data)
        ref = ref_of(table)
        manifest = {
            "schema": "forecastcore/vintage/1",
            "run_key": run_key,
            "rows": table.num_rows,
            "writer": writer,
            "published_at": datetime.now(UTC).isoformat(),
            "parts": [{"name": name, "size": len(data), "sha256": digest}],
        }
        if blobs.create(_manifest_name(run_key), _json(manifest), _metadata(ref)):
            return True
        # Either a twin was first, or it was this run whose answer got lost: the manifest says who.
        there = _manifest(blobs, run_key)
        mine = there is not None and there["writer"] == writer
        if not mine:
            blobs.remove([name])
        return mine

    def _after(self, run_key: str) -> str:
        from azure.core.exceptions import AzureError

        try:
            visible = _manifest(self._blobs(), run_key) is not None
        except (AzureError, SinkError):
            return "the store does not answer; publish again once it does, nothing will be there twice"
        if not visible:
            return "nothing of this vintage is visible; what was published before is still served"
        return "the vintage is visible, but forecast_latest may lack it; run again to mend it"


def _manifest_name(run_key: str) -> str:
    return f"vintages/{run_key}.json"


def _manifest(blobs: Blobs, run_key: str) -> dict[str, Any] | None:
    content = blobs.get(_manifest_name(run_key))
    return None if content is None else dict(json.loads(content.data))


def _metadata(ref: VintageRef) -> dict[str, str]:
    """What a listing tells of a vintage, so that its manifest need not be read; headers hold ASCII only."""
    return {
        "issued_at": ref.issued_at.isoformat(),
        "created_at": ref.created_at.isoformat(),
        "project": quote(ref.project),
        "scenario": quote(ref.scenario),
        "rows": str(ref.rows),
    }


def _visible(blobs: Blobs) -> list[VintageRef]:
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


def _rows_of(blobs: Blobs, run_keys: Iterable[str]) -> list[pa.Table]:
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda run_key: _vintage(blobs, run_key), run_keys))
    return [table for table in tables if table is not None]


def _vintage(blobs: Blobs, run_key: str) -> pa.Table | None:
    """The rows of a vintage; None where it was withdrawn in this moment."""
    manifest = _manifest(blobs, run_key)
    if manifest is None or manifest.get("withdrawn"):
        return None
    parts = [blobs.get(part["name"]) for part in manifest["parts"]]
    whole = [
        part for part, said in zip(parts, manifest["parts"], strict=True) if part and len(part.data) == said["size"]
    ]
    if len(whole) < len(parts):
        if (_manifest(blobs, run_key) or {"withdrawn": True}).get("withdrawn"):
            return None
        raise SinkError(f"a blob of vintage {run_key} is gone or cut", hint="withdraw the vintage and predict again")
    return pa.concat_tables([pq.read_table(pa.BufferReader(part.data)) for part in whole])


def _refresh(blobs: Blobs, wanted: str | None, fresh: dict[str, pa.Table]) -> None:
    """Bring `forecast_latest` up to the vintages that are visible.

    Of several writers at a time one succeeds, and takes with it what the others have published by then.

    Args:
        blobs: of the sink.
        wanted: the run key that must be in it; None where all that are visible must be.
        fresh: rows that are at hand already, by run key.
    """
    for attempt in range(_ATTEMPTS):
        pointer = blobs.get(_POINTER)
        state = json.loads(pointer.data) if pointer else {"vintages": []}
        known = set(state["vintages"])
        if wanted in known:
            return
        visible = {ref.run_key for ref in _visible(blobs)}
        if known == visible:
            return
        base = blobs.get(state["blob"]) if pointer and known <= visible else None
        missing = visible - known if base else visible
        stored = _rows_of(blobs, sorted(missing - set(fresh)))
        held = [pq.read_table(pa.BufferReader(base.data))] if base else []
        latest = newest([*held, *(table for key, table in fresh.items() if key in missing), *stored])
        buffer = pa.BufferOutputStream()
        pq.write_table(latest, buffer)
        name = f"latest/{uuid.uuid4().hex}.parquet"
        data = buffer.getvalue().to_pybytes()
        digest = blobs.put_checked(name, data)
        said = {
            "schema": "forecastcore/latest/1",
            "blob": name,
            "size": len(data),
            "sha256": digest,
            "rows": latest.num_rows,
            "vintages": sorted(visible),
        }
        if pointer is None:
            blobs.create("columns.json", _json(dictionary(latest.schema)))
        swapped = blobs.swap(_POINTER, _json(said), pointer.etag) if pointer else blobs.create(_POINTER, _json(said))
        # a lost answer makes the client ask twice, and the second time is refused: the pointer says whose it is
        if swapped or _points_to(blobs, name):
            if random.random() * _SWEEP_EVERY < 1:  # noqa: S311 - only now and then
                _sweep(blobs, keep=name)
            return
        blobs.remove([name])
        time.sleep(random.uniform(0.01, 0.05) * min(attempt + 1, 10))  # noqa: S311 - only to draw two writers apart
    raise SinkError("other writers were faster, again and again", hint="run again; the vintage itself is visible")


def _points_to(blobs: Blobs, name: str) -> bool:
    pointer = blobs.get(_POINTER)
    return pointer is not None and json.loads(pointer.data)["blob"] == name


def _sweep(blobs: Blobs, keep: str) -> None:
    """Remove older states of `forecast_latest` once nobody can be reading them any more."""
    old = datetime.now(UTC) - _GRACE
    stale = [b.name.removeprefix(f"{blobs.path}/") for b in blobs.listed("latest") if b.last_modified < old]
    blobs.remove([name for name in stale if name != keep])


def _withdrawn(blobs: Blobs, run_key: str, reason: str) -> bool:
    """Mark the manifest, then remove the rows; False where the vintage was not visible."""
    name = _manifest_name(run_key)
    for _ in range(_ATTEMPTS):
        content = blobs.get(name)
        manifest: dict[str, Any] = json.loads(content.data) if content else {"withdrawn": True}
        if content is None or manifest.get("withdrawn"):
            return False
        mark = {"at": datetime.now(UTC).isoformat(), "reason": reason}
        if blobs.swap(name, _json({**manifest, "withdrawn": mark}), content.etag, {"withdrawn": mark["at"]}):
            blobs.remove([part["name"] for part in manifest["parts"]])
            return True
    raise SinkError(f"vintage {run_key} could not be withdrawn: others kept changing it")


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _words(error: Exception) -> str:
    """The first line of an error: what follows in Azure's are headers and ids."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
