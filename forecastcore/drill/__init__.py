"""Rehearsals of outages on a copy of a project: nothing of the project itself changes.

The copy has the project's own settings and data, its champions in a registry of its own, and a sink in a folder of its
own. What is away is replaced by a plugin that fails, or taken out of the copy's registry.
"""

from __future__ import annotations

from forecastcore.drill.rehearsal import KINDS, Check, rehearse

__all__ = ["KINDS", "Check", "rehearse"]
