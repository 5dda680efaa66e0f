"""A process that publishes sample vintages, and is killed at a named point if it is told to; and how a test starts it.

The kill is a real SIGKILL, from inside a function of the standard library or of the format's library: the code under test
knows nothing of it.
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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from forecastcore.testing import sample_vintage


def vintage(number: int) -> Any:
    """The sample vintage of an origin six hours after that of the number before."""
    return sample_vintage(issued_at=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=6 * number))


def key(table: Any) -> str:
    """Its run key."""
    return table["run_key"][0].as_py()


@dataclass
class Publisher:
    """A started process."""

    process: subprocess.Popen[str]

    def answers(self) -> list[dict[str, Any]]:
        """What the sink said of each vintage, once the process has ended well."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()]

    def was_killed(self) -> bool:
        """Whether it ended through SIGKILL."""
        self.process.communicate(timeout=60)
        return self.process.returncode == -signal.SIGKILL


def start(sink: str, path: Path, numbers: list[int], *, kill: str = "", gate: Path | None = None) -> Publisher:
    """Start a process.

    Args:
        sink: `module:class`.
        path: the sink's path.
        numbers: vintages to publish.
        kill: `module:attribute:before|after:n`, to die at the n-th call.
        gate: the process starts publishing when this file exists.
    """
    request = {"sink": sink, "path": str(path), "numbers": numbers, "kill": kill, "gate": str(gate) if gate else ""}
    command = [sys.executable, __file__, json.dumps(request)]
    return Publisher(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


def _arm(kill: str) -> None:
    module, attribute, when, nth = kill.split(":")
    *way, last = attribute.split(".")
    owner = functools.reduce(getattr, way, importlib.import_module(module))
    real, calls = getattr(owner, last), []

    @functools.wraps(real)
    def deadly(*args, **kwargs):
        calls.append(1)
        die = len(calls) == int(nth)
        if die and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **kwargs)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, last, deadly)


def _main(request: dict[str, Any]) -> None:
    module, name = request["sink"].split(":")
    sink = getattr(importlib.import_module(module), name)(Path(request["path"]))
    if request["kill"]:
        _arm(request["kill"])
    while request["gate"] and not Path(request["gate"]).exists():
        time.sleep(0.001)
    for number in request["numbers"]:
        table = vintage(number)
        print(json.dumps(asdict(sink.publish(table, key(table)))), flush=True)  # noqa: T201 - the answer to the test


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
