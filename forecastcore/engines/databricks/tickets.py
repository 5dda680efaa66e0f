"""What is known of runs that were sent away, on this disk: written before the first poll, so that none is lost."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from forecastcore.errors import EngineError
from forecastcore.tracking.connect import file_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Ticket", "Tickets"]

_FOLDER = (".forecastcore", "databricks")
#: seconds after which a ticket whose run came to an end is thrown away
_KEPT = 30 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One attempt at one logical run, as far as it got.

    Attributes:
        key: names the logical run: project, command and options.
        host: workspace.
        command: what is run.
        nonce: see `Order`.
        attempt: see `Order`.
        day: see `Order`.
        payload: what is submitted, to be submitted again where nobody knows whether it was.
        folder: its place in the volume.
        run_id: Databricks' number, once it is known.
        url: the run's page, once it is known.
        at: when it was to be submitted, then when it was, seconds since 1970.
        pid: process that waits for it.
        outcome: how it ended; empty while it is open.
    """

    key: str
    host: str
    command: str
    nonce: str
    attempt: int
    day: str
    payload: dict[str, Any]
    folder: str
    run_id: int | None = None
    url: str = ""
    at: float = field(default_factory=time.time)
    pid: int = field(default_factory=os.getpid)
    outcome: str = ""

    @property
    def open(self) -> bool:
        """Whether its end is still to be seen."""
        return not self.outcome

    def having(self, **changes: Any) -> Self:
        """The ticket with some things changed."""
        return replace(self, **changes)


class Tickets:
    """The tickets of one project, a file each."""

    def __init__(self, root: Path) -> None:
        self.folder: Path = root.joinpath(*_FOLDER)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """While two processes send the same run away, one of them waits."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")
            with file_lock(self._file(key)):
                yield
        except PermissionError as error:
            hint = "make the folder writable: without it a run could be lost"
            raise EngineError(f"cannot write {self.folder}: {error.strerror}", hint=hint) from error

    def read(self, key: str) -> Ticket | None:
        """The newest ticket of a logical run; None where there is none that can be read."""
        try:
            return Ticket(**json.loads(self._file(key).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, ticket: Ticket) -> Ticket:
        """Keep a ticket; either all of it is on the disk, or the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        half = self.folder / f"{ticket.key}.{os.getpid()}.tmp"
        with half.open("w", encoding="utf-8") as stream:
            json.dump(asdict(ticket), stream)
            stream.flush()
            os.fsync(stream.fileno())
        half.replace(self._file(ticket.key))
        return ticket

    def all(self) -> list[Ticket]:
        """All tickets; those of runs that ended long ago are thrown away."""
        found = [ticket for path in sorted(self.folder.glob("*.json")) if (ticket := self.read(path.stem))]
        for ticket in found:
            if not ticket.open and time.time() - ticket.at > _KEPT:
                self._file(ticket.key).unlink(missing_ok=True)
        return found
