"""One run on Databricks from its submission to its report; whatever interrupts it, no run is left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from forecastcore.engines.databricks.answers import Refused, Unavailable
from forecastcore.engines.databricks.fetch import fetch
from forecastcore.engines.databricks.submit import find, submit
from forecastcore.engines.databricks.supervisor import CANCELLING
from forecastcore.engines.databricks.wait import wait
from forecastcore.errors import DatabricksRunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.engines.databricks.wheels import Library
    from forecastcore.messages import RunReport, RunRequest
    from forecastcore.ports import Steps

__all__ = ["interruptible", "supervise"]

_log = logging.getLogger(__name__)


def supervise(
    boss: Supervisor, key: str, request: RunRequest, libraries: Sequence[Library], steps: Steps
) -> tuple[RunReport, str, float]:
    """Submit, wait, fetch.

    Args:
        boss: where.
        key: names the logical run.
        request: what is run.
        libraries: what it installs.
        steps: how to run and watch the three stages.

    Returns:
        The report, the address of the run, and the seconds that it took.

    Raises:
        DatabricksRunError: with the fault, the run's address, and what to do.
    """
    try:
        ticket = steps.run("submit to Databricks", lambda: submit(boss, key, request, libraries))
        state = steps.run(f"Databricks run {ticket.run_id}", lambda: wait(boss, ticket, steps))
        report = steps.run("fetch the report", lambda: fetch(boss, ticket, state))
        took = (state.ended_at or time.time()) - (state.started_at or ticket.at)
        return report, ticket.url, max(took, 0.0)
    except DatabricksRunError:
        raise  # where contact is lost the ticket stays open: the same command finds the run again
    except BaseException:
        with _undisturbed():
            _let_go(boss, key)
        raise


def _let_go(boss: Supervisor, key: str) -> None:
    """Cancel the run that this process was about to wait for, also where nobody knows yet whether it was submitted."""
    ticket = boss.tickets.read(key)
    if ticket is None or not ticket.open or ticket.pid != os.getpid():
        return
    try:
        number = ticket.run_id or boss.asked(lambda: find(boss, ticket), CANCELLING)
        if number and boss.asked(lambda: boss.look(number), CANCELLING).over:
            return  # its report can still be fetched
    except (Refused, Unavailable) as error:
        _log.warning("is there a run to cancel? %s", error)
        number = ticket.run_id
    if number:
        boss.cancel(ticket.having(run_id=number), "cancelled")
    else:
        boss.tickets.write(ticket.having(outcome="cancelled"))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second request to end must not break off what the first has begun: it changes nothing.

    Ctrl-C still does, for whoever does not want to wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal comes here
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


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
