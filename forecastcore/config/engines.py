"""What each engine may be told beside its `type`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from forecastcore.config.models import Bool, Config, Count, Int, Span, Text
from forecastcore.config.words import custom_error

__all__ = ["ENGINES", "Autoscale", "Budget", "ClusterConfig", "DatabricksEngine", "LocalEngine", "Rates", "SparkEngine"]


class LocalEngine(Config):
    """Processes of this machine."""

    workers: Annotated[Int, Field(ge=0)] | None = None
    """Number of processes; as many as there are processors where it is left out. 0 works in this process, where a model
    that ends its process ends the run."""
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


class Autoscale(Config):
    """Bounds of a cluster that grows and shrinks."""

    min: Count
    """Fewest workers."""
    max: Count
    """Most workers."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise custom_error(f"min {self.min} lies above max {self.max}")
        return self


class ClusterConfig(Config):
    """A cluster that is made for the run and ends with it; exactly one of `workers` and `autoscale`."""

    spark_version: Text
    """Databricks runtime, such as 16.4.x-scala2.12."""
    node_type: Text
    """Kind of machine, such as Standard_D4ds_v5."""
    workers: Annotated[Int, Field(ge=0, le=100_000)] | None = None
    """Number of workers; 0 is a single machine."""
    autoscale: Autoscale | None = None
    """Fewest and most workers, instead of `workers`."""
    policy_id: Text | None = None
    """Id of a cluster policy."""
    spot: Bool = False
    """Take workers from spare capacity, and ordinary ones where there is none; the driver never is."""
    init_scripts: tuple[Text, ...] = ()
    """Scripts that run when a machine starts: paths under /Volumes or /Workspace, or abfss:// addresses."""
    tags: dict[str, Text] = Field(default_factory=dict)
    """Tags of the machines, for the bill."""
    env: dict[str, Text] = Field(default_factory=dict)
    """Environment variables of the run; a secret as {{secrets/SCOPE/KEY}}."""
    conf: dict[str, Any] = Field(default_factory=dict)
    """Spark settings."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.workers is None) == (self.autoscale is None):
            raise custom_error("expected exactly one of workers and autoscale", "write workers: 2")
        return self


def _volume(text: str) -> str:
    if not re.fullmatch(r"/Volumes(/[^/\s]+){3,}/?", text) or ".." in text:
        raise custom_error(f"expected a volume such as /Volumes/catalog/schema/volume, got {text[:60]!r}")
    return text.rstrip("/")


def _folder(text: str) -> str:
    if not re.fullmatch(r"(/Workspace(/[^/\s]+)+|/Volumes(/[^/\s]+){3,})/?", text) or ".." in text:
        raise custom_error(f"expected a folder such as /Workspace/Shared/wheels, or of a volume, got {text[:60]!r}")
    return text.rstrip("/")


def _index(text: str) -> str:
    if text != "default" and not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s?#]*)?", text):
        # what was written is not shown: it may hold a password
        hint = "an index with credentials: write default, and give the workspace its address and the credentials"
        raise custom_error("expected the https:// address of a package index without credentials, or default", hint)
    return text.rstrip("/")


Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Rates(Config):
    """What machines cost, as your contract says; nothing is assumed that is left out."""

    dbu_per_node_hour: Rate | None = None
    """DBU that a node of the cluster takes in an hour."""
    currency_per_dbu: Rate | None = None
    """Price of a DBU."""
    currency_per_node_hour: Rate | None = None
    """Price of the machine itself, where the cloud bills it apart."""
    currency: Text | None = None
    """What prices are in, such as EUR."""


class Budget(Config):
    """What one run may take at most; exactly one of the three."""

    node_hours: Rate | None = None
    """Hours, times nodes."""
    dbu: Rate | None = None
    """DBU; needs `cost.dbu_per_node_hour`."""
    currency: Rate | None = None
    """Money; needs prices under `cost`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.node_hours, self.dbu, self.currency)) != 1:
            raise custom_error("expected exactly one of node_hours, dbu and currency", "write node_hours: 10")
        return self


class DatabricksEngine(Config):
    """A one-time job run: exactly one of `cluster`, `existing_cluster` and `serverless`."""

    cluster: ClusterConfig | None = None
    """A new cluster: spark_version, node_type, workers or autoscale, policy_id, spot."""
    existing_cluster: Text | None = None
    """Id of a cluster."""
    serverless: Bool = False
    """Run on serverless compute."""
    volume: Annotated[Text, AfterValidator(_volume)] | None = None
    """Unity Catalog volume that wheels, requests and reports pass through: /Volumes/catalog/schema/volume."""
    wheels: Annotated[Text, AfterValidator(_folder)] | None = None
    """Folder that wheels are put in instead: a workspace path such as /Workspace/Shared/wheels, or one of a volume."""
    index: Annotated[Text, AfterValidator(_index)] | None = None
    """Package index that a run installs from, in the versions that are here: an address, or `default` for that of the
    workspace. Left out: wheels are made here and uploaded."""
    packages: tuple[Text, ...] = ()
    """Further packages that the run needs, as pip would be asked for them."""
    timeout: Span = "4h"
    """How long the job may take."""
    on_timeout: Literal["cancel", "detach"] = "cancel"
    """What becomes of a job that takes longer: it is cancelled, or goes on and the same command waits for it again."""
    poll: Span = "15s"
    """How often the job is asked how it is."""
    cost: Rates = Field(default_factory=Rates)
    """Rates that costs are estimated with: dbu_per_node_hour, currency_per_dbu, currency_per_node_hour, currency."""
    budget: Budget | None = None
    """What a run may take; it is cancelled before it takes more."""
    profile: Text | None = None
    """Profile of the Databricks configuration, and nothing else is; the environment decides where it is left out."""


ENGINES: dict[str, type[Config]] = {"local": LocalEngine, "spark": SparkEngine, "databricks": DatabricksEngine}
