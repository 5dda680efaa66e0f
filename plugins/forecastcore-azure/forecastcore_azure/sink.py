"""Forecasts in Azure Blob Storage.

```
CONTAINER/PATH/vintages/<run key>.json   the manifest: a vintage is visible if, and only if, it is there
CONTAINER/PATH/parts/<run key>/….parquet rows; never change
CONTAINER/PATH/forecast_latest.json      names the blob with the newest rows, and the vintages it was made of
CONTAINER/PATH/latest/….parquet          newest rows per series, scenario and ds; never change
CONTAINER/PATH/columns.json              what the columns mean
CONTAINER/PATH/report.html               the page of the newest run
CONTAINER/PATH/pending/<run key>         what forecast_latest may not show yet
```

Rows are written first and read back. Then one PUT under the condition that nothing is there (`If-None-Match: *`) makes
the vintage visible: of two runs with one key, one wins. The pointer `forecast_latest.json` is swapped only as it was
read (`If-Match`); who comes too late reads it again and adds what is missing. What may be missing is marked in
`pending/` first, so that whoever comes next makes it good, and nobody has to list all vintages for that.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from forecastcore.api import Published
from forecastcore.errors import SinkError
from forecastcore.vintages import check_run_key, check_vintage, empty_vintage, ref_of, utc
from forecastcore_azure.account import check_place, credential_of, open_container
from forecastcore_azure.blobs import Blobs
from forecastcore_azure.latest import announce, refresh
from forecastcore_azure.manifests import as_json, manifest_name, manifest_of, metadata, rows_of, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.vintages import VintageRef

__all__ = ["AzureBlobSink"]

_ATTEMPTS = 200


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
            return self._publish(self._blobs(), table, run_key)
        except (AzureError, OSError, ValueError, pa.ArrowException) as error:
            raise SinkError(f"cannot publish to {self._where}: {_words(error)}", hint=self._after(run_key)) from error

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none.

        Raises:
            SinkError: the store failed, or a blob is not what its manifest says.
        """
        from azure.core.exceptions import AzureError

        try:
            blobs = self._blobs()
            keys = [r.run_key for r in visible(blobs) if issued_at is None or r.issued_at == utc(issued_at)]
            tables = list(rows_of(blobs, keys).values())
        except (AzureError, OSError) as error:
            raise SinkError(f"cannot read {self._where}: {_words(error)}") from error
        return pa.concat_tables(tables, promote_options="default") if tables else empty_vintage()

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first, without reading their rows.

        Raises:
            SinkError: the store failed.
        """
        from azure.core.exceptions import AzureError

        try:
            return visible(self._blobs())
        except (AzureError, OSError) as error:
            raise SinkError(f"cannot read {self._where}: {_words(error)}") from error

    def withdraw(self, run_keys: Sequence[str], reason: str = "") -> int:
        """Take vintages out of what readers see; their run keys stay used up. How many were visible.

        Raises:
            SinkError: the store failed.
        """
        from azure.core.exceptions import AzureError

        try:
            blobs = self._blobs()
            gone = {key for key in run_keys if _withdrawn(blobs, check_run_key(key), reason)}
            if gone:
                refresh(blobs, set(), gone, {})
        except (AzureError, OSError, pa.ArrowException) as error:
            hint = "run it again"
            raise SinkError(f"cannot take vintages out of {self._where}: {_words(error)}", hint=hint) from error
        return len(gone)

    def show(self, page: bytes) -> str:
        """Put the page of a run beside the table, in place of the one before; where it is.

        Raises:
            SinkError: the store failed.
        """
        from azure.core.exceptions import AzureError

        try:
            self._blobs().put("report.html", page, "text/html; charset=utf-8")
        except (AzureError, OSError) as error:
            raise SinkError(f"cannot put the page into {self._where}: {_words(error)}") from error
        return f"{self._where}/report.html"

    @property
    def _where(self) -> str:
        return f"{self.container}/{self.path}"

    def _blobs(self) -> Blobs:
        credential, url = credential_of(self.credential)
        try:
            return Blobs(open_container(credential, self.account_url or url, self.container), self.path)
        except ValueError as error:
            raise SinkError(f"cannot open {self._where}: {error}") from None

    def _publish(self, blobs: Blobs, table: pa.Table, run_key: str) -> Published:
        there = manifest_of(blobs, run_key)
        if there is None and self._appear(blobs, table, run_key):
            refresh(blobs, {run_key}, set(), {run_key: table})
            return Published(location=self._where, rows=table.num_rows, already=False)
        there = there or manifest_of(blobs, run_key) or {"withdrawn": True}
        gone = bool(there.get("withdrawn"))
        refresh(blobs, set() if gone else {run_key}, {run_key} if gone else set(), {})
        return Published(location=self._where, rows=0 if gone else int(there["rows"]), already=True)

    def _appear(self, blobs: Blobs, table: pa.Table, run_key: str) -> bool:
        """Rows first, then the manifest; False where the vintage is there already."""
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        data, writer = buffer.getvalue().to_pybytes(), uuid.uuid4().hex
        name = f"parts/{run_key}/{writer}.parquet"
        digest = blobs.put_checked(name, data)
        manifest = {
            "schema": "forecastcore/vintage/1",
            "run_key": run_key,
            "rows": table.num_rows,
            "writer": writer,
            "published_at": datetime.now(UTC).isoformat(),
            "parts": [{"name": name, "size": len(data), "sha256": digest}],
        }
        announce(blobs, run_key)
        if blobs.create(manifest_name(run_key), as_json(manifest), metadata(ref_of(table))):
            return True
        # Either a twin was first, or it was this run whose answer got lost: the manifest says who.
        there = manifest_of(blobs, run_key)
        mine = there is not None and there["writer"] == writer
        if not mine:
            blobs.remove([name])
        return mine

    def _after(self, run_key: str) -> str:
        from azure.core.exceptions import AzureError

        try:
            there = manifest_of(self._blobs(), run_key) is not None
        except (AzureError, SinkError):
            return "the store does not answer; publish again once it does, nothing will be there twice"
        if not there:
            return "nothing of this vintage is visible; what was published before is still served"
        return "the vintage is visible, but forecast_latest may lack it; run again to mend it"


def _withdrawn(blobs: Blobs, run_key: str, reason: str) -> bool:
    """Mark the manifest, then remove the rows; False where the vintage was not visible."""
    name = manifest_name(run_key)
    for attempt in range(_ATTEMPTS):
        content = blobs.get(name)
        manifest: dict[str, Any] = json.loads(content.data) if content else {"withdrawn": True}
        if content is None or manifest.get("withdrawn"):
            return False
        if not attempt:
            announce(blobs, run_key, gone=True)
        mark = {"at": datetime.now(UTC).isoformat(), "reason": reason}
        if blobs.swap(name, as_json({**manifest, "withdrawn": mark}), content.etag, {"withdrawn": mark["at"]}):
            blobs.remove([part["name"] for part in manifest["parts"]])
            return True
    raise SinkError(f"vintage {run_key} could not be withdrawn: others kept changing it")


def _words(error: Exception) -> str:
    """The first line of an error: what follows in Azure's are headers and ids."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
