"""For the tests of the core and of every plugin: the developer's own servers and accounts stay out of them."""

import os
import signal

import pytest
from hypothesis import settings

from tests.reliability import claims

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--row 20 --row 21`: only what proves these rows of docs/reliability.md; `--row 0`: what proves any."""
    parser.addoption("--row", type=int, action="append", default=[], help="only tests that claim this row")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests take minutes on a quiet machine, and a busy one is no fault of theirs."""
    claims.tell(items)
    if rows := config.getoption("row"):
        items[:], others = claims.only(items, set(rows))
        config.hook.pytest_deselected(items=others)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))
