"""Where a Delta table lies: a folder of this machine, or Azure storage, asked as the credential that is named.

delta-rs reads `AZURE_*` variables of the environment for whatever it is not told. So it is told: a key, or a token of
the identity that the project file names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Location", "locate"]

_HINT = (
    "write {connection_string: ${env:NAME}}, managed-identity, {managed_identity: CLIENT_ID}, "
    "{tenant_id: …, client_id: …, client_secret: ${env:NAME}} or ${block:azure-blob-storage-credentials/NAME}"
)
_SHAPES = ({"connection_string"}, {"managed_identity"}, {"tenant_id", "client_id", "client_secret"})
_SCHEMES = {"az", "abfs", "abfss"}
_SCOPE = "https://storage.azure.com/.default"
_LOCAL = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Location:
    """A table's place.

    Attributes:
        uri: a path of this machine, or a URL.
        options: what delta-rs is told of the store; secret.
    """

    uri: str
    options: dict[str, str] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The last part of the way."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.options is None

    def beside(self, name: str) -> Location:
        """The place of that name beside this one."""
        return Location(f"{self.uri.rstrip('/').rpartition('/')[0]}/{name}", self.options)

    def existing(self, version: int | None = None) -> DeltaTable | None:
        """The table, or None where there is none."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.uri, version=version, storage_options=self.options)
        except TableNotFoundError:
            return None

    def table(self, version: int | None = None) -> DeltaTable:
        """The table, which is there."""
        from deltalake import DeltaTable

        return DeltaTable(self.uri, version=version, storage_options=self.options)

    def created(self, schema: Any, **options: Any) -> DeltaTable:
        """A new table, or the one that another process made in this moment."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        if self.is_local:
            Path(self.uri).mkdir(parents=True, exist_ok=True)
        try:
            return DeltaTable.create(self.uri, schema=schema, storage_options=self.options, **options)
        except DeltaError:
            if (delta := self.existing()) is None:
                raise
            return delta

    def remove(self, name: str) -> None:
        """Remove a file that no version of the table names."""
        if self.is_local:
            Path(self.uri, name).unlink(missing_ok=True)
        else:
            _files(self).delete_file(name)

    def read(self, name: str) -> pa.Buffer:
        """What a file holds."""
        if self.is_local:
            with pa.memory_map(str(Path(self.uri, name))) as stored:
                return stored.read_buffer()
        return pa.py_buffer(bytes(_files(self).open_input_file(name).read()))

    def copy(self, name: str, other: Location) -> None:
        """Let a file of this place lie in the folder beside it too; its bytes need not travel."""
        if not self.is_local:
            _files(self.beside("")).copy_file(f"{self.name}/{name}", f"{other.name}/{name}")
            return
        source, target = Path(self.uri, name), Path(other.uri, name)
        target.unlink(missing_ok=True)  # of an attempt that came too late
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, target)
            with target.open("rb+") as raw:
                os.fsync(raw.fileno())

    def written(self, name: str, content: pa.Buffer) -> pa.Buffer:
        """Write a new file, flush it, then read what is there."""
        if self.is_local:
            path = Path(self.uri, name)
            with path.open("xb") as raw:
                raw.write(content)
                raw.flush()
                os.fsync(raw.fileno())
            return self.read(name)
        stream = _files(self).open_output_stream(name)
        stream.write(content.to_pybytes())
        stream.close()
        return self.read(name)


def _files(place: Location) -> Any:
    from deltalake._internal import DeltaFileSystemHandler  # the public one's streams refuse what pyarrow writes

    return DeltaFileSystemHandler(place.uri, place.options)


def locate(path: Path | str, credential: str | dict[str, str] | None, account_url: str | None) -> Location:
    """The place that the project file means.

    Args:
        path: a path of this machine, or `az://CONTAINER/PATH`, or `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`.
        credential: who Azure is asked as; needed there, and only there.
        account_url: of the storage account, where neither path nor credential name it.

    Raises:
        ValueError: they do not fit together; its words hold no secret.
    """
    text = str(path)
    if "://" not in text:
        if credential is not None:
            raise ValueError("a credential is for az:// and abfss:// paths; a folder of this machine needs none")
        return Location(text)
    url = urlsplit(text)
    if url.scheme not in _SCHEMES:
        raise ValueError(f"path begins with {url.scheme}://, not with az:// or abfss://")
    parts = url.path.strip("/").split("/")
    if not all(parts) or any(part in {".", ".."} or re.search(r"[\\\x00-\x1f\x7f?#%]", part) for part in parts):
        raise ValueError(f"path {text!r} does not name a folder below a container")
    if credential is None:
        raise ValueError(f"a path in Azure needs a credential; {_HINT}")
    known, from_block = _known(credential)
    account = url.hostname.split(".")[0] if "@" in url.netloc and url.hostname else None
    return Location(text.rstrip("/"), _options(known, account, account_url or from_block))


def _known(given: str | dict[str, str]) -> tuple[dict[str, str], str | None]:
    """The credential as one of the known shapes, and the account's URL where it brings one."""
    fields: Any = given
    if isinstance(given, str):
        try:
            fields = {"managed_identity": ""} if given == "managed-identity" else json.loads(given)
        except ValueError:
            fields = None
    if not isinstance(fields, dict):
        raise ValueError(f"credential is none of the known kinds; {_HINT}")  # noqa: TRY004 - a parameter's value
    known = {name: value for name, value in fields.items() if value or name == "managed_identity"}
    url = known.pop("account_url", None)
    if set(known) not in _SHAPES:
        raise ValueError(f"credential has the keys {', '.join(sorted(map(str, fields)))}; {_HINT}")
    return known, url


