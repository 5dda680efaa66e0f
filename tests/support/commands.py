"""Command lines that are killed at a named point: `with Commands() as commands: commands.run(words, kill=…)`.

A nursery imports the libraries once and forks each command from there, so that a hundred kills take minutes. As a
script with words (`commands.py KILL script.py …`) it runs one script that is to die, such as a flow.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

MODULES = ["forecastcore.cli", "mlflow", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "pandas"]
MODULES += ["deltalake", "pyarrow.parquet", "pyarrow.csv", "azure.storage.blob", "psycopg", "sqlalchemy", "httpx"]
MODULES += ["forecastcore.runs.retrain", "forecastcore.runs.predict", "forecastcore.runs.backfill"]
MODULES += ["forecastcore.runs.promotion", "forecastcore.tracking.store", "forecastcore_baseline", "databricks.sdk"]


@dataclass(frozen=True)
class Ended:
    """How a command line ended, and all that it said."""

    code: int
    said: str


class Commands:
    """Starts command lines; a context manager that ends with the last of them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, words: list[str], folder: Path, *, kill: str = "", **environment: str) -> Ended:
        """One command line of forecastcore from begin to end, wherever that is; `folder` takes what it says."""
        return self._ended({"words": words, "kill": kill, "environment": environment}, folder)

    def ask(self, function: str, folder: Path, environment: dict[str, str], **arguments: Any) -> Any:
        """What `module:function` answers in a process of its own, to which no open database clings."""
        ended = self._ended({"ask": function, "arguments": arguments, "environment": environment}, folder)
        assert ended.code == 0, ended.said
        return json.loads(ended.said.splitlines()[-1])

    def _ended(self, request: dict[str, Any], folder: Path) -> Ended:
        out = folder / "said.txt"
        print(json.dumps({**request, "out": str(out)}), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return Ended(code, out.read_text(errors="replace"))


def _forked(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(request["environment"])
    try:
        code = _done(request)
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - told to the parent, whatever it is
        sys.excepthook(*sys.exc_info())
        os._exit(99)
    os._exit(code)


def _done(request: dict[str, Any]) -> int:
    if "ask" in request:
        module, name = request["ask"].split(":")
        answer = getattr(importlib.import_module(module), name)(**request["arguments"])
        print(json.dumps(answer))  # noqa: T201 - to the test
        return 0
    _arm(request["kill"])
    from forecastcore.cli import main

    return main(request["words"])


def _arm(kill: str) -> None:
    if kill:
        from publisher import arm  # beside this script

        arm(kill)


def _serve() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        print(_forked(json.loads(line)), flush=True)  # noqa: T201 - a pipe


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _arm(sys.argv[1])
        sys.argv = sys.argv[2:]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        _serve()
