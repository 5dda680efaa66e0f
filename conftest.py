"""For the tests of the core and of every plugin: the developer's own servers and accounts stay out of them."""

import os
import signal

import pytest
from hypothesis import settings

for name in list(os.environ):
    if name.startswith(("AZURE_", "DATABRICKS_", "MLFLOW_", "PREFECT_")):
        del os.environ[name]

os.environ |= {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# A shell's background jobs ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two busy cores say nothing about the code; a failure in CI has to be the same at home.
settings.register_profile("shared", deadline=None, derandomize="CI" in os.environ, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=200)  # --hypothesis-profile, in `make test-slow`
settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests take minutes on a quiet machine, and a busy one is no fault of theirs."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))
