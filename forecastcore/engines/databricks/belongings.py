"""Files of the project's folder that a run reads: they go along, each once per content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from forecastcore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forecastcore.config import ProjectConfig
    from forecastcore.engines.databricks.workspace import Workspace

__all__ = ["belongings", "bring"]

#: sections of a project file that name what is read
_READ = {"source", "covariates", "assumptions", "scenarios"}
#: places that are the same on every cluster of a workspace
_SHARED = ("/Volumes/", "/Workspace/", "/dbfs/")
_LARGEST = 500_000_000

#: longer than any path
_LONGEST = 1000


def belongings(config: ProjectConfig, root: Path) -> dict[str, Path]:
    """The files below the project's folder that its file names as inputs, by their relative path.

    Raises:
        UsageError: one is too large to be sent with each change.
    """
    if root.as_posix().startswith(_SHARED):
        return {}
    found: dict[str, Path] = {}
    for text in _texts(config.model_dump(mode="json", include=_READ)):
        place = root / text
        if "\0" not in text and lies_inside(Path(text)) and len(text) < _LONGEST and place.is_file():
            found[Path(text).as_posix()] = place
    for name, place in found.items():
        if place.stat().st_size > _LARGEST:
            hint = "keep it in a volume or a table, and name that under source:"
            raise UsageError(f"{name} is too large to be sent to Databricks with each change of it", hint=hint)
    return found


def lies_inside(path: PurePath) -> bool:
    """Whether a path, joined to a folder, stays below it; a drive or a root of Windows leads elsewhere too."""
    return not path.anchor and ".." not in path.parts


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def bring(workspace: Workspace, files: Mapping[str, Path], home: str) -> None:
    """Write the files that have changed since they were last brought.

    Args:
        workspace: where to.
        files: by relative path.
        home: folder of a volume.

    Raises:
        Unavailable, Refused: as `Workspace.call`.
    """
    for name, place in files.items():
        content = place.read_bytes()
        now = {"sha256": hashlib.sha256(content).hexdigest()}
        note = f"{home}/.brought/{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
        if workspace.read_json(note) != now:
            workspace.write(f"{home}/{name}", content)
            workspace.write(note, json.dumps(now).encode())
