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
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from forecastcore.hookspecs import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from importlib.resources.abc import Traversable

__all__ = ["Candidate", "contents", "installed", "normal", "single_files"]

#: how a file's bytes become text that JSON can carry
_KEPT = ("utf-8", "surrogateescape")


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
        digest: SHA-256 of its code; nothing is imported for it.
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


def contents(paths: Iterable[Path]) -> dict[str, str]:
    """The text of each file that is there; what is not UTF-8 in it survives the way back."""
    return {str(path): path.read_bytes().decode(*_KEPT) for path in paths if path.is_file()}


def single_files(texts: Mapping[Path, str | None]) -> Iterator[Candidate]:
    """Files as plugins; one without a text, for it is not there, fails when it is loaded."""
    stems: Counter[str] = Counter()
    for path, text in texts.items():
        stem = re.sub(r"[^A-Za-z0-9_]", "_", path.stem)
        stems[stem] += 1
        # Called alike in every process and after every edit, so that workers and stored models find its classes.
        name = f"forecastcore_file_{stem}" + (f"_{stems[stem]}" if stems[stem] > 1 else "")
        source = None if text is None else text.encode(*_KEPT)
        digest = hashlib.sha256(source).hexdigest() if source is not None else ""
        yield Candidate(
            name=path.stem,
            distribution=path.name,
            version=f"0+{digest[:8]}" if digest else "0",
            source="file",
            location=str(path),
            load=functools.partial(_import_file, name, path, source, digest),
            digest=functools.partial(str, digest),
        )


class _Loader(SourceFileLoader):
    """Loads a file's text as it was read, also where the file is not."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: str) -> bytes:  # noqa: ARG002 - there is but one
        return self._source

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"{path} is not compiled ahead")


def _import_file(name: str, path: Path, source: bytes | None, digest: str) -> ModuleType:
    """Import a file as module `name`; the one imported before where it is the same file with the same content."""
    known = sys.modules.get(name)
    if known is not None and (known.__file__, getattr(known, "_forecastcore_digest", "")) == (str(path), digest):
        return known
    if source is None:
        raise ImportError(f"{path} is no Python file" if path.exists() else f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path), source))
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    vars(module)["_forecastcore_digest"] = digest
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


#: what Python runs: sources, and what was compiled; not what it compiles itself on the way
_CODE = (".py", ".pyc", ".so", ".pyd")


def _code_files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.name.endswith(_CODE):
            yield prefix + entry.name, entry.read_bytes()
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from _code_files(entry, f"{prefix}{entry.name}/")


def package_digest(package: str) -> str:
    """SHA-256 over names and contents of a top-level package's code; also where it lies in an archive.

    Nothing is imported. Empty where there is no such package.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return ""
    if spec.submodule_search_locations is not None:
        module = ModuleType(package)
        module.__spec__ = spec
        files = sorted(_code_files(importlib.resources.files(module)))
    else:
        files = [("", Path(spec.origin).read_bytes())] if spec.origin and spec.has_location else []
    total = hashlib.sha256()
    for name, content in files:
        total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()
