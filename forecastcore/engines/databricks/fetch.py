"""Fetches what a run that is over has to say: its report, or why there is none."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from forecastcore.engines.databricks.answers import NotYet, Refused, Unavailable
from forecastcore.engines.databricks.states import HINTS, missing_there
from forecastcore.engines.databricks.supervisor import CANCELLING, DOUBTS, JOBS
from forecastcore.messages import RunReport

if TYPE_CHECKING:
    from forecastcore.engines.databricks.states import State
    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.engines.databricks.tickets import Ticket

__all__ = ["fetch", "output_of"]

#: answers that may say that a run that failed has left no report, before it is believed
_FEW = 3
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 1000


def fetch(boss: Supervisor, ticket: Ticket, state: State) -> RunReport:
    """What a run that is over has to say; its ticket is closed.

    Raises:
        DatabricksRunError: it failed, there is no report, or nobody answers; then the ticket stays open.
    """
    found = _report(boss, ticket, DOUBTS if state.good else _FEW)
    if found is not None and found.failure is not None:
        boss.tickets.write(ticket.having(outcome="failed"))
        fault = missing_there(found.failure.message) or "failed"
        told = boss.error(ticket, found.failure.message, fault, found.failure.hint or HINTS[fault])
        told.code, told.exit_code = found.failure.code, found.failure.exit_code
        raise told
    if not state.good:
        cause = _cause(boss, state)
        fault = state.fault(cause)
        boss.tickets.write(ticket.having(outcome=fault))
        words = f"Databricks run {ticket.run_id} {state.words(cause)}"
        raise boss.error(ticket, words, fault, HINTS.get(fault, HINTS["failed"]))
    if found is None or found.report is None:
        boss.tickets.write(ticket.having(outcome="no-report"))
        words = f"Databricks run {ticket.run_id} ended well but left no report"
        raise boss.error(ticket, words, "no-report", f"look for {ticket.folder}/report.json and at the run's log")
    boss.tickets.write(ticket.having(outcome="success"))
    return found


def _report(boss: Supervisor, ticket: Ticket, doubts: int) -> RunReport | None:
    """The report; None where so many answers say that there is none, or not all of it. Silence says nothing."""
    doubted = itertools.count(1)

    def ask() -> RunReport | None:
        try:
            return RunReport.model_validate_json(boss.workspace.read(f"{ticket.folder}/report.json"))
        except (ValidationError, Refused) as error:
            if next(doubted) >= doubts:
                return None
            raise NotYet("there is no report yet, or not all of it") from error

    try:
        return boss.asked(ask)
    except Unavailable as error:
        hint = "The run is over: run the same command again to fetch its report"
        raise boss.silent(error, hint, ticket.url) from error


def output_of(boss: Supervisor, number: int) -> tuple[float, str]:
    """When a run began, in seconds since 1970, and what it has said; nothing where it has not yet.

    Raises:
        DatabricksRunError: the workspace does not say.
    """
    try:
        state = boss.asked(lambda: boss.look(number), CANCELLING)
        query = {"run_id": state.task_run_id}
        said = boss.asked(lambda: boss.workspace.call("GET", f"{JOBS}/get-output", query=query), CANCELLING)
    except Refused as error:
        raise boss.workspace.explained(error, f"reading the output of run {number}") from error
    except Unavailable as error:
        raise boss.silent(error, "Try again later") from error
    return state.started_at or 0.0, _ANSI.sub("", str(said.get("logs") or ""))


def _cause(boss: Supervisor, state: State) -> str:
    """The line of the run's output that says why it failed."""
    if state.task_run_id is None:
        return ""
    query = {"run_id": state.task_run_id}
    try:
        said = boss.asked(lambda: boss.workspace.call("GET", f"{JOBS}/get-output", query=query), CANCELLING)
    except (Refused, Unavailable):
        return ""
    trace = [line for line in _ANSI.sub("", str(said.get("error_trace") or "")).splitlines() if line.strip()]
    error = _ANSI.sub("", str(said.get("error") or "")).strip().splitlines()
    return (error[:1] or trace[-1:] or [""])[0].strip()[:_LONGEST]
