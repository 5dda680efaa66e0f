"""What earlier commands came across, kept in the user's cache; losing it costs nothing.

Names of a project for the shell's completion (series, versions, runs, scenarios), and when a plugin passed the
conformance suite.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KINDS", "cache_folder", "note_checked", "recall", "remember", "when_checked"]

KINDS = ("series", "versions", "runs", "scenarios")
#: names of a kind; a shell shows no more, and a large panel must not slow it down
_MOST = 2000
_LONGEST = 200


def cache_folder() -> Path:
    """`FORECASTCORE_CACHE`, else the user's own."""
    named = os.environ.get("FORECASTCORE_CACHE")
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("forecastcore", appauthor=False)


def remember(project_file: Path, **names: Iterable[str]) -> None:
    """Put names first among those known; a cache that cannot be written is no fault of the run.

    Args:
        project_file: whose names.
        names: by kind.
    """
    kept = {kind: recall(project_file, kind) for kind in KINDS}
    for kind, new in names.items():
        fit = (name for name in new if name and len(name) <= _LONGEST and name.isprintable())
        kept[kind] = list(dict.fromkeys([*fit, *kept[kind]]))[:_MOST]
    _write(_file(project_file), kept)


def recall(project_file: Path, kind: str) -> list[str]:
    """The names of a kind, those met last first; none where nothing is known.

    Args:
        project_file: whose names.
        kind: one of `KINDS`.
    """
    names = _read(_file(project_file)).get(kind)
    return [name for name in names if isinstance(name, str) and name.isprintable()] if isinstance(names, list) else []


def note_checked(plugin: str, day: str | None) -> None:
    """Keep the day on which a plugin passed the whole conformance suite.

    Args:
        plugin: kind, name and content hash: other code is another plugin.
        day: as ISO 8601; None: it failed, and what was kept is gone.
    """
    others = [(name, passed) for name, passed in _read(_checked()).items() if name != plugin]
    _write(_checked(), dict(others if day is None else [(plugin, day), *others[: _MOST - 1]]))


def when_checked(plugin: str) -> str | None:
    """The day kept by `note_checked`; None where this code has not passed on this machine."""
    day = _read(_checked()).get(plugin)
    return day if isinstance(day, str) and day.isprintable() else None


def _checked() -> Path:
    return cache_folder() / "checked.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _write(file: Path, kept: dict[str, Any]) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial.write_text(json.dumps(kept), encoding="utf-8")
        partial.replace(file)


def _file(project_file: Path) -> Path:
    digest = hashlib.sha256(str(project_file.resolve()).encode("utf-8", "surrogatepass")).hexdigest()
    return cache_folder() / "known" / f"{digest[:32]}.json"