def _options(credential: dict[str, str], account: str | None, account_url: str | None) -> dict[str, str]:
    """What delta-rs is told; the token of an identity is fetched here, as that identity alone."""
    if "connection_string" in credential:
        pairs = (pair.partition("=") for pair in credential["connection_string"].split(";") if pair)
        said = {name: value for name, _, value in pairs}
        if not {"AccountName", "AccountKey"} <= set(said):
            raise ValueError("credential.connection_string names no account and key")
        options = {"account_name": said["AccountName"], "account_key": said["AccountKey"]}
        return options | (_emulator(said.get("BlobEndpoint", "")) or _endpoint(said.get("BlobEndpoint")))
    host = urlsplit(account_url or "").hostname
    account = account or (host.split(".")[0] if host else None)
    if not account:
        raise ValueError("account_url is needed beside an identity, such as https://ACCOUNT.blob.core.windows.net")
    return {"account_name": account, "bearer_token": _token(credential)} | _endpoint(account_url)


def _emulator(url: str) -> dict[str, str]:
    """What makes delta-rs talk to an emulator on this machine; it lists differently, and its address is a variable."""
    host = urlsplit(url)
    if host.scheme != "http" or host.hostname not in _LOCAL:
        return {}
    os.environ["AZURITE_BLOB_STORAGE_URL"] = f"{host.scheme}://{host.netloc}"
    return {"azure_storage_use_emulator": "true"}


def _endpoint(url: str | None) -> dict[str, str]:
    if url is None:
        return {}
    host = urlsplit(url)
    if host.scheme == "https":
        return {"endpoint": url}
    if host.scheme == "http" and host.hostname in _LOCAL:
        return {"endpoint": url, "allow_http": "true"}
    raise ValueError(f"the account's URL must begin with https://, got {host.scheme}://{host.hostname}")


def _token(credential: dict[str, str]) -> str:
    try:
        from azure.core.exceptions import AzureError
        from azure.identity import ClientSecretCredential, ManagedIdentityCredential
    except ModuleNotFoundError:
        raise ValueError("an identity needs azure-identity: pip install 'forecastcore-delta[azure]'") from None
    who: Any
    if "managed_identity" in credential:
        if not credential["managed_identity"] and os.environ.get("AZURE_FEDERATED_TOKEN_FILE"):
            raise ValueError(f"managed-identity names none, and the environment would choose one; {_HINT}")
        who = ManagedIdentityCredential(client_id=credential["managed_identity"] or None)
    else:
        who = ClientSecretCredential(credential["tenant_id"], credential["client_id"], credential["client_secret"])
    try:
        with who:
            return str(who.get_token(_SCOPE).token)
    except AzureError as error:
        words = (str(error).splitlines() or [""])[0]
        raise ValueError(f"the named identity gets no token, and nobody else is asked: {words}") from None


def fresh_name(run_key: str) -> str:
    """The name of a file that nobody else writes."""
    return f"part-{run_key}-{uuid.uuid4().hex}.parquet"


def is_fresh_name(name: str) -> bool:
    """Whether a file could have been named so by `fresh_name`."""
    return re.fullmatch(r"part-[0-9a-f]+-[0-9a-f]{32}\.parquet", name) is not None
