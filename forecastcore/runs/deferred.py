"""What a run could not do while MLflow was away and the next one does: tell what it found, settle what it decided."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from forecastcore import runtime
from forecastcore.errors import TrackingAway, TrackingError
from forecastcore.messages import Decision
from forecastcore.runs.promotion import enter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forecastcore.messages import ModelVersion
    from forecastcore.ports import ModelStore, Run
    from forecastcore.project import Project

__all__ = ["catch_up", "defer"]

_log = logging.getLogger(__name__)
_THEN = "the next retrain or predict of this project, or `forecastcore reconcile --fix`, does it once MLflow is back"


def defer(
    store: ModelStore,
    run: Run,
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    *,
    not_applied: str,
) -> str:
    """Keep the gate's decision for the day on which MLflow is back.

    Args:
        store: the registry.
        run: the lasting run that decided.
        decision: what the gate says.
        challenger: whom it is about; registered by then.
        champion: with whom it was compared, as far as is known here.
        not_applied: why the decision must not be carried out; empty where it may.

    Returns:
        What is deferred, where it is kept and until when, in words.
    """
    rival = champion.version if champion else None
    settlement = {"digest": challenger.digest, "champion": rival, "not_applied": not_applied}
    where = store.defer(run, {**settlement, "decision": decision.to_json()})
    wins = decision.verdict != "hold" and not not_applied
    condition = f"version {rival} is champion still" if rival else "there is no champion yet"
    then = f", and promotes it if {condition} then" if wins else ""
    return f"MLflow is away: {challenger.model} is not registered, it is kept in {where}; {_THEN}{then}"


def catch_up(project: Project, store: ModelStore | None = None) -> list[str]:
    """Tell MLflow what earlier runs could not tell it, and carry out what they decided.

    Args:
        project: whose runs.
        store: its model store, where it is open.

    Returns:
        What was told, in words; nothing where MLflow is still away.
    """
    store = store or runtime.store(project)
    try:
        return store.catch_up(lambda run_id, settlement: _settled(store, run_id, settlement))
    except TrackingAway as error:
        _log.warning("%d runs wait to be told to MLflow: %s", len(store.behind()), error)
        return []


def _settled(store: ModelStore, run_id: str, settlement: Mapping[str, Any]) -> str:
    """Put a deferred decision on the ledger, once."""
    mine = [v for v in store.versions() if (v.run_id, v.digest) == (run_id, settlement["digest"])]
    if not mine:
        raise TrackingError(f"run {run_id} registered no model with digest {settlement['digest'][:12]}…")
    (challenger,) = mine
    entered = (e for e in store.ledger() if (e.run_id, e.version) == (run_id, challenger.version))
    entry = next(entered, None) or enter(
        store,
        Decision.model_validate(settlement["decision"]),
        challenger,
        settlement["champion"],
        run_id=run_id,
        not_applied=settlement["not_applied"],
    )
    now = " and is champion now" if entry.champion == challenger.version else ""
    return f"{challenger.model} is registered as version {challenger.version}{now}: {entry.reason}"
