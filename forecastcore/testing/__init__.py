"""For plugin authors: sample frames to try a plugin on, and the conformance suite.

`check(spec)` runs the suite without pytest; `conformance(spec)` makes it a pytest test; on the command line it is
`forecastcore plugins check NAME`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forecastcore.testing.samples import sample_future, sample_history, sample_task
from forecastcore.testing.suite import Check
from forecastcore.testing.tables import sample_vintage

if TYPE_CHECKING:
    from forecastcore.testing.checking import check
    from forecastcore.testing.pytest_helper import conformance

__all__ = ["Check", "check", "conformance", "sample_future", "sample_history", "sample_task", "sample_vintage"]


def __getattr__(name: str) -> Any:
    """`check` and `conformance`, imported when they are used."""
    import importlib

    homes = {"check": "checking", "conformance": "pytest_helper"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{homes[name]}"), name)
