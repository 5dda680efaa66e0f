"""How a project stands, in two seconds: champion, newest vintage and its age, degraded share, deployments."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import runtime
from forecastcore.errors import UsageError
from forecastcore.runs.delivered import listed
from forecastcore.runs.deployments import deployments
from forecastcore.vintages import utc
from forecastcore.watching.schedule import rhythm

if TYPE_CHECKING:
    from forecastcore.project import Project
    from forecastcore.runs.delivered import Shelf
    from forecastcore.vintages import VintageRef

__all__ = ["status"]

Document = dict[str, Any]

#: seconds that a source has to say how new its data is
_PATIENCE = 1.0
#: cycles that may pass before the newest vintage is stale
_CYCLES = 2


def status(project: Project, now: datetime | None = None) -> Document:
    """What is served, how fresh it is, and what runs next; nothing is written.

    Args:
        project: which.
        now: the moment of asking; default: the clock's.

    Returns:
        `champion, decision, vintage, freshness, degraded, data, deployments`, JSON-able; `freshness.stale` where the
        newest vintage is older than it may be, or newer data has been there for so long, or nothing was delivered.
    """
    now = now or datetime.now(UTC)
    newest: list[datetime] = []
    asked = threading.Thread(target=lambda: newest.extend(_newest_data(project)), daemon=True)
    asked.start()
    told = runtime.glance(project)
    shelf = _listed(project)
    served, reason = deployments(project)
    asked.join(_PATIENCE)
    data = newest[0] if newest else None
    vintage = shelf.refs[-1] if shelf and shelf.refs else None
    champion = told.champion
    return {
        "champion": None
        if champion is None
        else {
            "version": champion.version,
            "model": champion.model,
            "since": _text(told.since),
            "age_days": round((now - utc(told.since or champion.created_at)) / timedelta(days=1), 2),
            "trained_until": _text(champion.trained_until),
            "skill": champion.metrics.get("skill"),
        },
        "decision": told.decision.to_json() if told.decision else None,
        "vintage": _vintage(shelf, vintage, now) if shelf and vintage else None,
        "freshness": _freshness(project, shelf, vintage, data, now),
        "degraded": _degraded(shelf, vintage) if shelf and vintage else None,
        "data": {"newest": _text(data)},
        "deployments": served,
        "notes": [reason] if reason else [],
    }


def _listed(project: Project) -> Shelf | None:
    try:
        return listed(project)
    except UsageError:  # no sink can be read: nothing is known of what was delivered
        return None


def _vintage(shelf: Shelf, ref: VintageRef, now: datetime) -> Document:
    return {
        "sink": shelf.label,
        "issued_at": _text(ref.issued_at),
        "created_at": _text(ref.created_at),
        "age_seconds": round((now - utc(ref.created_at)).total_seconds()),
        "rows": ref.rows,
        "run_key": ref.run_key,
    }


def _freshness(
    project: Project, shelf: Shelf | None, ref: VintageRef | None, data: datetime | None, now: datetime
) -> Document:
    """Whether the newest vintage is older than it may be."""
    allowed = _allowed(project, shelf)
    if ref is None:
        return {"stale": True, "allowed_seconds": allowed, "reason": "nothing has been delivered"}
    made, behind = (now - utc(ref.created_at)).total_seconds(), None
    if data is not None:
        behind = (data - utc(ref.issued_at)).total_seconds()
    reasons = []
    if made > allowed:
        reasons.append(f"it was made {_span(made)} ago")
    if behind is not None and behind > allowed:
        reasons.append(f"the source has data of {_span(behind)} after its origin")
    words = f"{' and '.join(reasons)}; {_span(allowed)} are allowed" if reasons else "as new as it should be"
    return {"stale": bool(reasons), "allowed_seconds": allowed, "reason": words}


def _allowed(project: Project, shelf: Shelf | None) -> float:
    """Seconds that may pass: `monitor.stale_after`, else twice the usual distance of vintages, else the horizon."""
    from forecastcore.timegrid import duration, parse_frequency

    said = project.config.monitor.stale_after
    if said:
        return duration("monitor.stale_after", said).total_seconds()
    every = rhythm([utc(ref.issued_at) for ref in shelf.refs]) if shelf else None
    start = pd.Timestamp("2024-01-01")
    step = (start + parse_frequency(project.config.frequency) - start).total_seconds()
    return _CYCLES * every if every else project.config.horizon * step


def _degraded(shelf: Shelf, ref: VintageRef) -> Document:
    rows = shelf.sink.read(utc(ref.issued_at)).select(["unique_id", "status", "run_key"]).to_pandas()
    mine = rows[rows["run_key"] == ref.run_key]
    off = mine.loc[mine["status"] != "ok", "unique_id"].nunique()
    total = mine["unique_id"].nunique()
    return {"series": total, "not_ok": off, "share": off / total if total else 0.0}


def _newest_data(project: Project) -> list[datetime]:
    """The newest time stamp of the source, where it says; an empty list where it does not."""
    import pyarrow.compute as pc

    source = project.config.source
    try:
        value = pc.max(project.source().read([source.time]).column(source.time)).as_py()
        moment = runtime.instant(project, value)
    except Exception:  # noqa: BLE001 - a source that is away is the doctor's matter; the rest of the status stands
        return []
    return [] if moment is None else [moment.to_pydatetime()]


def _span(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"  # noqa: PLR2004 - two days


def _text(moment: datetime | None) -> str | None:
    return utc(moment).isoformat() if moment else None
