"""One run on Databricks from its submission to its report: submitted once, never lost, never left running."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import random
import re
import secrets
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from forecastcore.engines.databricks.belongings import bring
from forecastcore.engines.databricks.payload import Order, home, nonce_of, order_digest, payload, run_folder, seconds
from forecastcore.engines.databricks.states import HINTS, read_state
from forecastcore.engines.databricks.tickets import Ticket
from forecastcore.engines.databricks.workspace import Refused, Unavailable, patient
from forecastcore.errors import DatabricksRunError
from forecastcore.messages import RunReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from forecastcore.config.engines import DatabricksEngine
    from forecastcore.engines.databricks.states import State
    from forecastcore.engines.databricks.tickets import Tickets
    from forecastcore.engines.databricks.wheels import Wheel
    from forecastcore.engines.databricks.workspace import Workspace
    from forecastcore.messages import RunRequest
    from forecastcore.ports import Steps

__all__ = ["Supervisor", "interruptible"]

_log = logging.getLogger(__name__)
JOBS = "/api/2.2/jobs/runs"
#: how many polls in a row may say that there is no such run, or that we may not ask, before it is believed
_DOUBTS = 5
#: seconds that a run may have been over for, unwatched, and still be the run that is asked for again
_FRESH = 3600.0
#: seconds that a lost answer to a submission, and the way to a cancellation, are looked after
_SUBMITTING, _CANCELLING, _FETCHING = 600.0, 30.0, 60.0
#: seconds between two signs of life of the one who waits
BEAT = 30.0
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


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
    _warned: set[str] = field(default_factory=set)

    @property
    def interval(self) -> float:
        """Seconds between two polls."""
        return seconds(self.settings.poll)

    @property
    def volume(self) -> str:
        """Where wheels, requests and reports are."""
        return str(self.settings.volume)

    @property
    def pause(self) -> float:
        """Seconds of the first pause after an answer that was none."""
        return min(1.0, self.interval)

    # -- sending away

    def submit(self, key: str, request: RunRequest, wheels: Sequence[Wheel]) -> Ticket:
        """Send a run away, or find the one that was sent away for the same and is still of use.

        Args:
            key: names the logical run; the same for the same command with the same options.
            request: what is run.
            wheels: what it installs.

        Raises:
            DatabricksRunError: it could not be submitted.
        """
        with self.tickets.locked(key):
            known = self.tickets.read(key)
            if known and known.open and known.host == self.workspace.host:
                resumed = self._resumed(known)
                if resumed:
                    return resumed
            first = known.attempt + 1 if known else 1
            day = str(request.options.get("as_of") or datetime.now(UTC).date())
            for attempt in itertools.count(first):
                order = Order(
                    project=self.project,
                    command=request.command,
                    day=day.replace("/", "-"),
                    attempt=attempt,
                    digest=order_digest(request, self.settings, wheels),
                    nonce=secrets.token_hex(6),
                )
                ticket = self._sent(self._prepared(key, order, request, wheels))
                if ticket is not None:
                    return ticket
        raise AssertionError  # pragma: no cover - the loop has no end

    def _prepared(self, key: str, order: Order, request: RunRequest, wheels: Sequence[Wheel]) -> Ticket:
        """All that the run needs is in the volume, and what is about to happen is on the disk."""
        folder = order.folder(self.volume)
        try:
            for wheel in wheels:
                place = f"{self.volume}/{wheel.place}"
                if not self._asked(lambda place=place: self.workspace.exists(place)):
                    self._asked(lambda place=place, wheel=wheel: self.workspace.write(place, wheel.content))
            self._asked(lambda: bring(self.workspace, self.files, home(self.volume, self.project)))
            content = json.dumps(request.to_json()).encode()
            self._asked(lambda: self.workspace.write(f"{folder}/request.json", content))
        except Refused as error:
            raise self.workspace.explained(error, f"writing to {self.volume}") from error
        except Unavailable as error:
            raise self.silent(error, "Nothing was submitted") from error
        return self.tickets.write(
            Ticket(
                key=key,
                host=self.workspace.host,
                command=order.command,
                nonce=order.nonce,
                attempt=order.attempt,
                day=order.day,
                payload=payload(order, self.settings, wheels, self.workspace.host),
                folder=folder,
            )
        )

    def _asked(self, ask: Any, patience: float = _SUBMITTING) -> Any:
        return patient(ask, until=time.monotonic() + patience, pause=self.pause)

    def _sent(self, ticket: Ticket) -> Ticket | None:
        """The ticket with its run; None where the token belongs to a run that is over, so that another one is due."""
        try:
            number = self._posted(ticket)
        except Refused as error:
            self.tickets.write(ticket.having(outcome=error.fault))
            told = self.workspace.explained(error, "the submission")
            if "delet" in str(error).lower():
                told.hint = "the run of this attempt was deleted in the workspace: run it again, as the next attempt"
            raise told from error
        except Unavailable as error:
            raise self.silent(
                error, "Run the same command again: it looks first whether the run was submitted"
            ) from error
        except BaseException:
            self._abandon(ticket)
            raise
        ticket = self.tickets.write(ticket.having(run_id=number))
        return self._recognised(ticket, self._state(ticket))

    def _recognised(self, ticket: Ticket, state: State) -> Ticket | None:
        """Whether the run is of this submission; one of another, with the same token, is joined while it goes on."""
        nonce = nonce_of(state.name) or ticket.nonce
        if nonce != ticket.nonce and state.over:
            self.tickets.write(ticket.having(outcome="taken"))
            return None
        folder = run_folder(self.volume, nonce)
        return self.tickets.write(ticket.having(url=state.url, nonce=nonce, folder=folder))

    def _posted(self, ticket: Ticket) -> int:
        """Submit; where the answer is lost, look for the run before the same token is sent once more."""
        sent = itertools.count()

        def post() -> int:
            if next(sent) and (found := self._found(ticket)):
                return found
            return int(self.workspace.call("POST", f"{JOBS}/submit", body=ticket.payload)["run_id"])

        return int(self._asked(post))

    def _found(self, ticket: Ticket) -> int | None:
        """The run of a submission, by the name that only it has."""
        query = {"run_type": "SUBMIT_RUN", "limit": 25, "start_time_from": int((ticket.at - 3600) * 1000)}
        while True:
            said = self.workspace.call("GET", f"{JOBS}/list", query=query)
            for run in said.get("runs", ()):
                if nonce_of(str(run.get("run_name"))) == ticket.nonce:
                    return int(run["run_id"])
            if not said.get("next_page_token"):
                return None
            query["page_token"] = said["next_page_token"]

    def _abandon(self, ticket: Ticket) -> None:
        """Somebody interrupts while nobody knows whether the run was submitted."""
        with contextlib.suppress(Refused, Unavailable):
            found = self._asked(lambda: self._found(ticket), _CANCELLING)
            if found:
                self.cancel(ticket.having(run_id=found), "cancelled")
                return
        self.tickets.write(ticket.having(outcome="cancelled"))

    def _resumed(self, ticket: Ticket) -> Ticket | None:
        """A ticket that somebody left open, if its run still is what is asked for."""
        if ticket.run_id is None:
            return self._sent(ticket.having(pid=os.getpid()))
        try:
            state = self._state(ticket)
        except DatabricksRunError as error:
            if error.fault != "gone":
                raise
            self.tickets.write(ticket.having(outcome="gone"))
            return None
        if state.over and time.time() - (state.ended_at or 0) > _FRESH:
            self.tickets.write(ticket.having(outcome="unwatched"))
            return None
        known = self._recognised(ticket.having(pid=os.getpid()), state)
        if known is not None:
            _log.warning("waiting again for Databricks run %s: %s", known.run_id, known.url)
        return known

    def _state(self, ticket: Ticket) -> State:
        """The run's state, asked until it is told: it may have to get around that there is a new run."""
        doubts = itertools.count(1)

        def ask() -> State:
            try:
                return self._look(ticket.run_id)
            except Refused as error:
                if error.fault != "gone" or next(doubts) >= _DOUBTS:
                    raise
                raise Unavailable(str(error)) from error

        try:
            found: State = self._asked(ask)
        except Refused as error:
            raise self._lost(ticket, error) from error
        except Unavailable as error:
            raise self.silent(error, "Run the same command again to wait for it", ticket) from error
        return found

    def _look(self, run_id: int | None) -> State:
        return read_state(self.workspace.call("GET", f"{JOBS}/get", query={"run_id": run_id}))

    # -- waiting

    def wait(self, ticket: Ticket, steps: Steps) -> State:
        """Ask for the run's state, once per interval, until it is over.

        Whatever interrupts the waiting cancels the run, but for a loss of contact: then the ticket stays open.

        Raises:
            DatabricksRunError: it takes too long, is gone, or cannot be asked for any more.
        """
        try:
            return self._waited(ticket, steps)
        except DatabricksRunError:
            raise
        except BaseException:
            self.cancel(ticket, "cancelled")
            raise

    def _waited(self, ticket: Ticket, steps: Steps) -> State:
        limit = seconds(self.settings.timeout)
        started = ticket.at if self.settings.on_timeout == "cancel" else time.time()
        deadline = started + limit + min(0.1 * limit, _SUBMITTING) + 2 * self.interval
        if self.settings.on_timeout == "detach":
            deadline = started + limit
        doubts, beat = 0, 0.0
        while True:
            if time.monotonic() >= beat:
                beat = time.monotonic() + max(BEAT, self.interval)
                self._beat(ticket)
            self._progress(ticket, steps)
            time.sleep(self.interval * random.uniform(1.0, 1.25))  # noqa: S311 - jitter, no secret
            try:
                state = self._look(ticket.run_id)
                doubts = 0
                if state.over:
                    return state
                if not state.known:
                    self._warn(state.life, f"Databricks run {ticket.run_id} is {state.life}: not known, waiting on")
            except Unavailable as error:
                self._warn("silent", f"Databricks does not answer ({error}): waiting on for run {ticket.run_id}")
                time.sleep(min(error.retry_after or 0.0, max(0.0, deadline - time.time())))
            except Refused as error:
                doubts += 1
                if doubts >= _DOUBTS:
                    raise self._lost(ticket, error) from error
            if time.time() > deadline:
                raise self._late(ticket)

    def _beat(self, ticket: Ticket, *, detached: bool = False) -> None:
        """A sign of life beside the run's request, for `reconcile`, wherever it looks from."""
        life = {"host": socket.gethostname(), "pid": os.getpid(), "at": time.time(), "beat": max(BEAT, self.interval)}
        with contextlib.suppress(Refused, Unavailable):
            content = json.dumps({**life, "detached": detached}).encode()
            self.workspace.write(f"{ticket.folder}/owner.json", content)

    def _progress(self, ticket: Ticket, steps: Steps) -> None:
        with contextlib.suppress(Refused, Unavailable):
            told = self.workspace.read_json(f"{ticket.folder}/progress.json")
            if isinstance(told, dict) and isinstance(told.get("done"), int) and isinstance(told.get("total"), int):
                steps.progress(str(told.get("stage", "run")), told["done"], told["total"])

    def _warn(self, about: str, words: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            _log.warning("%s", words)

    def _late(self, ticket: Ticket) -> DatabricksRunError:
        words = f"Databricks run {ticket.run_id} takes longer than {self.settings.timeout}"
        if self.settings.on_timeout == "detach":
            self._beat(ticket, detached=True)
            hint = "it goes on: run the same command again to wait for it"
            return self._error(ticket, f"{words}: not waited for any more", "timeout", hint)
        self.cancel(ticket, "timeout")
        return self._error(ticket, f"{words}: cancelled", "timeout", HINTS["timeout"])

    def cancel(self, ticket: Ticket, outcome: str) -> None:
        """Cancel a run, see it end, and close its ticket."""
        if self.stop(ticket.run_id, ticket.url):
            self.tickets.write(ticket.having(outcome=outcome))

    def stop(self, run_id: int | None, url: str) -> bool:
        """Cancel a run and see it end.

        Returns:
            Whether it did.
        """
        asked, until = {"run_id": run_id}, time.monotonic() + _CANCELLING
        try:
            patient(lambda: self.workspace.call("POST", f"{JOBS}/cancel", body=asked), until=until, pause=self.pause)
            while not patient(lambda: self._look(run_id), until=until, pause=self.pause).over:
                if time.monotonic() > until:
                    _log.error("Databricks run %s was cancelled, and goes on: %s", run_id, url)
                    return False
                time.sleep(min(1.0, self.interval))
        except (Refused, Unavailable) as error:
            _log.error("Databricks run %s could not be cancelled (%s): %s", run_id, error, url)
            return False
        return True

    # -- the report

    def report(self, ticket: Ticket, state: State) -> RunReport:
        """What a run that is over has to say; the ticket is closed.

        Raises:
            DatabricksRunError: it failed, or there is no report.
        """
        found = self._report(ticket, patience=_FETCHING if state.good else 4 * self.pause)
        if found is not None and found.failure is not None:
            self.tickets.write(ticket.having(outcome="failed"))
            told = self._error(ticket, found.failure.message, "failed", found.failure.hint)
            told.code, told.exit_code = found.failure.code, found.failure.exit_code
            raise told
        if not state.good:
            cause = self._cause(state)
            fault = state.fault(cause)
            self.tickets.write(ticket.having(outcome=fault))
            words = f"Databricks run {ticket.run_id} {state.words(cause)}"
            raise self._error(ticket, words, fault, HINTS.get(fault, HINTS["failed"]))
        if found is None or found.report is None:
            self.tickets.write(ticket.having(outcome="no-report"))
            hint = f"look for {ticket.folder}/report.json and at the run's log"
            raise self._error(
                ticket, f"Databricks run {ticket.run_id} ended well but left no report", "no-report", hint
            )
        self.tickets.write(ticket.having(outcome="success"))
        return found

    def _report(self, ticket: Ticket, patience: float) -> RunReport | None:
        doubts = itertools.count(1)

        def ask() -> RunReport | None:
            try:
                return RunReport.model_validate_json(self.workspace.read(f"{ticket.folder}/report.json"))
            except ValidationError as error:
                raise Unavailable(f"it is not whole: {error.error_count()} faults") from error
            except Refused as error:
                if next(doubts) >= _DOUBTS:
                    return None
                raise Unavailable(str(error)) from error

        try:
            found: RunReport | None = self._asked(ask, patience)
        except Unavailable:
            return None
        return found

    def _cause(self, state: State) -> str:
        """The line of the output that says why."""
        if state.task_run_id is None:
            return ""
        query = {"run_id": state.task_run_id}
        try:
            said = self._asked(lambda: self.workspace.call("GET", f"{JOBS}/get-output", query=query), _CANCELLING)
        except (Refused, Unavailable):
            return ""
        trace = [line for line in _ANSI.sub("", str(said.get("error_trace") or "")).splitlines() if line.strip()]
        error = _ANSI.sub("", str(said.get("error") or "")).strip().splitlines()
        return (error[:1] or trace[-1:] or [""])[0].strip()[:1000]

    # -- errors

    def _error(self, ticket: Ticket, words: str, fault: str, hint: str | None) -> DatabricksRunError:
        return DatabricksRunError(words, fault=fault, hint=hint, url=ticket.url, run_id=ticket.run_id)

    def _lost(self, ticket: Ticket, error: Refused) -> DatabricksRunError:
        if error.fault == "gone":
            self.tickets.write(ticket.having(outcome="gone"))
            hint = "it was deleted in the workspace: run it again"
            return self._error(ticket, f"Databricks run {ticket.run_id} is gone: {error}", "gone", hint)
        told = self.workspace.explained(error, f"asking for run {ticket.run_id}", url=ticket.url, run_id=ticket.run_id)
        told.hint = f"{told.hint}; the run goes on, at most until its timeout: the same command waits for it again"
        return told

    def silent(self, error: Unavailable, hint: str, ticket: Ticket | None = None) -> DatabricksRunError:
        """That nobody answers, for its reader."""
        words = f"Databricks: {self.workspace.host} does not answer: {error}"
        return DatabricksRunError(words, fault="unreachable", hint=hint, url=ticket.url if ticket else "")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A request to end, as `kill` or a scheduler sends it, interrupts like Ctrl-C, so that what runs can be cancelled.

    Where somebody else takes care of it already, as Prefect does, or outside the main thread, nothing changes.
    """
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not mine:
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
