"""What a call changes in its process beside its answer: switches, threads, files, connections."""

from __future__ import annotations

import contextlib
import locale
import logging
import os
import random
import socket
import sys
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Watch", "offline", "watched"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {"os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
_CONNECTS = {"socket.connect", "socket.sendto", "socket.getaddrinfo"}
_STARTS = {"subprocess.Popen", "os.fork", "os.system", "os.posix_spawn", "os.spawn"}
#: what an interpreter and compilers of numerical code leave beside the code itself
_CACHES = ("__pycache__", ".pyc", ".nbi", ".nbc")


@dataclass
class Watch:
    """What the audit hooks of this process have seen since `on` was set; hooks cannot be taken away again.

    Attributes:
        on: whether to note anything.
        writes: files and folders that were changed.
        connections: addresses that were asked for.
        starts: other programs that were started.
        after_write: told the number of changes so far, after each.
    """

    on: bool = False
    writes: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    after_write: Callable[[int], None] | None = None

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """For `sys.addaudithook`."""
        if not self.on:
            return
        if (event == "open" and _writes(args)) or event in _PATHS:
            name = str(args[0])
            if not any(part in name for part in _CACHES) and not name.startswith(("/dev/", "/proc/")):
                self.writes.append(name)
                if self.after_write:
                    self.after_write(len(self.writes))
        elif event in _CONNECTS:
            self.connections.append(str(args[1] if event == "socket.connect" else args[0]))
        elif event in _STARTS:
            self.starts.append(f"{event} {args[0] if args else ''}")


def _writes(args: tuple[Any, ...]) -> bool:
    path, mode, flags = (*args, None, None, None)[:3]
    if isinstance(path, int):
        return False
    if isinstance(mode, str):
        return any(letter in mode for letter in "wxa+")
    return isinstance(flags, int) and bool(flags & _WRITES)


def _switches() -> dict[str, Any]:
    """Settings of the process that other code stands on."""
    root = logging.getLogger()
    return {
        "warnings.filters": list(warnings.filters),
        "os.environ": dict(os.environ),
        "the working folder": str(Path.cwd()),
        "numpy's global random state": np.random.get_state()[1].tobytes(),  # type: ignore[index]  # noqa: NPY002 - that it is left alone is the point
        "random's global state": random.getstate(),
        "numpy's error settings": np.geterr(),
        "pandas' options": {name: pd.get_option(name) for name in _PANDAS},
        "the root logger": (root.level, len(root.handlers), root.disabled),
        "logging.disable": logging.root.manager.disable,
        "the locale": locale.setlocale(locale.LC_ALL),
        "socket's default timeout": socket.getdefaulttimeout(),
        "sys.path": list(sys.path),
        "the recursion limit": sys.getrecursionlimit(),
        "sys.stdout": id(sys.stdout),
    }


_PANDAS = ("mode.chained_assignment", "mode.copy_on_write", "display.max_rows", "display.float_format")


def watched(call: Callable[[], Any], watch: Watch) -> tuple[Any, list[str]]:
    """The answer of a call, and which settings and threads it leaves changed.

    The call is made twice: importing a library may change settings, and that happens once. Before the second call all
    settings are put back as they were before the first.
    """
    filters, environ = list(warnings.filters), dict(os.environ)
    call()
    warnings.filters[:] = filters  # type: ignore[index]  # a list at run time
    for name in set(os.environ) - set(environ):
        del os.environ[name]
    os.environ.update(environ)
    np.random.seed(12345)  # noqa: NPY002 - a state of our own, to see whether it is left alone
    random.seed(12345)
    before, threads = _switches(), set(threading.enumerate())
    watch.on = True
    answer = call()
    watch.on = False
    after = _switches()
    changed = [name for name, value in before.items() if after[name] != value]
    left = [t.name for t in threading.enumerate() if t not in threads and t.is_alive()]
    return answer, changed + [f"a thread called {name!r} that goes on" for name in left]


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """No connection can be made from here."""

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise ConnectionRefusedError("the conformance suite plays an outage")

    kept = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    looked_up = socket.getaddrinfo
    try:
        for name in kept:
            setattr(socket.socket, name, refuse)
        socket.getaddrinfo = refuse
        yield
    finally:
        for name, value in kept.items():
            setattr(socket.socket, name, value)
        socket.getaddrinfo = looked_up
