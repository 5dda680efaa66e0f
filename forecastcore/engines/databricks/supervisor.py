"""What every stage of a run on Databricks stands on: the workspace, the tickets, and how errors are told."""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from forecastcore.engines.databricks.answers import NotYet, Queue, Refused, Unavailable, patient
from forecastcore.engines.databricks.payload import seconds
from forecastcore.engines.databricks.states import State, read_state
from forecastcore.errors import DatabricksRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from forecastcore.config.engines import DatabricksEngine
    from forecastcore.engines.databricks.tickets import Ticket, Tickets
    from forecastcore.engines.databricks.workspace import Workspace

__all__ = ["BEAT", "DOUBTS", "JOBS", "PATIENCE", "Supervisor"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
JOBS = "/api/2.2/jobs/runs"
#: how many answers in a row may say that a thing is not there, or that we may not ask, before it is believed
DOUBTS = 5
#: seconds between two signs of life of the one who waits
BEAT = 15.0
#: seconds that a question is asked again for, longer than an outage of ten minutes; and that a cancelled run may take
PATIENCE, CANCELLING = 900.0, 30.0


@dataclass
class Supervisor:
    """Whoever sends runs of one project away and waits for them.

    Attributes:
        workspace: where to.
        tickets: what is known of earlier runs.
        settings: `engine:` of the project file.
        project: its name.
        files: inputs that go along, by their path in the project's folder.
    """

    workspace: Workspace
    tickets: Tickets
    settings: DatabricksEngine
    project: str
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def interval(self) -> float:
        """Seconds between two polls."""
        return seconds(self.settings.poll)

    @property
    def pause(self) -> float:
        """Seconds of the first pause after an answer that was none."""
        return min(1.0, self.interval)

    @property
    def volume(self) -> str:
        """Where wheels, requests and reports are."""
        return str(self.settings.volume)

    @property
    def wheels(self) -> str:
        """Where wheels are put: in the volume, or the folder that the settings name instead."""
        return self.settings.wheels or self.volume

    def asked(self, ask: Callable[[], T], patience: float = PATIENCE, queue: Queue | None = None) -> T:
        """The answer, asked for until there is one; see `patient`.

        Raises:
            Unavailable: there was none in all that time.
            Refused: the answer is no.
        """
        return patient(ask, until=time.monotonic() + patience, pause=self.pause, host=self.workspace.host, queue=queue)

    def look(self, run_id: int | None) -> State:
        """The run's state, asked for once."""
        return read_state(self.workspace.call("GET", f"{JOBS}/get", query={"run_id": run_id}))

    def state(self, ticket: Ticket) -> State:
        """The run's state, asked until it is told: it may have to get around that there is a new run.

        Raises:
            DatabricksRunError: it is gone, nobody answers, or we may not ask.
        """
        doubts = itertools.count(1)

        def ask() -> State:
            try:
                return self.look(ticket.run_id)
            except Refused as error:
                if error.fault != "gone" or next(doubts) >= DOUBTS:
                    raise
                raise NotYet(str(error)) from error

        try:
            return self.asked(ask)
        except Refused as error:
            raise self.lost(ticket, error) from error
        except Unavailable as error:
            raise self.silent(error, "Run the same command again to wait for it", ticket.url) from error

    def stop(self, run_id: int | None, url: str) -> bool:
        """Cancel a run and see it end.

        Returns:
            Whether it did.
        """
        until = time.monotonic() + CANCELLING
        try:
            self.asked(lambda: self.workspace.call("POST", f"{JOBS}/cancel", body={"run_id": run_id}), CANCELLING)
            while not self.asked(lambda: self.look(run_id), CANCELLING).over:
                if time.monotonic() > until:
                    _log.error("Databricks run %s was cancelled, and goes on: %s", run_id, url)
                    return False
                time.sleep(min(1.0, self.interval))
        except (Refused, Unavailable) as error:
            _log.error("Databricks run %s could not be cancelled (%s): %s", run_id, error, url)
            return False
        return True

    def cancel(self, ticket: Ticket, outcome: str) -> None:
        """Cancel a run, see it end, and close its ticket."""
        if self.stop(ticket.run_id, ticket.url):
            self.tickets.write(ticket.having(outcome=outcome))

    def error(self, ticket: Ticket, words: str, fault: str, hint: str | None) -> DatabricksRunError:
        """What went wrong with a run."""
        return DatabricksRunError(words, fault=fault, hint=hint, url=ticket.url, run_id=ticket.run_id)

    def lost(self, ticket: Ticket, error: Refused) -> DatabricksRunError:
        """That a run cannot be asked for any more."""
        if error.fault == "gone":
            self.tickets.write(ticket.having(outcome="gone"))
            hint = "it was deleted in the workspace: run it again"
            return self.error(ticket, f"Databricks run {ticket.run_id} is gone: {error}", "gone", hint)
        told = self.workspace.explained(error, f"asking for run {ticket.run_id}", url=ticket.url, run_id=ticket.run_id)
        told.hint = f"{told.hint}; the run goes on, at most until its timeout: the same command waits for it again"
        return told

    def full(self, error: Unavailable) -> DatabricksRunError:
        """That the workspace had no room for another run in all the time that one may take."""
        words = f"Databricks: {self.workspace.host} had no room for another run in {self.settings.timeout}: {error}"
        hint = "nothing was submitted: run fewer at once, or the same command again later"
        return DatabricksRunError(words, fault="busy", hint=hint, url=self.workspace.host)

    def silent(self, error: Unavailable, hint: str, url: str = "") -> DatabricksRunError:
        """That nobody answers."""
        words = f"Databricks: {self.workspace.host} does not answer: {error}"
        return DatabricksRunError(words, fault="unreachable", hint=hint, url=url)
