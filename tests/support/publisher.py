"""Processes that publish sample vintages, and are killed at a named point if they are told to.

The kill is a real SIGKILL, from inside a function of the standard library or of the format's library: the code under
test knows nothing of it. A nursery imports the libraries once and forks each process from there, before any thread.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from forecastcore.testing import sample_vintage

if TYPE_CHECKING:
    from collections.abc import Callable


#: origin of the first vintage
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def vintage(number: int) -> Any:
    """The sample vintage of an origin six hours after that of the number before."""
    return sample_vintage(issued_at=FIRST + timedelta(hours=6 * number))


def key(table: Any) -> str:
    """Its run key."""
    return table["run_key"][0].as_py()


class Nursery:
    """Starts publishing processes; a context manager that ends with the last of them."""

    vintage = staticmethod(vintage)

    def __init__(self, *modules: str) -> None:
        command = [sys.executable, __file__, *modules]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate(timeout=60)

    def start(
        self,
        sink: str,
        path: Path,
        numbers: list[int],
        *,
        kill: str = "",
        gate: Path | None = None,
        params: dict[str, Any] | None = None,
    ) -> Child:
        """Start a process.

        Args:
            sink: `module:class`.
            path: the sink's path.
            numbers: vintages to publish.
            kill: `module:attribute:before|after:n`, to die at the n-th call.
            gate: the process starts publishing when this file exists.
            params: what the sink is made with, where it is not its path alone; `path` is then only a place for answers.
        """
        request = {"sink": sink, "path": str(path), "numbers": numbers, "kill": kill, "gate": str(gate or "")}
        request["params"] = params
        request["out"] = str(path.parent / f"answers-{time.monotonic_ns()}")
        return Child(self, self.ask(request), Path(request["out"]))

    def ask(self, request: dict[str, Any]) -> int:
        """One question, one answer."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


class Child:
    """A started process."""

    def __init__(self, nursery: Nursery, pid: int, out: Path) -> None:
        self._nursery, self._pid, self._out = nursery, pid, out

    def answers(self) -> list[dict[str, Any]]:
        """What the sink said of each vintage, once the process has ended well."""
        status = self._nursery.ask({"wait": self._pid})
        assert status == 0, self._out.read_text()
        return [json.loads(line) for line in self._out.read_text().splitlines()]

    def was_killed(self) -> bool:
        """Whether it ended through SIGKILL."""
        return self._nursery.ask({"wait": self._pid}) == -signal.SIGKILL


def arm(kill: str) -> None:
    """Die at `module:attribute:before|after:n`; with `… > …`, each call counts from the one before it on."""
    first, _, then = kill.partition(" > ")
    _hook(first, lambda: arm(then) if then else os.kill(os.getpid(), signal.SIGKILL))


def _hook(call: str, deed: Callable[[], None]) -> None:
    module, attribute, when, nth = call.split(":")
    *way, last = attribute.split(".")
    owner = functools.reduce(getattr, way, importlib.import_module(module))
    real, calls = getattr(owner, last), []

    @functools.wraps(real)
    def deadly(*args, **kwargs):
        calls.append(1)
        die = len(calls) == int(nth)
        if die and when == "before":
            deed()
        answer = real(*args, **kwargs)
        if die and when == "after":
            deed()
        return answer

    setattr(owner, last, deadly)


def _publish(request: dict[str, Any]) -> None:
    module, name = request["sink"].split(":")
    made = getattr(importlib.import_module(module), name)
    sink = made(**request["params"]) if request["params"] else made(Path(request["path"]))
    if request["kill"]:
        arm(request["kill"])
    while request["gate"] and not Path(request["gate"]).exists():
        time.sleep(0.001)
    for number in request["numbers"]:
        table = vintage(number)
        started = time.monotonic()
        answer = asdict(sink.publish(table, key(table)))
        print(json.dumps({**answer, "seconds": time.monotonic() - started}), flush=True)  # noqa: T201 - to the test


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    try:
        _publish(request)
    except BaseException:  # noqa: BLE001 - told to the parent, whatever it is
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _serve(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]) if "wait" in request else _fork(request)
        print(answer, flush=True)  # noqa: T201 - a pipe


if __name__ == "__main__":
    _serve(sys.argv[1:])
