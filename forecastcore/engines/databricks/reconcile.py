"""Finds what nobody waits for, live runs without an owner and tickets whose run is over or gone; and what is over."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from forecastcore.engines.databricks.answers import Refused, Unavailable, patient
from forecastcore.engines.databricks.payload import nonce_of, run_folder
from forecastcore.engines.databricks.states import read_state
from forecastcore.engines.databricks.supervisor import BEAT, JOBS
from forecastcore.processes import alive

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.engines.databricks.tickets import Ticket

__all__ = ["Orphan", "jobs_over", "mend", "orphans"]

T = TypeVar("T")
#: signs of life after which a silent owner is listened for: one who is well is never silent for 2.25, and to hold a run
#: for lost takes 2 and the 1.25 of listening
_SILENT = 2
#: and after which a run of which nobody ever said that he waits for it is nobody's
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


def orphans(boss: Supervisor, awaited: Collection[int] = ()) -> list[Orphan]:
    """All there are, of this project in this workspace; nothing is changed.

    Args:
        boss: where to look.
        awaited: processes of this machine that are no more, and whose work somebody else takes up: what they waited
            for is no orphan.

    Raises:
        DatabricksRunError: the workspace refuses to list runs, or is silent.
    """
    return _listed(boss, lambda: list(_orphans(boss, awaited)))


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
        return patient(look, until=time.monotonic() + _PATIENCE, pause=boss.pause, host=boss.workspace.host)
    except Refused as error:
        raise boss.workspace.explained(error, "listing runs") from error
    except Unavailable as error:
        raise boss.silent(error, "Try again later") from error


def _orphans(boss: Supervisor, awaited: Collection[int]) -> Iterator[Orphan]:
    tickets = [t for t in boss.tickets.all() if t.open and t.host == boss.workspace.host]
    by_nonce = {ticket.nonce: ticket for ticket in tickets}
    left = {ticket.nonce for ticket in tickets if ticket.pid in awaited}
    live = list(_runs(boss, active_only="true"))
    for run, why in _confirmed(boss, [(run, _unwatched(boss, run)) for run in live if _nonce(run) not in left]):
        state = read_state(run)
        yield Orphan(
            kind="run-without-owner",
            what=f"run {run['run_id']} ({state.name}) is {state.life}, and {why}",
            mend="cancel it",
            run_id=int(run["run_id"]),
            url=state.url,
            ticket=by_nonce.get(_nonce(run)),
        )
    numbers = {int(run["run_id"]) for run in live}
    for ticket in tickets:
        if ticket.run_id not in numbers and ticket.nonce not in left and not alive(ticket.pid):
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


@dataclass(frozen=True, kw_only=True)
class _Suspicion:
    """Why a live run is taken to have no owner.

    Attributes:
        why: in words.
        heard: when its owner was last heard of; None where that is not the reason.
        beat: seconds between two signs of life.
    """

    why: str
    heard: float | None = None
    beat: float = 0.0


def _confirmed(
    boss: Supervisor, found: list[tuple[dict[str, Any], _Suspicion | None]]
) -> Iterator[tuple[dict[str, Any], str]]:
    """The suspicions that stand: in an outage owners are silent for no fault of theirs, so they are listened for."""
    suspected = [(run, suspicion) for run, suspicion in found if suspicion]
    if beats := [suspicion.beat for _, suspicion in suspected if suspicion.heard is not None]:
        time.sleep(min(1.25 * max(beats), _PATIENCE))
    for run, suspicion in suspected:
        if suspicion.heard is None or _owner(boss, run).get("at") == suspicion.heard:
            yield run, suspicion.why


def _unwatched(boss: Supervisor, run: dict[str, Any]) -> _Suspicion | None:
    """Why a live run is taken to have no owner; None where it has one, or may still get one."""
    life = _owner(boss, run)
    if not life:
        age = time.time() - float(run.get("start_time") or 0) / 1000
        return _Suspicion(why=f"nobody has waited for it in its {age:.0f} s") if age > _MISSED * BEAT else None
    if life.get("detached"):
        return None
    who, heard = f"process {life.get('pid')} on {life.get('host')}", float(life.get("at") or 0)
    if life.get("host") == socket.gethostname() and not alive(int(life.get("pid") or 0)):
        return _Suspicion(why=f"{who}, which waited for it, is no more")
    age, beat = time.time() - heard, float(life.get("beat") or BEAT)
    why = f"{who}, which waits for it, was last heard of {age:.0f} s ago"
    return _Suspicion(why=why, heard=heard, beat=beat) if age > _SILENT * beat else None


def _owner(boss: Supervisor, run: dict[str, Any]) -> dict[str, Any]:
    """What a run's owner last said of itself; empty where there is nothing."""
    life = boss.workspace.read_json(f"{run_folder(boss.volume, _nonce(run))}/owner.json")
    return life if isinstance(life, dict) else {}


def _nonce(run: dict[str, Any]) -> str:
    return nonce_of(str(run.get("run_name")))


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
