"""Who is champion, at a glance: a SQLite store is read as it lies there, because importing MLflow takes seconds."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from forecastcore.messages import LedgerEntry, ModelVersion
from forecastcore.tracking.ledger import KEY, TAG, standing
from forecastcore.tracking.registry import PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from forecastcore.tracking.store import MlflowStore

__all__ = ["Glance", "glance"]


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


def _of_file(database: Path, project: str) -> Glance:
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as reader:
        tagged = reader.execute("select value from registered_model_tags where name = ? and key = ?", (project, TAG))
        found = tagged.fetchone()
        if found is None:
            return Glance(None, None, None)
        kept = reader.execute("select key, value from params where run_uuid = ?", found).fetchall()
        numbered = sorted((int(match[1]), value) for key, value in kept if (match := KEY.match(key)))
        entries = [LedgerEntry.model_validate(json.loads(value)["entry"]) for _, value in numbered]
        champion, _ = standing(entries)
        return _told(entries, _version(reader, project, champion) if champion else None)


def _version(reader: sqlite3.Connection, project: str, number: str) -> ModelVersion | None:
    row = reader.execute(
        "select creation_time from model_versions where name = ? and version = ?", (project, int(number))
    ).fetchone()
    if row is None:
        return None
    tags = dict(
        reader.execute(
            "select key, value from model_version_tags where name = ? and version = ?", (project, int(number))
        ).fetchall()
    )
    said: dict[str, str] = {key.removeprefix(PREFIX): value for key, value in tags.items()}
    return ModelVersion(
        version=number,
        model=said.get("model", ""),
        aliases=("champion",),
        created_at=datetime.fromtimestamp((row[0] or 0) / 1000, UTC),
        metrics={name: n for name, n in json.loads(said.get("metrics", "{}")).items() if isinstance(n, int | float)},
        digest=said.get("digest", ""),
        trained_until=datetime.fromisoformat(said["trained_until"]) if said.get("trained_until") else None,
    )


def _told(entries: list[LedgerEntry], version: ModelVersion | None) -> Glance:
    champion, _ = standing(entries)
    since = None
    for entry in reversed(entries):
        if entry.champion != champion:
            break
        since = entry.at
    return Glance(version, entries[-1] if entries else None, since)
