"""One Databricks workspace: single requests, and what an answer that is none means.

The only importer of databricks-sdk, for its ways to find host and identity. Its own retries are switched off, so that
there is one place that waits: `patient`.
"""

from __future__ import annotations

import base64
import itertools
import json
import random
import time
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from forecastcore import __version__
from forecastcore.engines.databricks.identity import MANAGED_IDENTITY, named_identity
from forecastcore.errors import DatabricksRunError, EngineError
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Queue", "Refused", "Unavailable", "Workspace", "patient"]

T = TypeVar("T")
#: seconds that one request may take
REQUEST = 30.0
_WORKSPACE = "/api/2.0/workspace"
_LONGEST = 30.0
#: how often a host is tried before anything was submitted: what is wrong is told within seconds
_FIRST = 3
#: how many tokens one request is made with: several may expire one after the other
_TOKENS = 5
#: what a token for any Azure Databricks workspace is asked for
_DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"
_GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


class Unavailable(Exception):  # noqa: N818 - reads as what it is
    """No answer this time: worth asking again.

    Attributes:
        retry_after: seconds that the service wants to be left alone, where it says so.
        busy: the service is well, and has too much to do for this now: nothing was done.
    """

    def __init__(self, words: str, retry_after: float | None = None, *, busy: bool = False) -> None:
        super().__init__(words)
        self.retry_after = retry_after
        self.busy = busy


class Refused(Exception):  # noqa: N818 - reads as what it is
    """The service answered, and the answer is no.

    Attributes:
        code: what Databricks calls it.
        fault: `unauthenticated`, `forbidden`, `gone` or `refused`.
    """

    def __init__(self, words: str, code: str, fault: str) -> None:
        super().__init__(words)
        self.code: str = code
        self.fault: str = fault


@dataclass(frozen=True, kw_only=True)
class Queue:
    """How to wait for a service that is busy.

    Attributes:
        until: `time.monotonic()` after which it is given up.
        interval: seconds of the longest pause, but for jitter and `Retry-After`.
    """

    until: float
    interval: float


class _Once:
    """A clock on which the first pause takes longer than any patience: the SDK does not ask a second time."""

    def __init__(self) -> None:
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += 1_000_000.0 + seconds


