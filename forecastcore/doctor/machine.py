"""Checks of the machine and what is installed on it; none needs a project."""

from __future__ import annotations

import importlib.metadata
import locale
import os
import platform
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from forecastcore.doctor.finding import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forecastcore.doctor.finding import Patient

__all__ = ["CHECKS", "ROOM", "nearest", "room", "user"]

#: distribution -> first version without a published hole that matters here, and the hole
SAFE = {
    "aiohttp": ("3.13.3", "CVE-2025-69223"),
    "cryptography": ("44.0.1", "CVE-2024-12797"),
    "gitpython": ("3.1.41", "CVE-2024-22190"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "mlflow": ("3.12.1", "GHSA-v26q-23qw-4825 and CVE-2026-4137"),
    "mlflow-skinny": ("3.12.1", "GHSA-v26q-23qw-4825 and CVE-2026-4137"),
    "pillow": ("11.3.0", "CVE-2025-48379"),
    "prefect": ("3.6.20", "CVE-2026-3514 and CVE-2026-7723"),
    "pyarrow": ("14.0.1", "CVE-2023-47248"),
    "requests": ("2.32.4", "CVE-2024-47081"),
    "setuptools": ("78.1.1", "CVE-2025-47273"),
    "skops": ("0.13.0", "CVE-2025-54886"),
    "starlette": ("0.49.1", "CVE-2025-62727"),
    "urllib3": ("2.6.0", "CVE-2025-66418"),
}
#: what a run may need on a disk, in bytes
ROOM = 500_000_000


def user() -> str:
    """As whom this process works."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "an unknown user"


def nearest(path: Path) -> Path:
    """The path, or the folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def python(_: Patient) -> str:
    """The interpreter is one that forecastcore supports."""
    wanted = importlib.metadata.metadata("forecastcore")["Requires-Python"]
    here = platform.python_version()
    if not Requirement(f"python{wanted}").specifier.contains(here, prereleases=True):
        raise Fault(
            f"Python {here} ({sys.executable}); forecastcore needs {wanted}", "make the environment anew with one"
        )
    return f"Python {here} ({sys.executable}), needed {wanted}"


def _required() -> Iterator[tuple[Requirement, str]]:
    """Every requirement of an installed distribution of ours, extras included, and whose it is."""
    ours = ["forecastcore", *{p.dist.name for p in importlib.metadata.entry_points(group="forecastcore") if p.dist}]
    for owner in ours:
        for text in importlib.metadata.requires(owner) or ():
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in ("", *_extras(owner))):
                yield need, owner


def _extras(owner: str) -> list[str]:
    return importlib.metadata.metadata(owner).get_all("Provides-Extra") or []


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def dependencies(_: Patient) -> str:
    """Every dependency lies between its floor and its cap; of an extra only what is installed."""
    wrong, missing, seen = [], [], set()
    for need, owner in _required():
        version, optional = _installed(need.name), need.marker is not None and "extra" in str(need.marker)
        if version is None:
            missing += [] if optional else [f"{need.name} (needed by {owner})"]
            continue
        seen.add(canonicalize_name(need.name))
        if not need.specifier.contains(version, prereleases=True):
            wrong.append(f"{need.name} {version} is not {need.specifier} (needed by {owner})")
    if wrong or missing:
        wants = sorted(
            {f"'{n.name}{n.specifier}'" for n, _ in _required() if any(n.name in w for w in (*wrong, *missing))}
        )
        raise Fault("; ".join([*wrong, *(f"{m} is not installed" for m in missing)]), f"pip install {' '.join(wants)}")
    return f"{len(seen)} distributions within what forecastcore and its plugins allow"


def vulnerabilities(_: Patient) -> str:
    """No distribution is older than the release that closed a known hole."""
    there = {name: version for name in SAFE if (version := _installed(name))}
    open_ = {name: version for name, version in there.items() if Version(version) < Version(SAFE[name][0])}
    if open_:
        words = (f"{name} {version} has {SAFE[name][1]}, closed in {SAFE[name][0]}" for name, version in open_.items())
        newer = " ".join(f"'{name}>={SAFE[name][0]}'" for name in open_)
        raise Fault("; ".join(words), f"pip install {newer}")
    return f"{len(there)} of {len(SAFE)} distributions with past holes are here, none older than its mend"


def tracking_library(_: Patient) -> str:
    """MLflow is installed, without which nothing can be recorded."""
    version = _installed("mlflow") or _installed("mlflow-skinny")
    if version is None:
        raise Fault("MLflow is not installed; retrain and predict need it", "pip install 'forecastcore[mlflow]'")
    return f"MLflow {version}"


def time_zones(_: Patient) -> str:
    """Time zones can be read."""
    try:
        ZoneInfo("Europe/Berlin")
    except (LookupError, OSError, ValueError) as error:
        raise Fault(f"the time zone Europe/Berlin cannot be read: {error}", "pip install tzdata") from error
    return f"zones can be read (tzdata {_installed('tzdata') or 'of the system'})"


def text(_: Patient) -> str:
    """Names and messages beyond ASCII survive."""
    encodings = {"file names": sys.getfilesystemencoding(), "texts": locale.getencoding()}
    told = ", ".join(f"{what} {encoding}" for what, encoding in encodings.items())
    if any(encoding.lower().replace("-", "") != "utf8" for encoding in encodings.values()):
        raise Fault(f"{told}; names of series may come out wrong", "export LANG=C.UTF-8, or PYTHONUTF8=1")
    size = shutil.get_terminal_size()
    return f"{told}; {'a terminal' if sys.stderr.isatty() else 'no terminal'}, {size.columns} columns"


def temporary(_: Patient) -> str:
    """There is a folder for temporary files, and room in it."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise Fault(f"{error}, tried as {user()}", "export TMPDIR=a folder that you may write") from error
    return room(folder)


def room(folder: Path, least: int = ROOM) -> str:
    """What is left on a folder's disk."""
    free = shutil.disk_usage(folder).free
    if free < least:
        raise Fault(f"{folder} has {free / 1e6:.0f} MB left", f"make room: a run may need {least / 1e6:.0f} MB")
    return f"{folder} has {free / 1e9:.1f} GB left"


def cache(_: Patient) -> str:
    """Stored models are kept where this user, and nobody else, may write."""
    from forecastcore.tracking.cache import ModelCache

    root = ModelCache("", lambda _folder, _digest: None).root
    there = nearest(root)
    mend = f"chmod -R go-rwx {root}, or name another folder with FORECASTCORE_CACHE"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Fault(f"{root} cannot be written as {user()}", "name another folder with FORECASTCORE_CACHE")
    for folder in (root, *(root / part for part in ("models", "incoming", "seen"))):
        if folder.is_symlink():
            raise Fault(f"{folder} is a link; models are not kept behind one", mend)
        if folder.is_dir() and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Fault(f"{folder} can be written by others (mode {stat.S_IMODE(folder.stat().st_mode):o})", mend)
        if folder.is_dir() and hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise Fault(f"{folder} is not {user()}'s", mend)
    return f"{root}, as {user()}{'' if root.exists() else '; made when needed'}"


CHECKS = (
    ("python", python),
    ("dependencies", dependencies),
    ("vulnerabilities", vulnerabilities),
    ("tracking-library", tracking_library),
    ("time-zones", time_zones),
    ("text", text),
    ("temporary-folder", temporary),
    ("cache", cache),
)
