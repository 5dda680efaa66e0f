"""The vintages that stand in the sinks: taking one back, and letting old ones go."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from forecastcore import runtime
from forecastcore.errors import UsageError
from forecastcore.messages import RollbackReport, Withdrawal
from forecastcore.vintages import VintageRef, expired, utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from forecastcore.project import Project

__all__ = ["retain", "rollback_vintage"]

_log = logging.getLogger(__name__)


def _shelves(project: Project) -> Iterator[tuple[str, Any]]:
    """The sinks that can list and withdraw vintages."""
    for label, sink in project.sinks():
        if callable(getattr(sink, "vintages", None)) and callable(getattr(sink, "withdraw", None)):
            yield label, sink


def rollback_vintage(
    project: Project,
    issued_at: str | datetime | None = None,
    *,
    scenario: str | None = None,
    reason: str = "rolled back by hand",
    dry_run: bool = False,
) -> RollbackReport:
    """Take the newest vintage back in every sink; the one before is the latest again.

    A vintage that was taken back stays back: a run with the same key finds it used up and writes nothing.

    Args:
        project: whose sinks.
        issued_at: the origin to take back; default: the newest that any sink holds.
        scenario: only this one; default: all of that origin.
        reason: kept where the sink has a place for it.
        dry_run: only tell what would be taken back.

    Raises:
        UsageError: no sink holds such a vintage, or it is the only one.
    """
    name = project.config.name
    held = {label: [r for r in sink.vintages() if r.project == name] for label, sink in _shelves(project)}
    origins = sorted({utc(ref.issued_at) for refs in held.values() for ref in refs})
    asked = runtime.instant(project, issued_at)
    moment = asked.to_pydatetime() if asked is not None else max(origins, default=None)
    mine = {label: [r for r in refs if _meant(r, moment, scenario)] for label, refs in held.items()}
    if not any(mine.values()):
        there = ", ".join(f"{origin:%Y-%m-%d %H:%M}" for origin in origins[-5:]) or "none"
        raise UsageError("no sink holds such a vintage", hint=f"the newest origins are: {there}")
    if len(origins) == 1 and scenario is None:
        raise UsageError("this is the only vintage there is", hint="publish another one first; readers need one")
    withdrawn = []
    for label, sink in _shelves(project):
        if not dry_run:
            sink.withdraw([ref.run_key for ref in mine[label]], reason)
        withdrawn += [_told(label, ref) for ref in mine[label]]
    left = {label: [utc(r.issued_at) for r in refs if r not in mine[label]] for label, refs in held.items()}
    others = [label for label, _ in project.sinks() if label not in held]
    return RollbackReport(
        project=name,
        reason=reason,
        dry_run=dry_run,
        withdrawn=tuple(withdrawn),
        latest={label: max(origins, default=None) for label, origins in left.items()},
        notes=(f"{', '.join(others)}: cannot take a vintage back",) if others else (),
    )


def _meant(ref: VintageRef, moment: datetime | None, scenario: str | None) -> bool:
    return utc(ref.issued_at) == moment and scenario in {None, ref.scenario}


def _told(label: str, ref: VintageRef) -> Withdrawal:
    return Withdrawal(sink=label, run_key=ref.run_key, issued_at=ref.issued_at, scenario=ref.scenario, rows=ref.rows)


def retain(project: Project) -> int:
    """Let go of what `keep:` does not keep, in every sink; how many vintages. A sink that fails is logged."""
    keep, gone = project.config.keep, 0
    if keep.vintages is None and keep.days is None:
        return 0
    for label, sink in _shelves(project):
        try:
            mine = [ref for ref in sink.vintages() if ref.project == project.config.name]
            old = expired(mine, vintages=keep.vintages, days=keep.days)
            gone += sink.withdraw([ref.run_key for ref in old], "older than keep: says") if old else 0
        except Exception as error:  # noqa: BLE001 - the forecast was delivered; tidying up can wait for the next run
            _log.warning("%s: old vintages were not removed: %s", label, error)
    return gone
