"""What a run installs: the core and the plugins that a project uses, as wheels made here, or by version from an index.

What was installed from a wheel is put together again from its RECORD; what is installed in editable form, from the
package that its entry points name. The same code gives the same bytes, so a wheel is uploaded once per content.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from forecastcore.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import Distribution

__all__ = ["Library", "Release", "Wheel", "libraries_of", "places", "release_of", "wheel_of", "wheels_of"]

_CORE = "forecastcore"
_LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel in memory.

    Attributes:
        name: file name.
        content: its bytes.
    """

    name: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def place(self) -> str:
        """Where it is kept in a volume or a workspace folder: by content, under its own name."""
        return f"forecastcore/wheels/{self.digest[:16]}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A released version, for an index to give.

    Attributes:
        name: of the distribution.
        version: the one that is installed here.
    """

    name: str
    version: str

    @property
    def pin(self) -> str:
        """As pip is asked for it."""
        return f"{self.name}=={self.version}"

    @property
    def digest(self) -> str:
        """What stands for its content: an index gives a version one content for ever."""
        return self.pin


Library = Wheel | Release


def libraries_of(used: Iterable[str], *, index: bool) -> list[Wheel] | list[Release]:
    """What a run installs: the core first, then the distributions that a project's plugins come from.

    Args:
        used: those distributions.
        index: whether they come from a package index.

    Raises:
        EngineError: a distribution cannot be made a wheel of, or is no released version.
    """
    return [release_of(name) for name in _names(used)] if index else wheels_of(used)


def places(libraries: Iterable[Library], folder: str) -> list[str]:
    """Where a run finds each: a wheel in a volume or a workspace folder, or a pinned version."""
    return [one.pin if isinstance(one, Release) else f"{folder}/{one.place}" for one in libraries]


def release_of(name: str) -> Release:
    """An installed distribution by its version.

    Raises:
        EngineError: it is not installed, or what is installed is in no index.
    """
    distribution = _installed(name)
    version, why = Version(distribution.version), ""
    if _said(distribution).keys() & {"dir_info", "vcs_info"}:
        why = "was installed from its source, which no index has"
    elif version.is_devrelease or version.local:
        why = "is no released version"
    if why:
        hint = "install a released version here, or take engine.index out: a wheel of what is installed is then sent"
        raise EngineError(f"engine.index: {name} {version} {why}", hint=hint)
    return Release(name=str(distribution.metadata["Name"]), version=str(version))


def wheels_of(used: Iterable[str]) -> list[Wheel]:
    """The core's wheel first, then those of the distributions that a project's plugins come from.

    Raises:
        EngineError: a distribution cannot be made a wheel of.
    """
    return [wheel_of(name) for name in _names(used)]


def _names(used: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys([_CORE, *sorted(used)])


def wheel_of(name: str) -> Wheel:
    """An installed distribution as a wheel.

    Raises:
        EngineError: it is not installed, or not of a form that can be put together again.
    """
    distribution = _installed(name)
    stem = f"{distribution.metadata['Name'].replace('-', '_')}-{distribution.version}"
    files = dict(_editable(distribution) if _is_editable(distribution) else _recorded(distribution))
    files |= dict(_metadata(distribution, f"{stem}.dist-info"))
    tags = [
        line.split(": ", 1)[1] for line in (distribution.read_text("WHEEL") or "").splitlines() if line[:5] == "Tag: "
    ]
    return Wheel(name=f"{stem}-{tags[0] if tags else 'py3-none-any'}.whl", content=_zip(files, f"{stem}.dist-info"))


def _installed(name: str) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise EngineError(f"{name} is not installed here, so it cannot be sent to Databricks") from error


def _said(distribution: Distribution) -> dict[str, Any]:
    """Where it was installed from, where that was no index."""
    return dict(json.loads(distribution.read_text("direct_url.json") or "{}"))


def _is_editable(distribution: Distribution) -> bool:
    return bool(_said(distribution).get("dir_info", {}).get("editable"))


def _recorded(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    for file in distribution.files or ():
        inside = ".." not in file.parts and "__pycache__" not in file.parts and not file.parts[0].endswith(".dist-info")
        if inside:
            yield file.as_posix(), Path(str(file.locate())).read_bytes()


def _editable(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    for top in sorted({point.module.partition(".")[0] for point in distribution.entry_points}):
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            raise EngineError(
                f"{distribution.metadata['Name']} is installed in editable form, and its package {top!r} is not found",
                hint="install it from a wheel",
            )
        if not spec.submodule_search_locations:
            yield Path(spec.origin).name, Path(spec.origin).read_bytes()
            continue
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{top}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _metadata(distribution: Distribution, folder: str) -> Iterator[tuple[str, bytes]]:
    for file in distribution.files or ():
        if file.parts[0].endswith(".dist-info") and file.name not in _LEFT_OUT:
            yield "/".join((folder, *file.parts[1:])), Path(str(file.locate())).read_bytes()


def _zip(files: dict[str, bytes], folder: str) -> bytes:
    record = "".join(f"{path},sha256={_hash(content)},{len(content)}\n" for path, content in _sorted(files.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in [*_sorted(files.items()), (f"{folder}/RECORD", f"{record}{folder}/RECORD,,\n".encode())]:
            info = zipfile.ZipInfo(path)  # without a date: the same code, the same bytes
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _sorted(files: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return sorted(files)


def _hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
