"""Blobs that are written whole, checked, and swapped only under the condition that nobody was faster."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forecastcore.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.blob import BlobProperties, ContainerClient

__all__ = ["Blobs", "Content"]


@dataclass(frozen=True)
class Content:
    """What a blob held when it was read.

    Attributes:
        data: its bytes.
        etag: of this state of it.
    """

    data: bytes
    etag: str


@dataclass(frozen=True)
class Blobs:
    """The blobs of one container below one path."""

    container: ContainerClient
    path: str

    def get(self, name: str) -> Content | None:
        """The blob, or None where there is none."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            download = self.container.download_blob(f"{self.path}/{name}", max_concurrency=2)
            return Content(download.readall(), str(download.properties.etag))
        except ResourceNotFoundError:
            return None

    def put_checked(self, name: str, data: bytes) -> str:
        """Write a blob of a name that nobody else has, and see that it holds what was written; its SHA-256.

        Raises:
            SinkError: what is there is not what was written.
        """
        from azure.core.exceptions import ResourceExistsError

        with suppress(ResourceExistsError):  # the answer to an earlier attempt was lost; what counts is what is there
            self.container.upload_blob(f"{self.path}/{name}", data, overwrite=False, max_concurrency=2)
        there, digest = self.get(name), hashlib.sha256(data).hexdigest()
        if there is None or len(there.data) != len(data) or hashlib.sha256(there.data).hexdigest() != digest:
            self.remove([name])
            got = 0 if there is None else len(there.data)
            raise SinkError(f"blob {self.path}/{name} holds {got} bytes that are not the {len(data)} written")
        return digest

    def put(self, name: str, data: bytes, kind: str | None = None) -> None:
        """Write a blob, whatever was there; of a kind such as `text/html`, for whoever opens it."""
        from azure.storage.blob import ContentSettings

        about = ContentSettings(content_type=kind) if kind else None
        self.container.upload_blob(f"{self.path}/{name}", data, overwrite=True, content_settings=about)

    @contextmanager
    def turn(self, name: str, seconds: int) -> Iterator[bool]:
        """Have a lease on a blob, made where it is not there, for so long at most; False where somebody else has it."""
        from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError

        blob, lease = self.container.get_blob_client(f"{self.path}/{name}"), None
        with suppress(ResourceExistsError):
            try:
                lease = blob.acquire_lease(seconds)
            except ResourceNotFoundError:
                self.create(name, b"")
                lease = blob.acquire_lease(seconds)
        try:
            yield lease is not None
        finally:
            if lease is not None:
                with suppress(AzureError):  # it ends by itself
                    lease.release()

    def create(self, name: str, data: bytes, metadata: dict[str, str] | None = None) -> bool:
        """Make a blob appear, whole; False where something is there already."""
        from azure.core.exceptions import ResourceExistsError

        try:
            self.container.upload_blob(f"{self.path}/{name}", data, overwrite=False, metadata=metadata)
        except ResourceExistsError:
            return False
        return True

    def swap(self, name: str, data: bytes, etag: str, metadata: dict[str, str] | None = None) -> bool:
        """Replace a blob, whole; False where it is no longer as it was when `etag` was read."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

        condition: Any = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            self.container.upload_blob(f"{self.path}/{name}", data, overwrite=True, metadata=metadata, **condition)
        except (ResourceModifiedError, ResourceNotFoundError):
            return False
        return True

    def listed(self, folder: str) -> list[BlobProperties]:
        """The blobs of a folder with their metadata, by name."""
        return list(self.container.list_blobs(f"{self.path}/{folder}/", include=["metadata"]))

    def names(self, folder: str) -> set[str]:
        """Names of the blobs of a folder, without the folder's."""
        start = f"{self.path}/{folder}/"
        return {str(name).removeprefix(start) for name in self.container.list_blob_names(name_starts_with=start)}

    def remove(self, names: list[str]) -> None:
        """Remove blobs; those that are gone already are let be."""
        from azure.core.exceptions import ResourceNotFoundError

        for name in names:
            try:
                self.container.delete_blob(f"{self.path}/{name}")
            except ResourceNotFoundError:
                continue
