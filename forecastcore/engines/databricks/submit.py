"""Sends a run away once: a token, a ticket on the disk, and a look for the run where an answer is lost."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import os
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from forecastcore.engines.databricks.answers import Queue, Refused, Unavailable
from forecastcore.engines.databricks.belongings import bring
from forecastcore.engines.databricks.payload import Order, home, nonce_of, order_digest, payload, run_folder, seconds
from forecastcore.engines.databricks.supervisor import JOBS
from forecastcore.engines.databricks.tickets import Ticket
from forecastcore.engines.databricks.wait import sign_of_life
from forecastcore.engines.databricks.wheels import Wheel
from forecastcore.errors import DatabricksRunError
from forecastcore.logbook import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.engines.databricks.states import State
    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.engines.databricks.wheels import Library
    from forecastcore.messages import RunRequest

__all__ = ["find", "submit"]

_log = logging.getLogger(__name__)
#: seconds that a run may have been over for, unwatched, and still be the run that is asked for again
_FRESH = 3600.0


def submit(boss: Supervisor, key: str, request: RunRequest, libraries: Sequence[Library]) -> Ticket:
    """Send a run away, or find the one that was sent away for the same and is still of use.

    Args:
        boss: where to, and what is known.
        key: names the logical run; the same for the same command with the same options.
        request: what is run.
        libraries: what it installs.

    Raises:
        DatabricksRunError: it could not be submitted.
    """
    with boss.tickets.locked(key):
        known = boss.tickets.read(key)
        if known and known.open and known.host == boss.workspace.host and (resumed := _resumed(boss, known)):
            return resumed
        day = str(request.options.get("as_of") or datetime.now(UTC).date()).replace("/", "-")
        digest = order_digest(request, boss.settings, libraries)
        for attempt in itertools.count(known.attempt + 1 if known else 1):
            order = Order(
                project=boss.project,
                command=request.command,
                day=day,
                attempt=attempt,
                digest=digest,
                nonce=secrets.token_hex(6),
            )
            _bring(boss, order, request, [one for one in libraries if isinstance(one, Wheel)])
            ticket = Ticket(
                key=key,
                host=boss.workspace.host,
                command=order.command,
                nonce=order.nonce,
                attempt=attempt,
                day=day,
                payload=payload(order, boss.settings, libraries, boss.workspace.host),
                folder=order.folder(boss.volume),
            )
            sent = _sent(boss, boss.tickets.write(ticket))
            if sent is not None:
                return sent
    raise AssertionError  # pragma: no cover - the loop has no end


def _bring(boss: Supervisor, order: Order, request: RunRequest, wheels: Sequence[Wheel]) -> None:
    """Put into the volume, and the folder of wheels, what the run needs and is not there yet."""
    there, content = boss.workspace, json.dumps(request.to_json()).encode()
    places = dict.fromkeys([boss.wheels, boss.volume] if wheels else [boss.volume])

    def bring_wheel(wheel: Wheel) -> None:
        if not there.exists(f"{boss.wheels}/{wheel.place}"):
            there.write(f"{boss.wheels}/{wheel.place}", wheel.content)

    try:
        for wheel in wheels:
            boss.asked(functools.partial(bring_wheel, wheel))
        boss.asked(lambda: bring(there, boss.files, home(boss.volume, boss.project)))
        boss.asked(lambda: there.write(f"{order.folder(boss.volume)}/request.json", content))
    except Refused as error:
        raise there.explained(error, f"writing to {' or '.join(places)}") from error
    except Unavailable as error:
        raise boss.silent(error, "Nothing was submitted") from error


def _sent(boss: Supervisor, ticket: Ticket) -> Ticket | None:
    """The ticket with its run; None where the token belongs to a run that is over, so that another one is due."""
    sign_of_life(boss, ticket)  # who waits is known before the run is there: an outage may begin in between
    try:
        number = _posted(boss, ticket)
    except Refused as error:
        boss.tickets.write(ticket.having(outcome=error.fault))
        told = boss.workspace.explained(error, "the submission")
        if "delet" in str(error).lower():
            told.hint = "the run of this attempt was deleted in the workspace: run it again, as the next attempt"
        raise told from error
    except Unavailable as error:
        hint = "Run the same command again: it looks first whether the run was submitted"
        raise (boss.full(error) if error.busy else boss.silent(error, hint)) from error
    ticket = boss.tickets.write(
        ticket.having(run_id=number, at=time.time())
    )  # it may have waited for room, or an answer
    return _recognised(boss, ticket, boss.state(ticket))


def _posted(boss: Supervisor, ticket: Ticket) -> int:
    """Submit; where the answer is lost, look for the run before the same token is sent once more.

    A workspace with no room for another run is no fault: it is waited for as long as a run may take, one question per
    interval.
    """
    lost, told = False, False

    def post() -> int:
        nonlocal lost, told
        if lost:
            with contextlib.suppress(Refused):  # who may not list runs has the token
                if found := find(boss, ticket):
                    return found
        try:
            return int(boss.workspace.call("POST", f"{JOBS}/submit", body=ticket.payload)["run_id"])
        except Unavailable as error:
            lost = not error.busy
            if error.busy and not told:
                told = True
                wait = boss.settings.timeout
                _log.warning(
                    "Databricks has no room for another run yet (%s): waiting for it for up to %s", error, wait
                )
            raise

    limit = seconds(boss.settings.timeout)
    return boss.asked(post, queue=Queue(until=time.monotonic() + limit, interval=boss.interval))


def find(boss: Supervisor, ticket: Ticket) -> int | None:
    """The run of a submission, by the name that only it has."""
    query = {"run_type": "SUBMIT_RUN", "limit": 25, "start_time_from": int((ticket.at - 3600) * 1000)}
    while True:
        said = boss.workspace.call("GET", f"{JOBS}/list", query=query)
        for run in said.get("runs", ()):
            if nonce_of(str(run.get("run_name"))) == ticket.nonce:
                return int(run["run_id"])
        if not said.get("next_page_token"):
            return None
        query["page_token"] = said["next_page_token"]


def _recognised(boss: Supervisor, ticket: Ticket, state: State) -> Ticket | None:
    """Whether the run is of this submission; one of another, with the same token, is joined while it goes on."""
    nonce = nonce_of(state.name) or ticket.nonce
    if nonce != ticket.nonce and state.over:
        boss.tickets.write(ticket.having(outcome="taken"))
        return None
    note(job=str(ticket.run_id))
    url = state.url or f"{boss.workspace.host}/#job/{ticket.run_id}/run/{ticket.run_id}"
    return boss.tickets.write(ticket.having(url=url, nonce=nonce, folder=run_folder(boss.volume, nonce)))


def _resumed(boss: Supervisor, ticket: Ticket) -> Ticket | None:
    """A ticket that somebody left open, if its run still is what is asked for."""
    ticket = ticket.having(pid=os.getpid())
    if ticket.run_id is None:
        return _sent(boss, ticket)
    try:
        state = boss.state(ticket)
    except DatabricksRunError as error:
        if error.fault != "gone":
            raise
        return None
    if state.over and time.time() - (state.ended_at or 0) > _FRESH:
        boss.tickets.write(ticket.having(outcome="unwatched"))
        return None
    known = _recognised(boss, ticket, state)
    if known is not None:
        _log.warning("waiting again for Databricks run %s: %s", known.run_id, known.url)
    return known
