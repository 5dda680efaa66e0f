"""Waits for a run: one question per interval, patient with silence, and with an end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import socket
import time
from typing import TYPE_CHECKING

from forecastcore.engines.databricks.answers import Refused, Unavailable
from forecastcore.engines.databricks.cost import affordable
from forecastcore.engines.databricks.payload import seconds
from forecastcore.engines.databricks.states import HINTS
from forecastcore.engines.databricks.supervisor import BEAT, CANCELLING, DOUBTS

if TYPE_CHECKING:
    from forecastcore.engines.databricks.states import State
    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.engines.databricks.tickets import Ticket
    from forecastcore.errors import DatabricksRunError
    from forecastcore.ports import Steps

__all__ = ["sign_of_life", "wait"]

_log = logging.getLogger(__name__)
#: seconds at most that Databricks itself is left to end a run that takes too long
_GRACE = 600.0


def wait(boss: Supervisor, ticket: Ticket, steps: Steps) -> State:
    """Ask for the run's state, once per interval, until it is over.

    Args:
        boss: where, and how long.
        ticket: which run.
        steps: told how far the run is.

    Raises:
        DatabricksRunError: it takes too long, is gone, or cannot be asked for any more.
    """
    deadline, doubts, beat, warned = _deadline(boss, ticket), 0, 0.0, set[str]()
    afforded = ticket.at + affordable(boss.settings) - 2 * boss.interval  # before the next look would be too late
    while True:
        if time.monotonic() >= beat:
            beat = time.monotonic() + max(BEAT, boss.interval)
            sign_of_life(boss, ticket)
        _tell_progress(boss, ticket, steps)
        time.sleep(boss.interval * random.uniform(1.0, 1.25))  # noqa: S311 - jitter, no secret
        try:
            state = _polled(boss, ticket, deadline, warned)
            if state is not None and state.over:
                return state
            doubts = 0
        except Refused as error:
            doubts += 1
            if doubts >= DOUBTS:
                raise boss.lost(ticket, error) from error
        if time.time() > afforded:
            raise _too_dear(boss, ticket)
        if time.time() > deadline:
            raise _late(boss, ticket)


def _polled(boss: Supervisor, ticket: Ticket, deadline: float, warned: set[str]) -> State | None:
    """The run's state; None where nobody answers. What is odd is warned of once."""
    odd, state = "", None
    try:
        state = boss.look(ticket.run_id)
        odd = "" if state.known else f"Databricks run {ticket.run_id} is {state.life}: not known, waiting on"
    except Unavailable as error:
        odd = f"Databricks does not answer ({error}): waiting on for run {ticket.run_id}"
        time.sleep(min(error.retry_after or 0.0, max(0.0, deadline - time.time())))
    if odd and odd not in warned:
        warned.add(odd)
        _log.warning("%s", odd)
    return state


def _deadline(boss: Supervisor, ticket: Ticket) -> float:
    """When it is not waited for any longer; Databricks has a moment to end the run by itself."""
    limit = seconds(boss.settings.timeout)
    if boss.settings.on_timeout == "detach":
        return time.time() + limit
    return ticket.at + limit + min(0.1 * limit, _GRACE) + 2 * boss.interval


def _late(boss: Supervisor, ticket: Ticket) -> DatabricksRunError:
    words = f"Databricks run {ticket.run_id} takes longer than {boss.settings.timeout}"
    if boss.settings.on_timeout == "detach":
        sign_of_life(boss, ticket, detached=True)
        hint = "it goes on: run the same command again to wait for it"
        return boss.error(ticket, f"{words}: not waited for any more", "timeout", hint)
    boss.cancel(ticket, "timeout")
    return boss.error(ticket, f"{words}: cancelled", "timeout", HINTS["timeout"])


def _too_dear(boss: Supervisor, ticket: Ticket) -> DatabricksRunError:
    boss.cancel(ticket, "budget")
    words = f"Databricks run {ticket.run_id} was cancelled before it would pass engine.budget"
    return boss.error(ticket, words, "budget", HINTS["budget"])


def sign_of_life(boss: Supervisor, ticket: Ticket, *, detached: bool = False) -> None:
    """Say beside the run's request who waits for it, for `reconcile`, wherever that looks from."""
    life = {"host": socket.gethostname(), "pid": os.getpid(), "at": time.time(), "beat": max(BEAT, boss.interval)}
    content = json.dumps({**life, "detached": detached}).encode()

    def write() -> None:
        boss.workspace.write(f"{ticket.folder}/owner.json", content)

    with contextlib.suppress(Refused, Unavailable):
        if detached:  # the last one: without it, the run would be nobody's
            boss.asked(write, CANCELLING)
        else:
            write()


def _tell_progress(boss: Supervisor, ticket: Ticket, steps: Steps) -> None:
    with contextlib.suppress(Refused, Unavailable):
        told = boss.workspace.read_json(f"{ticket.folder}/progress.json")
        if isinstance(told, dict) and isinstance(told.get("done"), int) and isinstance(told.get("total"), int):
            steps.progress(str(told.get("stage", "run")), told["done"], told["total"])
