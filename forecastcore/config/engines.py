"""What each engine may be told beside its `type`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from forecastcore.config.models import Bool, Config, Count, Span, Text

__all__ = ["ENGINES", "DatabricksEngine", "LocalEngine", "SparkEngine"]


class LocalEngine(Config):
    """Processes of this machine."""

    workers: Count | None = None
    """Number of processes; as many as there are processors where it is left out. 1 works in this process."""
    timeout: Span = "1h"
    """How long a chunk of series may take; the series that holds it up is then found, and left to the fallback."""


class SparkEngine(Config):
    """A Spark session: one made here, a Spark Connect server, or the one there is where neither is named."""

    master: Text | None = None
    """Where a session made here runs, such as local[2] or spark://host:7077."""
    remote: Text | None = None
    """A Spark Connect server, such as sc://host:15002."""
    conf: dict[str, Any] = Field(default_factory=dict)
    """Spark settings of a session made here."""
    tasks: Count = 64
    """How many chunks of series go to Spark together; give a large cluster some for each core."""
    timeout: Span = "1h"
    """How long a chunk of series may take; the series that holds it up is then found, and left to the fallback."""


class DatabricksEngine(Config):
    """A one-time job run: exactly one of `cluster`, `existing_cluster` and `serverless`."""

    cluster: dict[str, Any] | None = None
    """A new cluster: spark_version, node_type, workers or autoscale, policy_id, spot."""
    existing_cluster: Text | None = None
    """Id of a cluster."""
    serverless: Bool = False
    """Run on serverless compute."""
    volume: Text | None = None
    """Unity Catalog volume that requests and reports pass through: /Volumes/catalog/schema/volume."""
    timeout: Span | None = None
    """How long the job may take, such as 4h."""
    on_timeout: Literal["cancel", "detach"] = "cancel"
    """What becomes of a job that takes longer."""
    profile: Text | None = None
    """Profile of the Databricks configuration; the environment decides where it is left out."""


ENGINES: dict[str, type[Config]] = {"local": LocalEngine, "spark": SparkEngine, "databricks": DatabricksEngine}
