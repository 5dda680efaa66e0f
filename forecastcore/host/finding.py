"""Where plugins are: entry points and single files, found but not yet loaded."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore.hookspecs import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.resources.abc import Traversable
    from types import ModuleType

__all__ = ["Candidate", "installed", "normal", "single_files"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plugin that was found, not yet loaded.

    Attributes:
        name: of the entry point, or the file's stem.
        distribution: that it comes from, or the file's name.
        version: of the distribution; `0+<hash>` for a file.
        source: `installed` or `file`.
        location: the entry point, or the file's path.
        load: imports it; may raise anything.
        digest: SHA-256 of its Python files, once it is loaded.
    """

    name: str
    distribution: str
    version: str
    source: str
    location: str
    load: Callable[[], Any]
    digest: Callable[[], str]


def normal(name: str) -> str:
    """A distribution's name as packaging tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    try:
        name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    except Exception:  # noqa: BLE001 - each library that finds distributions has its own word for damaged metadata
        name, version = "", ""
    return name or "unknown", version or ""


def installed() -> Iterator[Candidate]:
    """Plugins of installed distributions, always in the same order."""
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: (_distribution(p), p.name)):
        name, version = _distribution(point)
        yield Candidate(
            name=point.name,
            distribution=name,
            version=version,
            source="installed",
            location=f"{point.name} = {point.value}",
            load=point.load,
            digest=functools.partial(package_digest, re.split(r"[.:\s]", point.value, maxsplit=1)[0]),
        )


def single_files(paths: Sequence[str | Path]) -> Iterator[Candidate]:
    """Files as plugins, each once; one that is not there fails when it is loaded."""
    stems: Counter[str] = Counter()
    for path in dict.fromkeys(Path(path).absolute() for path in paths):
        stem = re.sub(r"[^A-Za-z0-9_]", "_", path.stem)
        stems[stem] += 1
        # Called alike in every process and after every edit, so that workers and stored models find its classes.
        name = f"forecastcore_file_{stem}" + (f"_{stems[stem]}" if stems[stem] > 1 else "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        yield Candidate(
            name=path.stem,
            distribution=path.name,
            version=f"0+{digest[:8]}" if digest else "0",
            source="file",
            location=str(path),
            load=functools.partial(_import_file, name, path, digest),
            digest=functools.partial(str, digest),
        )


def _import_file(name: str, path: Path, digest: str) -> ModuleType:
    """Import a file as module `name`; the one imported before where it is the same file with the same content."""
    known = sys.modules.get(name)
    if known is not None and (known.__file__, getattr(known, "_forecastcore_digest", "")) == (str(path), digest):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if not digest or spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file" if path.exists() else f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    vars(module)["_forecastcore_digest"] = digest
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _python_files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.name.endswith(".py"):
            yield prefix + entry.name, entry.read_bytes()
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from _python_files(entry, f"{prefix}{entry.name}/")


def package_digest(package: str) -> str:
    """SHA-256 over names and contents of a package's Python files; also where they lie in an archive."""
    module = sys.modules.get(package)
    if module is None:
        return ""
    if hasattr(module, "__path__"):
        files = sorted(_python_files(importlib.resources.files(module)))
    else:
        files = [("", Path(module.__file__).read_bytes())] if module.__file__ else []
    total = hashlib.sha256()
    for name, content in files:
        total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()
