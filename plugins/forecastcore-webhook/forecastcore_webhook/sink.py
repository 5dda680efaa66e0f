"""A notice of each published vintage, signed, told over HTTPS.

```
POST /hook
Idempotency-Key: <run key>
X-Forecastcore-Signature: t=1732406400,v1=<hex of HMAC-SHA256 over "1732406400." and the body>
Content-Type: application/json

{"schema": "forecastcore/notice/1", "run_key": …, "project": …, "scenario": …, "issued_at": …, "rows": …, …}
```

The body of a run key is the same every time it is told. A receiver that knows the key already answers 208 or 409; any
other receiver does well to do the same work once only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import pyarrow.compute as pc

from forecastcore.api import Published
from forecastcore.errors import SinkError
from forecastcore.vintages import check_vintage, empty_vintage, ref_of

if TYPE_CHECKING:
    from datetime import datetime

    import httpx
    import pyarrow as pa

__all__ = ["WebhookSink", "signature"]

_LOCAL = {"127.0.0.1", "localhost", "::1"}
_KNOWN = {208, 409}
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 60.0
_SHORTEST_SECRET = 16


@dataclass(frozen=True)
class WebhookSink:
    """Tells a URL of each vintage, once the other sinks have it.

    Attributes:
        url: https://…; told by POST.
        secret: shared with the receiver, at least 16 characters; signs the body.
        attempts: how often to try.
        timeout: seconds to wait for an answer.
        pause: seconds before the second attempt; doubled each time.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    attempts: int = 5
    timeout: float = 15.0
    pause: float = 1.0

    #: nothing is kept: the host tells it last, and reads elsewhere
    only_tells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if not parts.hostname or (
            parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL)
        ):
            raise ValueError("url must begin with https:// and name a host")
        if len(self.secret) < _SHORTEST_SECRET:
            raise ValueError(f"secret must have at least {_SHORTEST_SECRET} characters")
        if self.attempts < 1 or self.timeout <= 0 or self.pause < 0:
            raise ValueError("attempts must be at least 1, timeout above 0, pause not below 0")

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Tell of the vintage; `already` where the receiver says that it knows of it.

        Raises:
            SinkError: it was not told.
        """
        table = check_vintage(vintage, run_key)
        answer = self._told(_notice(table), run_key)
        return Published(location=self._where, rows=table.num_rows, already=answer in _KNOWN)

    def read(self, issued_at: datetime | None = None) -> pa.Table:  # noqa: ARG002 - the protocol's
        """An empty table: what was told is not kept here."""
        return empty_vintage()

    @property
    def _where(self) -> str:
        """Scheme, host and port: what follows may hold a token."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def _told(self, body: bytes, run_key: str) -> int:
        """The status of the answer."""
        import httpx

        words, wait = "", 0.0
        with httpx.Client(timeout=self.timeout, follow_redirects=False, trust_env=False) as client:
            for attempt in range(self.attempts):
                if attempt:
                    time.sleep(self._pause(attempt, wait))
                wait = 0.0
                try:
                    answer = client.post(self.url, content=body, headers=self._headers(body, run_key))
                except httpx.TransportError as error:
                    words = type(error).__name__
                    continue
                if answer.is_success or answer.status_code in _KNOWN:
                    return answer.status_code
                words, wait = f"status {answer.status_code}", _retry_after(answer)
                if answer.status_code not in _AGAIN:
                    break
        raise SinkError(
            f"{self._where} was not told: {words}", hint="run again; the vintage itself is not written twice"
        )

    def _pause(self, attempt: int, wait: float) -> float:
        doubled = self.pause * 2.0 ** (attempt - 1) * random.uniform(0.8, 1.2)  # noqa: S311 - only to draw retries apart
        return min(max(doubled, wait), _LONGEST_PAUSE)

    def _headers(self, body: bytes, run_key: str) -> dict[str, str]:
        now = int(time.time())
        return {
            "Content-Type": "application/json",
            "Idempotency-Key": run_key,
            "User-Agent": "forecastcore",
            "X-Forecastcore-Signature": f"t={now},v1={signature(self.secret, now, body)}",
        }


def signature(secret: str, moment: int, body: bytes) -> str:
    """What a receiver computes too, and compares in constant time; a `moment` long gone is a replay.

    Args:
        secret: shared by both.
        moment: seconds since 1970, from `t=`.
        body: as received.
    """
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()


def _notice(table: pa.Table) -> bytes:
    ref = ref_of(table)
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(table["status"]).to_pylist()}
    notice: dict[str, Any] = {
        "schema": "forecastcore/notice/1",
        "run_key": ref.run_key,
        "project": ref.project,
        "scenario": ref.scenario,
        "issued_at": ref.issued_at.isoformat(),
        "rows": ref.rows,
        "series": pc.count_distinct(table["unique_id"]).as_py(),
        "status": {status: counts.get(status, 0) for status in ("ok", "degraded", "failed")},
        "model_version": table["model_version"][0].as_py(),
        "first": pc.min(table["ds"]).as_py().isoformat(),
        "last": pc.max(table["ds"]).as_py().isoformat(),
    }
    return json.dumps(notice, sort_keys=True).encode()


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
