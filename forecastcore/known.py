"""Names that runs have come across, kept for the shell's completion: series, versions, runs, scenarios of a project."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KINDS", "cache_folder", "recall", "remember"]

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
    target = _file(project_file)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial.write_text(json.dumps(kept), encoding="utf-8")
        partial.replace(target)


def recall(project_file: Path, kind: str) -> list[str]:
    """The names of a kind, those met last first; none where nothing is known.

    Args:
        project_file: whose names.
        kind: one of `KINDS`.
    """
    try:
        kept = json.loads(_file(project_file).read_text(encoding="utf-8"))
        return [name for name in kept[kind] if isinstance(name, str) and name.isprintable()]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _file(project_file: Path) -> Path:
    digest = hashlib.sha256(str(project_file.resolve()).encode("utf-8", "surrogatepass")).hexdigest()
    return cache_folder() / "known" / f"{digest[:32]}.json"
