"""Forecasting in production: prepare, assume, predict, deliver; learn anew, compare, and swap only for the better.

```python
import forecastcore as fc

project = fc.Project.load("forecast.yaml")
report = fc.retrain(project)
report = fc.predict(project)
table = fc.forecasts(project)
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forecastcore.notebook import forecasts
    from forecastcore.project import Project
    from forecastcore.runs.backfill import backfill
    from forecastcore.runs.backup import backup, restore
    from forecastcore.runs.monitor import monitor
    from forecastcore.runs.predict import predict
    from forecastcore.runs.retrain import retrain
    from forecastcore.runs.shelves import rollback_vintage

__all__ = [
    "Project",
    "backfill",
    "backup",
    "forecasts",
    "monitor",
    "predict",
    "restore",
    "retrain",
    "rollback_vintage",
]

__version__ = "0.1.0"

_HOMES = {
    "Project": "forecastcore.project",
    "backfill": "forecastcore.runs.backfill",
    "backup": "forecastcore.runs.backup",
    "forecasts": "forecastcore.notebook",
    "monitor": "forecastcore.runs.monitor",
    "predict": "forecastcore.runs.predict",
    "restore": "forecastcore.runs.backup",
    "retrain": "forecastcore.runs.retrain",
    "rollback_vintage": "forecastcore.runs.shelves",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import forecastcore.api` in a plugin and `forecastcore --help` stay fast.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    msg = f"module 'forecastcore' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
