"""Stored models on this machine, each under its digest, so that a forecast goes out while MLflow is away.

A folder is believed only when its files match its digest; one that does not is thrown away and fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from forecastcore import known
from forecastcore.errors import StateError
from forecastcore.messages import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ModelCache"]

#: Days after which a folder that nobody asked for goes.
KEEP_DAYS: Final = 30


class ModelCache:
    """Folders by digest, and the last champion seen, for one registered model of one MLflow.

    Args:
        check: `check(folder, digest)` raises `StateError` unless the folder's files are those of the digest.
        key: names the registered model and its MLflow.
    """

    def __init__(self, key: str, check: Callable[[Path, str], None]) -> None:
        self._check = check
        self._key = hashlib.sha256(key.encode()).hexdigest()[:32]

    @property
    def root(self) -> Path:
        """The cache's folder: `FORECASTCORE_CACHE`, else the user's own."""
        return known.cache_folder()

    def get(self, digest: str) -> Path | None:
        """The folder of a digest; None where it is not there or is not what it should be."""
        folder = _private(self.root / "models") / _hex(digest)
        if not folder.is_dir():
            return None
        try:
            self._check(folder, digest)
        except StateError:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)
        return folder

    def put(self, digest: str, download: Callable[[Path], Path]) -> Path:
        """Keep what `download(empty folder)` gives, once it is found to match the digest.

        Raises:
            StateError: what was downloaded is not what was registered; nothing is kept.
        """
        home = _private(self.root / "models")
        with tempfile.TemporaryDirectory(dir=_private(self.root / "incoming")) as incoming:
            got = download(Path(incoming))
            _lock_down(got)
            self._check(got, digest)
            target = home / _hex(digest)
            with contextlib.suppress(OSError):  # another process put the same files there first
                got.rename(target)
        self._sweep(keep=target)
        self._check(target, digest)
        return target

    def remember(self, which: str, version: ModelVersion | None) -> None:
        """Note who is champion, for the day on which MLflow cannot say."""
        path = self._memory(which)
        if version is None:
            path.unlink(missing_ok=True)
            return
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(version.model_dump_json())
        Path(file.name).replace(path)

    def recall(self, which: str) -> ModelVersion | None:
        """Who was champion when MLflow was last asked."""
        try:
            return ModelVersion.model_validate_json(self._memory(which).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None

    def _memory(self, which: str) -> Path:
        return _private(self.root / "seen") / f"{self._key}-{which}.json"

    def _sweep(self, *, keep: Path) -> None:
        before = time.time() - KEEP_DAYS * 86_400
        for folder in (self.root / "models").iterdir():
            if folder != keep and folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)


def _hex(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise StateError(f"{digest[:80]!r} is no digest", hint="register the model again")
    return digest


def _private(folder: Path) -> Path:
    """The folder, made for this user only; somebody else's is not used, whoever named it."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        raise StateError(f"{folder} is not a folder of yours", hint="name another with FORECASTCORE_CACHE")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def _lock_down(folder: Path) -> None:
    """Nobody else may write what was downloaded, whatever the umask."""
    folder.chmod(0o700)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
