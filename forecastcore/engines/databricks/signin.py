"""Signs in as databricks-sdk would, with the first request: where a host is away, there is one place that waits.

The SDK itself signs in when its client is made, waits there by itself, and for the token of a service principal without
an end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from forecastcore import __version__
from forecastcore.engines.databricks.answers import Refused, Unavailable, causes, meant
from forecastcore.engines.databricks.identity import MANAGED_IDENTITY, named_identity
from forecastcore.errors import DatabricksRunError, EngineError
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["client_of"]

#: what a token for any Azure Databricks workspace is asked for
_DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"
#: seconds before its end from which on a token is replaced; a half of its life where that is shorter
_EARLY = 300.0
_PRINCIPAL = "oauth-m2m"
#: what an endpoint of tokens answers to a credential that is none, what to one too many, and from where on in trouble
_NO_STATUS, _TOO_MANY, _FAULT = (400, 401, 403), 429, 500
#: and what it calls a credential that is none (RFC 6749)
_NO = ("invalid_client", "invalid_grant", "invalid_scope", "unauthorized_client", "access_denied")


def client_of(profile: str | None, *, only_identities: bool, request: float) -> Any:
    """A client of databricks-sdk that has signed in nowhere yet, and asks nothing twice.

    Args:
        profile: see `Workspace`.
        only_identities: see `Workspace`.
        request: seconds that one request may take.

    Raises:
        DatabricksRunError: there is no way to sign in.
        EngineError: databricks-sdk is not installed.
    """
    try:
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.core import Config
    except ImportError as error:
        hint = "pip install 'forecastcore[databricks]'"
        raise EngineError("the engine databricks needs databricks-sdk, which is not installed", hint=hint) from error

    class Silent(Config):
        """Does not ask a host for what is known of it: that waits for as long as a host in trouble says."""

        def _resolve_host_metadata(self) -> None:
            pass

    named: dict[str, Any] = {"credentials_strategy": _Later(request)}
    attributes = {attribute.name for attribute in Config.attributes()}
    if profile is not None:
        section = named_identity(profile, only_identities=only_identities)
        named |= {key: value for key, value in section.items() if key in attributes}
        named["profile"] = profile
        if section["auth_type"] == MANAGED_IDENTITY:
            named["credentials_strategy"] = _ManagedIdentity(section.get("azure_client_id"))
    try:
        config = Silent(
            **named,
            http_timeout_seconds=cast("int", request),
            retry_timeout_seconds=1,
            clock=cast("Any", _Once()),  # has all that the SDK asks of a clock
            product="forecastcore",
            product_version=__version__,
        )
        return WorkspaceClient(config=config)
    except ValueError as error:
        raise _no_way(error) from error


class _Once:
    """A clock on which the first pause takes longer than any patience: the SDK does not ask a second time."""

    def __init__(self) -> None:
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += 1_000_000.0 + seconds


class _Later:
    """The ways to sign in of databricks-sdk, tried when the first request is made; a strategy of its."""

    def __init__(self, request: float) -> None:
        self._request = request
        self._asked, self._header = "", cast("Callable[[], dict[str, str]] | None", None)

    def auth_type(self) -> str:
        return self._asked or "default"

    def __call__(self, config: Any) -> Callable[[], dict[str, str]]:
        self._asked = config.auth_type or ""

        def header() -> dict[str, str]:
            self._header = self._header or self._way(config)
            try:
                return self._header()
            except (OSError, ValueError) as error:
                raise _no_token(error) from error

        return header

    def _way(self, config: Any) -> Callable[[], dict[str, str]]:
        from databricks.sdk.credentials_provider import DefaultCredentials

        others = config.token or (config.username and config.password) or config.metadata_service_url
        principal = config.host and config.client_id and config.client_secret
        if principal and (self._asked == _PRINCIPAL or not (self._asked or others)):
            config.auth_type = _PRINCIPAL
            return _Principal(config, self._request)
        config.auth_type = self._asked  # what stands there by now is the name of this class's way
        if config.host:
            config.discovery_url = _discovery(config)
        ways = DefaultCredentials()
        try:
            header: Callable[[], dict[str, str]] = ways(config)
        except ValueError as error:
            *_, innermost = causes(error)
            if isinstance(innermost, OSError) and isinstance(answer := meant(innermost), Unavailable):
                raise answer from error
            raise _no_way(error) from error
        config.auth_type = ways.auth_type()
        return header


def _discovery(config: Any) -> str:
    """Where a workspace says which its endpoint of tokens is."""
    return str(config.discovery_url or f"{config.host}/oidc/.well-known/oauth-authorization-server")


class _Principal:
    """A service principal of Databricks: client id and secret become a token, for a while."""

    def __init__(self, config: Any, request: float) -> None:
        self._config, self._request = config, request
        self._token, self._early, self._end = "", 0.0, 0.0

    def __call__(self) -> dict[str, str]:
        if (now := time.monotonic()) >= self._early:
            try:
                self._renew(now)
            except Unavailable:
                if now >= self._end:
                    raise
        return {"Authorization": f"Bearer {self._token}"}

    def _renew(self, now: float) -> None:
        host, scopes = self._config.host, self._config.scopes
        found = self._asked("GET", _discovery(self._config))
        said = self._asked(
            "POST",
            str(found.get("token_endpoint") or f"{host}/oidc/v1/token"),
            data={"grant_type": "client_credentials", "scope": " ".join(scopes or ["all-apis"])},
            auth=(self._config.client_id, self._config.client_secret),
        )
        lasts = float(said.get("expires_in") or 0)
        self._token, self._end = str(said.get("access_token")), now + lasts
        self._early = self._end - min(lasts / 2, _EARLY)

    def _asked(self, method: str, url: str, **how: Any) -> dict[str, Any]:
        import requests

        how.setdefault("auth", lambda request: request)  # else a .netrc is looked into
        try:
            answer = requests.request(method, url, timeout=self._request, **how)
            if answer.ok:
                return dict(answer.json())
        except (OSError, TypeError) as error:
            raise meant(error) from error
        words = mask(f"{url} answers {answer.status_code}: {_said(answer)}")
        if answer.status_code in _NO_STATUS:
            raise Refused(words, "", "unauthenticated")
        after = answer.headers.get("Retry-After", "")
        there = answer.status_code == _TOO_MANY or answer.status_code >= _FAULT
        raise Unavailable(words, float(after) if after.isdigit() else None, there=there)


def _said(answer: Any) -> str:
    """Why an endpoint gave no token, in its own words."""
    try:
        said = dict(answer.json())
    except (TypeError, ValueError):
        said = {}
    return str(said.get("error_description") or said.get("message") or answer.text[:200].strip() or answer.reason)


class _ManagedIdentity:
    """This machine's identity, or the one of its identities that is named; a strategy of databricks-sdk."""

    def __init__(self, client_id: str | None) -> None:
        self._client_id = client_id

    def auth_type(self) -> str:
        return MANAGED_IDENTITY

    def __call__(self, config: Any) -> Callable[[], dict[str, str]]:  # noqa: ARG002 - the environment speaks there too
        try:
            from azure.core.exceptions import AzureError
            from azure.identity import ManagedIdentityCredential
        except ModuleNotFoundError:
            hint = "pip install azure-identity"
            raise EngineError("a managed identity needs azure-identity, which is not installed", hint=hint) from None
        credential = ManagedIdentityCredential(client_id=self._client_id)

        def header() -> dict[str, str]:
            try:
                return {"Authorization": f"Bearer {credential.get_token(_DATABRICKS).token}"}
            except AzureError as error:
                words = f"Databricks: the managed identity gets no token: {(str(error).splitlines() or [''])[0]}"
                hint = (
                    "is the identity attached to this machine, and azure_client_id its client id? Nobody else is asked"
                )
                raise DatabricksRunError(words, fault="unauthenticated", hint=hint) from None

        return header


def _no_way(error: ValueError) -> DatabricksRunError:
    words = mask(str(error)).partition(" Config:")[0].rstrip(".")
    hint = "set DATABRICKS_HOST and a credential, or name a profile under engine.profile"
    return DatabricksRunError(f"Databricks: no way to sign in: {words}", fault="unauthenticated", hint=hint)


def _no_token(error: OSError | ValueError) -> Unavailable | Refused:
    """What databricks-sdk's own ways say when there is no token; a status is not among it."""
    if isinstance(error, OSError):
        return meant(error)
    words = mask(str(error))[:500]
    if words.startswith(_NO):
        return Refused(words, words.partition(":")[0], "unauthenticated")
    return Unavailable(f"no token: {words}", there=True)
