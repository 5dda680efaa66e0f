"""One process at a time, through a lock that dies with its holder."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from forecastcore.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["locked"]


@contextmanager
def locked(path: Path, *, timeout: float = 120.0) -> Iterator[None]:
    """Hold the lock of the file at `path`; the operating system lets go of it when the process dies.

    Args:
        path: made if it does not exist, and left there.
        timeout: seconds to wait for another holder.

    Raises:
        SinkError: another process holds it longer than that.
    """
    end = time.monotonic() + timeout
    with path.open("a+b") as handle:
        while not _taken(handle):
            if time.monotonic() > end:
                raise SinkError(
                    f"another process has been publishing for {timeout:.0f} s: it holds {path}",
                    hint="wait for it or end it; the lock goes with the process",
                )
            time.sleep(0.01)
        yield


def _taken(handle: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
