"""Who is champion: every decision is an entry of the append-only ledger, and the ledger's last entry is the truth."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from forecastcore import runtime
from forecastcore.errors import LedgerConflict, UsageError
from forecastcore.messages import LedgerEntry

if TYPE_CHECKING:
    from forecastcore.messages import Decision, ModelVersion
    from forecastcore.ports import ModelStore
    from forecastcore.project import Project

__all__ = ["demote", "enter", "existing", "predecessor", "promote", "rollback", "settle"]

Action = Literal["first", "promote", "hold", "rollback", "manual"]

#: how often a decision is tried again after another one took its number
_TRIES = 50


def existing(store: ModelStore, which: str) -> ModelVersion:
    """The version meant by an alias, number or run id.

    Raises:
        UsageError: there is none.
    """
    version = store.resolve(which)
    if version is None:
        known = ", ".join(v.version for v in store.versions()) or "none yet"
        raise UsageError(f"there is no model version {which!r}", hint=f"versions: {known}")
    return version


def promote(project: Project, which: str, *, reason: str = "promoted by hand") -> LedgerEntry:
    """Make a registered version the champion, whatever the gate said.

    Args:
        project: whose registry.
        which: a version, run id or alias.
        reason: goes into the ledger.

    Raises:
        UsageError: there is no such version.
    """
    store = runtime.store(project)
    return _append(store, "manual", existing(store, which), reason=reason)


def rollback(project: Project, *, reason: str = "rolled back by hand") -> LedgerEntry:
    """Make the champion's predecessor the champion again.

    Raises:
        UsageError: the champion has none.
    """
    store = runtime.store(project)
    return _append(store, "rollback", predecessor(store), reason=reason)


def predecessor(store: ModelStore) -> ModelVersion:
    """The version that a rollback makes champion.

    Raises:
        UsageError: there is none.
    """
    previous = store.resolve("previous")
    if previous is None:
        raise UsageError(
            "there is no previous champion to go back to",
            hint="forecastcore models history shows who was champion when",
        )
    return previous


def demote(store: ModelStore, decision: Decision, champion: ModelVersion | None, *, run_id: str) -> ModelVersion | None:
    """Make the champion's predecessor champion again, as realized accuracy asks for.

    Args:
        store: the registry.
        decision: of `demotion`, for its reason.
        champion: the one to demote; if somebody else is champion by now, nothing changes.
        run_id: the run that decided.

    Returns:
        The champion after it.
    """
    previous = existing(store, "previous")
    _append(
        store,
        "rollback",
        previous,
        run_id=run_id,
        reason=decision.reason,
        expected=(champion.version if champion else None,),
    )
    return store.resolve("champion")


def settle(
    store: ModelStore,
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    *,
    run_id: str,
    not_applied: str = "",
) -> ModelVersion | None:
    """Put the gate's decision on the ledger.

    Args:
        store: the registry.
        decision: what the gate says.
        challenger: whom it is about.
        champion: with whom it was compared; if somebody else is champion by now, the decision is held.
        run_id: the run that decided.
        not_applied: why the decision must not be carried out; empty where it may.

    Returns:
        The champion after it.
    """
    entry = enter(
        store, decision, challenger, champion.version if champion else None, run_id=run_id, not_applied=not_applied
    )
    if decision.verdict == "hold" or not_applied:
        return champion
    return challenger if entry.champion == challenger.version else store.resolve("champion")


def enter(
    store: ModelStore,
    decision: Decision,
    challenger: ModelVersion,
    rival: str | None,
    *,
    run_id: str,
    not_applied: str = "",
) -> LedgerEntry:
    """Put the gate's decision on the ledger; see `settle`, which also says who is champion after it.

    Args:
        store: the registry.
        decision: what the gate says.
        challenger: whom it is about.
        rival: the version with which it was compared; None where there was no champion.
        run_id: the run that decided.
        not_applied: why the decision must not be carried out; empty where it may.
    """
    if decision.verdict == "hold" or not_applied:
        reason = f"not applied ({not_applied}): {decision.reason}" if not_applied else decision.reason
        return _append(store, "hold", challenger, run_id=run_id, reason=reason)
    return _append(store, decision.verdict, challenger, run_id=run_id, reason=decision.reason, expected=(rival,))


def _append(
    store: ModelStore,
    action: Action,
    version: ModelVersion,
    *,
    reason: str,
    run_id: str = "",
    expected: tuple[str | None, ...] = (),
) -> LedgerEntry:
    """Write the next entry; `expected` is the one champion from whom the action may take over, if that matters."""
    for _ in range(_TRIES):
        entries = store.ledger()
        head = entries[-1] if entries else None
        now = head.champion if head else None
        if expected and now != expected[0]:
            rival = f"version {expected[0]} was" if expected[0] else "nobody was"
            action, reason = "hold", f"held: version {now} became champion while {rival} compared"
        wins = action != "hold"
        changed = wins and now != version.version
        entry = LedgerEntry(
            seq=len(entries) + 1,
            at=datetime.now(UTC),
            action=action,
            version=version.version,
            champion=version.version if wins else now,
            previous=now if changed else head.previous if head else None,
            digest=version.digest if wins else head.digest if head else "",
            run_id=run_id,
            reason=reason[:2000],
            by=_user(),
        )
        try:
            return store.append(entry)
        except LedgerConflict as conflict:
            last = conflict
    raise last


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return ""
