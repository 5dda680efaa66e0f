"""Ledger, registered versions and delivered vintages in one archive, and back into any MLflow and any sinks.

A backup holds data only: decisions and versions as JSON, each version's sealed folder, vintages as Parquet. It is
played back through the same doors that a run goes through, so it does not matter what kind of database they stood in.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from forecastcore import __version__, runtime
from forecastcore.errors import BackupError, SinkError, UsageError
from forecastcore.messages import LedgerEntry, ModelVersion
from forecastcore.ports import Steps
from forecastcore.runs.archive import pack, unpack
from forecastcore.runs.delivered import only_tells, refs_of
from forecastcore.tracking.store import Remembered
from forecastcore.vintages import utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from forecastcore.project import Project
    from forecastcore.tracking.store import MlflowStore

__all__ = ["backup", "restore"]

SCHEMA: Final = "forecastcore/archive/1"


def backup(project: Project, target: Path | str | None = None, steps: Steps | None = None) -> dict[str, Any]:
    """Keep ledger, registered versions and delivered vintages in one archive.

    Args:
        project: whose.
        target: the archive; default: `backups/<project>-<now>.zip` beside the project file.
        steps: how to run and watch the stages.

    Returns:
        `archive`, its `digest`, and how many `versions`, `decisions` and `vintages` it holds.

    Raises:
        UsageError: the archive is there already.
        StateError: a version's files are not those that were registered.
    """
    steps = steps or Steps()
    now = datetime.now(UTC)
    name = project.config.name
    path = Path(target) if target else project.root / "backups" / f"{name}-{now:%Y%m%dT%H%M%SZ}.zip"
    with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
        folder = Path(scratch, "archive")
        folder.mkdir(mode=0o700)
        with runtime.look_only(project) as store:
            entries = store.ledger()
            _write(folder / "ledger.json", [entry.to_json() for entry in entries])
            versions = steps.run("keep versions", lambda: _keep_versions(store, folder))
        kept = steps.run("keep vintages", lambda: _keep_vintages(project, folder))
        head = {
            "schema": SCHEMA,
            "project": name,
            "created_at": now.isoformat(),
            "forecastcore": __version__,
            "vintages": kept,
        }
        digest = steps.run("pack", lambda: pack(folder, path.absolute(), head))
    return {
        "archive": str(path),
        "digest": digest,
        "bytes": path.stat().st_size,
        "versions": len(versions),
        "decisions": len(entries),
        "vintages": len({key for keys in kept.values() for key in keys}),
    }


def restore(
    project: Project,
    source: Path | str,
    *,
    digest: str | None = None,
    yes: bool = False,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Play an archive back: registry, ledger, aliases, and the vintages that the sinks lack.

    The archive is checked whole before anything is written. One that was interrupted is carried on by the next.

    Args:
        project: whose; its `tracking:` and `sinks:` say where to.
        source: the archive.
        digest: what `backup` said; None checks the archive against its own listing only.
        yes: replace what the registry holds and the archive does not.
        steps: how to run and watch the stages.

    Returns:
        How many `versions`, `decisions` and `vintages` there are, the `champion`, and `notes`.

    Raises:
        BackupError: the archive is not what was packed; nothing was written.
        UsageError: it is another project's, or the registry holds something else and `yes` is not given.
        SinkError: a vintage cannot be published.
    """
    steps = steps or Steps()
    with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
        folder = Path(scratch, "archive")
        folder.mkdir(mode=0o700)
        listing = steps.run("check archive", lambda: unpack(Path(source), folder, digest))
        models, entries = _read(listing, folder, project.config.name)
        store: Any = runtime.store(project)
        steps.run("rebuild registry", lambda: store.rebuild(models, entries, anew=yes))
        published, notes = steps.run("publish vintages", lambda: _publish(project, folder, listing["vintages"]))
    champion = store.resolve("champion")
    return {
        "archive": str(source),
        "versions": len(models),
        "decisions": len(entries),
        "vintages": published,
        "champion": champion.to_json() if champion else None,
        "notes": [*notes, *store.notes],
    }


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


def _keep_versions(store: MlflowStore, folder: Path) -> Sequence[ModelVersion]:
    versions = store.versions()
    for version in versions:
        place = folder / "models" / version.version
        place.mkdir(parents=True)
        shutil.copytree(store.fetch(version), place / "packed")
        with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
            _write(place / "shape.json", store.shape(version, Path(scratch)))
        _write(place / "version.json", version.to_json())
    return versions


def _keep_vintages(project: Project, folder: Path) -> dict[str, list[str]]:
    """Every vintage once, and which sink holds which, oldest first."""
    held: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    (folder / "vintages").mkdir()
    for label, sink in project.sinks():
        if only_tells(sink):
            continue
        held[label] = []
        for ref in sorted(ref for ref in refs_of(sink) if ref.project == project.config.name):
            if ref.run_key not in files:
                files[ref.run_key] = f"{len(files):06d}.parquet"
                table = sink.read(utc(ref.issued_at))
                mine = table.filter(pc.equal(table["run_key"], ref.run_key))
                pq.write_table(mine, folder / "vintages" / files[ref.run_key])
            held[label].append(files[ref.run_key])
    return held


def _read(listing: dict[str, Any], folder: Path, project: str) -> tuple[list[Remembered], list[LedgerEntry]]:
    if listing.get("schema") != SCHEMA:
        raise BackupError(f"the archive is {listing.get('schema')!r}; this forecastcore reads {SCHEMA!r}")
    if listing.get("project") != project:
        raise UsageError(f"the archive is of project {listing.get('project')!r}, not of {project!r}")
    try:
        entries = [LedgerEntry.model_validate(one) for one in _json(folder / "ledger.json")]
        models = [_remembered(place) for place in sorted(folder.glob("models/*"))]
        numbers = all(one.version.version.isascii() and one.version.version.isdigit() for one in models)
        files = {f"vintages/{file}" for held in listing["vintages"].values() for file in held}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError("the archive's versions, decisions or vintages are not as backup writes them") from error
    if not numbers or files - set(listing["files"]):
        raise BackupError("the archive names a version that is no number, or a vintage that it does not hold")
    return models, entries


def _remembered(place: Path) -> Remembered:
    version = ModelVersion.model_validate(_json(place / "version.json"))
    return Remembered(version, place / "packed", _json(place / "shape.json"))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _publish(project: Project, folder: Path, held: dict[str, list[str]]) -> tuple[int, list[str]]:
    sinks = {label: sink for label, sink in project.sinks() if not only_tells(sink)}
    notes = [f"the project has no sink {label} any more" for label in held if label not in sinks]
    published = 0
    for label, sink in sinks.items():
        for file in held.get(label, ()):
            table: pa.Table = pq.read_table(folder / "vintages" / file)
            try:
                published += not sink.publish(table, table["run_key"][0].as_py()).already
            except SinkError as error:
                raise SinkError(f"{label}: {error.message}", hint=error.hint or "run restore again") from error
    return published, notes
