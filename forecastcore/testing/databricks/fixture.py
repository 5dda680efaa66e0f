"""The workspace as a pytest fixture: `pytest_plugins = ["forecastcore.testing.databricks.fixture"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forecastcore.testing.databricks.server import FakeWorkspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["databricks", "databricks_environments"]


@pytest.fixture(scope="session")
def databricks_environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where virtual environments are kept: one per set of wheels and session."""
    return tmp_path_factory.mktemp("databricks-environments")


@pytest.fixture
def databricks(
    tmp_path: Path, databricks_environments: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeWorkspace]:
    """A workspace that this process finds by its environment; when the test ends, so do all runs."""
    with FakeWorkspace(tmp_path / "databricks", environments=databricks_environments) as workspace:
        for name in ("DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET", "DATABRICKS_CONFIG_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "no.databrickscfg"))
        for name, value in workspace.environment.items():
            monkeypatch.setenv(name, value)
        yield workspace
