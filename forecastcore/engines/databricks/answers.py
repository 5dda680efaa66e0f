"""What an answer that is none means, and how long it is asked for again: the one place that waits."""

from __future__ import annotations

import itertools
import logging
import random
import ssl
import time
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TYPE_CHECKING, TypeVar

from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NotYet", "Queue", "Refused", "Unavailable", "causes", "meant", "patient"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: seconds of the longest pause, but for jitter: no longer than between two signs of life, which `reconcile` listens for
_LONGEST = 10.0
#: answers that may be lost before it is told; and where the host may be a wrong one, which may end it at the third
_LOST, _UNSURE = 1, 3
_GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
#: how a connection fails whose other end is there; a name that is not known or a port that is closed are not among them
_DROPPED = (
    BrokenPipeError,
    ConnectionAbortedError,
    ConnectionResetError,
    IncompleteRead,
    TimeoutError,
    ssl.SSLEOFError,
)


class Unavailable(Exception):  # noqa: N818 - reads as what it is
    """No answer this time: worth asking again.

    Attributes:
        retry_after: seconds that the service wants to be left alone, where it says so.
        busy: the service is well, and has too much to do for this now: nothing was done.
        there: something shows that the host is the right one, and in trouble; else it may be a wrong one.
    """

    def __init__(
        self, words: str, retry_after: float | None = None, *, busy: bool = False, there: bool = False
    ) -> None:
        super().__init__(words)
        self.retry_after = retry_after
        self.busy = busy
        self.there: bool = there or busy


class NotYet(Unavailable):
    """An answer that may be an old one, such as that a thing is not there which was just made."""


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


def patient(ask: Callable[[], T], *, until: float, pause: float, host: str, queue: Queue | None = None) -> T:
    """Ask until there is an answer, with growing, jittered pauses; `Retry-After` is obeyed, and the wait is told.

    Args:
        ask: what to do; raises `Unavailable` where it should be done again.
        until: `time.monotonic()` after which it gives up.
        pause: seconds of the first pause.
        host: who is asked, for whoever reads of the wait; it is not told where this is empty.
        queue: how to wait where the service is busy; as for any other fault where it is None.

    Raises:
        Unavailable: the last one, when the time is over.
    """
    began, told = time.monotonic(), False
    patience = until - began
    for attempt in itertools.count():
        try:
            answer = ask()
        except Unavailable as error:
            waiting = queue if error.busy else None
            longest = waiting.interval if waiting else _LONGEST
            jittered = min(longest, pause * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            wait = max(jittered, error.retry_after or 0.0)
            again = time.monotonic() + wait
            if again > (waiting.until if waiting else until):
                raise
            lost = attempt >= (_LOST if error.there else _UNSURE) and not isinstance(error, NotYet)
            if host and lost and not (told or waiting):
                told, left = True, until - time.monotonic()
                _log.warning("Databricks: %s does not answer (%s): waiting for it for up to %.0f s", host, error, left)
            until = again + patience if waiting else until  # it answers: the time that it may be silent begins anew
        else:
            if told:
                _log.warning("Databricks: %s answers again after %.0f s", host, time.monotonic() - began)
            return answer
        time.sleep(wait)
    raise AssertionError  # pragma: no cover - the loop has no end


def meant(error: BaseException) -> Unavailable | Refused:
    """What an exception of databricks-sdk says: ask again, or no."""
    from databricks.sdk import errors
    from databricks.sdk.errors.base import DatabricksError

    words = mask(" ".join(str(error).split("Config:")[0].split()))[:500] or type(error).__name__
    if not isinstance(error, DatabricksError):
        return Unavailable(_network(error, words), there=any(isinstance(one, _DROPPED) for one in causes(error)))
    after = getattr(error, "retry_after_secs", None)
    again = (errors.TooManyRequests, errors.InternalError, errors.TemporarilyUnavailable, errors.DeadlineExceeded)
    code = str(error.error_code or "")
    if after is not None or isinstance(error, again):
        return Unavailable(words, after, busy=isinstance(error, errors.TooManyRequests), there=True)
    if isinstance(error, errors.Unauthenticated) or (
        isinstance(error, errors.PermissionDenied) and "token" in words.lower()
    ):
        return Refused(words, code, "unauthenticated")
    if isinstance(error, errors.PermissionDenied):
        return Refused(words, code, "forbidden")
    if isinstance(error, errors.NotFound) or code in _GONE:
        return Refused(words, code, "gone")
    gateway = type(error) is DatabricksError  # such as 502; a status below 500 has a class of its own
    return Unavailable(words, there=gateway) if gateway or not code else Refused(words, code, "refused")


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and what it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _network(error: BaseException, words: str) -> str:
    """The innermost reason of a connection that failed: the outer ones only repeat addresses."""
    *_, innermost = causes(error)
    inner = mask(str(innermost))
    return inner if 0 < len(inner) < len(words) else words
