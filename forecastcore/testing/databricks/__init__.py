"""A Databricks workspace for tests, on this machine: it runs the submitted wheel, and fails as it is told to.

```python
from forecastcore.testing.databricks import FakeWorkspace

with FakeWorkspace(folder) as workspace:
    workspace.rate_limit("runs/get", retry_after=1, times=3)
    ...  # DATABRICKS_HOST=workspace.url DATABRICKS_TOKEN=workspace.token
```

As a pytest fixture: `pytest_plugins = ["forecastcore.testing.databricks.fixture"]`, then ask for `databricks`.
"""

from __future__ import annotations

from forecastcore.testing.databricks.faults import Rule
from forecastcore.testing.databricks.runs import ApiError, Ended, Run
from forecastcore.testing.databricks.server import FakeWorkspace, Request
from forecastcore.testing.databricks.wheels import make_wheel

__all__ = ["ApiError", "Ended", "FakeWorkspace", "Request", "Rule", "Run", "make_wheel"]
