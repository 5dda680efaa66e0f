"""Who is champion, at a glance: a SQLite store is read as it lies there, because importing MLflow takes seconds."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from forecastcore.messages import LedgerEntry
from forecastcore.tracking.ledger import KEY, TAG, digest_of, standing
from forecastcore.tracking.registry import version_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from forecastcore.messages import ModelVersion
    from forecastcore.tracking.store import MlflowStore

__all__ = ["Glance", "at_hand", "glance"]


@dataclass(frozen=True)
class Glance:
    """What a registry says of its champion.

    Attributes:
        champion: None where there is none yet.
        decision: the last entry of the ledger.
        since: when the champion became it.
    """

    champion: ModelVersion | None
    decision: LedgerEntry | None
    since: datetime | None


def glance(store: MlflowStore, database: Path | None, project: str) -> Glance:
    """The champion and the last decision; of a SQLite file without MLflow.

    Args:
        store: asked where there is no file, or one that MLflow has laid out in another way.
        database: the file.
        project: name of the registered model.
    """
    if database is not None:
        with contextlib.suppress(sqlite3.Error, ValidationError, ValueError, KeyError):
            return _of_file(database, project)
    entries = store.ledger()
    return _told(entries, store.resolve("champion") if entries else None)


def at_hand(store: MlflowStore, database: Path, project: str, number: str) -> tuple[ModelVersion, Path] | None:
    """A version of a SQLite file with its files, if this machine keeps them: without MLflow, and digest-checked.

    Args:
        store: whose kept files.
        database: the file.
        project: name of the registered model.
        number: of the version.

    Returns:
        None where MLflow has to be asked.
    """
    with contextlib.suppress(sqlite3.Error, ValidationError, ValueError, KeyError), _reading(database) as reader:
        version = _version(reader, project, number)
        if version is None:
            return None
        trusted = digest_of(_entries(reader, project), number) or version.digest
        folder = store.kept(trusted) if trusted == version.digest else None
        return (version, folder) if folder else None
    return None


def _of_file(database: Path, project: str) -> Glance:
    with _reading(database) as reader:
        entries = _entries(reader, project)
        champion, _ = standing(entries)
        version = _version(reader, project, champion) if champion else None
        return _told(entries, version.model_copy(update={"aliases": ("champion",)}) if version else None)


def _reading(database: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True))


def _entries(reader: sqlite3.Connection, project: str) -> list[LedgerEntry]:
    tagged = reader.execute("select value from registered_model_tags where name = ? and key = ?", (project, TAG))
    found = tagged.fetchone()
    kept = reader.execute("select key, value from params where run_uuid = ?", found).fetchall() if found else []
    numbered = sorted((int(match[1]), value) for key, value in kept if (match := KEY.match(key)))
    return [LedgerEntry.model_validate(json.loads(value)["entry"]) for _, value in numbered]


def _version(reader: sqlite3.Connection, project: str, number: str) -> ModelVersion | None:
    which = (project, int(number))
    row = reader.execute(
        "select creation_time, run_id from model_versions where name = ? and version = ?", which
    ).fetchone()
    tags = reader.execute("select key, value from model_version_tags where name = ? and version = ?", which).fetchall()
    return version_of(number, dict(tags), *row) if row else None


def _told(entries: list[LedgerEntry], version: ModelVersion | None) -> Glance:
    champion, _ = standing(entries)
    since = None
    for entry in reversed(entries):
        if entry.champion != champion:
            break
        since = entry.at
    return Glance(version, entries[-1] if entries else None, since)
