"""One Databricks workspace: who we are there, and single requests; those who ask are patient, see `answers`."""

from __future__ import annotations

import base64
import itertools
import json
import time
from io import BytesIO
from typing import Any
from urllib.parse import quote

from forecastcore.engines.databricks.answers import Refused, Unavailable, meant, patient
from forecastcore.engines.databricks.signin import client_of
from forecastcore.errors import DatabricksRunError

__all__ = ["REQUEST", "Workspace"]

#: seconds that one request may take
REQUEST = 30.0
_WORKSPACE = "/api/2.0/workspace"
#: how often a host is tried that may be a wrong one, and for how many seconds one that nobody wants to wait for
_FIRST, _SHORT = 3, 90.0
#: how many tokens one request is made with: several may expire one after the other
_TOKENS = 5


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
        patience: float = 0.0,
    ) -> None:
        """Find the workspace and ask it who we are.

        Args:
            profile: of the Databricks configuration, and nothing else is asked; the environment decides where it is
                None.
            only_identities: refuse a profile that is no service principal or managed identity.
            pause: seconds of the first pause before something is asked again.
            request: seconds that one request may take.
            patience: seconds that a host is waited for that is there and in trouble; a wrong one is told at once.

        Raises:
            DatabricksRunError: it cannot be found or reached, or does not know us.
            EngineError: databricks-sdk is not installed.
        """
        self._profile, self._only_identities, self._request = profile, only_identities, request
        self._client = self._connect()
        self.host: str = str(self._client.config.host).rstrip("/")
        self.user: str = self._whoami(pause, patience)

    def _connect(self) -> Any:
        return client_of(self._profile, only_identities=self._only_identities, request=self._request)

    def _whoami(self, pause: float, patience: float) -> str:
        """Ask who this is: what is the caller's mistake is told within seconds, and a host in trouble waited for."""
        tries = itertools.count(1)

        def ask() -> dict[str, Any]:
            try:
                return self.call("GET", "/api/2.0/preview/scim/v2/Me")
            except Unavailable as error:
                if next(tries) >= _FIRST and not (error.there and patience):
                    raise self._unreachable(error) from error
                raise

        try:
            host = self.host if patience else ""  # three tries are no wait
            said = patient(ask, until=time.monotonic() + (patience or _SHORT), pause=pause, host=host)
        except Unavailable as error:
            raise self._unreachable(error) from error
        except Refused as error:
            if error.fault in {"unauthenticated", "forbidden"}:
                raise self.explained(error, "asking who this is") from error
            return ""  # it knows us, and not this question
        return str(said.get("userName", ""))

    def _unreachable(self, error: Unavailable) -> DatabricksRunError:
        hint = "is DATABRICKS_HOST right, and the network open to it? Nothing was submitted"
        if error.there:
            hint = "it is there, and in trouble: run it again later. Nothing was submitted"
        words = f"Databricks: {self.host} does not answer: {error}"
        return DatabricksRunError(words, fault="unreachable", hint=hint)

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
                raise meant(error) from error
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
            raise meant(cause) from error

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
            "unauthenticated": "the token or secret is wrong or has expired: sign in again, or mend DATABRICKS_TOKEN",
            "forbidden": f"ask an administrator to grant it to {who or 'this identity'}",
        }
        words = f"Databricks: {self.host} refused {doing}{f' as {who}' if who else ''}: {error}"
        hint = hints.get(error.fault, f"Databricks calls it {error.code or 'an error'}")
        return DatabricksRunError(words, fault=error.fault, hint=hint, url=url or self.host, run_id=run_id)


def _of_workspace(path: str) -> bool:
    return path.startswith("/Workspace/")


def _file(path: str) -> str:
    return f"/api/2.0/fs/files{quote(path)}"
