"""What runs have left behind that nobody takes care of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forecastcore.project import Project

__all__ = ["reconcile"]


def reconcile(project: Project, *, fix: bool = False) -> list[dict[str, Any]]:
    """Find orphans, and with `fix` put an end to them.

    Args:
        project: whose runs; one whose engine is not databricks has none there.
        fix: cancel runs that nobody waits for, forget tickets whose run is over; else nothing is changed.

    Returns:
        One entry per orphan: `kind`, `what`, `mend`, `run_id`, `url`, and whether it is `fixed`.

    Raises:
        DatabricksRunError: the workspace cannot be asked.
    """
    if project.config.engine.type != "databricks":
        return []
    from forecastcore.engines.databricks import supervisor_of
    from forecastcore.engines.databricks.reconcile import mend, orphans

    boss = supervisor_of(project)
    return [
        {
            "kind": orphan.kind,
            "what": orphan.what,
            "mend": orphan.mend,
            "run_id": orphan.run_id,
            "url": orphan.url,
            "fixed": fix and mend(boss, orphan),
        }
        for orphan in orphans(boss)
    ]
