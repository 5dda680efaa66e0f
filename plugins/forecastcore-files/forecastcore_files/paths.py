"""Finding the files that a source's `path` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find"]

_MAGIC = "*?["


def find(path: Path, suffix: str) -> list[Path]:
    """The file at `path`, or the files with `suffix` in that folder, or those that match the pattern, sorted.

    In a folder, names that start with a dot or an underscore are left out: they are logs and work in progress.

    Raises:
        DataError: there is none; the message says what is nearby.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob(f"*{suffix}") if file.is_file() and not _hidden(file, path)]
    elif any(sign in part for part in path.parts for sign in _MAGIC):
        root, pattern = _split(path)
        found = [file for file in root.glob(pattern) if file.is_file() and not _hidden(file, root)]
    else:
        raise DataError(f"{path.absolute()} does not exist", hint=_nearby(path))
    if not found:
        raise DataError(f"{path.absolute()} holds no file ending in {suffix}", hint=_nearby(path))
    return sorted(found)


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(root).parts)


def _split(path: Path) -> tuple[Path, str]:
    """The folder before the first part of `path` that is a pattern, and the rest."""
    first = next(number for number, part in enumerate(path.parts) if any(sign in part for sign in _MAGIC))
    return type(path)(*path.parts[:first]), "/".join(path.parts[first:])


def _nearby(path: Path) -> str:
    """What the nearest folder that exists holds, in words."""
    folder = next(place for place in (path, *path.absolute().parents) if place.is_dir())
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004 - ten fit a line
    return f"{folder.absolute()} holds {shown or 'nothing'}"
