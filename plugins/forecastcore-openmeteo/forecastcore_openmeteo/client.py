"""One request to the service: in time, or not at all; and what was answered before."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from forecastcore.errors import AssumptionUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

__all__ = ["Client", "Kept", "Store"]

_LARGEST = 64 * 2**20  # bytes of an answer
_BUSY = 429
_FAULT = 500
_OK = 200
_KEPT = 50  # answers to one question
#: hosts that failed: until when they are left alone (monotonic seconds), and why
_resting: dict[str, tuple[float, str]] = {}


class _WithoutKey(logging.Filter):
    """httpx logs every address at INFO, and the service wants its key in the address."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "apikey=" not in record.getMessage()


@dataclass(frozen=True)
class Client:
    """How to ask.

    Attributes:
        timeout: seconds that a question may take in all, tries and slow answers included.
        retries: how often to ask again after a fault that may pass.
        pause: seconds for which a host that failed is not asked again: a backtest asks often.
    """

    timeout: float
    retries: int
    pause: float

    def get(self, host: str, params: Mapping[str, str]) -> bytes:
        """The body of the answer.

        Raises:
            AssumptionUnavailable: there was none in time.
        """
        until, why = _resting.get(host, (0.0, ""))
        if time.monotonic() < until:
            raise AssumptionUnavailable(f"{why} (not asked again for {self.pause:.0f} s)")
        return self._tried(host, params)

    def _tried(self, host: str, params: Mapping[str, str]) -> bytes:
        import httpx

        logger = logging.getLogger("httpx")
        if not any(isinstance(one, _WithoutKey) for one in logger.filters):
            logger.addFilter(_WithoutKey())
        deadline = time.monotonic() + self.timeout
        why = ""
        with httpx.Client(timeout=self.timeout) as http:
            for attempt in range(self.retries + 1):
                wait = 0.5 * 2**attempt
                try:
                    status, headers, body = _read(http, f"{host.rstrip('/')}/v1/forecast", params, deadline)
                except (httpx.HTTPError, TimeoutError) as error:
                    why = f"{host}: {type(error).__name__}: {error}"
                else:
                    if status == _OK:
                        return body
                    why = f"{host} answered {status}: {_reason(body)}"
                    if status != _BUSY and status < _FAULT:
                        raise AssumptionUnavailable(why)  # the question is at fault, the host is well
                    wait = max(wait, _retry_after(headers.get("Retry-After")))
                if attempt == self.retries or time.monotonic() + wait > deadline:
                    break
                time.sleep(wait)
        _resting[host] = (time.monotonic() + self.pause, why)
        raise AssumptionUnavailable(why)


def _read(
    http: httpx.Client, url: str, params: Mapping[str, str], deadline: float
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body; an answer that drips is cut off, which a timeout between its bytes would not do."""
    with http.stream("GET", url, params=dict(params), timeout=max(0.01, deadline - time.monotonic())) as answer:
        parts, size = [], 0
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError("the answer did not end in time")
            if size > _LARGEST:
                raise TimeoutError(f"the answer is larger than {_LARGEST} bytes")
        return answer.status_code, answer.headers, b"".join(parts)


def _reason(body: bytes) -> str:
    """What the service says of an error: JSON with `reason`."""
    try:
        return str(json.loads(body)["reason"])[:200]
    except (ValueError, TypeError, KeyError):
        return "no reason given"


def _retry_after(told: str | None) -> float:
    """Seconds to wait, as the header tells them, or its date."""
    if not told:
        return 0.0
    if told.isdigit():
        return float(told)
    try:
        return parsedate_to_datetime(told).timestamp() - time.time()
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class Kept:
    """An answer that was kept.

    Attributes:
        fetched: when it came, seconds since 1970.
        body: as it came.
    """

    fetched: float
    body: bytes


@dataclass(frozen=True)
class Store:
    """Answers of before, a folder for each question and a file for each answer.

    Attributes:
        folder: where; made when there is something to keep.
    """

    folder: Path

    def newest(self, question: Mapping[str, str], *, until: float, since: float = 0.0) -> Kept | None:
        """The last answer to a question that came in between, if there is one."""
        times = [at for at in self._times(question) if since <= at <= until]
        if not times:
            return None
        path = self._folder(question) / f"{round(max(times) * 1000)}.bin"
        return Kept(max(times), path.read_bytes())

    def keep(self, question: Mapping[str, str], kept: Kept) -> None:
        """Keep an answer, whole or not at all, and forget the oldest ones."""
        folder = self._folder(question)
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            file.write(kept.body)
        (folder / file.name).replace(folder / f"{round(kept.fetched * 1000)}.bin")
        for at in sorted(self._times(question))[:-_KEPT]:
            (folder / f"{round(at * 1000)}.bin").unlink(missing_ok=True)

    def _folder(self, question: Mapping[str, str]) -> Path:
        return self.folder / hashlib.sha256(json.dumps(dict(question), sort_keys=True).encode()).hexdigest()[:24]

    def _times(self, question: Mapping[str, str]) -> list[float]:
        folder = self._folder(question)
        return [int(path.stem) / 1000 for path in folder.glob("*.bin")] if folder.is_dir() else []
