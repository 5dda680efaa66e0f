"""Writes an asset bundle: `databricks.yml`, the requests of its jobs, and the wheels they install."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import yaml

from forecastcore.errors import UsageError
from forecastcore.runs.remote import request_of, used_distributions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from forecastcore.project import Project

__all__ = ["COMMANDS", "bundle"]

#: what becomes a job
COMMANDS = ("retrain", "predict", "monitor")
_FILE = "databricks.yml"
_MARK = "# Made by `forecastcore bundle`, and written over by it: what you change belongs into own/*.yml.\n"
_HOW = "# databricks bundle validate && databricks bundle deploy -t prod\n"
#: when there is no `prefect.yaml`: every week, every day, and an hour later
_USUAL: Final[dict[str, list[dict[str, Any]]]] = {
    "retrain": [{"cron": "0 4 * * 0"}],
    "predict": [{"cron": "0 6 * * *"}],
    "monitor": [{"cron": "0 7 * * *"}],
}


def bundle(project: Project, folder: Path | None = None) -> dict[str, Any]:
    """Write the bundle of a project.

    Args:
        project: whose `engine:` is databricks.
        folder: where to; default: `bundle` beside the project file.

    Returns:
        `folder`, `files`, `schedules` (the file they are from; null for the usual ones), `targets`, `jobs`, `notes`:
        what else the jobs need.

    Raises:
        UsageError: the engine is another one, something cannot be said there, or a `databricks.yml` is there that
            was not made by this.
    """
    from forecastcore.engines.databricks.belongings import belongings
    from forecastcore.engines.databricks.bundle import bundle_of
    from forecastcore.engines.databricks.wheels import Wheel, libraries_of

    config, root = project.config, folder or project.root / "bundle"
    if config.engine.type != "databricks":
        hint = "write engine: {type: databricks, …}; docs/how-to/databricks.md has the settings"
        raise UsageError(f"engine.type is {config.engine.type}: a bundle is for Databricks", hint=hint)
    if (root / _FILE).exists() and not (root / _FILE).read_text(encoding="utf-8").startswith(_MARK):
        hint = "name another folder; this one's file was not made by forecastcore bundle"
        raise UsageError(f"{root / _FILE} is there already", hint=hint)
    libraries = libraries_of(used_distributions(project), index=config.engine.params.get("index") is not None)
    wheels = [one for one in libraries if isinstance(one, Wheel)]
    schedules, source = _schedules(project)
    paths = [f"./wheels/{one.name}" if isinstance(one, Wheel) else one.pin for one in libraries]
    made = bundle_of(config.name, config.engine, paths, schedules, config.source.timezone)
    requests = {command: request_of(project, command, {}).to_json() for command in schedules}
    files: dict[str, bytes] = {
        _FILE: (_MARK + _HOW + yaml.safe_dump(made, sort_keys=False, width=120, allow_unicode=True)).encode(),
        **{f"requests/{name}.json": _json(request) for name, request in requests.items()},
        **{f"wheels/{wheel.name}": wheel.content for wheel in wheels},
    }
    for old in (root / "wheels").glob("*.whl") if (root / _FILE).exists() else ():
        old.unlink()  # of an earlier version
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return {
        "folder": str(root),
        "files": sorted(files),
        "schedules": source,
        "targets": list(made["targets"]),
        "jobs": {name: job.get("schedule") for name, job in made["resources"]["jobs"].items()},
        "notes": _notes(project, sorted(belongings(config, project.root))),
    }


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _notes(project: Project, files: list[str]) -> list[str]:
    """What a job cannot bring along."""
    place = f"VOLUME/forecastcore/projects/{project.config.name}"
    notes = [f"{name} is read from {place}: databricks fs cp {name} dbfs:{place}/{name}" for name in files]
    if (project.tracking().uri or "").startswith("sqlite:"):
        notes.append("tracking.uri is a SQLite file, which two machines cannot share: write databricks")
    return notes


def _schedules(project: Project) -> tuple[dict[str, list[dict[str, Any]]], str | None]:
    """When each command runs: as the nearest `prefect.yaml` says for this project file, else as usual."""
    for folder in (project.root, *project.root.parents):
        place = folder / "prefect.yaml"
        if place.is_file():
            found = _deployed(project, place)
            return (found, str(place)) if found else (_USUAL, None)
    return _USUAL, None


def _deployed(project: Project, place: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        said = yaml.safe_load(place.read_text(encoding="utf-8"))
        found: dict[str, list[dict[str, Any]]] = {}
        for one in said["deployments"]:
            named = place.parent / str((one.get("parameters") or {}).get("project", ""))
            if one.get("name") in COMMANDS and named.resolve() in {project.path.resolve(), project.root.resolve()}:
                found[one["name"]] = list(one.get("schedules") or ())
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{place} cannot be read as deployments: {type(error).__name__}: {error}") from error
    return found