def patient(ask: Callable[[], T], *, until: float, pause: float, queue: Queue | None = None) -> T:
    """Ask until there is an answer, with growing, jittered pauses; `Retry-After` is obeyed.

    Args:
        ask: what to do; raises `Unavailable` where it should be done again.
        until: `time.monotonic()` after which it gives up.
        pause: seconds of the first pause.
        queue: how to wait where the service is busy; as for any other fault where it is None.

    Raises:
        Unavailable: the last one, when the time is over.
    """
    patience = until - time.monotonic()
    for attempt in itertools.count():
        try:
            return ask()
        except Unavailable as error:
            waiting = queue if error.busy else None
            longest = waiting.interval if waiting else _LONGEST
            jittered = min(longest, pause * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            wait = max(jittered, error.retry_after or 0.0)
            again = time.monotonic() + wait
            if again > (waiting.until if waiting else until):
                raise
            until = again + patience if waiting else until  # it answers: the time that it may be silent begins anew
        time.sleep(wait)
    raise AssertionError  # pragma: no cover - the loop has no end


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


class Workspace:
    """A workspace, as the identity that databricks-sdk finds.

    Attributes:
        host: address.
        user: whom the workspace takes us for; empty where it does not say.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        only_identities: bool = False,
        pause: float = 1.0,
        request: float = REQUEST,
    ) -> None:
        """Find the workspace and ask it who we are.

        Args:
            profile: of the Databricks configuration, and nothing else is asked; the environment decides where it is
                None.
            only_identities: refuse a profile that is no service principal or managed identity.
            pause: seconds of the first pause before something is asked again.
            request: seconds that one request may take.

        Raises:
            DatabricksRunError: it cannot be found or reached, or does not know us.
            EngineError: databricks-sdk is not installed.
        """
        self._profile, self._only_identities, self._request = profile, only_identities, request
        self._client = self._connect()
        self.host: str = str(self._client.config.host).rstrip("/")
        self.user: str = self._whoami(pause)

    def _connect(self) -> Any:
        try:
            from databricks.sdk import WorkspaceClient
            from databricks.sdk.core import Config
        except ImportError as error:
            hint = "pip install 'forecastcore[databricks]'"
            raise EngineError(
                "the engine databricks needs databricks-sdk, which is not installed", hint=hint
            ) from error
        named: dict[str, Any] = {}
        if self._profile is not None:
            section = named_identity(self._profile, only_identities=self._only_identities)
            attributes = {attribute.name for attribute in Config.attributes()}
            named |= {key: value for key, value in section.items() if key in attributes}
            named["profile"] = self._profile
            if section["auth_type"] == MANAGED_IDENTITY:
                named["credentials_strategy"] = _ManagedIdentity(section.get("azure_client_id"))
        try:
            config = Config(
                **named,
                http_timeout_seconds=cast("int", self._request),
                retry_timeout_seconds=1,
                clock=cast("Any", _Once()),  # has all that the SDK asks of a clock
                product="forecastcore",
                product_version=__version__,
            )
            return WorkspaceClient(config=config)
        except ValueError as error:
            words = mask(str(error)).partition(" Config:")[0].rstrip(".")
            hint = "set DATABRICKS_HOST and a credential, or name a profile under engine.profile"
            raise DatabricksRunError(
                f"Databricks: no way to sign in: {words}", fault="unauthenticated", hint=hint
            ) from error

    def _whoami(self, pause: float) -> str:
        tries = itertools.count(1)

        def ask() -> dict[str, Any]:
            try:
                return self.call("GET", "/api/2.0/preview/scim/v2/Me")
            except Unavailable as error:
                if next(tries) >= _FIRST and error.retry_after is None:
                    raise DatabricksRunError(
                        f"Databricks: {self.host} does not answer: {error}",
                        fault="unreachable",
                        hint="is DATABRICKS_HOST right, and the network open to it? Nothing was submitted",
                    ) from error
                raise

        try:
            said = patient(ask, until=time.monotonic() + REQUEST * _FIRST, pause=pause)
        except Refused as error:
            if error.fault in {"unauthenticated", "forbidden"}:
                raise self.explained(error, "asking who this is") from error
            return ""  # it knows us, and not this question
        return str(said.get("userName", ""))

    def call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        data: bytes | None = None,
    ) -> dict[str, Any]:
        """One request and its JSON; a token that is not accepted any more is replaced by a fresh one.

        Raises:
            Unavailable: no answer, or one that says to ask again.
            Refused: anything else that is no success.
        """
        headers = {} if data is None else {"Content-Type": "application/octet-stream"}
        answer = self._asked(method, path, query=query, body=body, data=data, headers=headers)
        return dict(answer) if isinstance(answer, dict) else {"items": answer}

    def read(self, path: str) -> bytes:
        """The content of a file of a volume.

        Raises:
            Unavailable: as `call`.
            Refused: as `call`; its fault is `gone` where there is no such file.
        """
        with self._asked("GET", _file(path), raw=True)["contents"] as stream:
            try:
                content: bytes = stream.read()
            except OSError as error:
                raise _meant(error) from error
        return content

    def _asked(self, method: str, path: str, **request: Any) -> Any:
        for left in reversed(range(_TOKENS)):
            try:
                return self._once(method, path, **request)
            except Refused as error:
                if error.fault != "unauthenticated" or not left:
                    raise
            self._client = self._connect()
        raise AssertionError  # pragma: no cover - the last attempt answers or raises

    def _once(self, method: str, path: str, **request: Any) -> Any:
        from databricks.sdk.errors.base import DatabricksError

        if request.get("data") is not None:
            request["data"] = BytesIO(request["data"])
        try:
            return self._client.api_client.do(method, path, **request)
        except (TimeoutError, DatabricksError, OSError, ValueError) as error:
            cause = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ else error
            raise _meant(cause) from error

    def write(self, path: str, content: bytes) -> None:
        """Write a file of a volume or below /Workspace, folders too."""
        if not _of_workspace(path):
            self.call("PUT", _file(path), query={"overwrite": "true"}, data=content)
            return
        self.call("POST", f"{_WORKSPACE}/mkdirs", body={"path": path.rpartition("/")[0]})
        text = base64.b64encode(content).decode()
        body = {"path": path, "content": text, "format": "AUTO", "overwrite": True}
        self.call("POST", f"{_WORKSPACE}/import", body=body)

    def exists(self, path: str) -> bool:
        """Whether a file is known to be there; where the answer is no answer, it has to be written."""
        try:
            if _of_workspace(path):
                self.call("GET", f"{_WORKSPACE}/get-status", query={"path": path})
            else:
                self.call("HEAD", _file(path))
        except (Refused, Unavailable):
            return False
        return True

    def read_json(self, path: str) -> Any:
        """A JSON document of a volume; None where there is none, or not all of it yet."""
        try:
            return json.loads(self.read(path))
        except Refused as error:
            if error.fault == "gone":
                return None
            raise
        except ValueError:
            return None

    def explained(self, error: Refused, doing: str, *, url: str = "", run_id: int | None = None) -> DatabricksRunError:
        """A refusal for its reader."""
        who = getattr(self, "user", "")
        hints = {
            "unauthenticated": "the token is wrong or has expired: sign in again, or mend DATABRICKS_TOKEN",
            "forbidden": f"ask an administrator to grant it to {who or 'this identity'}",
        }
        words = f"Databricks: {self.host} refused {doing}{f' as {who}' if who else ''}: {error}"
        hint = hints.get(error.fault, f"Databricks calls it {error.code or 'an error'}")
        return DatabricksRunError(words, fault=error.fault, hint=hint, url=url or self.host, run_id=run_id)


def _of_workspace(path: str) -> bool:
    return path.startswith("/Workspace/")


def _file(path: str) -> str:
    return f"/api/2.0/fs/files{quote(path)}"


def _meant(error: BaseException) -> Unavailable | Refused:
    """What an exception of the SDK says: ask again, or no."""
    from databricks.sdk import errors
    from databricks.sdk.errors.base import DatabricksError

    words = mask(" ".join(str(error).split("Config:")[0].split()))[:500] or type(error).__name__
    if not isinstance(error, DatabricksError):
        return Unavailable(_network(error, words))
    after = getattr(error, "retry_after_secs", None)
    again = (errors.TooManyRequests, errors.InternalError, errors.TemporarilyUnavailable, errors.DeadlineExceeded)
    code = str(error.error_code or "")
    if after is not None or isinstance(error, again):
        return Unavailable(words, after, busy=isinstance(error, errors.TooManyRequests))
    if isinstance(error, errors.Unauthenticated) or (
        isinstance(error, errors.PermissionDenied) and "token" in words.lower()
    ):
        return Refused(words, code, "unauthenticated")
    if isinstance(error, errors.PermissionDenied):
        return Refused(words, code, "forbidden")
    if isinstance(error, errors.NotFound) or code in _GONE:
        return Refused(words, code, "gone")
    odd = type(error) is DatabricksError or not code  # a gateway's status, such as 502, or a page of HTML
    return Unavailable(words) if odd else Refused(words, code, "refused")


def _network(error: BaseException, words: str) -> str:
    """The innermost reason of a connection that failed: the outer ones only repeat addresses."""
    while error.__context__ is not None or error.__cause__ is not None:
        error = error.__cause__ or error.__context__ or error
    inner = mask(str(error))
    return inner if 0 < len(inner) < len(words) else words
