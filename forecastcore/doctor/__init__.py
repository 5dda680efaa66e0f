"""Looks for what keeps runs from working: the machine, the plugins, the project, its source, sinks, store and services.

`examine` runs every check and changes nothing. What one check finds broken, those that need it leave aside, so that a
fault is named once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.doctor import databricks, machine, models, security, services, site
from forecastcore.doctor.finding import Finding, Patient, found

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["CHECKS", "SECURITY", "Finding", "examine"]

#: in this order; a later one may need what an earlier one found
CHECKS = (*machine.CHECKS, *site.CHECKS, *models.CHECKS, *services.CHECKS, *databricks.CHECKS)
#: of `doctor --security`
SECURITY = (site.CHECKS[0], *security.CHECKS)


def examine(
    path: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
    secure: bool = False,
) -> list[Finding]:
    """Run all checks.

    Args:
        path: project file or its folder; None for a machine without a project.
        overrides: `key.path=value` texts that replace what the file says.
        plugins: single Python files to load as plugins.
        secure: look instead for what lets others in.
    """
    patient = Patient(path, tuple(overrides), tuple(plugins))
    with patient.closing:
        return [found(name, check, patient) for name, check in (SECURITY if secure else CHECKS)]
