"""Who the storage account is asked as: exactly the credential that the project file names, never another.

There is no fall-through: `DefaultAzureCredential` would try whatever it finds on the machine, and write to the wrong
account with the right manners.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

__all__ = ["CREDENTIAL_HINT", "check_place", "credential_of", "open_container"]

CREDENTIAL_HINT = (
    "write {connection_string: ${env:NAME}}, managed-identity, {managed_identity: CLIENT_ID}, "
    "{tenant_id: …, client_id: …, client_secret: ${env:NAME}} or ${block:azure-blob-storage-credentials/NAME}"
)
_SHAPES = ({"connection_string"}, {"managed_identity"}, {"tenant_id", "client_id", "client_secret"})
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9](-?[a-z0-9])*")
_SCOPE = "https://storage.azure.com/.default"
_LOCAL = {"127.0.0.1", "localhost", "::1"}
_READ_TIMEOUT = 60
#: how often a request is tried again; the pauses double from half a second
_RETRIES = 5


def credential_of(given: str | dict[str, str]) -> tuple[dict[str, str], str | None]:
    """The credential as one of the known shapes, and the account's URL where the credential brings it along.

    Args:
        given: as the project file has it; a Prefect block arrives as JSON text.

    Raises:
        ValueError: it is none of them; its words hold no value.
    """
    fields: Any = given
    if isinstance(given, str):
        if given == "managed-identity":
            return {"managed_identity": ""}, None
        try:
            fields = json.loads(given)
        except ValueError:
            fields = None
    if not isinstance(fields, dict):
        raise ValueError(f"credential is none of the known kinds; {CREDENTIAL_HINT}")  # noqa: TRY004 - a parameter's value
    known = {name: value for name, value in fields.items() if value}
    url = known.pop("account_url", None)
    if set(known) not in _SHAPES or not all(isinstance(value, str) for value in known.values()):
        raise ValueError(f"credential has the keys {', '.join(sorted(map(str, fields)))}; {CREDENTIAL_HINT}")
    return known, url


def check_place(container: str, path: str) -> str:
    """The path without slashes at its ends, once container and path are seen to lead nowhere else.

    Raises:
        ValueError: they could.
    """
    if not _CONTAINER.fullmatch(container):
        raise ValueError(f"container {container!r} is no container's name: 3 to 63 lowercase letters, digits, dashes")
    clean = path.strip("/")
    parts = clean.split("/")
    if not clean or any(part in {"", ".", ".."} or re.search(r"[\\\x00-\x1f\x7f?#%]", part) for part in parts):
        raise ValueError(f"path {path!r} is not names joined by slashes")
    return clean


def open_container(credential: dict[str, str], account_url: str | None, container: str) -> ContainerClient:
    """The container, asked as the named credential.

    Raises:
        ValueError: an identity without the account's URL, or a URL that would send it in the clear.
        ClientAuthenticationError: the identity gets no token.
    """
    from azure.storage.blob import BlobServiceClient, ExponentialRetry

    patience = ExponentialRetry(initial_backoff=0.5, increment_base=2, retry_total=_RETRIES, random_jitter_range=0.5)  # type: ignore[arg-type]  # its own default for seconds is int, it sleeps on floats
    options: dict[str, Any] = {"read_timeout": _READ_TIMEOUT, "retry_policy": patience}
    if "connection_string" in credential:
        text = credential["connection_string"]
        try:
            service = BlobServiceClient.from_connection_string(text, **options)
        except ValueError:
            raise ValueError("credential.connection_string is no connection string of a storage account") from None
        return service.get_container_client(container)
    if not account_url:
        raise ValueError("account_url is needed beside an identity, such as https://ACCOUNT.blob.core.windows.net")
    host = urlsplit(account_url)
    if host.scheme != "https" and host.hostname not in _LOCAL:
        raise ValueError(f"account_url must begin with https://, got {host.scheme}://{host.hostname}")
    identity = _identity(credential)
    identity.get_token(_SCOPE)  # kept by it; the client would ask an identity that is refused for minutes
    return BlobServiceClient(account_url, credential=identity, **options).get_container_client(container)


def _identity(credential: dict[str, str]) -> Any:
    from azure.identity import ClientSecretCredential, ManagedIdentityCredential

    if "managed_identity" in credential:
        if not credential["managed_identity"] and os.environ.get("AZURE_FEDERATED_TOKEN_FILE"):
            raise ValueError(f"managed-identity names none, and the environment would choose one; {CREDENTIAL_HINT}")
        return ManagedIdentityCredential(client_id=credential["managed_identity"] or None)
    return ClientSecretCredential(credential["tenant_id"], credential["client_id"], credential["client_secret"])
