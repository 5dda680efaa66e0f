"""What each engine may be told beside its `type`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from forecastcore.config.models import Bool, Config, Count, Text
from forecastcore.config.words import custom_error

__all__ = ["ENGINES", "DatabricksEngine", "LocalEngine", "SparkEngine", "seconds"]

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """How long a duration such as `90s`, `15min` or `4h` is.

    Raises:
        ValueError: it is none, or not above zero.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h|d)", text)
    if not found or float(found[1]) == 0:
        raise custom_error(f"expected a duration such as 90s, 15min or 4h, got {text[:60]!r}")
    return float(found[1]) * _UNITS[found[2]]


def _duration(text: str) -> str:
    seconds(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]


class LocalEngine(Config):
    """Processes of this machine."""

    workers: Count | None = None
    """Number of processes; as many as there are processors where it is left out. 1 works in this process."""
    timeout: Duration = "1h"
    """How long a chunk of series may take; the series that holds it up is then found, and left to the fallback."""


class SparkEngine(Config):
    """A Spark session: the one there is, a Spark Connect server, or a local one."""

    url: Text | None = None
    """Spark Connect URL, such as sc://host:15002."""
    partitions: Count | None = None
    """Number of partitions the series are spread over."""
    conf: dict[str, Any] = Field(default_factory=dict)
    """Spark settings of a session made here."""


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
    timeout: Duration | None = None
    """How long the job may take, such as 4h."""
    on_timeout: Literal["cancel", "detach"] = "cancel"
    """What becomes of a job that takes longer."""
    profile: Text | None = None
    """Profile of the Databricks configuration; the environment decides where it is left out."""


ENGINES: dict[str, type[Config]] = {"local": LocalEngine, "spark": SparkEngine, "databricks": DatabricksEngine}
