"""What a run logs, kept beside its project under every name that the run has: a file of JSON lines each.

Whoever knows one name of a run, such as its number on Databricks, finds the others here: see `runs.logs`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from forecastcore.ports import Steps
from forecastcore.processes import gone, here
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Kept", "LoggedSteps", "keeping_log", "kept", "note", "part_of"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
_OURS = logging.getLogger("forecastcore")
#: logs that stay, the newest ones
_MOST: Final = 200
_LONGEST: Final = 2000


class _Book:
    """The file of one run; a disk that takes no more costs the log, not the run."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is None:
            return
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
            for old in sorted(path.parent.glob("*.jsonl"))[: -_MOST + 1]:
                old.unlink(missing_ok=True)

    def write(self, **line: Any) -> None:
        if self._path is None:
            return
        told = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}, ensure_ascii=False)
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "a", encoding="utf-8") as file:
                file.write(f"{told}\n")
        except OSError:
            self._path = None


_BOOK: ContextVar[_Book | None] = ContextVar("forecastcore_logbook", default=None)
_NAMES: ContextVar[dict[str, str] | None] = ContextVar("forecastcore_names", default=None)


class _Desk(logging.Handler):
    """Writes each record into the book of the run that logs it, and hands on what was handed on before."""

    def __init__(self) -> None:
        super().__init__()
        self._lock_of_runs = threading.Lock()
        self._runs = 0
        self._before: tuple[int, int, bool] = (logging.WARNING, logging.NOTSET, True)

    def emit(self, record: logging.LogRecord) -> None:
        if book := _BOOK.get():
            book.write(level=record.levelname, message=mask(record.getMessage())[:_LONGEST])
        effective, _, propagate = self._before
        if propagate and record.levelno >= effective:
            logging.getLogger().callHandlers(record)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Be told from INFO on, while any run goes on in this process."""
        with self._lock_of_runs:
            self._runs += 1
            if self._runs == 1:
                self._before = (_OURS.getEffectiveLevel(), _OURS.level, _OURS.propagate)
                _OURS.addHandler(self)
                _OURS.setLevel(min(logging.INFO, self._before[0]))
                _OURS.propagate = False
        try:
            yield
        finally:
            with self._lock_of_runs:
                self._runs -= 1
                if self._runs == 0:
                    _OURS.removeHandler(self)
                    _, level, _OURS.propagate = self._before
                    _OURS.setLevel(level)


_DESK = _Desk()


@contextlib.contextmanager
def keeping_log(root: Path | None, command: str) -> Iterator[None]:
    """Keep what is logged meanwhile as the log of one run; one within another is part of that.

    Args:
        root: the project's folder; None keeps nothing.
        command: what is run.
    """
    if _BOOK.get() is not None:
        yield
        return
    own = uuid.uuid4().hex
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{command}-{own[:8]}.jsonl"
    book = _Book(root / ".forecastcore" / "logs" / name if root else None)
    host, process = here()
    book.write(names={"log": own, "command": command, "host": host, "process": process, **(_NAMES.get() or {})})
    token = _BOOK.set(book)
    end = "broken off"
    try:
        with _DESK.open():
            yield
        end = "finished"
    except Exception as error:
        end = mask(f"{type(error).__name__}: {error}")[:_LONGEST]
        raise
    finally:
        _BOOK.reset(token)
        book.write(end=end)


def note(**names: str) -> None:
    """Say by which further names the run that goes on here is known; empty ones are left out."""
    if book := _BOOK.get():
        book.write(names={kind: name for kind, name in names.items() if name})


@contextlib.contextmanager
def part_of(**names: str) -> Iterator[None]:
    """Runs that begin meanwhile are known by these names too, such as that of a flow run."""
    token = _NAMES.set({**(_NAMES.get() or {}), **names})
    try:
        yield
    finally:
        _NAMES.reset(token)


class LoggedSteps(Steps):
    """Steps whose beginnings are logged: a line for a stage, however many series it has.

    Args:
        inner: runs and watches them.
    """

    def __init__(self, inner: Steps) -> None:
        self._inner = inner

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do one stage."""
        _log.info("%s", name)
        return self._inner.run(name, work)

    def progress(self, name: str, done: int, total: int) -> None:
        """Be told how far the stage `name` is."""
        self._inner.progress(name, done, total)


@dataclass
class Kept:
    """The log of one run, as far as it is written.

    Attributes:
        names: by kind: `log`, `command`, `host`, `process`, and where it has them `mlflow`, `key`, `flow_run`, `job`.
        lines: each with `at`, `level` and `message`.
        end: how it ended; empty while it goes on.
    """

    names: dict[str, str] = field(default_factory=dict)
    lines: list[dict[str, str]] = field(default_factory=list)
    end: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing follows: it ended, or its process died without a word."""
        return bool(self.end) or gone(self.names.get("host"), self.names.get("process"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The log in a file; a line that is not whole is left out."""
        made = cls()
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                line = json.loads(text)
                made.names |= line.get("names") or {}
                made.end = line.get("end") or made.end
                if "message" in line:
                    made.lines.append(line)
        return made


def kept(root: Path) -> Iterator[tuple[Path, Kept]]:
    """The logs of a project, the newest first."""
    for path in sorted((root / ".forecastcore" / "logs").glob("*.jsonl"), reverse=True):
        with contextlib.suppress(OSError):  # another run threw it away
            yield path, Kept.read(path)
