"""Finds what nobody waits for, live runs without an owner and tickets whose run is over or gone; and what is over."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from forecastcore.engines.databricks.payload import nonce_of, run_folder
from forecastcore.engines.databricks.states import read_state
from forecastcore.engines.databricks.supervisor import BEAT, JOBS
from forecastcore.engines.databricks.workspace import Refused, Unavailable, patient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.engines.databricks.tickets import Ticket

__all__ = ["Orphan", "jobs_over", "mend", "orphans"]

T = TypeVar("T")
#: signs of life that may be missing before nobody is believed to wait
_MISSED = 3
_PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """Something that nobody takes care of any more.

    Attributes:
        kind: `run-without-owner` or `ticket-without-run`.
        what: in words, with why it is taken for one.
        mend: what `--fix` does.
        run_id: of the run.
        url: of the run.
        ticket: what is kept of it on this disk, where something is.
    """

    kind: Literal["run-without-owner", "ticket-without-run"]
    what: str
    mend: str
    run_id: int | None
    url: str
    ticket: Ticket | None


def orphans(boss: Supervisor) -> list[Orphan]:
    """All there are, of this project in this workspace; nothing is changed.

    Raises:
        DatabricksRunError: the workspace refuses to list runs, or is silent.
    """
    return _listed(boss, lambda: list(_orphans(boss)))


def jobs_over(boss: Supervisor, since: float) -> set[str]:
    """The nonces of this project's runs that are over; one that we may not see is none of them.

    Args:
        boss: where to look.
        since: seconds since 1970; runs that began before are left out.

    Raises:
        DatabricksRunError: as `orphans`.
    """

    def look() -> set[str]:
        runs = _runs(boss, start_time_from=int(since * 1000))
        return {nonce_of(str(run.get("run_name"))) for run in runs if read_state(run).over}

    return _listed(boss, look)


def _listed(boss: Supervisor, look: Callable[[], T]) -> T:
    try:
        return patient(look, until=time.monotonic() + _PATIENCE, pause=boss.pause)
    except Refused as error:
        raise boss.workspace.explained(error, "listing runs") from error
    except Unavailable as error:
        raise boss.silent(error, "Try again later") from error


def _orphans(boss: Supervisor) -> Iterator[Orphan]:
    tickets = [t for t in boss.tickets.all() if t.open and t.host == boss.workspace.host]
    by_nonce = {ticket.nonce: ticket for ticket in tickets}
    live = set()
    for run in _runs(boss, active_only="true"):
        state, nonce = read_state(run), nonce_of(str(run.get("run_name")), boss.project)
        live.add(int(run["run_id"]))
        why = _unwatched(boss, nonce, run)
        if why:
            what = f"run {run['run_id']} ({state.name}) is {state.life}, and {why}"
            yield Orphan(
                kind="run-without-owner",
                what=what,
                mend="cancel it",
                run_id=int(run["run_id"]),
                url=state.url,
                ticket=by_nonce.get(nonce),
            )
    for ticket in tickets:
        if ticket.run_id not in live and not _alive(ticket.pid):
            what = f"a {ticket.command} of {ticket.day} was sent away and never fetched, and no run of it goes on"
            yield Orphan(
                kind="ticket-without-run",
                what=what,
                mend="forget it",
                run_id=ticket.run_id,
                url=ticket.url,
                ticket=ticket,
            )


def _runs(boss: Supervisor, **which: Any) -> Iterator[dict[str, Any]]:
    query: dict[str, Any] = {"run_type": "SUBMIT_RUN", "limit": 25, **which}
    while True:
        said = boss.workspace.call("GET", f"{JOBS}/list", query=query)
        yield from (run for run in said.get("runs", ()) if nonce_of(str(run.get("run_name")), boss.project))
        if not said.get("next_page_token"):
            return
        query["page_token"] = said["next_page_token"]


def _unwatched(boss: Supervisor, nonce: str, run: dict[str, Any]) -> str:
    """Why a live run is taken to have no owner; empty where it has one, or may still get one."""
    life = boss.workspace.read_json(f"{run_folder(boss.volume, nonce)}/owner.json")
    if not isinstance(life, dict):
        age = time.time() - float(run.get("start_time") or 0) / 1000
        return f"nobody has waited for it in its {age:.0f} s" if age > _MISSED * BEAT else ""
    if life.get("detached"):
        return ""
    who = f"process {life.get('pid')} on {life.get('host')}"
    if life.get("host") == socket.gethostname() and not _alive(int(life.get("pid") or 0)):
        return f"{who}, which waited for it, is no more"
    age = time.time() - float(life.get("at") or 0)
    late = age > _MISSED * float(life.get("beat") or BEAT)
    return f"{who}, which waits for it, was last heard of {age:.0f} s ago" if late else ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def mend(boss: Supervisor, orphan: Orphan) -> bool:
    """Cancel a run, forget a ticket.

    Returns:
        Whether it is done.
    """
    done = True
    if orphan.kind == "run-without-owner":
        done = boss.stop(orphan.run_id, orphan.url)
    if done and orphan.ticket is not None:
        boss.tickets.write(orphan.ticket.having(outcome="reconciled"))
    return done
