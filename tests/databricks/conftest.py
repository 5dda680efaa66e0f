"""The fake workspace for every test of this folder."""

from forecastcore.testing.databricks.fixture import databricks, databricks_environments

__all__ = ["databricks", "databricks_environments"]
