"""Which process this is, whether one that was noted down is no more, and what memory it need not keep."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["alive", "give_back", "gone", "here"]


def here() -> tuple[str, str]:
    """This machine, and this process on it; its birth tells it from a later one with the same number."""
    return socket.gethostname(), f"{os.getpid()}/{_born(os.getpid())}"


def gone(host: str | None, process: str | None) -> bool:
    """Whether a process, as `here` noted it, was one of this machine and is no more; what cannot be told is false."""
    if host != socket.gethostname() or not process:
        return False
    pid, _, born = process.partition("/")
    return pid.isdigit() and _born(int(pid)) != born


def alive(pid: int) -> bool:
    """Whether a process of this machine goes on; one that has ended and that nobody has buried does not."""
    return bool(_born(pid))


def give_back() -> None:
    """Give back what is free: of a table of 100,000 rows Arrow keeps 50 MB, and so may the C library of arrays."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    _trim()(0)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], object]:
    """The C library's function that lets go of free memory; only GNU's has one."""
    import ctypes

    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return lambda _: None
    return trim


def _born(pid: int) -> str:
    """When a process began, in the system's own count; empty where there is none with that number."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if told[0] in {"Z", "X"} else told[19]  # a dead one that nobody has buried yet
    except OSError:
        return _alive(pid)


def _alive(pid: int) -> str:
    if Path("/proc/self/stat").exists() or os.name != "posix":
        return "" if os.name == "posix" else "alive"  # Windows has no harmless question: a run there stays open
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"
