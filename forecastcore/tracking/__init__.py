"""Runs, registered models and the promotion ledger in MLflow; the only importer of mlflow in the project.

`open_store` is all that the use cases need; it follows `forecastcore.ports.ModelStore`. Importing this package imports
no mlflow, and opening a store writes nothing.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forecastcore.messages import ModelVersion
    from forecastcore.tracking.quick import Glance
    from forecastcore.tracking.store import MlflowStore

__all__ = ["at_hand", "glance", "look_only", "open_store"]


def open_store(*, project: str, uri: str, experiment: str, root: Path, spool: Path | None = None) -> MlflowStore:
    """Open the model store of one project; nothing is written before the first run starts.

    Args:
        project: also the registered model's name.
        uri: an MLflow tracking URI: `sqlite:///file.db`, `postgresql://…`, `http://…`, `databricks`.
        experiment: name of the MLflow experiment; on Databricks a bare name is put under `/Shared`.
        root: folder that a relative SQLite path is relative to.
        spool: where is kept what MLflow cannot be told while it is away; None keeps nothing.

    Raises:
        UsageError: the URI is of a kind that cannot hold a registry.
    """
    from forecastcore.tracking.connect import Connection
    from forecastcore.tracking.store import MlflowStore

    return MlflowStore(Connection(uri, root), project=project, experiment=experiment, spool=spool)


@contextlib.contextmanager
def look_only(*, project: str, uri: str, experiment: str, root: Path) -> Iterator[MlflowStore]:
    """The model store for reading; of a SQLite file a copy, because MLflow writes into what it opens.

    See `open_store`.
    """
    from forecastcore.tracking.connect import Connection

    connection = Connection(uri, root)
    with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
        if connection.database is not None and connection.exists():
            uri = connection.copied(Path(scratch))
        yield open_store(project=project, uri=uri, experiment=experiment, root=root)


def glance(*, project: str, uri: str, experiment: str, root: Path) -> Glance:
    """The champion and the last decision; see `open_store`. A SQLite file is read without importing MLflow.

    Raises:
        TrackingError: MLflow cannot be asked.
    """
    from forecastcore.tracking.connect import Connection
    from forecastcore.tracking.quick import Glance, glance

    connection = Connection(uri, root)
    if not connection.exists():
        return Glance(None, None, None)
    store = open_store(project=project, uri=uri, experiment=experiment, root=root)
    return glance(store, connection.database, project)


def at_hand(number: str, *, project: str, uri: str, experiment: str, root: Path) -> tuple[ModelVersion, Path] | None:
    """A version and its files, where neither needs MLflow; see `open_store`. None where MLflow has to be asked."""
    from forecastcore.tracking.connect import Connection
    from forecastcore.tracking.quick import at_hand

    database = Connection(uri, root).database
    store = open_store(project=project, uri=uri, experiment=experiment, root=root)
    return at_hand(store, database, project, number) if database is not None and database.exists() else None
